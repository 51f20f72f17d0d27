"""How a Chinese name looks, and what may follow it.

Readings of what begins at a place: surname and given name, two surnames and a given
name, a transcribed name with or without a dot. Used by ``pii_people``.
"""

import re
from collections.abc import Iterator

from finllm_utils.data.pii_acts import DEEDS, NEVER_HEADS
from finllm_utils.data.pii_cues import (
    AFTER,
    COURTESY,
    DATA,
    PAIRS,
    RIGHT_DATA,
    STRONG,
    TITLES,
    WEAK,
)
from finllm_utils.data.pii_surnames import (
    COMMON,
    DOUBLE,
    GIVEN,
    NOT_NAMES,
    RARE,
    TRANSCRIBED,
    WORDS_TOO,
)

HAN = "\u4e00-\u9fff㐀-䶿"


def _first_two() -> Iterator[str]:
    """The first two characters of what ``NOT_NAMES`` describes."""
    for word in NOT_NAMES.split("|"):
        if "[" in word:
            yield from (word[0] + second for second in word[2:-1])
        else:
            yield word[:2]


_COMMON, SURNAMES = frozenset(COMMON), frozenset(COMMON + RARE + WORDS_TOO)
_NEVER_GIVEN = frozenset(
    "的了在于与及或是被将从给让请说称已未不也又再就才会须该由按据此等每各某们你我他她它"
    "这那哪谁什么吗呢吧啊个位者员号码户款额账卡证险价率务部司店后前期没很最但而"
    "还只则去做"
    "过退换缴买卖填写签对把叫问您女"
)
GIVEN_CHARACTERS = frozenset(GIVEN - _NEVER_GIVEN)
ANY_GIVEN = frozenset(map(chr, range(0x4E00, 0xA000))) - _NEVER_GIVEN
_ALSO_WORDS = frozenset(WORDS_TOO)
_NOT_GIVEN = DATA | TITLES | AFTER.keys() | PAIRS
_NEVER_LAST = frozenset("向为和先都系因若家")
_KNOWN_GIVEN = frozenset("芷若 兰若 海若 自若 静若 安若 沛若 向阳".split())
_DOUBLE_RE = re.compile(DOUBLE)
NOT_TWO = frozenset(_first_two()) | {w for w in NEVER_HEADS if len(w) == 2}
CUTS = frozenset(
    word
    for word in DEEDS
    if word[0] not in GIVEN_CHARACTERS
    or AFTER.get(word[1], 0) < 1
    or word[0] in "祝代承正互"
)
"""Where one of these begins with its last character, a long name is a short one."""
HAN_SET = frozenset(map(chr, range(0x4E00, 0xA000)))
SURE, LIKELY, OPEN = 3, 2, 1
DOTS = "·•・‧∙．"
DOT_SET = frozenset(DOTS + ".")


def class_of(characters: set[str] | frozenset[str] | str) -> str:
    """The characters in order, for a class of a pattern."""
    return "".join(sorted(characters))


_DOT = "[·•・‧∙．.]"
_DOTTED = re.compile(
    rf"[{class_of(ANY_GIVEN | TRANSCRIBED)}]{{2,8}}(?: ?{_DOT} ?[{HAN}]{{2,8}}){{1,2}}"
)
_STRETCHED = re.compile(
    rf"[{HAN}][ \u3000]{{1,2}}[{class_of(GIVEN_CHARACTERS)}]"
    rf"(?:[ \u3000]{{0,2}}(?!男)[{class_of(ANY_GIVEN)}])?(?![{HAN}])"
)


def points_after(text: str, end: int) -> int:
    """How much what follows speaks for a name: 0 to 3, or -1 where it rules one out."""
    following = text[end : end + 1]
    if not following:
        return OPEN
    if following not in HAN_SET:
        if following in "·•・‧∙．_" or following.isascii() and following.isalnum():
            return SURE if RIGHT_DATA.match(text, end) else 0
        if following in " \u3000" and text[end + 1 : end + 3] in COURTESY:
            return SURE
        return SURE if RIGHT_DATA.match(text, end) else OPEN
    if following == "的":
        for size in (4, 3, 2, 1):
            if text[end + 1 : end + 1 + size] in DATA:
                return SURE
        return OPEN
    if following in "男女现生身手电于在自" and RIGHT_DATA.match(text, end):
        return SURE
    for size in (4, 3, 2, 1):
        if points := AFTER.get(text[end : end + size], 0):
            return points
    return 0


