r"""Personal data behind placeholders: ``电话13800138000`` gives ``电话[手机号]``.

Numbers with a checksum (identity card, bank card, social credit code) are masked when
it holds or when the words before say what they are. Digits may be full width (after
``normalize``), spaced, dashed or written in Chinese. ``\b`` never matches beside Han
characters, which count as word characters, so every pattern looks for digits instead.
Not here: names and addresses, which need a model; service hotlines, which are public.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_S = r"(?: ?[-–—−_.·] ?| {1,2})?"  # what may stand between groups of digits
_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
# A text without any of these holds nothing that a rule could match.
_MARKS = (
    "@", "at]", "at)", "AT]", "AT)", "微信", "薇信", "V信", "v信", "扣扣", "企鹅", "QQ",
    "qq", "Qq", "加Q", "Q号", "Q群", "VX", "vx", "Vx", "WX", "wx", "Wx", "echat",
    "ECHAT", "eChat", "eixin", "EIXIN",
)  # fmt: skip
_SIGNS = (
    re.compile(r"\d(?:[ \-–—−_.·]{0,3}\d){5}"),
    re.compile(r"[零〇一二三四五六七八九幺○]{11}"),
    re.compile(rf"[{_PROVINCES}][A-HJ-NP-Za-hj-np-z]"),
)


def _may_hold_pii(text: str) -> bool:
    return any(m in text for m in _MARKS) or any(s.search(text) for s in _SIGNS)


def digits_of(text: str) -> str:
    """The digits and capital letters of ``text`` without separators."""
    return "".join(c for c in text.upper() if c.isascii() and c.isalnum())


def is_identity_card(number: str) -> bool:
    """18 characters with a real birth date and the check digit of GB 11643."""
    if not re.fullmatch(r"[1-9]\d{5}(?:18|19|20)\d{2}\d{4}\d{3}[\dX]", number):
        return False
    month, day = int(number[10:12]), int(number[12:14])
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(d) * w for d, w in zip(number, weights, strict=False))
    return (
        1 <= month <= 12 and 1 <= day <= 31 and "10X98765432"[total % 11] == number[17]
    )


def is_old_identity_card(number: str) -> bool:
    """15 digits around a real birth date; the old form had no check digit."""
    if not re.fullmatch(r"[1-9]\d{14}", number):
        return False
    return 1 <= int(number[8:10]) <= 12 and 1 <= int(number[10:12]) <= 31


def is_luhn(number: str) -> bool:
    """12 to 19 digits whose Luhn sum (every second one doubled) ends in 0."""
    if not re.fullmatch(r"\d{12,19}", number) or len(set(number)) < 2:
        return False
    digits = [int(d) for d in reversed(number)]
    doubled = [d * 2 - 9 if d > 4 else d * 2 for d in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def is_credit_code(code: str) -> bool:
    """18 characters with the check character of GB 32100."""
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    if len(code) != 18 or any(c not in alphabet for c in code):
        return False
    total = sum(alphabet.index(c) * pow(3, i, 31) for i, c in enumerate(code[:17]))
    return alphabet[(31 - total % 31) % 31] == code[17]


@dataclass(frozen=True, slots=True)
class PiiRule:
    """One type: its placeholder, pattern, and what else must hold.

    A match counts when ``check`` holds for its digits and letters, or when ``context``
    is found in the dozen characters before it.
    """

    type: str
    placeholder: str
    pattern: re.Pattern
    check: Callable[[str], bool] | None = None
    context: re.Pattern | None = None

    def holds(self, match: re.Match) -> bool:
        """Whether the match is personal data of this type."""
        if self.check is None and self.context is None:
            return True
        if self.check is not None and self.check(digits_of(match.group())):
            return True
        before = match.string[max(0, match.start() - 14) : match.start()]
        return self.context is not None and bool(self.context.search(before))


def _rule(type: str, name: str, pattern: str, check=None, context: str = "") -> PiiRule:
    before = re.compile(context, re.IGNORECASE) if context else None
    return PiiRule(type, f"[{name}]", re.compile(pattern, re.IGNORECASE), check, before)


_ZH = "零〇一二三四五六七八九幺○"
RULES = (
    _rule(
        "email",
        "邮箱",
        r"(?<![a-z0-9._%+\-])[a-z0-9][a-z0-9._%+\-]*(?: ?@ ?| ?[\[(（]at[\])）] ?)"
        r"[a-z0-9][a-z0-9\-]*(?:\.[a-z0-9\-]+)*\.[a-z]{2,}(?![a-z0-9])",
    ),
    _rule(
        "id_card",
        "身份证号",
        rf"(?<![0-9a-z])[1-9](?:{_S}\d){{16}}{_S}[\dx](?![0-9a-z])",
        is_identity_card,
        "身份证|证件号|公民身份号码",
    ),
    _rule(
        "credit_code",
        "统一社会信用代码",
        rf"(?<![0-9a-z])[1-9ANY](?:{_S}[0-9A-HJ-NPQRTUWXY]){{17}}(?![0-9a-z])",
        is_credit_code,
        "信用代码",
    ),
    _rule(
        "bank_card",
        "银行卡号",
        rf"(?<!\d)(?<!\d[-.])[1-9](?:{_S}\d){{15,18}}(?![-.]?\d)",
        is_luhn,
        "卡号|账号|帐号|账户|银行卡|储蓄卡|信用卡|借记卡",
    ),
    _rule(
        "id_card",
        "身份证号",
        r"(?<![0-9a-z])[1-9]\d{14}(?![0-9a-z])",
        None,
        "身份证|证件号|公民身份号码",
    ),
    _rule(
        "mobile",
        "手机号",
        rf"(?<!\d)(?<!\d\.)(?:\(?(?:\+|00)?86\)?{_S})?"
        rf"(?:1[3-9]\d(?:{_S}\d{{4}}{_S}\d{{4}}|{_S}\d{{3}}{_S}\d{{5}}|\d{{4}}{_S}\d{{4}})"
        rf"|1[3-9]\d{{2}}{_S}\d{{3}}{_S}\d{{4}}|1[3-9]\d{{3}}{_S}\d{{3}}{_S}\d{{3}}"
        r"|1([ \-.])[3-9](?:\1\d){9}|1[3-9](?:[ \-.]\d{2}){4}[ \-.]?\d)(?!\d)",
    ),
    _rule(
        "mobile",
        "手机号",
        rf"(?<![{_ZH}])[一幺][三四五六七八九][{_ZH}]{{9}}(?![{_ZH}])",
    ),
    _rule(
        "landline",
        "电话",
        r"(?<!\d)(?:[(（](?:\+?86[- ]?)?0\d{2,3}[)）] ?[-–—]? ?"
        r"|(?:\+?86[- ]?)?0(?:10|2\d|[3-9]\d{2})(?: ?[-–—.] ?| ))"
        r"[1-9](?:[-–— ]?\d){6,7}(?:(?: ?- ?|转(?:分机)?)\d{1,5})?(?!\d)",
    ),
    _rule(
        "landline",
        "电话",
        r"(?<!\d)0(?:10|2\d)[2-9]\d{7}(?!\d)|(?<!\d)0[3-9]\d{2}[2-9]\d{6,7}(?!\d)",
        None,
        "电话|致电|联系|拨打|座机|传真|tel",
    ),
    _rule(
        "passport",
        "护照号",
        r"(?<![a-z0-9])(?:[EG]\d{8}|E[A-HJ-NP-Z]\d{7}|[DSP]E?\d{7,8}|1[45]\d{7})(?![a-z0-9])",
        lambda number: bool(re.fullmatch(r"[EG]\d{8}|E[A-HJ-NP-Z]\d{7}", number)),
        "护照",
    ),
    _rule(
        "plate",
        "车牌号",
        rf"[{_PROVINCES}][A-HJ-NP-Z] ?[·•・.\-]? ?(?=[A-Z]{{0,5}}\d)"
        r"[A-HJ-NP-Z0-9]{4,5}"
        r"[A-HJ-NP-Z0-9挂学警港澳](?![A-Z0-9])",
    ),
    _rule(
        "qq",
        "QQ号",
        r"(?:(?<![a-z])QQ|扣扣|企鹅|加Q|Q号|Q群)(?:群|号码|号|群号)?[ :：为是]*"
        rf"(?P<value>[1-9](?:{_S}\d){{4,10}})(?!\d)",
    ),
    _rule(
        "wechat",
        "微信号",
        r"(?:[微薇]信|[vw]信|(?<![a-z])(?:wechat|weixin|vx|wx))"
        r"(?:(?:号码|公众号|账号|帐号|号|同号|ID)?[ :：为是(（]*(?=[a-z_\-]*\d)"
        r"|(?:号码|账号|帐号|号|ID|[:：])[ :：为是(（]*)"
        r"(?P<value>[a-z][a-z0-9_\-]{5,19})(?![a-z0-9_\-])",
    ),
)


def find_pii(text: str) -> list[tuple[int, int, PiiRule]]:
    """Personal data in ``text`` as (start, end, rule), in order, without overlaps.

    Rules come in order of certainty: what one has claimed, a later one leaves alone.
    """
    if not _may_hold_pii(text):
        return []
    found: list[tuple[int, int, PiiRule]] = []
    for rule in RULES:
        for match in rule.pattern.finditer(text):
            group = "value" if "value" in rule.pattern.groupindex else 0
            start, end = match.span(group)  # the label before an account stays
            free = all(end <= s or start >= e for s, e, _ in found)
            if free and rule.holds(match):
                found.append((start, end, rule))
    return sorted(found, key=lambda item: item[:2])


def mask_pii(text: str) -> tuple[str, dict[str, int]]:
    """``text`` with placeholders, and how many of each type were masked.

    ``mask_pii("电话13800138000")`` returns ``("电话[手机号]", {"mobile": 1})``.
    """
    parts, counts, position = [], {}, 0
    for start, end, rule in find_pii(text):
        parts += [text[position:start], rule.placeholder]
        counts[rule.type] = counts.get(rule.type, 0) + 1
        position = end
    return "".join(parts) + text[position:], counts
