"""Where in a raw text personal data may stand: one cheap scan, then windows.

Each sign begins with one class of characters and looks back from there; patterns that
begin with words are several times slower. What is no sign here is never looked at.
"""

import re

from finllm_utils.data.pii_numbers import PROVINCES
from finllm_utils.data.pii_people import (
    HAN,
    RARE_SURNAMES,
    ROLES_AND_LABELS,
    SURNAME_HEADS,
)
from finllm_utils.data.pii_view import NUMERALS, VANISHING

_SURNAMES = SURNAME_HEADS + RARE_SURNAMES
_ROADS = "路街巷弄里道苑园城府湾庭居寓舍庐墅村庄屯寨坊镇乡厦台院区场心段条同楼栋"
_DIGITS = "0-9０-９\U0001d7ce-\U0001d7ff"
_GAP = rf"[ \-–—−‐‑－_＿.．/·•・\u00a0\u3000{VANISHING}]{{0,4}}"
# Seven digits in any spelling, or a door number behind a road or an estate.
_NUMBER = re.compile(
    rf"[{_DIGITS}{NUMERALS}十](?:(?:{_GAP}[{_DIGITS}{NUMERALS}]){{6,}}"
    rf"|[{NUMERALS}]{{2}}[,，、][{NUMERALS}]{{3}}"
    rf"|(?:(?<=[{_ROADS}].)|(?<=[{_ROADS}][ 第A-Za-zＡ-Ｚ].))(?:(?<=[{_DIGITS}])"
    r"|[零〇一二三四五六七八九十百]{0,4}[号弄栋幢座单组队段]))"
)
_PLATE = re.compile(
    rf"[{PROVINCES}][ ·{VANISHING}]*[A-Za-zＡ-Ｚａ-ｚ]"
    rf"[ ·•・‧∙.．\-－{VANISHING}]*[0-9A-Za-z０-９Ａ-Ｚａ-ｚ]"
)
_MARK = re.compile(  # lookbehinds include the character that was matched
    r"[@＠﹫#箱ldDqQＱ扣球秋鹅蔻叩vVＶwWＷ信泡号薇座生士姐太傅师夫男女加搜·•・‧∙址住\[(（{<【艾](?:"
    r"(?<=[@＠﹫])|(?<=[\[(（{<【])(?:[aA][tT]|艾特|@)|(?<=[a-z0-9]艾)特"
    r"|(?<=[dD])[oO][tT][ )\]]|(?<=邮箱)[ :：是为]*[A-Za-z0-9]"
    r"|(?<=mail)[ :：是为]+[A-Za-z0-9]|(?<=[A-Za-z0-9]#)[A-Za-z0-9]"
    r"|(?<=[微薇威徽围VvＶｖ]信)|(?<=[微薇] 信)|(?<=[vVＶ])[xXＸｘ:：号信]"
    r"|(?<=[wWＷ])(?:[xXＸ]|[eE][ciCI])"
    r"|(?<=[加搜])[ ]?(?=[a-z][a-z0-9\-]{0,18}[0-9_])"
    r"|(?<=[加+➕我][VvＶｖ薇])|(?<=薇)[:：号]|(?<=绿泡泡)|(?<=卫星号)|(?<=[A-Za-z]座)"
    r"|(?<=[qQＱ])[qQＱ :：号群]|(?<=[加主][qQＱ])"
    r"|(?<=扣扣|球球|秋秋|企鹅|蔻蔻|叩叩)|(?<=扣)[我:：]"
    r"|(?:(?<=先生)|(?<=女士)|(?<=小姐)|(?<=太太)|(?<=师傅)|(?<=律师)|(?<=大夫)|(?<=老师))"
    rf"(?:(?<=[{_SURNAMES}].{{3}})|(?<=[{_SURNAMES}].{{4}})|(?<=[{_SURNAMES}].{{5}}))"
    r"|(?<=[，,、（(\s][男女])[，,、；;)）]"
    rf"|(?<=址)[为是在:： ]{{0,2}}[{HAN}]|(?<=[家现]住)"
    rf"|(?<=[{HAN}][·•・‧∙])(?=[{HAN}]))"
)
# Verbs are left to the connection behind the noun, so that 的 and 是 start nothing.
_LAST = {role.rstrip("是为的")[-1] for role in ROLES_AND_LABELS.split("|")}
_ROLE = re.compile(
    rf"[{''.join(sorted(_LAST))})）]"
    rf"(?: {{0,2}}[:：|=][ \u3000\[【“「*]*[{HAN}]"
    rf"|[是为叫的 \u3000(（]{{0,2}}[{SURNAME_HEADS}](?=[{VANISHING}{HAN}])"
    rf"|[是为叫][{RARE_SURNAMES}](?=[{HAN}]))"
)
_ROLE_AT_END = re.compile(
    rf"(?:{ROLES_AND_LABELS})(?:[(（][^()（）\n]{{1,8}}[)）])?"
    r"[ \u3000:：|=是为叫(（\[【“「*]{0,4}$"
)
_NEAR, _FAR = 30, 56  # characters that rules look at: around names; otherwise
_JOINED = re.compile(r"[0-9A-Za-z０-９._%+\-]")
_MAX_JOINED = 80


def windows(text: str) -> list[tuple[int, int]]:
    """Stretches around signs, merged where they touch, no number cut at the edge."""
    far = [m.span() for sign in (_NUMBER, _PLATE) for m in sign.finditer(text)]
    far += [m.span() for m in _MARK.finditer(text) if _is_mark(m)]
    near = [m.span() for m in _ROLE.finditer(text) if _is_role(m)]
    signs = [(start - _FAR, end + _FAR) for start, end in far]
    signs += [(start - _NEAR, end + _NEAR) for start, end in near]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(signs):
        end = _grown(text, min(len(text), end), 1)
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((_grown(text, max(0, start), -1), end))
    return merged


def _is_mark(match: re.Match) -> bool:
    """Whether a dot between Han characters has a role or a title nearby."""
    if match.group() not in "·•・‧∙":
        return True
    start = match.start()
    return bool(_PERSON.search(match.string, max(0, start - 20), start + 20))


_PERSON = re.compile(
    rf"{ROLES_AND_LABELS}|先生|女士|小姐|太太|身份证|电话|手机|[男女][，,]"
)


def _is_role(match: re.Match) -> bool:
    """Whether the words up to the name are a role, such as 联系人 or 我叫."""
    width = 20 if match.group()[0] in ")）" else 10
    before = match.string[max(0, match.start() - width) : match.end() - 1]
    return bool(_ROLE_AT_END.search(before))


def _grown(text: str, edge: int, step: int) -> int:
    """``edge`` moved outward while it would cut a word or number, but not for ever."""
    for _ in range(_MAX_JOINED):
        index = edge if step > 0 else edge - 1
        if not 0 <= index < len(text) or not _JOINED.match(text, index):
            break
        edge += step
    return edge