def forms(text: str, begin: int, left: int) -> Iterator[tuple[int, int]]:
    """(end, points) of the readings of what begins at ``begin``."""
    head = text[begin]
    if not DOT_SET.isdisjoint(text[begin + 2 : begin + 10]):
        inside = text[begin - 1 : begin + 1] in PAIRS
        dotted = None if inside else _DOTTED.match(text, begin)
        if dotted and _begins_with_word(text, begin):
            return
        yield from _dotted(text, dotted) if dotted else ()
    if head in TRANSCRIBED:
        yield from _transcribed(text, begin)
    if head in _ALSO_WORDS and left < SURE and not before_title(text, begin):
        return
    if text[begin : begin + 2] in NOT_TWO or text[begin - 1 : begin + 1] in PAIRS:
        return
    if double := _DOUBLE_RE.match(text, begin):
        for size in (2, 1):
            given = given_points(text[double.end() : double.end() + size], size)
            if given >= 0 and not _is_title(text, double.end()):
                yield double.end() + size, 1 + given
    if head not in SURNAMES or _is_title(text, begin + 1):
        return
    common, word_too = head in _COMMON, head in _ALSO_WORDS
    before = text[begin - 1 : begin]
    if _STRETCHED.match(text, begin):
        yield _STRETCHED.match(text, begin).end(), 1
    elif (
        text[begin + 1 : begin + 2] in ("\u3000", " ")
        and given_points(text[begin + 2 : begin + 3], 1) == 1
    ):
        yield begin + 3, 1  # 借款人赵　敏与担保人: two characters, stretched
    for size in (2, 1):
        given = given_points(text[begin + 1 : begin + 1 + size], size)
        if given < 0:
            continue
        if word_too and size == 1 and before in HAN_SET:
            if text[begin + 2 : begin + 3] in HAN_SET:
                continue
        yield begin + 1 + size, given - (not common) - (word_too and size > 1)
    if text[begin + 1 : begin + 2] in SURNAMES:
        if given_points(text[begin + 2 : begin + 4], 2) == 2:
            yield begin + 4, 1 + common


def before_title(text: str, begin: int) -> bool:
    """Whether a title follows after two to four characters, or more and a dot."""
    stretch = text[begin + 2 : begin + 6]
    return (
        stretch[:2] in TITLES
        or stretch[1:3] in TITLES
        or stretch[2:4] in TITLES
        or not DOT_SET.isdisjoint(text[begin + 2 : begin + 9])
    )


def _is_title(text: str, place: int) -> bool:
    """Whether a title follows a surname at once, which identifies nobody."""
    return text[place : place + 2] in TITLES


def given_points(word: str, size: int) -> int:
    """Points of a given name: one a character, less for rare ones; -1 for none."""
    if (
        len(word) != size
        or (word[-1] in _NEVER_LAST and word not in _KNOWN_GIVEN)
        or (size > 1 and word in _NOT_GIVEN)
    ):
        return -1
    if not ANY_GIVEN.issuperset(word):
        return -1
    return size - sum(c not in GIVEN_CHARACTERS for c in word)


def _dotted(text: str, match: re.Match) -> Iterator[tuple[int, int]]:
    """The end of a name with dots; words may follow it without a sign between."""
    parts = re.split(f" ?{_DOT} ?", match.group())
    first = match.end() - len(parts[-1])
    known = TRANSCRIBED.issuperset(parts[0])
    end = first
    while end < match.end() and text[end] in TRANSCRIBED:
        end += 1
    if end < match.end() and not (known and end - first > 1):
        for closed in range(first + 2, match.end() + 1):
            if closed >= end and points_after(text, closed) > 0:
                end = closed
                break
    if end - first >= 2:
        yield end, 2 if known else -1


def _begins_with_word(text: str, begin: int) -> bool:
    """Whether a role or a verb stands here, or ends here: 果农阿依古丽."""
    if text[begin] in "致受和与向由给替跟同找让叫被":
        return True
    for size in (4, 3, 2):
        if text[begin : begin + size] in _WORDS:
            return True
        if begin + 1 >= size and text[begin + 1 - size : begin + 1] in _WORDS:
            return True
    return False


_WORDS = frozenset(w for w in STRONG | WEAK | NEVER_HEADS if len(w) > 1)


def _transcribed(text: str, begin: int) -> Iterator[tuple[int, int]]:
    """A name such as 格桑卓玛: three to six characters that transcribe, no dot."""
    end = begin
    while end < len(text) and text[end] in TRANSCRIBED:
        end += 1
    if 3 <= end - begin <= 6 and not ABROAD.match(text, begin):
        yield end, 1 if end - begin > 3 else 0


ABROAD = re.compile(
    "阿里|阿迪|阿斯|阿司|阿莫|阿拉|布[什加]|吉林|哈[里佛尔]|木[材工]|依[法照然靠据]|"
    "宝[马洁山]|马来|古巴|巴西|巴拿|巴勒|巴基|巴林|巴布|巴哈|巴尔干|乌克|乌干|乌拉"
    "|乌兹|沙特|阿根|阿富|阿尔|阿曼|阿联|哥伦|哈萨|吉尔|塔吉|塔斯"
    "|尼日|尼加|尼泊|加拿|加勒|加利|加纳|加蓬|加沙|古|比利|比尔|伊拉克|伊朗"
    "|伊斯|拉丁|拉美|卡塔|布拉|布鲁|肯尼|安哥|索马|利比|黎巴|和"
    "|巴黎|帕|德|斯|马德|马里|马尔|马克|马拉|马达|罗马|罗斯|多米|克罗|克林|克里"
    "|海[^来]|日|央|才能|来|都|普|通|及|不"
    "|亚|力|外|西|比|果|图|平|达|加[^央措]|里|木|森|热|坦"
)
