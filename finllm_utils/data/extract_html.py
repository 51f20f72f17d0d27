"""The main text of a web page, its tables as Markdown, its title and its date.

trafilatura finds the article; where it finds far too little or too much, the blocks
that are text rather than links stand in for it. Scripts are never run.
"""

import re
from copy import deepcopy

from lxml import etree, html

from finllm_utils.data.encoding import decode
from finllm_utils.data.extract_tables import is_data_table, table_text

MAX_DEPTH = 256  # tags within tags; libxml2 drops what lies deeper without a word
_MAX_ELEMENTS = 100_000  # an ordinary page has a few thousand
_MAX_SPAN = 100  # columns or rows that one cell may cover
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([A-Za-z0-9_\-]+)""", re.IGNORECASE)
_BLOCKS = (
    "p",
    "li",
    "h1",
    "h2",
    "h3",
    "h4",
    "td",
    "blockquote",
    "pre",
    "dd",
    "dt",
    "div",
)
_SKIPPED = (
    "script",
    "style",
    "nav",
    "footer",
    "header",
    "aside",
    "form",
    "noscript",
    "iframe",
)
_NEW_LINES = ("lb", "br", "p", "head", "list", "item", "row", "quote")
_MAX_LINK_DENSITY = 0.4  # share of a block's text that is links; menus are near 1
_BLANK = "\ue000"  # stands in an empty cell, which trafilatura would leave out
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
    for table in root.iter("table"):
        _square(table)
    blocks = main_blocks(deepcopy(root))
    main = _article(root)
    # Far less than the page's text is a miss; far more, trafilatura's short-page rescue
    # printing the same paragraphs twice.
    if main and (0.6 * len(blocks) <= len(main) <= 1.5 * len(blocks) or not blocks):
        return main, {**meta, "extractor": "trafilatura"}
    if not blocks:
        raise ValueError(
            f"{name}: no text in the page; save the rendered page or remove it"
        )
    return blocks, {**meta, "extractor": "link_density"}


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
            size = len(_plain(table))
            if size and _linked(table) > _MAX_LINK_DENSITY * size:
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
                cell.text = _BLANK
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
    cell.text = _BLANK
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
        rows = [[_text(c) for c in row.iter("cell")] for row in block.iter("row")]
        return table_text(rows)
    if block.tag == "list":
        items = (_plain(item) for item in block.iterchildren())
        return "\n".join(f"- {item}" for item in items if item)
    if any(child.tag in ("table", "list", "p") for child in block):
        parts = [block.text or "", *(_block_text(child) for child in block)]
        return "\n".join(part for part in parts if part.strip())
    return "\n".join(filter(None, map(str.strip, _text(block).split("\n"))))


def _text(element: etree._Element) -> str:
    parts = []
    for event, part in etree.iterwalk(element, events=("start", "end")):
        if part is not element and part.tag in _NEW_LINES:
            parts.append("\n")
        if event == "start":
            parts.append(part.text or "")
        elif part is not element:
            parts.append(part.tail or "")
    return "".join(parts).replace(_BLANK, "")


def _plain(element: etree._Element) -> str:
    return " ".join(_text(element).split())


def main_blocks(root: html.HtmlElement) -> str:
    """Blocks of a page that are text rather than links: the fall-back extractor."""
    for element in list(root.iter(*_SKIPPED)):
        if element.getparent() is not None:
            element.drop_tree()
    tables = _data_tables(root)
    lines = []
    for block in root.iter(*_BLOCKS, "table"):
        if block in tables:
            lines.append(tables[block])
            continue
        if block.tag == "table" or any(a in tables for a in block.iterancestors()):
            continue
        if any(child.tag in (*_BLOCKS, "table") for child in block.iterdescendants()):
            continue
        text = _plain(block)
        if text and _linked(block) <= _MAX_LINK_DENSITY * len(text):
            lines.append(text)
    return "\n".join(lines)


def _data_tables(root: html.HtmlElement) -> dict[html.HtmlElement, str]:
    """Innermost tables that hold values, as Markdown."""
    found = {}
    for table in root.iter("table"):
        if table.find(".//table") is not None:
            continue
        rows = [
            [_plain(cell) for cell in row.iter("td", "th")] for row in table.iter("tr")
        ]
        if is_data_table(rows):
            found[table] = table_text(rows)
    return found


def _linked(block: html.HtmlElement) -> int:
    return sum(len(_plain(link)) for link in block.iter("a"))
