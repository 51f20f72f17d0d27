"""Printed lines back to text: reading order, running heads and feet, paragraphs.

Works on where words stand on a page, not on the file format; ``extract_pdf`` calls it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finllm_utils.data.extract_tables import table_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Words that stand together on one line, or a table. Unit: points, from the top."""

    text: str
    left: float
    right: float
    top: float
    bottom: float
    is_table: bool = False


_PAGE_NUMBER = re.compile(
    r"^[\s\-–—_.·|~]*(?:第?\s*[\d一二三四五六七八九十]+\s*页?|page\s*\d+)"
    r"(?:\s*(?:/|of|，|,|共)?\s*共?\s*\d+\s*页?)?[\s\-–—_.·|~]*$",
    re.IGNORECASE,
)
_EDGE_LINES = 3  # lines at the top and bottom of a page that may be a running head


def running_lines(pages: Sequence[Sequence[str]]) -> list[set[int]]:
    """For each page, which of its lines are page numbers or repeated heads or feet.

    Lines are in order from the top. A head or foot stands on most pages; digits are
    compared as one, so "第 3 页" and "第 4 页" are the same foot.
    """
    edges = [_edge(page) for page in pages]
    counts = Counter()
    for page, near in zip(pages, edges, strict=True):
        counts.update({_shape(page[i]) for i in near})
    repeated = {s for s, n in counts.items() if n >= 2 and n > len(pages) / 2}
    return [
        {i for i in near if _PAGE_NUMBER.match(page[i]) or _shape(page[i]) in repeated}
        for page, near in zip(pages, edges, strict=True)
    ]


def _edge(page: Sequence[str]) -> list[int]:
    """Places of the lines at the top and the bottom that are no table."""
    places = {*range(len(page))[:_EDGE_LINES], *range(len(page))[-_EDGE_LINES:]}
    return sorted(i for i in places if "\n" not in page[i])


def _shape(line: str) -> str:
    return re.sub(r"\d+", "0", "".join(line.split()))


def rows_of(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """``pieces`` by printed line from the top, left to right; a table is a row."""
    rows: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda p: (p.top, p.left)):
        middle = (piece.top + piece.bottom) / 2
        row = rows[-1] if rows else None
        alone = piece.is_table or (row is not None and row[0].is_table)
        if row is None or alone or middle > row[0].bottom:
            rows.append([piece])
        else:
            row.append(piece)
    return [sorted(row, key=lambda p: p.left) for row in rows]


_FULL_LINE = 0.8  # share of the width; the next word did not fit
_SAME_SIZE = 0.9  # of the larger height; a heading is taller than its text
_MIN_COLUMN_LINES = 4  # fewer lines side by side are no columns of text
_MIN_FILL = 0.6  # share of its column that a line of running text fills, at the median
_MIN_TEXT = 20  # median width of its lines, a Han character as two; numbers are shorter
_MAX_PIECES = 2_000  # more on a page is a drawing
_MIN_WIDTH = 0.2  # of the block: a narrower strip is a margin note or a table column


def reading_order(
    pieces: Sequence[Piece], margins: tuple[float, float] | None = None
) -> list[tuple[Piece, bool]]:
    """The lines of a page as a reader takes them, and whether each fills its width.

    Columns come one after the other, full-width lines between them in their place.
    Args: margins are the left and right edges of text where there are no columns; by
    default those of ``pieces``.
    """
    if not pieces:
        return []
    margins = margins or text_margins(pieces)
    gutter = _gutter(pieces)
    if gutter is None:
        rows = _tables_from(rows_of(pieces))
        return [(line, _fills(line, margins)) for line in map(_joined, rows)]
    ordered: list[tuple[Piece, bool]] = []
    band: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.top, p.left)):
        if piece.left < gutter < piece.right:
            ordered += _by_column(band, gutter)
            ordered.append((piece, _fills(piece, margins)))
            band = []
        else:
            band.append(piece)
    return ordered + _by_column(band, gutter)


def _joined(row: Sequence[Piece]) -> Piece:
    if len(row) == 1:
        return row[0]
    return replace(
        row[0], text=" ".join(piece.text for piece in row), right=row[-1].right
    )


def text_margins(pieces: Sequence[Piece]) -> tuple[float, float]:
    """The left and right edges of ``pieces``, tables left out."""
    words = [piece for piece in pieces if not piece.is_table] or pieces
    return min(p.left for p in words), max(p.right for p in words)


def _fills(piece: Piece, margins: tuple[float, float]) -> bool:
    left, right = margins
    return piece.right - piece.left >= _FULL_LINE * (right - left)


def same_size(one: Piece, other: Piece) -> bool:
    """Whether two lines are printed alike, as those of one paragraph are."""
    heights = sorted((one.bottom - one.top, other.bottom - other.top))
    return heights[0] >= _SAME_SIZE * heights[1]


