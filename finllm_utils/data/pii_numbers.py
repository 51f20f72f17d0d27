r"""Patterns for numbers and accounts, on the canonical text of ``pii_view``.

``\b`` never matches beside Han characters, which count as word characters, so every
pattern looks for digits instead. A checksum decides where there is one; elsewhere the
words before and after: an order number or an amount is not a telephone.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from finllm_utils.data.pii_accounts import (
    ACCOUNT,
    CARD_IN_SIGNS,
    COUNTED,
    DOT,
    GAP,
    LOCAL,
    NEXT,
    PLAIN_MAIL,
    QQ,
    SEPARATOR,
    SPLIT_CARD,
    TLD,
    WECHAT,
    asked_wechat_end,
    far_qq_end,
    far_wechat_end,
    qq_end,
    searched_wechat_end,
    wechat_end,
)
from finllm_utils.data.pii_checks import (
    is_card_of_known_issuer,
    is_credit_code,
    is_identity_card,
    is_luhn,
    is_old_identity_card,
)
from finllm_utils.data.pii_context import (
    AMOUNT_AFTER,
    CARD_NEAR,
    CARD_WORDS,
    CREDIT_HEAD,
    CREDIT_WORDS,
    FOREIGN,
    GROUPINGS,
    ID_WORDS,
    LETTER_LABEL,
    NO_PASSPORT,
    NOT_REAL,
    PART_OF_CODE,
    PASSPORT_NEAR,
    PASSPORT_WORDS,
    PHONE_WORDS,
    THING,
    URL_BEFORE,
    URL_KEY,
    after_of,
    before_of,
    canonical,
    goes_on,
    is_thing,
)
from finllm_utils.data.pii_view import PROVINCES

_START = r"(?<!\d)(?<!\d[.,])"
_STOP = r"(?!\d|[.,]\d)"


@dataclass(frozen=True, slots=True)
class Rule:
    """``pattern`` finds candidates of ``kind``; ``end_of`` gives their end, or 0.

    The group ``value``, where the pattern has one, is what gets masked. A text without
    ``min_digits`` digits in a row (grouped or not) cannot match.
    """

    kind: str
    pattern: re.Pattern
    end_of: Callable[[re.Match], int]
    min_digits: int = 0

    def candidates(self, text: str) -> Iterator[tuple[int, int]]:
        """(begin, end) of what holds, left to right, without overlaps."""
        group = "value" if "value" in self.pattern.groupindex else 0
        position = 0
        while match := self.pattern.search(text, position):
            position = match.start() + 1
            if end := self.end_of(match):
                yield match.start(group), end
                position = end


_always = re.Match.end


def _identity_end(match: re.Match) -> int:
    number, before = canonical(match.group()), before_of(match)
    if is_identity_card(number):
        return match.end()
    # A mistyped digit still names a person, so the words before are enough; without
    # them a wrong check digit means another kind of number.
    labelled = ID_WORDS.search(before) and not THING.search(before)
    labelled = labelled and not NOT_REAL.search(before + after_of(match, 24))
    return match.end() if labelled and len(number) == 18 else 0


def _old_identity_end(match: re.Match) -> int:
    labelled = ID_WORDS.search(before_of(match))
    return match.end() if labelled and is_old_identity_card(_c(match)) else 0


def _c(match: re.Match) -> str:
    return canonical(match.group())


def _credit_end(match: re.Match) -> int:
    code, before = _c(match), before_of(match)
    if not is_credit_code(code):
        return 0
    if CREDIT_WORDS.search(before):
        return match.end()
    plain = code.isdigit() and (is_thing(match) or goes_on(match))
    return match.end() if CREDIT_HEAD.match(code) and not plain else 0


def _bank_end(match: re.Match) -> int:
    """The longest run of whole groups with a valid Luhn sum."""
    labelled = bool(CARD_WORDS.search(before_of(match)))
    if not labelled and is_thing(match):
        return 0
    near = labelled or CARD_NEAR.search(before_of(match, 32) + after_of(match, 12))
    valid = is_luhn if near else is_card_of_known_issuer
    groups = [m.end() for m in re.finditer(r"\d+", match.group())]
    sizes = [len(g) for g in re.findall(r"\d+", match.group())]
    if not labelled and min(sizes[:-1], default=4) < 4:
        return 0
    for end in reversed(groups):
        number = canonical(match.group()[:end])
        if len(number) >= 13 and valid(number):
            cut, more = end != groups[-1], goes_on(match)
            if cut and not more:
                return 0  # it is the whole that fails the check
            return match.start() + end if labelled or not (cut or more) else 0
    return 0


def _split_card_end(match: re.Match) -> int:
    """A card number in pieces needs a label, a known issuer and a valid sum."""
    labelled = CARD_WORDS.search(before_of(match))
    return match.end() if labelled and is_card_of_known_issuer(_c(match)) else 0


def _card_in_signs_end(match: re.Match) -> int:
    """Groups with commas or slashes: a card only with a label or a known issuer."""
    number, labelled = _c(match), CARD_WORDS.search(before_of(match))
    valid = is_luhn if labelled else is_card_of_known_issuer
    return match.end() if len(number) > 12 and valid(number) else 0


def _mobile_end(match: re.Match) -> int:
    before = before_of(match)
    grouping = tuple(len(g) for g in re.findall(r"\d+", match.group("number")))
    if FOREIGN.match(match.group("number").lstrip("(")):
        return 0
    labelled = bool(PHONE_WORDS.search(before)) and not THING.search(before)
    if not labelled:
        if PART_OF_CODE.search(before) and not LETTER_LABEL.search(before[:-1]):
            return 0
        if grouping not in GROUPINGS or is_thing(match) or goes_on(match):
            return 0
        if URL_BEFORE.search(before_of(match, 80)) and not URL_KEY.search(before):
            return 0
    if before[-1:].isascii() and before[-1:].isalpha():
        if not LETTER_LABEL.search(before) and not URL_KEY.search(before):
            return 0
    if re.match("[a-z]", after_of(match)):
        return match.end() if re.match("qq|vx|wx|v|we|wei|tel", after_of(match)) else 0
    return match.end()


def _landline_end(match: re.Match) -> int:
    labelled = PHONE_WORDS.search(before_of(match))
    if re.match(r"[a-z]", before_of(match)[-1:]) and not labelled:
        return 0
    if is_thing(match) or (goes_on(match) and not labelled):
        return 0
    unopened = match.group()[-1] == ")" and "(" not in match.group()[1:]
    return match.end() - unopened


def _local_end(match: re.Match) -> int:
    local = match.group("value")
    return (
        0 if AMOUNT_AFTER.match(after_of(match)) or local[:3] == "800" else match.end()
    )


def _passport_end(match: re.Match) -> int:
    number, before = _c(match), before_of(match)
    around = before + after_of(match, 12)
    if re.search("护照|passport|通行证", before):
        thing = THING.search(before)
        other = thing and "号" in thing[0] and "护照" not in before[-9:]
        return 0 if other else match.end()
    if NO_PASSPORT.search(before[-18:] + after_of(match)) or THING.search(before):
        return 0
    if PASSPORT_WORDS.search(around):
        return match.end()
    if not re.fullmatch(r"[EG]\d{8}|E[A-HJ-NP-Z]\d{7}", number) or is_thing(match):
        return 0
    return match.end() if PASSPORT_NEAR.search(before + after_of(match, 16)) else 0


def _plate_end(match: re.Match) -> int:
    body = _c(match)
    green = len(body) == 7 and (body[1] in "ABCDEFGHJK" or body[6] in "ABCDEFGHJK")
    green = green and sum(c.isdigit() for c in body) >= 4
    digits = sum(c.isdigit() for c in body[1:])
    return match.end() if green or (len(body) <= 6 and digits >= 2) else 0


def _spelled_end(match: re.Match) -> int:
    """``zhang at example.com`` is an address only where mail is talked about."""
    if " at " not in match.group() or re.search("邮|mail", before_of(match)):
        return match.end()
    return 0 if re.search("[a-z] $", before_of(match)) else match.end()


_MIN_DIGITS = {"id_card": 15, "bank_card": 13, "mobile": 11, "landline": 7}
_MIN_DIGITS |= {"passport": 6, "uscc": 6, "qq": 5, "license_plate": 1}


def _rule(kind: str, pattern: str, end_of: Callable[[re.Match], int] = _always) -> Rule:
    compiled = re.compile(pattern, re.ASCII)
    return Rule(kind, compiled, end_of, _MIN_DIGITS.get(kind, 0))


_DIGIT_RUN = re.compile(r"\d(?:[ ()\-.·_/]{0,4}[\dx])+", re.ASCII)


def longest_number(text: str) -> int:
    """How many digits the longest number of ``text`` has, however it is grouped."""
    return max((sum(map(str.isdigit, r)) for r in _DIGIT_RUN.findall(text)), default=1)


def find_numbers(text: str) -> Iterator[tuple[int, int, str]]:
    """(begin, end, kind) of numbers and accounts, the most certain rule first."""
    longest = longest_number(text)
    for rule in RULES:
        if rule.min_digits <= longest:
            for begin, end in rule.candidates(text):
                yield begin, end, rule.kind
                following = NEXT.get(rule.kind)
                while following and (match := following.match(text, end)):
                    begin, end = match.span("value")
                    if COUNTED.match(text, end) or AMOUNT_AFTER.match(text[end:]):
                        break
                    yield begin, end, rule.kind


_86 = rf"(?:[(\[]?(?:\+ ?|00)?86[)\]]?{SEPARATOR})"
_CREDIT = "[0-9a-hj-npqrtuwxy]"
_LINE = r"(?:[1-9]\d{6,7}|[1-9]\d{2,3}[ -]{1,3}\d{4}|[1-9]\d{3}[ -]{1,3}\d{3}"
_LINE += r"|[2-9]\d(?:[ -]\d\d){3}|[2-9](?: \d){6,7}|[2-9]\d{2}[ -]\d{2}[ -]?\d{2,3})"
_AREA = r"(?:10|2\d|(?:3[1-9]|4[1-8]|5[1-9]|6[369]|7\d|8[1235-9]|9\d)\d)"
_EXTENSION = (
    r"(?:(?: ?- ?| ?/ ?(?=\d{3,4}(?!\d))| ?转 ?(?:分机)?(?:号)?[: ]?"
    r"| ?,? ?[(]?(?:分机号?|ext\.?)[: ]?)\d{1,5}\)?)?"
)
RULES = (
    _rule(  # broken by the end of a line on a PDF page
        "email",
        rf"{LOCAL}@(?:[a-z0-9\-]+\.)*(?!{TLD}[ \n])[a-z0-9\-]+[ \n]"
        rf"(?:[a-z0-9\-]+\.)+{TLD}(?:\.cn)?(?![a-z0-9])",
    ),
    _rule(
        "email",
        rf"{LOCAL}(?: ?@ ?| ?[\[({{<](?:at|@|艾特)[\])}}>] ?)"
        rf"[a-z0-9][a-z0-9\-]*(?:{DOT}[a-z0-9\-]+)*"
        rf"(?:(?:\.|[\[({{](?:dot|点)[\])}}] ?)[a-z]{{2,}}|{DOT}{TLD})"
        r"(?![a-z0-9])",
    ),
    _rule(
        "email",
        rf"{LOCAL}(?:(?: at |_at_|艾特|小老鼠|圈a ?| ?[(\[]a[)\]] ?)[a-z0-9\-]+"
        rf"(?:(?: dot |点|\.)[a-z0-9\-]+)*(?:(?: dot )[a-z]{{2,9}}|(?:点|\.){TLD})"
        rf"|(?:(?<=[a-z0-9._]{{2}})#|@\n)(?:[a-z0-9\-]+\.)+{TLD})(?![a-z0-9.])",
        _spelled_end,
    ),
    _rule(
        "id_card",
        rf"{_START}[1-9](?:{SEPARATOR}\d){{16}}{SEPARATOR}[\dx](?![\dx])",
        _identity_end,
    ),
    _rule(
        "uscc",
        rf"(?<![0-9a-z])[1-9any]{SEPARATOR}{_CREDIT}(?:{SEPARATOR}\d){{6}}"
        rf"(?:{SEPARATOR}{_CREDIT}){{10}}"
        r"(?![0-9a-z])",
        _credit_end,
    ),
    _rule("email", PLAIN_MAIL),
    Rule("bank_card", re.compile(SPLIT_CARD, re.ASCII), _split_card_end, 7),
    Rule("bank_card", re.compile(CARD_IN_SIGNS, re.ASCII), _card_in_signs_end, 4),
    _rule(
        "bank_card",
        rf"{_START}(?<![a-z])[1-9](?:{SEPARATOR}\d){{12,18}}(?!\d)",
        _bank_end,
    ),
    _rule(
        "id_card", rf"{_START}[1-9](?:{SEPARATOR}\d){{14}}{_STOP}", _old_identity_end
    ),
    _rule(
        "qq",
        rf"{QQ}(?:{GAP})(?P<value>[1-9](?:{SEPARATOR}\d){{4,10}})(?!\d|@|[a-z]{{3}})",
        qq_end,
    ),
    _rule(  # words between: QQ你记一下，12345678
        "qq",
        r"(?:(?<![a-z])q ?q(?!\.)|扣扣|企鹅号)(?P<gap>[^0-9a-z\n。；;!?！？@]{0,12})"
        rf"(?P<value>[1-9](?:{SEPARATOR}\d){{4,10}})(?!\d|@)",
        far_qq_end,
    ),
    _rule(  # the account before its name: 12345678（QQ）
        "qq",
        rf"{_START}(?P<value>[1-9]\d{{4,10}})"
        r"(?= ?[(]?(?:[就这]?是我?的?)?(?:qq|扣扣)(?!\.|[a-z]| ?[:号]{0,2} ?[1-9]))",
        qq_end,
    ),
    _rule("wechat", r"(?<![a-z0-9])(?P<value>wxid_[a-z0-9]{6,20})(?![a-z0-9])"),
    _rule(
        "wechat",
        rf"{WECHAT}(?:{GAP}(?=[a-z]+[a-z_\-]*[\d_\-])"
        r"|(?: ?号码|账号|帐号| ?号| ?id|[ 是]?:)"
        r"(?:登记|记录|填写?|备注|改成|换成|写)?[ :为是叫就([「“\"'\-—]*(?=[a-z])"
        r"|[(「“\"'] ?(?=[a-z]))"
        rf"{ACCOUNT}",
        wechat_end,
    ),
    _rule(  # words between: 微信你记一下，lan_jing88
        "wechat",
        rf"{WECHAT}(?P<gap>[^0-9a-z。；;!?！？@]{{0,12}}){ACCOUNT}",
        far_wechat_end,
    ),
    _rule(  # "search for laosuanpan_66": only with two digits or a line in it
        "wechat",
        r"(?<=[加搜]) ?(?=[a-z\-]+(?:_|\d[a-z\-]*[\d_]|\d?_)|[a-z]{3,}-[a-z]{3})"
        rf"{ACCOUNT}",
        searched_wechat_end,
    ),
    _rule(
        "wechat",
        rf"{WECHAT}(?P<gap>[^0-9a-z@]{{3,30}}?)(?<=[:,，。\n 、]){ACCOUNT}",
        asked_wechat_end,
    ),
    _rule(  # the account before its name: lanjing_88（微信）
        "wechat",
        r"(?<![a-z0-9@._\-])(?=[a-z]+[_\-\d])(?P<value>[a-z][a-z0-9_\-]{5,19})"
        r"(?= ?[(,，]?(?:就?是我?的?|这个|同)?(?:微信|(?<![a-z])(?:wechat|vx))(?!支付|"
        r"公众|小程序))",
        wechat_end,
    ),
    _rule(
        "mobile",
        rf"{_START}(?:{_86})?0?(?P<number>(?:\(1[3-9]\d\)|"
        rf"1{SEPARATOR}[3-9]{SEPARATOR}\d)(?:(?:{SEPARATOR}|/)\d){{8}}){_STOP}",
        _mobile_end,
    ),
    _rule(
        "landline",
        rf"{_START}(?:[(\[]?(?:\+ ?|00)?86[)\]]?[- ]{{0,3}}[(\[]?0?{_AREA}"
        rf"|[(\[]0\d{{2,3}}|0{_AREA})(?:[)\]] ?| ?[-.·_/]{{1,2}} ?| {{0,2}})"
        rf"(?:- ?)?{_LINE}{_EXTENSION}{_STOP}(?!-\d)",
        _landline_end,
    ),
    _rule(
        "landline",
        r"(?:座机|固话|固定电话|电话|传真|(?<![a-z])(?:tel|fax))"
        r"(?:号码|号)?[ :为是.(]{0,3}"
        rf"(?P<value>{_LINE}{_EXTENSION}){_STOP}(?!-\d)",
        _local_end,
    ),
    _rule(
        "passport",
        r"(?<![a-z0-9\-])(?:[eg][ -]?\d{2,4}[ -]?\d{4,6}"
        r"|e[a-hj-np-z][ -]?\d{3}[ -]?\d{4}"
        r"|[a-z]{1,2}[ -]?\d{3,4}[ -]?\d{4}|[a-z]{1,2}\d{6,8}|1[45]\d{7})"
        r"(?![a-z0-9\-])",
        _passport_end,
    ),
    _rule(
        "license_plate",
        rf"[{PROVINCES}][ ·]?[a-hj-np-z] ?[·.\-]? ?(?:"
        r"[a-hj-np-z0-9]{4} ?[挂学警港澳领使试超]|[a-hj-np-z0-9]{5,6}"
        r"|[a-hj-np-z0-9](?: [a-hj-np-z0-9]){4,5})(?![a-z0-9]|-\d)",
        _plate_end,
    ),
)
