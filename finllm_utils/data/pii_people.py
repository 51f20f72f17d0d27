"""Names of private persons by their surroundings: labels, titles, verbs, data beside.

Each candidate (a surname and one or two characters of given names, two surnames and a
given name, a transcribed name) gets points for its form, for what stands before and
after it, and for the passage: service, bank and court text adds, news and citations
take away. A surname alone (王先生) stays: it does not identify. Works on raw text
without zero-width characters. Names that nothing announces need a model.
"""

import re
from collections.abc import Iterator

from finllm_utils.data.pii_cues import (
    AFTER,
    COURTESY,
    DATA,
    KIN_AND_JOBS,
    LEFT_CITED,
    PAIRS,
    RIGHT_CITED,
    RIGHT_DATA,
    RIGHT_NUMBER,
    STRONG,
    TITLES,
    WEAK,
)
from finllm_utils.data.pii_forms import (
    ANY_GIVEN,
    CUTS,
    DOTS,
    GIVEN_CHARACTERS,
    HAN,
    HAN_SET,
    LIKELY,
    NOT_TWO,
    OPEN,
    SURE,
    SURNAMES,
    before_title,
    class_of,
    forms,
    points_after,
)
from finllm_utils.data.pii_known import is_known
from finllm_utils.data.pii_passage import Passage
from finllm_utils.data.pii_private import private_names
from finllm_utils.data.pii_surnames import (
    COMMON,
    DOUBLE,
    RARE,
    TRANSCRIBED,
)
from finllm_utils.data.pii_view import VANISHING

_TWO = frozenset(word for word in AFTER if len(word) == 2)
_THREE = frozenset(word for word in AFTER if len(word) == 3)
_DEEDS = frozenset(word for word in AFTER if len(word) == 1 and AFTER[word] > 1)
_BEFORE_DATA = frozenset(" \u3000\t\n,，、:：(（[+!！|0123456789１")
_OPEN = {word[-1] for word in STRONG | WEAK} | set("是为叫写填")  # a name may follow
_SHUT = "".join(chr(c) for c in range(0x4E00, 0xA000) if chr(c) not in _OPEN)


_HEADS = frozenset(COMMON + RARE) | {name[0] for name in DOUBLE.split("|")}
_NATIVE = _HEADS | SURNAMES
_SECONDS = {name[1] for name in DOUBLE.split("|")}
_NEXT = ANY_GIVEN | TRANSCRIBED | {" ", "\u3000"}
_LABEL_ENDS = "".join(sorted({word[-1] for word in STRONG} - {"的"}))
_OPENING = r":：|=（(\[【“「\"'*☐☑ \u3000"
_HEAD = re.compile(
    rf"[{class_of(_HEADS | TRANSCRIBED | SURNAMES)}]"
    rf"(?:(?<=[{class_of(_HEADS)}])(?<![{_SHUT}].)"
    rf"(?=[{class_of(GIVEN_CHARACTERS | _SECONDS)}])"
    rf"|(?<=[格桑才扎洛卓旺娜其阿乌迪热买吐艾玛努帕塔哈丹次])(?<![{_SHUT}].)"
    rf"(?=[{class_of(TRANSCRIBED)}]{{2}})"
    rf"|(?<=[{class_of(SURNAMES)}])(?<=[、{_LABEL_ENDS}].)"
    rf"(?=[{class_of(GIVEN_CHARACTERS)}])"
    rf"|(?<=[{_OPENING}户告人员叫与和由向为及].)(?=[{class_of(_NEXT)}{VANISHING}]))"
)
_ENDS = frozenset(word[-2:] for word in STRONG | WEAK if len(word) > 1)
_LABEL_LAST = frozenset(word[-1] for word in STRONG)
_SINGLES = frozenset(word for word in WEAK if len(word) == 1) | set("是为叫写填")
_SEPARATORS = frozenset(" \u3000\t:：|=（([【“「\"'*☐☑-")
_JOINTS = frozenset("、/;；&+ 和与及或同跟，,以")
_NEEDED = 5