def _by_column(band: Sequence[Piece], gutter: float) -> list[tuple[Piece, bool]]:
    before = [p for p in band if p.right <= gutter]
    after = [p for p in band if p.left >= gutter]
    return reading_order(before) + reading_order(after)


def _gutter(pieces: Sequence[Piece]) -> float | None:
    """Where two columns of running text part, or None."""
    words = [p for p in pieces if not p.is_table]
    if not 2 * _MIN_COLUMN_LINES <= len(words) <= _MAX_PIECES:
        return None
    left, right = min(p.left for p in words), max(p.right for p in words)
    starts = {p.left for p in words if p.left > left + _MIN_WIDTH * (right - left)}
    best = None
    for start in sorted(starts):
        gutter = start - 1
        crossing = sum(p.left < gutter < p.right for p in words)
        before = [p for p in words if p.right <= gutter]
        after = [p for p in words if p.left >= gutter]
        if min(len(before), len(after)) < _MIN_COLUMN_LINES or crossing > len(after):
            continue
        if _is_column(before, right - left) and _is_column(after, right - left):
            beside = _beside(before, after)
            if beside >= _MIN_COLUMN_LINES and (best is None or beside > best[0]):
                best = (beside, gutter)
    return best and best[1]


def _is_column(side: Sequence[Piece], block_width: float) -> bool:
    """Whether most lines of ``side`` fill its width, as those of running text do."""
    width = max(p.right for p in side) - min(p.left for p in side)
    middle = sorted(side, key=lambda p: p.right - p.left)[len(side) // 2]
    return (
        width >= _MIN_WIDTH * block_width
        and middle.right - middle.left >= _MIN_FILL * width
        and line_width(middle.text) >= _MIN_TEXT
    )


def _beside(before: Sequence[Piece], after: Sequence[Piece]) -> int:
    """How many lines on the right have a line on the left at their height."""
    return sum(
        any(a.top < b.bottom and b.top < a.bottom for b in before) for a in after
    )


_MIN_TABLE_ROWS = 3
_ALIGNED = 4.0  # points by which the edges of one column's cells may differ


def _tables_from(rows: list[list[Piece]]) -> list[list[Piece]]:
    """``rows`` with runs of aligned cells, a table without rules, as Markdown.

    Cells of a column share their left edge, their right edge or their middle.
    """
    done: list[list[Piece]] = []
    run: list[list[Piece]] = []
    for row in [*rows, []]:
        if run and not _aligned(run[-1], row):
            done += [[_join_table(run)]] if len(run) >= _MIN_TABLE_ROWS else run
            run = []
        run.append(row)
    return done


def _aligned(above: list[Piece], row: list[Piece]) -> bool:
    if len(row) < 2 or len(row) != len(above) or any(p.is_table for p in row):
        return False
    return all(
        abs(a.left - b.left) <= _ALIGNED
        or abs(a.right - b.right) <= _ALIGNED
        or abs(a.left + a.right - b.left - b.right) <= 2 * _ALIGNED
        for a, b in zip(above, row, strict=True)
    )


def _join_table(run: list[list[Piece]]) -> Piece:
    pieces = [piece for row in run for piece in row]
    return Piece(
        text=table_text([[piece.text for piece in row] for row in run]),
        left=min(p.left for p in pieces),
        right=max(p.right for p in pieces),
        top=min(p.top for p in pieces),
        bottom=max(p.bottom for p in pieces),
        is_table=True,
    )


_ENDS = re.compile(r"[。！？!?：:；;…”」』）)]$")
_NEW = re.compile(
    r"^(?:第[零〇一二三四五六七八九十百\d]+[章节条]|[一二三四五六七八九十]+、|[(（][一二三四五六七八九十\d]+[)）]"
    r"|\d+[.、．]\s*\D|[•●■◆▪]|表\s*\d|图\s*\d)"
)


def join_lines(lines: Sequence[str], full: Sequence[bool] | None = None) -> str:
    """Paragraphs from printed lines: a full line without an end mark runs on.

    Args: full says for each line whether it fills its width; by default those do that
    are nearly as wide as the widest. A line that holds a line break is a table.
    """
    lines = [line.strip() for line in lines]
    if full is None:
        widths = [line_width(line) * ("\n" not in line) for line in lines]
        full = [width >= _FULL_LINE * max(widths) for width in widths]
    parts: list[str] = []
    running = False
    for line, fills in zip(lines, full, strict=True):
        if not line:
            continue
        if running and "\n" not in line and not _NEW.match(line):
            parts[-1] += glue(parts[-1], line) + line
        else:
            parts.append(line)
        running = fills and "\n" not in line and not _ENDS.search(line)
    return "\n".join(parts)


def glue(before: str, after: str) -> str:
    """What stands between two parts of one sentence: a blank between Latin words."""
    return " " if before[-1:].isascii() and after[:1].isascii() else ""


def line_width(line: str) -> int:
    """Printed width; a Han character counts two."""
    return sum(1 if c.isascii() else 2 for c in line.strip())
