"""Names in private passages: a second, more generous look than ``pii_people`` takes.

Where the text around is a private matter, a surname and a plausible given name between
boundaries is a person: after a sign, a role (贫困生), a verb or a particle, and before
a sign, a verb or data. Words that look alike are named in ``pii_surnames``.
"""

import re
from collections.abc import Callable, Iterator

from finllm_utils.data.pii_cues import AFTER, PAIRS, STRONG, TITLES, WEAK
from finllm_utils.data.pii_forms import (
    ANY_GIVEN,
    GIVEN_CHARACTERS,
    HAN_SET,
    NOT_TWO,
    given_points,
    points_after,
)
from finllm_utils.data.pii_passage import Passage
from finllm_utils.data.pii_surnames import (
    COMMON,
    DOUBLE,
    FAMOUS,
    RARE,
    TRANSCRIBED,
    WORDS_INSIDE,
    WORDS_TOO,
)

_ROLES = "生员人者客长师部科室组家子女儿方工主户事友士手兄姐弟妹哥妈爸叔姨爷婆公小老"
_PARTICLES = (
    "是为叫由被向给跟找把对请让和与及同或帮替应据经将欠借送收问催派约转交见喊劝陪托"
    "靠凭代等联听系名令在因到"
)
_BEFORE = frozenset(_ROLES + _PARTICLES)
_OTHER = frozenset(
    "证明 今借 借到 收到 看到 名称 转入 汇入 打入 存入 婚生 对面 隔壁 亲爱的 负责"
    " 本院认为 经查 查明 抄送 判令 兹有 现有 授权 通过 加上 除了 连同 附上 家人 我家"
    " 你家 您好 你好 早上好 下午好 周一 周二 周三 周四 周五 周六 周日".split()
)
_LEFT_WORDS = frozenset(word for word in STRONG | WEAK | _OTHER if len(word) > 1)
_LASTS = frozenset(word[-1] for word in _LEFT_WORDS) | _BEFORE | set("床栋号楼室座排")
_PLACED = re.compile(r"(?:[0-9]{1,4}[床栋号楼室座排]|[0-9]单元)$")
_LISTED = re.compile(
    r"(?:[0-9][.．、)） ]+|[@＠]|[（(【\[]|[:：]\s*|(?i:dear|hi|hello) ?)$"
)
_DOUBT = frozenset(
    "安高金方白万宁连古景简池房查边燕官那印花皮支容巴班党青富松井乐" + WORDS_TOO
)
_SURNAMES = frozenset(COMMON + RARE + WORDS_TOO)
_COMMON = frozenset(COMMON)
_DOUBLES = frozenset(DOUBLE.split("|")) - {"第五", "百里", "东方", "南门", "西门"}
_SHUT = "".join(sorted(HAN_SET - _LASTS))


def _class(characters: frozenset[str] | set[str]) -> str:
    return "".join(sorted(characters))


_CANDIDATE = re.compile(
    rf"(?:[{_class({*COMMON, *RARE} | {name[0] for name in _DOUBLES})}](?<![{_SHUT}].)"
    rf"|[{_class(set(WORDS_TOO))}]"
    r"(?<=[：:，。；\n \u3000@＠(（.、写叫向给与和由帮让].))"
    rf"(?=[{_class(GIVEN_CHARACTERS | {name[1] for name in _DOUBLES})}]"
    rf"|[{_class(ANY_GIVEN)}][{_class(GIVEN_CHARACTERS)}])"
)
_TRANSCRIBED = re.compile(
    rf"[仁央尼多次达格桑才扎洛卓旺其乌迪热买吐艾玛努帕丹巴索贡](?<![{_SHUT}].)"
    rf"[{_class(TRANSCRIBED)}]{{2,5}}(?![·•．・‧{_class(TRANSCRIBED)}])"
    rf"|[{_class(TRANSCRIBED)}](?<![{_SHUT}·•．・‧].)[{_class(TRANSCRIBED)}]{{1,6}}"
    rf"[·•．・‧][{_class(TRANSCRIBED)}]{{2,7}}(?![·•．・‧{_class(TRANSCRIBED)}])"
)
_JOINTS = frozenset("、/；;&+ 和与及或同跟，,")
_NEEDED = 5


