"""Rows of cells as a Markdown table, or as plain lines where they only lay out a page.

Called by every extractor that meets tables: HTML, PDF, DOCX and XLSX.
"""

from collections.abc import Sequence

_LONGEST_CELL = 300  # characters; a longer cell holds paragraphs, not a value

Rows = Sequence[Sequence[str]]


def table_text(rows: Rows) -> str:
    """``rows`` as a Markdown table, the first as its head; "" when all are empty.

    Rows of unequal length are filled up, empty rows and columns left out. What is no
    table (one column, one row, cells that hold whole paragraphs) comes as lines.
    """
    flat = _trim([[" ".join(cell.split()) for cell in row] for row in rows])
    if _longest(flat) <= _LONGEST_CELL and any(sum(map(bool, r)) > 1 for r in flat):
        return _markdown(flat)
    lines = (line.strip() for row in rows for cell in row for line in cell.split("\n"))
    return "\n".join(filter(None, lines))


def is_data_table(rows: Rows) -> bool:
    """Whether ``rows`` surely hold values in columns rather than lay out a page."""
    pairs = sum(sum(map(bool, row)) >= 2 for row in rows)
    return pairs >= 2 and 2 * pairs >= len(rows) and _longest(rows) <= _LONGEST_CELL


def _longest(rows: Rows) -> int:
    return max((len(cell) for row in rows for cell in row), default=0)


def _trim(rows: Rows) -> list[list[str]]:
    width = max((len(row) for row in rows), default=0)
    filled = [[*row, *[""] * (width - len(row))] for row in rows if any(row)]
    used = [i for i in range(width) if any(row[i] for row in filled)]
    return [[row[i] for i in used] for row in filled]


def _markdown(rows: Rows) -> str:
    lines = [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
        for row in rows
    ]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
