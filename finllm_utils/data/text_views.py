"""A text as its filters should see it: tables taken apart, drawn lines left out.

A filter looks at the plain text first and at one of these views only when that looks
wrong, so that good text costs nothing more.
"""

import html
import re

TABLE_ROW = re.compile(r"^ *\|.*\| *$", re.MULTILINE)
_ENTITY = re.compile(r"&(?:#\d{2,6}|#x[0-9a-fA-F]{2,5}|[a-z]{2,8});")
_RULE = re.compile(r"(?:([-=_·.…*~+#─━—])\1{2,}[ |+]*){1,}|[|│┃+]")
_NUMBER = re.compile(r"^[\d\s.,%+\-−—–/:¥$()（）x×*年月日期次]*$")


def undrawn(text: str) -> str:
    """``text`` without ruling lines, leaders and cell borders; entities as characters.

    ``undrawn("目录......12")`` is ``"目录12"``.
    """
    return _RULE.sub("", decoded(text))


def decoded(text: str) -> str:
    """Characters for HTML entities: ``&#32431;`` is 纯."""
    return html.unescape(text) if _ENTITY.search(text) else text


def cells(row: str) -> list[str]:
    """The filled cells of one Markdown table row."""
    return [cell.strip() for cell in row.strip().strip("|").split("|") if cell.strip()]


def is_ruler(row: str) -> bool:
    """Whether a table row is only ``| --- | --- |``."""
    return not row.strip("|-: ")


def split_tables(text: str) -> tuple[str, list[list[str]]]:
    """The text outside of Markdown tables, and the cells of each table row."""
    rows = [row for row in TABLE_ROW.findall(text) if not is_ruler(row)]
    prose = TABLE_ROW.sub("", text) if rows else text
    return prose, [cells(row) for row in rows]


def spoken(text: str) -> str:
    """``text`` with tables as lines of their wording: every label once, no amounts.

    Labels repeat from row to row and amounts share digits; neither is repetition.
    """
    prose, rows = split_tables(decoded(text))
    labels = dict.fromkeys(c for row in rows for c in row if not _NUMBER.match(c))
    return f"{prose}\n{' '.join(labels)}" if rows else prose
