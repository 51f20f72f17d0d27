"""The date that a document states for itself, as YYYY-MM-DD.

Only a line that is a date, or that calls itself one, counts: a date within a sentence
may be any day. Called for every format; a page's own marks go before it.
"""

import contextlib
import re
from datetime import date

_EDGE_LINES = 12  # a date stands under the title or at the end
_DIGITS = {c: str(i) for i, c in enumerate("〇一二三四五六七八九")}
_DIGITS |= {"零": "0", "○": "0"}
_LABEL = (
    r"(?:(?:发布|发稿|发表|更新|成文|印发|公告|报告|披露|制定|签发|签署|填报)?"
    r"(?:日期|时间)|发布于|发表于)\s*[:：]?\s*"
)
_NUMERIC = (
    r"((?:19|20)\d\d)\s*[-/.年]\s*(0?[1-9]|1[0-2])\s*[-/.月]"
    r"\s*(0?[1-9]|[12]\d|3[01])\s*日?"
)
_HAN = (
    "([一二][〇零○九][〇零○一二三四五六七八九]{2})年(十?[一二]|[一二三四五六七八九十])月"
    "([一二三]?十?[一二三四五六七八九十])日"
)
_PATTERNS = tuple(
    (re.compile(rf"(?:{_LABEL}{day}(?!\d)|[（(]?{day}[）)]?$)"), numeral)
    for day, numeral in ((_NUMERIC, int), (_HAN, None))
)


def stated_date(text: str) -> str:
    """The first date that a line at the start or end of ``text`` states, or ""."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    for line in dict.fromkeys((*lines[:_EDGE_LINES], *lines[-_EDGE_LINES:])):
        for pattern, numeral in _PATTERNS:
            if match := pattern.match(line):
                parts = [part for part in match.groups() if part]
                with contextlib.suppress(ValueError):  # 30 February
                    return date(*map(numeral or _numeral, parts)).isoformat()
    return ""


def _numeral(text: str) -> int:
    """二〇二四 as 2024, 二十五 as 25."""
    if len(text) == 4:
        return int("".join(_DIGITS[c] for c in text))
    tens, ten, ones = text.rpartition("十")
    units = int(_DIGITS[ones]) if ones else 0
    return units + (10 * int(_DIGITS[tens] if tens else 1) if ten else 0)
