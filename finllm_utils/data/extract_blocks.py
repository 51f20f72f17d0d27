"""Blocks of text of a web page, in document order, and what an article lacks of them.

Used by ``extract_html``: as the fall-back extractor, and to restore paragraphs, lists
and tables that stand among the article's own and that the article finder left out.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from lxml import etree, html

from finllm_utils.data.extract_tables import is_data_table, table_text
from finllm_utils.data.shingles import fold_texts

BLANK = "\ue000"  # stands in an empty cell, which the article finder would leave out
MAX_LINK_DENSITY = 0.4  # share of a block's text that is links; menus are near 1
_INLINE = frozenset(
    "a abbr acronym b bdi bdo big br cite code data del dfn em font i img ins kbd "
    "label mark q rb rp rt ruby s samp small span strike strong sub sup time tt u var "
    "wbr".split()
)
_SKIPPED = frozenset(
    "aside button footer form head header iframe nav noscript object option script "
    "select style svg template textarea title".split()
)
_NEW_LINES = ("lb", "br", "p", "head", "list", "item", "row", "quote")
_HEADINGS = ("h2", "h3", "h4", "h5", "h6")
_FURNITURE = re.compile(
    r"(?:^|[\s_-])(?:related|recommend\w*|share\w*|comments?|foot\w*|nav\w*|side\w*|menu"
    r"|copy\w*|tags?|crumbs?|breadcrumbs?|pre?v|next|pag(?:er|ination)|ads?|banner|hot"
    r"|rank\w*|tool\w*|qr\w*|subscribe|login|cookie\w*|contact|statement|disclaimer"
    r"|editor|more|links?|popup|modal|float\w*)(?:$|[\s_-])",
    re.IGNORECASE,
)
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_PROSE = re.compile("[，。；！？]")
_PATH = re.compile("[›»>|｜]")  # 首页 > 基金: where the page stands in its site
_SENTENCE = re.compile("[。；！？]")
_MIN_SENTENCE = 10  # letters that show that a block is there, whatever it lost
_MIN_PROSE = 15  # letters of a paragraph that is restored
_MAIN_SHARE = 2 / 3  # of the article's letters stand in its container
_MAX_COMPARISONS = 10**9  # letters looked through; no ordinary page comes near


class Block(NamedTuple):
    """A run of text between two block tags: its lines, and the innermost such tag."""

    lines: tuple[str, ...]
    element: html.HtmlElement


def element_text(element: etree._Element) -> str:
    """All text in ``element``, with line breaks where its parts end."""
    parts = []
    for event, part in etree.iterwalk(element, events=("start", "end")):
        if part is not element and part.tag in _NEW_LINES:
            parts.append("\n")
        if event == "start":
            parts.append(part.text or "")
        elif part is not element:
            parts.append(part.tail or "")
    return "".join(parts).replace(BLANK, "")


def plain_text(element: etree._Element) -> str:
    """``element_text`` on one line."""
    return _plain(element_text(element))


def _plain(text: str) -> str:
    return " ".join(text.split())


def page_blocks(root: html.HtmlElement) -> list[Block]:
    """The blocks of a page that are text rather than links; tables as Markdown."""
    return list(_walk(root))


def page_text(blocks: Sequence[Block]) -> tuple[str, int]:
    """All text of ``blocks``, and how many characters are sentences or tables."""
    size = 0
    for block in blocks:
        text = "\n".join(block.lines)
        if block.element.tag == "table" or _PROSE.search(text):
            size += len(text) + 1
    return "\n".join(line for block in blocks for line in block.lines), size


def _walk(root: html.HtmlElement) -> Iterator[Block]:
    run, linked, links = [], 0, 0  # text, letters in links, open links
    stack = []
    walker = etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        inline = element.tag in _INLINE
        if not inline:
            yield from _flush(run, linked, stack[-1] if stack else root)
            run, linked = [], 0
        skipped = event == "start" and _is_left_out(element)
        table = event == "start" and not skipped and _data_table(element)
        if table:
            yield Block(tuple(table.split("\n")), element)
        if skipped or table:
            walker.skip_subtree()
        text = element.tail if event == "end" else element.text
        if event == "start":
            links += element.tag == "a"
            text = "" if skipped or table else text
            stack += [] if inline else [element]
            run += ["\n"] if element.tag == "br" else []
        else:
            links -= element.tag == "a"
            if not inline:
                stack.pop()
        run.append(text or "")
        linked += len(_plain(text or "")) * (links > 0)


def _is_left_out(element: html.HtmlElement) -> bool:
    style = element.get("style", "")[:200]
    return element.tag in _SKIPPED or bool(_HIDDEN.search(style))


def _flush(run: list[str], linked: int, element: html.HtmlElement) -> Iterator[Block]:
    lines = tuple(
        filter(None, map(_plain, "".join(run).replace(BLANK, "").split("\n")))
    )
    size = sum(map(len, lines))
    if size and linked <= MAX_LINK_DENSITY * size:
        yield Block(lines, element)


def _data_table(element: html.HtmlElement) -> str:
    """An innermost table that holds values as Markdown; "" for anything else."""
    if element.tag != "table" or element.find(".//table") is not None:
        return ""
    rows = [
        [plain_text(cell) for cell in row.iter("td", "th")]
        for row in element.iter("tr")
    ]
    return table_text(rows) if is_data_table(rows) else ""


def open_layout(root: html.HtmlElement) -> None:
    """Makes plain blocks of what lays out the page, in place.

    A table with a table in it, or with two paragraphs in a cell, holds no values; the
    article finder would read the page as one table. Nor does it take a section that
    holds nothing but text for the paragraph that it is.
    """
    for table in list(root.iter("table")):
        inner = table.find(".//table") is not None
        if not inner and all(len(c.findall("p")) < 2 for c in table.iter("td", "th")):
            continue
        rows = table.xpath("./tr | ./thead/tr | ./tbody/tr | ./tfoot/tr")
        for row in rows:
            for cell in row.iterchildren("td", "th"):
                cell.tag = "div"
            row.tag = "div"
        for part in table.iterchildren("thead", "tbody", "tfoot", "caption"):
            part.tag = "div"
        table.tag = "div"
    for section in list(root.iter("section")):
        if all(child.tag in _INLINE for child in section.iterdescendants()):
            section.tag = "p"


def restore(article: str, blocks: Sequence[Block]) -> tuple[str, int]:
    """``article`` with the blocks that it lacks, and how many lines were added.

    The container is the innermost tag around two thirds of the article. In it, prose,
    tables and the headings before them come back, unless something in between calls
    itself a menu, a comment and the like. Directly under the body, where page furniture
    stands too, only gaps between known blocks are filled.
    """
    if not article:
        return article, 0
    lines = article.split("\n")
    places = _places(lines, blocks)
    known = {number for number, place in enumerate(places) if place >= 0}
    if not known:
        return article, 0
    container = _container([blocks[number] for number in sorted(known)])
    last = max(known) if container.tag in ("body", "html") else len(blocks)
    missing: set[int] = set()
    for number in reversed(range(last)):
        block, follows = blocks[number], number + 1 in missing or number + 1 in known
        if number not in known and _belongs(block, container):
            if follows or block.element.tag not in _HEADINGS:
                missing.add(number)
    after, place = {}, -1
    for number, block in enumerate(blocks):
        place = max(place, places[number])
        if number in missing:
            after.setdefault(place, []).extend(_as_lines(block))
    if not after:
        return article, 0
    result = list(after.get(-1, []))
    for number, line in enumerate(lines):
        result += [line, *after.get(number, [])]
    return "\n".join(result), len(result) - len(lines)


def _places(lines: Sequence[str], blocks: Sequence[Block]) -> list[int]:
    """For each block the number of its last line in the article; -1 when not there.

    Equal lines are taken in order; what stands within a longer line is there too.
    """
    folded = fold_texts(lines)
    places: dict[str, list[int]] = {}
    for number, text in reversed(list(enumerate(folded))):
        places.setdefault(text, []).append(number)
    joined, found, place = "".join(folded), [], 0
    budget = _MAX_COMPARISONS
    for names, sentences in zip(*_folded_parts(blocks), strict=True):
        here = -1
        for name in names:
            if name in places:
                rest = places[name]
                here = rest.pop() if len(rest) > 1 else rest[0]
        if here < 0:
            budget -= len(joined)
            parts = names + [s for s in sentences if len(s) >= _MIN_SENTENCE]
            if budget < 0 or not parts or any(part in joined for part in parts):
                here = place
        place = max(place, here)
        found.append(here)
    return found


def _folded_parts(blocks: Sequence[Block]) -> tuple[list[list[str]], list[list[str]]]:
    """The folded lines of each block, and its folded sentences; empty ones left out."""
    lines = [block.lines for block in blocks]
    sentences = [[s for line in own for s in _SENTENCE.split(line)] for own in lines]
    results = []
    for parts in (lines, sentences):
        folded = iter(fold_texts([part for own in parts for part in own]))
        results.append([list(filter(None, islice(folded, len(own)))) for own in parts])
    return results[0], results[1]


def _container(blocks: Sequence[Block]) -> html.HtmlElement:
    """The innermost element that holds most letters of ``blocks``."""
    letters, own = Counter(), Counter()
    for block in blocks:
        size = sum(map(len, block.lines))
        letters[block.element] += size
        own[block.element] += size
        for element in block.element.iterancestors():
            letters[element] += size
    root = blocks[0].element.getroottree().getroot()
    depths = {e: sum(1 for _ in e.iterancestors()) for e in letters}
    enough = [
        e
        for e in letters
        if letters[e] >= _MAIN_SHARE * letters[root] and letters[e] > own[e]
    ]
    return max(enough, key=depths.__getitem__, default=root)


def _belongs(block: Block, container: html.HtmlElement) -> bool:
    """Whether a missing block is part of what the container is about."""
    element = block.element
    while element is not container:
        names = f"{element.get('class', '')[:200]} {element.get('id', '')[:200]}"
        if _FURNITURE.search(names):
            return False
        element = element.getparent()
        if element is None:
            return False
    text = "".join(block.lines)
    if block.element.tag in ("table", *_HEADINGS):
        return True
    long = sum(map(str.isalnum, text)) >= _MIN_PROSE
    return long and bool(_PROSE.search(text)) and not _PATH.search(text)


def _as_lines(block: Block) -> list[str]:
    mark = "- " if block.element.tag == "li" else ""
    return [mark + line for line in block.lines]
