"""The main text of a web page, its tables as Markdown, its title and its date.

trafilatura finds the article, to which the paragraphs, lists and tables between its own
come back; where it finds far too little or too much, the blocks that are text rather
than links stand in for it. Scripts are never run.
"""

import re
from copy import deepcopy

from lxml import etree, html

from finllm_utils.data.encoding import decode
from finllm_utils.data.extract_blocks import (
    BLANK,
    MAX_LINK_DENSITY,
    element_text,
    open_layout,
    page_blocks,
    page_text,
    plain_text,
    restore,
)
from finllm_utils.data.extract_tables import table_text

MAX_DEPTH = 256  # tags within tags; libxml2 drops what lies deeper without a word
_MAX_ELEMENTS = 100_000  # an ordinary page has a few thousand
_MAX_ATTRIBUTE = 2_000  # characters; pictures in attributes cost trafilatura minutes
_MAX_SPAN = 100  # columns or rows that one cell may cover
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([A-Za-z0-9_\-]+)""", re.IGNORECASE)
_DATE_SETTINGS = {  # marked-up dates only; a fixed bound, so that today plays no part
    "extensive_search": False,
    "original_date": True,
    "min_date": "1990-01-01",
    "max_date": "2100-01-01",
}


def read_html(
    data: bytes, name: str, *, url: str = "", charset: str = ""
) -> tuple[str, dict]:
    """The main text of a page by trafilatura, else by link density.

    Args: url and charset are what the server said about the page, when known.
    Raises: ValueError naming the page and the remedy.
    """
    declared = _CHARSET.search(data[:2_048])
    if declared and not charset:
        charset = declared.group(1).decode("ascii")
    text, encoding = decode(data, name, charset or None)
    root = parse(text, name)
    meta = {"encoding": encoding, **_about(root, url)}
    _drop_link_tables(root)
    open_layout(root)
    for table in root.iter("table"):
        _square(table)
    blocks = page_blocks(deepcopy(root))
    whole, prose = page_text(blocks)
    main, added = restore(_article(root), blocks)
    # Far less than the page's sentences is a miss; far more than all its text is
    # trafilatura's short-page rescue printing the same paragraphs twice.
    if main and (0.8 * prose <= len(main) <= 1.5 * len(whole) or not whole):
        meta |= {"restored_lines": added} if added else {}
        return main, {**meta, "extractor": "trafilatura"}
    if not whole:
        raise ValueError(
            f"{name}: no text in the page; save the rendered page or remove it"
        )
    return whole, {**meta, "extractor": "link_density"}


def parse(text: str, name: str) -> html.HtmlElement:
    """The tree of a page, comments left out.

    Raises: ValueError for a page without elements or nested too deeply.
    """
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        root = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError as error:
        raise ValueError(
            f"{name}: no text in the page ({error}); save the rendered page or remove "
            "it"
        ) from error
    depth = deepest = count = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        deepest, count = max(deepest, depth), count + 1
    if deepest >= MAX_DEPTH:
        raise ValueError(
            f"{name}: tags nested {MAX_DEPTH} deep or deeper; save the rendered page "
            "or remove it"
        )
    if count > 2 * _MAX_ELEMENTS:
        raise ValueError(
            f"{name}: more than {_MAX_ELEMENTS:,} tags; split the page or remove it"
        )
    for value in root.xpath(f"//@*[string-length() > {_MAX_ATTRIBUTE}]"):
        value.getparent().set(value.attrname, value[:_MAX_ATTRIBUTE])
    return root


def _about(root: html.HtmlElement, url: str) -> dict:
    """Title, date and licence as the page's own marks state them."""
    import trafilatura

    found = trafilatura.extract_metadata(root, url or None, _DATE_SETTINGS, False)
    if found is None:
        return {}
    values = {"title": found.title, "date": found.date, "licence": found.license}
    return {key: " ".join(value.split()) for key, value in values.items() if value}


def _drop_link_tables(root: html.HtmlElement) -> None:
    """Removes innermost tables of links: menus and lists of pages, no values."""
    for table in list(root.iter("table")):
        if table.find(".//table") is None:
            size = len(plain_text(table))
            linked = sum(len(plain_text(link)) for link in table.iter("a"))
            if size and linked > MAX_LINK_DENSITY * size:
                table.drop_tree()


def _square(table: html.HtmlElement) -> None:
    """Gives every row of ``table`` one cell a column; a merged one is filled up."""
    open_until: dict[int, int] = {}  # column -> rows that a cell above still covers
    for row in table.xpath("./tr | ./thead/tr | ./tbody/tr | ./tfoot/tr"):
        column, cells = 0, list(row.iterchildren("td", "th"))
        for cell in cells:
            column = _fill_covered(open_until, column, cell)
            wide, high = (_span(cell, f"{axis}span") for axis in ("col", "row"))
            if not cell.text_content().strip() and not len(cell):
                cell.text = BLANK
            for extra in range(wide):
                if extra:
                    cell.addnext(_blank_cell())
                if high > 1:
                    open_until[column + extra] = high - 1
            column += wide
        last = row[-1] if len(row) else None
        while last is not None and open_until.get(column, 0):
            open_until[column] -= 1
            row.append(_blank_cell())
            column += 1


def _fill_covered(
    open_until: dict[int, int], column: int, cell: html.HtmlElement
) -> int:
    """Puts blanks before ``cell`` for columns covered from above; its column."""
    while open_until.get(column, 0):
        open_until[column] -= 1
        cell.addprevious(_blank_cell())
        column += 1
    return column


def _span(cell: html.HtmlElement, name: str) -> int:
    value = cell.attrib.pop(name, "1").strip()
    return min(max(int(value), 1), _MAX_SPAN) if value.isdecimal() else 1


def _blank_cell() -> html.HtmlElement:
    cell = html.Element("td")
    cell.text = BLANK
    return cell


def _article(root: html.HtmlElement) -> str:
    """The article that trafilatura finds, block by block."""
    import trafilatura

    found = trafilatura.bare_extraction(
        root, include_comments=False, include_tables=True, favor_recall=False,
        deduplicate=False,
    )  # fmt: skip
    if not found:
        return ""
    lines = [_block_text(block) for block in found["body"]]
    return "\n".join(line for line in lines if line)


def _block_text(block: etree._Element) -> str:
    if block.tag == "table":
        rows = [
            [element_text(c) for c in row.iter("cell")] for row in block.iter("row")
        ]
        return table_text(rows)
    if block.tag == "list":
        items = (plain_text(item) for item in block.iterchildren())
        return "\n".join(f"- {item}" for item in items if item)
    if any(child.tag in ("table", "list", "p") for child in block):
        parts = [block.text or "", *(_block_text(child) for child in block)]
        return "\n".join(part for part in parts if part.strip())
    return "\n".join(filter(None, map(str.strip, element_text(block).split("\n"))))
