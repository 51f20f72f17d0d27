"""Names in private passages: a second, more generous look than ``pii_people`` takes.

Where the text around is a private matter, a surname and a plausible given name between
boundaries is a person: after a sign, a role (贫困生), a verb or a particle, and before
a sign, a verb or data. Words that look alike are named in ``pii_surnames``.
"""

import re
from collections.abc import Callable, Iterator

from finllm_utils.data.pii_acts import DEEDS, NEVER_HEADS, ROLES, TOWARDS
from finllm_utils.data.pii_cues import AFTER, DATA, PAIRS, STRONG, TITLES, WEAK
from finllm_utils.data.pii_forms import (
    ABROAD,
    ANY_GIVEN,
    CUTS,
    GIVEN_CHARACTERS,
    HAN_SET,
    NOT_TWO,
    given_points,
    points_after,
)
from finllm_utils.data.pii_known import is_known
from finllm_utils.data.pii_passage import Passage
from finllm_utils.data.pii_surnames import (
    COMMON,
    DOUBLE,
    PURE,
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
_CERTAIN = STRONG | ROLES
_LEFT_WORDS = frozenset(
    word for word in _CERTAIN | WEAK | TOWARDS | _OTHER if len(word) > 1
)
_CERTAIN_LASTS = frozenset(word[-1] for word in _CERTAIN)
_BLANKS = frozenset(":： \u3000\t（(|")
_SHORT = frozenset(word for word in TOWARDS if len(word) == 1)
_LASTS = (
    frozenset(word[-1] for word in _LEFT_WORDS)
    | _BEFORE
    | _SHORT
    | set("床栋号楼室座排班")
)
_PLACED = re.compile(
    r"(?:[0-9]{1,4}[床栋号楼室座排]|[一二三四五六七八九十0-9]班|[0-9]单元|"
    r"[0-9]{3,4}室?的)$"
)
_LISTED = re.compile(
    r"(?:[0-9][.．、)） ]+|[@＠]|[（(【\[]|[:：]\s*|(?i:dear|hi|hello|holder|name|payee"
    r"|payer|attn|contact|applicant|passenger|guest"
    r"|beneficiary|customer|signed by|signature)[ :：]{0,2})$"
)
_ROW = re.compile(  # a row of a table, the head of a memo, of a curriculum vitae
    r"[^\n|｜]{2,8}[|｜][^\n|｜]{2,16}[|｜]|(?:[一-龥]{2,4}、){0,9}[一-龥]{2,4}[:：]\n"
    r"|[一-龥]{2,4}\n(?:求职|应聘|性别|电话|手机|邮箱|出生|学历|现居|籍贯|[男女][ ，,|"
    r"/])"
)
_DOUBT = frozenset(
    "安高金方白万宁连古景简池房查边燕官那印花皮支容巴班党青富松井乐" + WORDS_TOO
)
_RISKY = frozenset("多全员位年满花国应索向于元种相")  # the more often words
_SURNAMES = frozenset(COMMON + RARE + WORDS_TOO) - {"时"}
_COMMON = frozenset(COMMON)
_DOUBLES = frozenset(DOUBLE.split("|")) - {"第五", "百里", "东方", "南门", "西门"}
_SHUT = "".join(sorted(HAN_SET - _LASTS))


def _class(characters: frozenset[str] | set[str]) -> str:
    return "".join(sorted(characters))


_CANDIDATE = re.compile(
    rf"(?:[{_class({*COMMON, *RARE} | {name[0] for name in _DOUBLES})}](?<![{_SHUT}].)"
    rf"|[{_class(set(WORDS_TOO) - _RISKY - {'时'})}](?<![{_SHUT}].)"
    rf"|[{_class(_RISKY)}](?<=[：:，。；\n"
    rf" \u3000@＠(（.、写叫向给与和由帮让人户者女妻夫].))"
    rf"(?=[{_class(GIVEN_CHARACTERS | {name[1] for name in _DOUBLES})}]"
    rf"|[{_class(ANY_GIVEN)}][{_class(GIVEN_CHARACTERS)}])"
)
_TRANSCRIBED = re.compile(
    rf"[仁央尼多次达格桑才扎洛卓旺其乌迪热买吐艾玛努帕丹巴索贡阿吉娜叶布哈木肉依莎斯"
    rf"宝朝额敖孟](?<![{_SHUT}].)"
    rf"[{_class(TRANSCRIBED)}]{{2,5}}(?![·•．・‧{_class(TRANSCRIBED)}])"
    rf"|[{_class(TRANSCRIBED)}](?<![{_SHUT}·•．・‧].)[{_class(TRANSCRIBED)}]{{1,6}}"
    rf"[·•．・‧][{_class(TRANSCRIBED | {'明'})}]{{2,7}}"
    rf"(?![·•．・‧{_class(TRANSCRIBED)}])"
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
    if len(text) > 120 and not passage.has_private_word():
        return
    if len(text) > 320 and not passage.is_service():
        return
    begins, ends = {begin for begin, _ in known}, {end for _, end in known}
    spelled = [*_transcribed(text, passage, label)]
    yield from spelled
    ends.update(end for _, end in spelled)
    taken = {place for span in spelled for place in range(*span)}
    last = -1
    for match in _CANDIDATE.finditer(text):
        begin = match.start()
        if (
            begin < last
            or begin in begins
            or begin in taken
            or text[begin : begin + 2] in NOT_TWO
        ):
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


def _transcribed(
    text: str, passage: Passage, label: Callable[[str, int], int]
) -> Iterator[tuple[int, int]]:
    """Names such as 格桑卓玛 after a role or a verb, and with a dot after any sign."""
    for match in _TRANSCRIBED.finditer(text):
        begin = match.start()
        if text[begin : begin + 2] in NEVER_HEADS:
            begin += 2
        elif text[begin - 1 : begin + 1] in NEVER_HEADS:
            begin += 1
        needed = 1 if match.group().isalpha() else 0
        left = max(_left(text, begin), label(text, begin))
        if left < 3 and needed and ABROAD.match(text, begin):
            continue
        if left > needed:
            if not passage.is_service():
                return
            end = match.end() - (_right(text, match.end()) < 1)
            if _right(text, end) > 0 and passage.points(begin) > 0:
                yield begin, end


def _is_joined(text: str, place: int, ends: set[int]) -> bool:
    """Whether a name ends right before the sign or word that stands at the left."""
    return place - 1 in ends or (
        place - 2 in ends and _JOINTS.issuperset(text[place - 2 : place])
    )


def _end(text: str, begin: int, left: int, begins: set[int]) -> tuple[int, int]:
    best = (0, 0)  # points, end
    for end, form in _forms(text, begin, left):
        right = _right(text, end)
        if text[end : end + 1] in _JOINTS and right > 0:
            if end + 1 in begins or text[end] in "、；;" and _looks_so(text, end + 1):
                right = 3
        if right < 0 or text[end - 1 : end + 1] in _ACTS:
            continue
        if is_known(text, begin, end, is_addressed=left > 1 and right > 1):
            continue
        if end - begin > 2 and text[end - 1 : end + 1] in CUTS:
            continue
        goes_on = points_after(text, end + 1) < 0  # 赵敏|华集团
        if not (right or goes_on) and text[end - 1] in PURE and text[begin] in _COMMON:
            form += 1 + (end - begin == 3)  # 莺 or 婷: the name ends here
        best = max(best, (left + right + form, end))
    return best[1], best[0]


def _looks_so(text: str, begin: int) -> bool:
    """Whether a list goes on with what may be a name."""
    head, given = text[begin : begin + 1], text[begin + 1 : begin + 3]
    if text[begin : begin + 2] in NOT_TWO or text[begin : begin + 2] in DATA:
        return False
    if head not in _SURNAMES or not GIVEN_CHARACTERS.issuperset(given):
        return False
    return any(_right(text, begin + size) > 1 for size in (3, 2, 4))


_ACTS = frozenset(word for word in AFTER if len(word) == 2)


def _left(text: str, begin: int) -> int:
    """0 to 3: inside a word, a sign or role, an enumeration or verb, a label."""
    before = text[begin - 1 : begin]
    if (not before or before == "\n") and _ROW.match(text, begin):
        return 3
    if not before:
        return 2
    if before in "·•．・‧":
        return 0
    if before not in HAN_SET:
        if before in "@＠":
            return 3
        place = begin - 1
        while place > begin - 3 and text[place - 1] in _BLANKS:
            place -= 1
        if before in _BLANKS and text[place - 1 : place] in _CERTAIN_LASTS:
            if any(text[place - size : place] in _CERTAIN for size in (4, 3, 2)):
                return 3
        return 2 if _LISTED.search(text[max(0, begin - 12) : begin]) else 1
    if text[begin - 1 : begin + 1] in PAIRS:
        return 0
    for size in (6, 5, 4, 3, 2):
        word = text[max(0, begin - size) : begin]
        if word in _LEFT_WORDS:
            return 3 if word in _CERTAIN else 2
    if before in _SHORT and text[begin - 2 : begin - 1] not in HAN_SET:
        return 2
    if before in _BEFORE:
        return 1
    return 2 if _PLACED.search(text[max(0, begin - 5) : begin]) else 0


_AFTER_FIRMS = HAN_SET - set("大门里中的没无有")


def _right(text: str, end: int) -> int:
    following = text[end : end + 1]
    if following in HAN_SET:
        if following == "家" and text[end + 1 : end + 2] not in _AFTER_FIRMS:
            return 2
        points = points_after(text, end)
        return max(2, points) if text[end : end + 2] in DEEDS else points
    if following in "·•・‧∙．_《〈" and following:
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
    if head in "应向于由" and (
        text[begin + 1] in _COMMON or text[begin - 1 : begin] in HAN_SET
    ):
        return  # the word before a name: 应王敏要求
    if head not in _SURNAMES or text[begin + 1 : begin + 3] in TITLES:
        return
    doubt = head in _DOUBT
    if doubt and left < 2 and head in _RISKY:
        return
    sure = head not in _RISKY and GIVEN_CHARACTERS.issuperset(
        text[begin + 1 : begin + 3]
    )
    for size in (2, 1):
        given = text[begin + 1 : begin + 1 + size]
        points = given_points(given, size)
        if points < 0 or given in WORDS_INSIDE:
            continue
        if doubt and left < 2 and head in WORDS_TOO:
            if not sure or size < 2 or _right(text, begin + 3) < 2:
                continue
        yield begin + 1 + size, points - (doubt and not (sure and size > 1))
    if text[begin : begin + 2] == "苏和" and _right(text, begin + 2) > 1:
        yield begin + 2, 1  # a Mongol name that ends like a conjunction
    if text[begin + 1 : begin + 2] in _SURNAMES and not doubt:
        given = text[begin + 2 : begin + 4]
        if given_points(given, 2) == 2 and given not in WORDS_INSIDE:
            yield begin + 4, 2
