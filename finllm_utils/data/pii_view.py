"""One spelling of a text for the patterns of ``pii``, with the way back to offsets.

A view is lower case and half width, has one dash, one dot and one blank, digits for
runs of Chinese numerals, and no zero-width characters. Positions in it lead back to
the original, which may be raw or normalised. Nothing here decides what is personal.
"""

import re
from dataclasses import dataclass

_NUMERALS = {
    "零": "0", "〇": "0", "○": "0", "◯": "0", "洞": "0", "⓪": "0", "一": "1",
    "壹": "1", "幺": "1", "弌": "1", "二": "2", "贰": "2", "貳": "2", "两": "2",
    "三": "3", "叁": "3", "參": "3", "四": "4", "肆": "4", "五": "5", "伍": "5",
    "六": "6", "陆": "6", "陸": "6", "七": "7", "柒": "7", "拐": "7", "八": "8",
    "捌": "8", "九": "9", "玖": "9", "勾": "9",
}  # fmt: skip
_NUMERALS |= {chr(0x245F + d): str(d) for d in range(1, 10)}  # ① to ⑨
_NUMERALS |= {chr(0x2775 + d): str(d) for d in range(1, 10)}  # ❶ to ❾
_TO_DIGITS = str.maketrans(_NUMERALS)
NUMERALS = "".join(_NUMERALS)

_SAME = {chr(c): chr(c - 0xFEE0).lower() for c in range(0xFF01, 0xFF5F) if c != 0xFF0C}
_SAME |= {chr(c): chr(c).lower() for c in range(ord("A"), ord("Z") + 1)}
_SAME |= {chr(0x1D7CE + i): str(i % 10) for i in range(50)}  # mathematical digits
_SAME |= dict.fromkeys("‐‑‒–—―−﹣⁃─━ー➖", "-")
_SAME |= dict.fromkeys("•・‧∙●⋅᛫･", "·")
_SAME |= dict.fromkeys(
    "\t\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u202f\u205f\u3000", " ",
)  # fmt: skip
_SAME |= {"﹫": "@", "﹕": ":", "∶": ":", "【": "[", "】": "]", "〔": "(", "〕": ")"}
_TO_VIEW = str.maketrans(_SAME)

VANISHING = (
    "\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u20e3\ufe00-\ufe0f\ufeff"
)
ZERO_WIDTH = re.compile(f"[{VANISHING}]")
_SHOWN = re.compile(f"[^{VANISHING}]")

_BETWEEN = r" _.·\-"
_RUN = re.compile(
    rf"[0-9{NUMERALS}](?:[{_BETWEEN}]{{0,3}}[0-9{NUMERALS}]){{4,}}"
    rf"(?:[{_BETWEEN}]{{0,3}}[x叉])?"
)
_PURE = re.compile(
    rf"[{NUMERALS}](?:[{_BETWEEN}]{{0,3}}[{NUMERALS}]){{4,}}(?:[{_BETWEEN}]{{0,3}}叉)?"
)
# Read out in groups: 一三八，零零一三，八零零零; 零二二，四零六幺五二幺五.
_SPOKEN = re.compile(
    rf"[{NUMERALS}]{{3,8}}(?:[,，、] ?[{NUMERALS}]{{2,8}})+"
    rf"(?:[,，、] ?[{NUMERALS}])?(?:[,，、]? ?[xX叉])?(?![{NUMERALS}])"
)
_EXTENSION = re.compile(
    rf"(?<=[0-9])( ?转 ?(?:分机)?号?[: ]?)([{NUMERALS}]{{2,5}})(?=\W|$)"
)
PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_PLATE = re.compile(
    rf"(?<=[{PROVINCES}][a-z])[ ·.\-]?(?=[a-z0-9]*[{NUMERALS}])"
    rf"(?:[a-z0-9{NUMERALS}]{{5,6}}|[0-9{NUMERALS}]{{4}}(?=[挂学警]))"
    rf"(?![a-z0-9{NUMERALS}])"
)
_LONG_NUMBERS = (11, 15, 16, 17, 18, 19)  # of phones and cards, when scripts are mixed


@dataclass(frozen=True, slots=True)
class View:
    """Canonical ``text`` of a stretch that begins at ``start`` of the original.

    ``offsets`` is None where every character stands for one of the original.
    """

    text: str
    start: int
    offsets: list[int] | None = None

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The original positions of ``text[begin:end]``."""
        if self.offsets is None:
            return self.start + begin, self.start + end
        return self.start + self.offsets[begin], self.start + self.offsets[end - 1] + 1


def view_of(text: str, start: int = 0, end: int | None = None) -> View:
    """The canonical form of ``text[start:end]``."""
    bare = without_zero_width(text[start:end])
    stretch, offsets = bare.text, bare.offsets
    stretch = _SPOKEN.sub(_without_commas, stretch.translate(_TO_VIEW))
    stretch = _RUN.sub(_with_digits, stretch)
    if "转" in stretch:
        stretch = _EXTENSION.sub(lambda m: m[1] + m[2].translate(_TO_DIGITS), stretch)
    stretch = _PLATE.sub(lambda m: m.group().translate(_TO_DIGITS), stretch)
    return View(stretch, start, offsets)


def without_zero_width(text: str) -> View:
    """``text`` as it is, but for the characters that nobody sees."""
    if not ZERO_WIDTH.search(text):
        return View(text, 0)
    offsets = [m.start() for m in _SHOWN.finditer(text)]
    return View(ZERO_WIDTH.sub("", text), 0, offsets)


def _without_commas(match: re.Match) -> str:
    """``一三八，零零一三，八零零零`` with dashes, as one number."""
    figures = sum(c.isalnum() for c in match.group())
    if figures not in (10, *_LONG_NUMBERS, 12):
        return match.group()
    return re.sub("[,，、]", "-", match.group())


def _with_digits(match: re.Match) -> str:
    """A run of numerals in digits: ``一三八-〇〇一三-八〇〇〇`` is 138-0013-8000."""
    run = match.group()
    figures = sum(c.isalnum() for c in run)
    if run.isascii():
        return run
    if re.search("[0-9]", run) and figures in _LONG_NUMBERS:
        return _digits(run, match)
    return _PURE.sub(lambda part: _digits(part.group(), match), run)


def _digits(run: str, match: re.Match) -> str:
    number = run.translate(_TO_DIGITS).replace("叉", "x")
    following = match.string[match.end() : match.end() + 1]
    if run[-1] == "一" and following and following in "直个下起位次定般样些":
        return number[:-1] + "一"  # "…八〇〇〇一直打不通": not part of the number
    return number
