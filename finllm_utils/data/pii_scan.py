"""Where in a raw text personal data may stand: one cheap scan, then windows.

Each sign begins with one class of characters and looks back from there; patterns that
begin with words are several times slower. What is no sign here is never looked at.
"""

import re

from finllm_utils.data.pii_people import HAN
from finllm_utils.data.pii_view import NUMERALS, PROVINCES, VANISHING

_ROADS = (
    "路街巷弄里道查木组社期邸苑园城府湾庭居寓舍庐墅村庄屯寨坊镇乡厦台院区场心段条同楼栋"
)
_DIGITS = "0-9０-９\U0001d7ce-\U0001d7ff"
_GAP = rf"[ \-–—−‐‑－_＿.．/·•・\u00a0\u3000{VANISHING}]{{0,4}}"
# Seven digits in any spelling, or a door number behind a road or an estate.
_NUMBER = re.compile(
    rf"[{_DIGITS}{NUMERALS}十](?:(?:{_GAP}[{_DIGITS}{NUMERALS}]){{6,}}"
    rf"|[{NUMERALS}]{{2}}[,，、][{NUMERALS}]{{3}}"
    r"|(?<=[0-9])[0-9]{3} ?[,，/|、+*] ?[0-9]{4} ?[,，/|、+*] ?[0-9]{4}"
    rf"|(?:(?<=[{_ROADS}].)|(?<=[{_ROADS}][ 第A-Za-zＡ-Ｚ].))(?:(?<=[{_DIGITS}])"
    r"|[零〇一二三四五六七八九十百]{0,4}[号弄栋幢座单组队段]))"
)
_PLATE = re.compile(
    rf"[{PROVINCES}][ ·{VANISHING}]*[A-Za-zＡ-Ｚａ-ｚ]"
    rf"[ ·•・‧∙.．\-－{VANISHING}]*[0-9A-Za-z０-９Ａ-Ｚａ-ｚ{NUMERALS}]"
)
_MARK = re.compile(  # lookbehinds include the character that was matched
    r"[@＠﹫#鼠箱圈❤♥💚💗💓💕🧡🩷威卫tTldDqQＱ扣球秋鹅蔻叩vVＶwWＷ信泡号薇微座加搜址"
    r"住\[(（{<【艾](?:"
    r"(?<=[@＠﹫])|(?<=[\[(（{<【])(?:[aA][tT]?|艾特|@)|(?<=[a-z0-9]艾)特"
    r"|(?<=[dD])[oO][tT][ )\]]|(?<=邮箱)[ :：是为]*[A-Za-z0-9]"
    r"|(?<=mail)[ :：是为]+[A-Za-z0-9]|(?<=圈)[aA]|(?<=_[aA][tT])_|"
    r"(?<=[A-Za-z0-9]#)[A-Za-z0-9]"
    r"|(?<=[微薇威徽围VvＶｖ]信)|(?<=[微薇] 信)|(?<=[vVＶ])[xXＸｘ:：号信]"
    r"|(?<=[wWＷ])(?:[xXＸ]|[eE][ciCI])"
    r"|(?<=[加搜])["
    r" ]?(?=[A-Za-zＡ-Ｚａ-ｚ][A-Za-z0-9Ａ-Ｚａ-ｚ０-９\-－]{0,18}[0-9_\-０-９＿－])"
    r"|(?<=[加+➕我][VvＶｖ薇])|(?<=薇)[:：号]|(?<=绿泡泡)|(?<=卫星号)|(?<=[A-Za-z]座)"
    r"|(?<=[A-Za-z0-9] [aA][tT])[ ](?=[A-Za-z0-9])|(?<=[qQＱ])(?=[0-9０-９]{5})"
    r"|(?<=小老鼠)|(?<=的[vVＶ])(?=[是 ]?[a-zA-Z])|(?<=[微薇])[xXＸ]"
    r"|(?<=[❤♥💚💗💓💕🧡🩷])(?<=[微薇威胃围唯维卫VvWw].)|(?<=[薇微威])(?=芯)|"
    r"(?<=薇)(?=心)"
    r"|(?<=[vVＶ])[ ](?=[A-Za-z])|(?<=微)[:：号我]|(?<=卫)(?=星[ A-Za-zＡ-Ｚａ-ｚ])|"
    r"(?<=[加+➕]威)|(?<=[加+➕]微)(?=[ A-Za-z])"
    r"|(?<=[qQＱ])[qQＱ :：号群(（]|(?<=[加主][qQＱ])"
    r"|(?<=扣扣|球球|秋秋|企鹅|蔻蔻|叩叩)|(?<=扣)[我:：]"
    rf"|(?<=址)[为是在:： ]{{0,2}}[{HAN}]|(?<=[家现]住))"
)
_FAR = 56  # characters that rules look at around a sign
_SIGNS = (_NUMBER, _PLATE, _MARK)
_JOINED = re.compile(r"[0-9A-Za-z０-９._%+\-]")
_MAX_JOINED = 80


def windows(text: str) -> list[tuple[int, int]]:
    """Stretches around signs, merged where they touch, no number cut at the edge."""
    signs = [m.span() for sign in _SIGNS for m in sign.finditer(text)]
    merged: list[tuple[int, int]] = []
    for sign, end in sorted(signs):
        start, end = sign - _FAR, end + _FAR
        end = _grown(text, min(len(text), end), 1)
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((_grown(text, max(0, start), -1), end))
    return merged


def _grown(text: str, edge: int, step: int) -> int:
    """``edge`` moved outward while it would cut a word or number, but not for ever."""
    for _ in range(_MAX_JOINED):
        index = edge if step > 0 else edge - 1
        if not 0 <= index < len(text) or not _JOINED.match(text, index):
            break
        edge += step
    return edge
