"""PDF to text: reading order, tables as Markdown, no heads, feet and page numbers.

pdfplumber gives words, rules and images with their places; ``extract_layout`` puts
them in order. Nothing is recognised from pictures: scanned pages are reported.
Differs: footnotes stay where they stand, and a table that goes on over a page end comes
as two.
"""

import contextlib
import re
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

from finllm_utils.data.encoding import repair_mojibake
from finllm_utils.data.extract_layout import (
    Piece,
    glue,
    join_lines,
    reading_order,
    rows_of,
    running_lines,
    same_size,
    text_margins,
)
from finllm_utils.data.extract_tables import is_data_table, table_text

if TYPE_CHECKING:
    from pdfplumber.page import Page
    from pdfplumber.table import Table

_TAIL = 4_096  # bytes in which the end mark must stand; some servers append a few
_MOST_DEFLATED = 1_040  # deflate packs no better than this
_FEW_CHARS = 20  # a page with fewer and a large picture is a scan
_SCAN_AREA = 0.5  # share of the page that the picture covers
_MAX_RULES = 4_000  # more lines on a page are a chart; looking for tables takes minutes
_GAP = 1.2  # blank in line heights that parts two columns or two cells
_LATIN_SPACE = 0.15  # gap in line heights that is a space
_HAN_SPACE = 0.5  # between Han characters, which are often set apart in headings
_MAX_UNMAPPED = 0.2  # share of characters that the fonts do not name


def read_pdf(
    data: bytes, name: str, max_pages: int = 3_000, max_unpacked: int = 64 * 2**20
) -> tuple[str, dict]:
    """The text of a PDF and ``pages``, ``tables``, ``scanned_pages`` where it has some.

    Raises: ValueError naming the file and the remedy: truncated, encrypted, scanned,
    too large, without text or with fonts that name no characters.
    """
    import pdfplumber
    from pdfplumber.utils.exceptions import PdfminerException

    _require_whole(data, name)
    _require_small(data, name, max_unpacked)
    try:
        with pdfplumber.open(BytesIO(data)) as pdf:
            if len(pdf.pages) > max_pages:
                raise ValueError(
                    f"{name}: {len(pdf.pages):,} pages, more than {max_pages:,}; split "
                    "the PDF"
                )
            known = _properties(pdf.metadata)
            pages, scanned = [], []
            for number, page in enumerate(pdf.pages, 1):
                pieces = page_pieces(page)
                if _is_scan(page, pieces):
                    scanned.append(number)
                pages.append(pieces)
                page.close()  # else every page's characters stay in memory
    except PdfminerException as error:
        if "Password" in repr(error.args) or "Encrypt" in repr(error.args):
            raise ValueError(
                f"{name}: encrypted PDF; save a copy without password, for example "
                "with qpdf --decrypt, or remove it"
            ) from error
        raise ValueError(
            f"{name}: not a readable PDF ({error!r:.200}); export it again"
        ) from error
    _require_text(pages, scanned, name)
    known |= {"scanned_pages": scanned} if scanned else {}
    tables = sum(piece.is_table for page in pages for piece in page)
    known |= {"tables": tables} if tables else {}
    return _text(pages), {"pages": len(pages), **known}


def _require_whole(data: bytes, name: str) -> None:
    if b"%PDF-" not in data[:1_024]:
        raise ValueError(
            f"{name}: not a readable PDF (no %PDF mark); give it its proper suffix, or "
            "fetch it again"
        )
    if b"%%EOF" not in data.rstrip(b"\0 \t\r\n")[-_TAIL:]:
        raise ValueError(
            f"{name}: not a readable PDF: truncated, its end mark is missing; fetch it "
            "again"
        )


def _require_small(data: bytes, name: str, max_unpacked: int) -> None:
    """Raises ValueError where a deflated stream unpacks too far; pictures stay packed.

    The parser sets no limit of its own. A stream packed twice over gets past this.
    """
    for start in re.finditer(rb"stream\r?\n", data):
        end = data.find(b"endstream", start.end())
        if (end - start.end()) * _MOST_DEFLATED < max_unpacked:
            continue
        head = data[max(data.rfind(b"obj", 0, start.start()), 0) : start.start()]
        if b"FlateDecode" not in head or re.search(rb"/Subtype\s*/Image", head):
            continue
        unpacker = zlib.decompressobj()
        with contextlib.suppress(zlib.error):  # the parser will say what is wrong
            unpacker.decompress(data[start.end() : end], max_unpacked)
            if unpacker.unconsumed_tail:
                raise ValueError(
                    f"{name}: a stream of the PDF unpacks to more than "
                    f"{max_unpacked:,} bytes; export it again or remove it"
                )


def _require_text(pages: list[list[Piece]], scanned: list[int], name: str) -> None:
    text = "".join(piece.text for page in pages for piece in page)
    if not text.strip() or len(scanned) == len(pages):
        what = (
            f"scanned PDF (pictures of {len(scanned)} pages, no text)"
            if scanned
            else "PDF without text"
        )
        raise ValueError(f"{name}: {what}; run OCR on it first, or remove it")
    unmapped = sum(map(len, re.findall(r"\(cid:\d+\)|[\ue000-\uf8ff\ufffd]", text)))
    if unmapped > _MAX_UNMAPPED * len(text):
        raise ValueError(
            f"{name}: the fonts of the PDF do not say which characters they show; run "
            "OCR on it, or export it again"
        )