def name_heads(text: str) -> list[int]:
    """Where names may begin: a cheap look at two characters on each side."""
    heads = [m.start() for m in _HEAD.finditer(text) if _may_begin(text, m.start())]
    for title in _IN_TEXT:
        if title in text:
            heads += _before_title_places(text, title)
    if "·" in text or "•" in text or "．" in text or "・" in text or "‧" in text:
        heads += _before_dots(text)
    return sorted(set(heads)) if heads else heads


def _may_begin(text: str, begin: int) -> bool:
    before = text[begin - 1 : begin]
    if before in HAN_SET:
        if before not in _SINGLES and text[begin - 2 : begin] not in _ENDS:
            return False
        if text[begin - 1 : begin + 1] in PAIRS:
            return False
    elif before in _LABEL_SIGNS and (
        before in ":：|="
        or text[begin - 2 : begin - 1] in _LABEL_LAST
        or text[begin - 2 : begin - 1] in _SIGNS
    ):
        pass
    elif before != "、" and not _is_followed(text, begin):
        return False
    if text[begin] not in _NATIVE and not TRANSCRIBED.issuperset(
        text[begin : begin + 3]
    ):
        return False
    return text[begin : begin + 2] not in NOT_TWO


def _is_followed(text: str, begin: int) -> bool:
    """Whether a title, a deed or data stands where a name at a clause's head ends."""
    for end in (begin + 3, begin + 2, begin + 4):
        following = text[end : end + 1]
        if following in HAN_SET:
            if following == "的":
                if text[end + 1 : end + 3] in DATA:
                    return True
            elif following in "于在自" and RIGHT_DATA.match(text, end):
                return True
            elif following in _DEEDS or text[end : end + 2] in _TWO:
                return True
        elif following in _BEFORE_DATA and RIGHT_DATA.match(text, end):
            return True
    return False


def _before_dots(text: str) -> Iterator[int]:
    """Where transcribed names with a dot may begin."""
    for match in _FIRST_PART.finditer(text):
        yield from range(match.start(), match.end() - 2)


def find_names(text: str, passage: Passage) -> Iterator[tuple[int, int]]:
    """(begin, end) of names of private persons, and of their further mentions."""
    found: list[tuple[int, int]] = []
    last = -1
    for begin in name_heads(text):
        if begin < last or (
            text[begin - 1 : begin] == "、"
            and last != begin - 1
            and not _is_followed(text, begin)
        ):
            continue
        if (end := _name_end(text, begin, last, passage)) > 0:
            found.append((begin, end))
        last = abs(end) or last
    for begin, end in private_names(text, passage, _left, found.copy()):
        if not any(begin < e and b < end for b, e in found):
            found.append((begin, end))
    if found:
        yield from found
        yield from _mentions(text, found)


_IN_TEXT = (*COURTESY[:5], *"老师 经理 主任 律师 医生 行长 师傅 总监 同学 客户".split())
_LABEL_SIGNS = frozenset(":：|=（([【“「\"'*☐☑、)） \u3000")
_SIGNS = frozenset(":：|=")
_FIRST_PART = re.compile(
    rf"[{class_of(ANY_GIVEN | TRANSCRIBED)}]{{2,8}}(?=[{DOTS}][{HAN}])"
)


def _before_title_places(text: str, title: str) -> Iterator[int]:
    """Where names may begin that stand before ``title`` in running text."""
    place = text.find(title)
    while place >= 0:
        for size in (4, 3, 2):
            if place >= size and text[place - size] in _NATIVE:
                yield place - size
        place = text.find(title, place + 2)


