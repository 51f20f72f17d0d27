"""Numbers in digits that a text states, with their units.

Numbers in Chinese characters are not read; the hub's ``numerals`` does that.
"""

import re
from decimal import Decimal
from typing import NamedTuple
from unicodedata import normalize

POWERS = {
    "%": -2, "百分点": -2, "‰": -3, "基点": -4, "BP": -4, "bp": -4,
    "万": 4, "百万": 6, "千万": 7, "亿": 8, "万亿": 12,
}  # fmt: skip
"""{unit: its power of ten}."""
_FIGURE = (
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?)"
    r"(?: ?(?:个(?=亿|百分点|基点|BP|bp))?"  # 3个亿, but not 2个万能账户
    r"(?P<unit>[%％‰]|万亿|[千百]?万|亿|百分点|基点|BP|bp))?"
)
_EVERY = re.compile(_FIGURE)
_WHOLE = re.compile(rf"(?<![\d.]){_FIGURE}")
_LIST_MARK = re.compile(r"(?m)^\s*\d\d?([、)）]|[.．](?!\d))|[(（]\d\d?[)）]|[①-⑳]")


class Figure(NamedTuple):
    """A number as it stands in a text; ``unit`` is one of ``POWERS``, or empty."""

    value: Decimal
    unit: str


def figures(text: str) -> list[Figure]:
    """The numbers of ``text`` in order, without grouping commas.

    What follows a point is left out: the 15 of 2026.1.15, the 008 of pacs.008.
    Example: figures("约 1,250.50 万元，占3%") has 1250.50 with 万 and 3 with %.
    """
    return [_figure(found) for found in _WHOLE.finditer(text)]


def in_full(text: str) -> str:
    """``text`` in half width with every amount in plain digits.

    Example: 1.20万元 and 12,000元 both become 12000元; other units stay, 3.50% is 3.5%.
    """
    return _EVERY.sub(_replaced, normalize("NFKC", text))


def figures_in_full(text: str) -> set[str]:
    """Numbers of ``text`` in plain digits, amounts in full, without marks of a list.

    Unlike ``figures`` it has what follows a point too: whoever looks for numbers that a
    model made up must see 16 in 2026.1.16. Marks are 1. and 2、 at the beginning of a
    line, (3) and ④; the 2 of a line that begins with 2.18% is none.
    """
    plain = normalize("NFKC", _LIST_MARK.sub("", text))
    return {_digits(_figure(found)) for found in _EVERY.finditer(plain)}


def _figure(found: re.Match[str]) -> Figure:
    unit = (found["unit"] or "").replace("％", "%")
    return Figure(Decimal(found["number"].replace(",", "")), unit)


def _digits(figure: Figure) -> str:
    """1.20 with 万 is 12000; units below one are left off."""
    power = max(0, POWERS.get(figure.unit, 0))
    return f"{figure.value.scaleb(power).normalize():f}"


def _replaced(found: re.Match[str]) -> str:
    figure = _figure(found)
    counted_in = POWERS.get(figure.unit, 0) > 0
    rest = "" if counted_in else found[0][len(found["number"]) :]
    return _digits(figure) + rest