def private_names(
    text: str,
    passage: Passage,
    label: Callable[[str, int], int],
    known: list[tuple[int, int]],
) -> Iterator[tuple[int, int]]:
    """(begin, end) of what is a name if the passage around it is a private one.

    ``label`` says how much the words before a place speak for a name, ``known`` are
    the names found so far: what is joined to one of them is a name as well.
    """
    if len(text) > 320 and not passage.is_service():
        return
    begins, ends = {begin for begin, _ in known}, {end for _, end in known}
    last = -1
    for match in _CANDIDATE.finditer(text):
        begin = match.start()
        if begin < last or begin in begins or text[begin : begin + 2] in NOT_TWO:
            continue
        left = _left(text, begin)
        if left:
            joined = _is_joined(text, begin, ends)
            left = 3 if joined else max(left, label(text, begin))
        if not left:
            continue
        end, points = _end(text, begin, left, begins)
        if points < _NEEDED - 1:
            continue
        if left < 3 and not passage.is_service():
            continue
        near = passage.points(begin)
        if near > -(left > 2) and points + (near > 1 or passage.is_clear()) >= _NEEDED:
            last = end
            ends.add(end)
            yield begin, end
    for match in _TRANSCRIBED.finditer(text):
        begin = match.start()
        needed = 1 if match.group().isalpha() else 0
        if max(_left(text, begin), label(text, begin)) > needed:
            if not passage.is_service():
                return
            if points_after(text, match.end()) > 0 and passage.points(begin) > 0:
                yield match.span()


def _is_joined(text: str, place: int, ends: set[int]) -> bool:
    """Whether a name ends right before the sign or word that stands at the left."""
    return place - 1 in ends or (
        place - 2 in ends and _JOINTS.issuperset(text[place - 2 : place])
    )


def _end(text: str, begin: int, left: int, begins: set[int]) -> tuple[int, int]:
    best = (0, 0)  # points, end
    for end, form in _forms(text, begin, left):
        right = _right(text, end)
        if end + 1 in begins and text[end] in _JOINTS:
            right = 3
        if right < 0 or text[end - 1 : end + 1] in _ACTS or text[begin:end] in FAMOUS:
            continue
        best = max(best, (left + right + form, end))
    return best[1], best[0]


_ACTS = frozenset(word for word in AFTER if len(word) == 2)


def _left(text: str, begin: int) -> int:
    """0 to 3: inside a word, a sign or role, an enumeration or verb, a label."""
    before = text[begin - 1 : begin]
    if not before:
        return 2
    if before in "·•．・‧":
        return 0
    if before not in HAN_SET:
        return 2 if _LISTED.search(text[max(0, begin - 4) : begin]) else 1
    if text[begin - 1 : begin + 1] in PAIRS:
        return 0
    for size in (6, 5, 4, 3, 2):
        word = text[max(0, begin - size) : begin]
        if word in _LEFT_WORDS:
            return 3 if word in STRONG else 2
    if before in _BEFORE:
        return 1
    return 2 if _PLACED.search(text[max(0, begin - 5) : begin]) else 0


def _right(text: str, end: int) -> int:
    following = text[end : end + 1]
    if following in HAN_SET:
        return points_after(text, end)
    if following in "·•・‧∙_《〈" and following:
        return -1
    return max(2, points_after(text, end))


def _forms(text: str, begin: int, left: int) -> Iterator[tuple[int, int]]:
    """(end, points) of the readings of what begins at ``begin``."""
    head = text[begin]
    if text[begin : begin + 2] in _DOUBLES:
        for size in (2, 1):
            points = given_points(text[begin + 2 : begin + 2 + size], size)
            if points >= 0 and text[begin + 2 : begin + 4] not in TITLES:
                yield begin + 2 + size, 1 + points
    if head in "应向于由" and text[begin + 1] in _COMMON:
        return  # the word before a name: 应王敏要求
    if head not in _SURNAMES or text[begin + 1 : begin + 3] in TITLES:
        return
    doubt = head in _DOUBT
    if doubt and left < 2 and head in WORDS_TOO:
        return
    for size in (2, 1):
        given = text[begin + 1 : begin + 1 + size]
        points = given_points(given, size)
        if points < 0 or given in WORDS_INSIDE:
            continue
        yield begin + 1 + size, points - doubt
    if text[begin + 1 : begin + 2] in _SURNAMES and not doubt:
        given = text[begin + 2 : begin + 4]
        if given_points(given, 2) == 2 and given not in WORDS_INSIDE:
            yield begin + 4, 2