def _properties(metadata: dict) -> dict:
    """Title and ``created`` from the document information, where they say something."""
    title = repair_mojibake(_string(metadata.get("Title")))[0]
    title = re.sub(r"^Microsoft \w+ - |\.(?:docx?|pptx?|xlsx?|wps|pdf)$", "", title)
    if re.search(r"\(cid:\d+\)|^untitled|^无标题|^\W*$", title, re.IGNORECASE):
        title = ""
    written = _string(metadata.get("CreationDate") or metadata.get("ModDate"))
    date = re.match(r"D:((?:19|20)\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", written)
    return {"title": title, "created": "-".join(date.groups()) if date else ""}


def _string(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def page_pieces(page: "Page") -> list[Piece]:
    """The tables of a page, and its other words joined where they stand together."""
    places = {(c["text"], round(c["x0"]), round(c["top"])) for c in page.chars}
    if len(places) < 0.95 * len(page.chars):
        page = page.dedupe_chars()  # bold made by printing twice
    tables = _data_tables(page)
    boxes = [table.bbox for table, _ in tables]
    pieces = [
        Piece(text=text, left=x0, right=x1, top=top, bottom=bottom, is_table=True)
        for (_, text), (x0, top, x1, bottom) in zip(tables, boxes, strict=True)
    ]
    words = [
        Piece(
            text=word["text"],
            left=word["x0"],
            right=word["x1"],
            top=word["top"],
            bottom=word["bottom"],
        )
        for word in page.extract_words(x_tolerance_ratio=_LATIN_SPACE)
        if not any(_inside(word, box) for box in boxes)
    ]
    blanks = [char for char in page.chars if char["text"].isspace()]
    for row in rows_of(words):
        pieces += _join_words(row, blanks)
    return pieces


def _data_tables(page: "Page") -> list[tuple["Table", str]]:
    if not page.chars or len(page.lines) + 4 * len(page.rects) > _MAX_RULES:
        return []
    found = []
    for table in page.find_tables():
        rows = [[_cell(cell) for cell in row] for row in table.extract()]
        if is_data_table(rows) and not any(
            _covers(other.bbox, table.bbox) for other, _ in found
        ):
            found.append((table, table_text(rows)))
    return found


def _cell(text: str | None) -> str:
    lines = (text or "").split("\n")
    joined = lines[0]
    for line in lines[1:]:
        joined += glue(joined, line) + line
    return joined


def _covers(outer: tuple, inner: tuple) -> bool:
    return (
        outer[0] <= inner[0] + 1
        and outer[1] <= inner[1] + 1
        and outer[2] >= inner[2] - 1
        and outer[3] >= inner[3] - 1
    )


def _inside(word: dict, box: tuple) -> bool:
    x, y = (word["x0"] + word["x1"]) / 2, (word["top"] + word["bottom"]) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _join_words(row: list[Piece], blanks: list[dict]) -> list[Piece]:
    top, bottom = row[0].top, row[0].bottom
    blanks = [b["x0"] for b in blanks if top <= (b["top"] + b["bottom"]) / 2 <= bottom]
    joined: list[Piece] = []
    for word in row:
        last = joined[-1] if joined else None
        height = word.bottom - word.top
        if last is None or word.left - last.right > _GAP * height:
            joined.append(word)
            continue
        han = not last.text[-1].isascii() and not word.text[0].isascii()
        spaced = (
            word.left - last.right >= (_HAN_SPACE if han else _LATIN_SPACE) * height
        )
        spaced |= any(last.right - 1 <= blank <= word.left + 1 for blank in blanks)
        joined[-1] = Piece(
            text=last.text + (" " if spaced else "") + word.text,
            left=last.left,
            right=max(last.right, word.right),
            top=min(last.top, word.top),
            bottom=max(last.bottom, word.bottom),
        )
    return joined


def _is_scan(page: "Page", pieces: list[Piece]) -> bool:
    if sum(len(piece.text) for piece in pieces) >= _FEW_CHARS:
        return False
    covered = sum(image["width"] * image["height"] for image in page.images)
    return covered >= _SCAN_AREA * float(page.width * page.height)


def _text(pages: list[list[Piece]]) -> str:
    rows = [rows_of(pieces) for pieces in pages]
    lines = [[" ".join(piece.text for piece in row) for row in page] for page in rows]
    running = running_lines(lines)
    kept = [
        [piece for i, row in enumerate(page) if i not in skip for piece in row]
        for page, skip in zip(rows, running, strict=True)
    ]
    words = [piece for page in kept for piece in page if not piece.is_table]
    margins = text_margins(words) if words else None
    ordered = [line for page in kept for line in reading_order(page, margins)]
    runs_on = [
        full and same_size(piece, after)
        for (piece, full), (after, _) in zip(
            ordered, [*ordered[1:], *ordered[-1:]], strict=True
        )
    ]
    return join_lines([piece.text for piece, _ in ordered], runs_on)