def _name_end(text: str, begin: int, last: int, passage: Passage) -> int:
    left = _left(text, begin)
    if 0 <= last < begin <= last + 2 and _JOINTS.issuperset(text[last:begin]):
        left = max(left, LIKELY if text[begin - 1] in ",， " else SURE)
    if left == 0 and not before_title(text, begin):
        return 0
    best = (0, 0, 0)
    for end, form in forms(text, begin, left):
        after = points_after(text, end)
        if _is_possible(text, begin, end, left, after):
            best = max(best, (left + after + form, end, after))
    points, end, after = best
    if not end or points + 2 < _NEEDED:
        return 0
    if left < SURE and _is_cited(text, begin, end, left):
        return -end
    near = passage.points(begin)
    if near < -1 and RIGHT_NUMBER.match(text, end):
        near = -1  # a telephone or an identity number stands beside it
    return end if points + near >= _NEEDED else 0


def _is_cited(text: str, begin: int, end: int, left: int) -> bool:
    return (
        is_known(text, begin, end, is_addressed=left >= LIKELY)
        or bool(LEFT_CITED.search(text[max(0, begin - 5) : begin]))
        or bool(RIGHT_CITED.match(text, end))
    )


def _is_possible(text: str, begin: int, end: int, left: int, after: int) -> bool:
    if (
        after < 0
        or text[end - 1 : end + 1] in _TWO
        or text[end - 1 : end + 2] in _THREE
    ):
        return False  # a word begins with the last character: 赵敏|申请
    if end - begin > 2 and text[end - 1 : end + 1] in CUTS:
        return False  # the same, where a shorter reading remains: 屠杰|双人
    if left == 0:
        return after >= LIKELY and text[end : end + 2] in TITLES
    return left == SURE or (after > 0 and left + after > 2)


def _left(text: str, begin: int) -> int:
    """How much what stands before speaks for a name: 0 to 3."""
    place, colon = begin, False
    while place and place > begin - 4 and text[place - 1] in _SEPARATORS:
        place -= 1
        colon = colon or text[place] in ":：|="
    if place and place < begin and text[place - 1] in ")）":
        inside = text[max(0, place - 14) : place]
        opened = max(inside.rfind("("), inside.rfind("（"))
        place -= len(inside) - opened if opened > 0 else 0
    elif (
        place and text[place - 1] in "是为叫写填系" and _word(text, place - 1, _CALLED)
    ):
        return SURE
    if place and text[place - 1] in _LABEL_LAST:
        if _word(text, place, STRONG):
            return SURE
        if place > 2 and text[place - 2] in " \u3000":
            close = text[max(0, place - 12) : place].translate(_NO_BLANKS)
            if _word(close, len(close), STRONG):
                return SURE
    if (
        place
        and text[place - 1] in _WEAK_LAST
        and _word(text, place, WEAK)
        and (colon or begin - place < 2)
    ):
        return SURE if colon else LIKELY
    if colon and place and text[place - 1] in HAN_SET:
        return LIKELY
    return 0 if begin and text[begin - 1] in HAN_SET else OPEN


_CALLED = STRONG | KIN_AND_JOBS
_NO_BLANKS = str.maketrans("", "", " \u3000")
_WEAK_LAST = frozenset(word[-1] for word in WEAK)


def _word(text: str, end: int, words: frozenset[str]) -> bool:
    """Whether one of ``words`` ends at ``end``."""
    for size in range(1, min(end, 6) + 1):
        if text[end - size : end] in words:
            return True
    return False


def _mentions(text: str, found: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Every further place where a full name that was found stands."""
    begins = {begin for begin, _ in found}
    for name in sorted({text[b:e] for b, e in found}):
        begin = text.find(name)
        while begin >= 0:
            end = begin + len(name)
            if begin not in begins and _is_mention(text, begin, end):
                yield begin, end
            begin = text.find(name, end)


def _is_mention(text: str, begin: int, end: int) -> bool:
    """A short name must stand free, a long one only not be part of a firm's."""
    right = points_after(text, end)
    if end - begin > 2 or right < 0:
        return right >= 0
    return right > 0 and _left(text, begin) > 0
