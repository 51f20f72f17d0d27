"""DOCX paragraphs and tables in order, XLSX sheets as Markdown tables.

Both are ZIP files of XML. Every part is unpacked once within a limit before a parser
sees it, and a part that declares entities is refused. Macros are not run, links not
followed, formulas not computed: a sheet shows the values that were saved with it.
Differs: footnotes, comments, page heads and pictures are left out.
"""

import datetime
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING

from lxml import etree

from finllm_utils.data.extract_tables import table_text

if TYPE_CHECKING:
    from openpyxl.cell.read_only import ReadOnlyCell
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

_OLE = b"\xd0\xcf\x11\xe0"  # container of encrypted files and of Office before 2007
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_MAX_PARTS = 20_000
_CHUNK = 2**16
_XML = (".xml", ".rels")  # pictures are never unpacked
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_BREAKS = {f"{_W}tab": " ", f"{_W}br": "\n", f"{_W}cr": "\n"}
_MAX_CELLS = 2_000_000
_NO_VALUE = re.compile(rb"</f>\s*(?:<v\s*/>|<v></v>)?\s*</c>|<f[^>]*/>\s*</c>")


def read_docx(
    data: bytes, name: str, max_unpacked: int = 64 * 2**20
) -> tuple[str, dict]:
    """Paragraphs, and tables as Markdown, of a Word file in document order.

    Raises: ValueError naming the file and the remedy.
    """
    parts = _unpack(data, name, ".docx", max_unpacked)
    body = _parse(parts, "word/document.xml", name).find(f"{_W}body")
    blocks = [] if body is None else [text for text in _blocks(body) if text.strip()]
    if not blocks:
        raise ValueError(
            f"{name}: no text in the document; run OCR if it holds pictures"
        )
    return "\n".join(blocks), _properties(parts)


def _unpack(data: bytes, name: str, suffix: str, max_unpacked: int) -> dict[str, bytes]:
    """The XML parts of an Office file by name; unpacks no more than the limit.

    The sizes in a ZIP file's directory may lie, so what comes out is counted too.
    """
    if data.startswith(_OLE):
        what = "encrypted" if _ENCRYPTED in data else "encrypted or old"
        kind = "Word" if suffix == ".docx" else "Excel"
        raise ValueError(
            f"{name}: {what} {kind} format; save it as {suffix} without password"
        )
    parts, total = {}, 0
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            infos = [i for i in archive.infolist() if i.filename.endswith(_XML)]
            _require_small(infos, name, max_unpacked)
            for info in infos:
                with archive.open(info) as part:
                    chunks = []
                    while chunk := part.read(_CHUNK):
                        chunks.append(chunk)
                        total += len(chunk)
                        if total > max_unpacked:
                            raise _bomb(name, total, max_unpacked)
                parts[info.filename] = b"".join(chunks)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        raise ValueError(
            f"{name}: not a readable {suffix} ({error}); save it again"
        ) from error
    except RuntimeError as error:  # zipfile's way to ask for a password
        raise ValueError(
            f"{name}: encrypted {suffix} ({error:.80}); save it without password"
        ) from error
    for part, content in parts.items():
        if re.search(rb"<!\s*(?:DOCTYPE|ENTITY)", content.replace(b"\0", b"")):
            raise ValueError(
                f"{name}: {part} declares XML entities, which no office program "
                "writes; remove the file"
            )
    return parts


def _require_small(infos: list[zipfile.ZipInfo], name: str, max_unpacked: int) -> None:
    if len(infos) > _MAX_PARTS:
        raise ValueError(
            f"{name}: {len(infos):,} parts, more than {_MAX_PARTS:,}; save it again or "
            "remove it"
        )
    declared = sum(info.file_size for info in infos)
    if declared > max_unpacked:
        raise _bomb(name, declared, max_unpacked)


def _bomb(name: str, size: int, max_unpacked: int) -> ValueError:
    return ValueError(
        f"{name}: unpacks to {size:,} bytes or more, over the limit of "
        f"{max_unpacked:,} (a zip bomb, or a very long text); split it, or remove it"
    )


def _parse(parts: dict[str, bytes], part: str, name: str) -> etree._Element:
    if part not in parts:
        raise ValueError(
            f"{name}: not an Office file, {part} is missing; save it again"
        )
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(parts[part], parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(
            f"{name}: {part} is broken ({error.msg}); save it again"
        ) from error


def _properties(parts: dict[str, bytes]) -> dict:
    """Title and day of creation from the core properties, where they are given."""
    try:
        root = _parse(parts, "docProps/core.xml", "")
    except ValueError:  # the part is optional, and the text does not depend on it
        return {}
    known = {
        etree.QName(e).localname: (e.text or "").strip() for e in root.iter("{*}*")
    }
    date = re.match(r"(?:19|20)\d\d-[01]\d-[0-3]\d", known.get("created", ""))
    if known.get("creator") == "python-docx":  # its template's date, not the document's
        date = None
    return {"title": known.get("title", ""), "created": date.group() if date else ""}


def _blocks(parent: etree._Element) -> Iterator[str]:
    """The text of each paragraph and table below ``parent``, content boxes opened."""
    for child in parent:
        if child.tag == f"{_W}p":
            if not _is_contents_line(child):
                yield _paragraph(child)
        elif child.tag == f"{_W}tbl":
            yield _table(child)
        elif child.tag == f"{_W}sdt":
            gallery = child.find(f"{_W}sdtPr//{_W}docPartGallery")
            if gallery is None or "Contents" not in gallery.get(f"{_W}val", ""):
                content = child.find(f"{_W}sdtContent")
                yield from _blocks(content) if content is not None else ()
        elif child.tag in (f"{_W}ins", f"{_W}customXml", f"{_W}smartTag"):
            yield from _blocks(child)


def _is_contents_line(paragraph: etree._Element) -> bool:
    style = paragraph.find(f"{_W}pPr/{_W}pStyle")
    return style is not None and style.get(f"{_W}val", "").upper().startswith("TOC")


def _paragraph(paragraph: etree._Element) -> str:
    """Its text; insertions count, deletions do not, a text box counts once."""
    parts, skipped = [], None
    for event, element in etree.iterwalk(paragraph, events=("start", "end")):
        if event == "end":
            skipped = None if skipped is element else skipped
        elif skipped is not None:
            continue
        elif element.tag == _FALLBACK:
            skipped = element
        elif element.tag == f"{_W}t":
            parts.append(element.text or "")
        elif element.tag in _BREAKS and element.getparent().tag == f"{_W}r":
            parts.append(_BREAKS[element.tag])
    return "".join(parts).strip()


def _table(table: etree._Element) -> str:
    """Rows with a cell a grid column; merged cells are filled up with empty ones."""
    rows = []
    for row in table.iterfind(f"{_W}tr"):
        cells = [""] * _number(row.find(f"{_W}trPr/{_W}gridBefore"), 0)
        for cell in row.iter(f"{_W}tc"):
            if next(cell.iterancestors(f"{_W}tr")) is not row:
                continue  # a cell of a table within a cell
            merge = cell.find(f"{_W}tcPr/{_W}vMerge")
            goes_on = merge is not None and merge.get(f"{_W}val") != "restart"
            text = "" if goes_on else " ".join(_blocks(cell))
            span = _number(cell.find(f"{_W}tcPr/{_W}gridSpan"), 1)
            cells += [text, *[""] * (span - 1)]
        rows.append(cells)
    return table_text(rows)


def _number(element: etree._Element | None, default: int) -> int:
    value = "" if element is None else element.get(f"{_W}val", "")
    return min(int(value), 100) if value.isdecimal() else default


def read_xlsx(
    data: bytes, name: str, max_unpacked: int = 64 * 2**20
) -> tuple[str, dict]:
    """The visible sheets of a workbook, each its name and its Markdown tables.

    An empty row parts two tables. Meta: ``sheets``, and where there are some
    ``hidden_sheets`` and ``formulas_without_value`` (saved by a program that computes
    nothing: those cells are empty here).
    Raises: ValueError naming the file and the remedy.
    """
    from openpyxl import load_workbook

    parts = _unpack(data, name, ".xlsx", max_unpacked)
    workbook = load_workbook(BytesIO(data), read_only=True, data_only=True)
    try:
        shown = [s for s in workbook.worksheets if s.sheet_state == "visible"]
        hidden = len(workbook.worksheets) - len(shown)
        tables = {sheet.title: _sheet(sheet, name) for sheet in shown}
    finally:
        workbook.close()
    if not any(tables.values()):
        raise ValueError(f"{name}: no values in the workbook; remove it")
    empty = sum(
        len(_NO_VALUE.findall(content))
        for part, content in parts.items()
        if part.startswith("xl/worksheets/")
    )
    known = {"sheets": len(shown), **_properties(parts)}
    known |= {"hidden_sheets": hidden} if hidden else {}
    known |= {"formulas_without_value": empty} if empty else {}
    text = "\n\n".join(
        f"{title}\n\n{table}" for title, table in tables.items() if table
    )
    return text, known


def _sheet(sheet: "ReadOnlyWorksheet", name: str) -> str:
    sheet.reset_dimensions()  # the size that the file states may be a million rows
    rows, cells = [], 0
    for row in sheet.iter_rows():
        cells += len(row) + 1
        if cells > _MAX_CELLS:
            raise ValueError(
                f"{name}: sheet {sheet.title!r} has more than {_MAX_CELLS:,} cells; "
                "split it, or delete its empty rows and columns"
            )
        values = [_value(cell) for cell in row]
        while values and not values[-1]:
            values.pop()
        rows.append(values)
    groups = [list(group) for used, group in groupby(rows, key=any) if used]
    return "\n\n".join(text for group in groups if (text := _with_caption(group)))


def _with_caption(rows: list[list[str]]) -> str:
    """Lines of a single cell above a table are its caption, not its head."""
    place = next(
        (i for i, row in enumerate(rows) if sum(map(bool, row)) > 1), len(rows)
    )
    captions = [" ".join(filter(None, row)) for row in rows[:place]]
    return "\n\n".join(filter(None, ["\n".join(captions), table_text(rows[place:])]))


def _value(cell: "ReadOnlyCell") -> str:
    """A cell as its sheet shows it, near enough: percentages, dates, plain numbers."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ").removesuffix(" 00:00:00")
    if isinstance(value, int | float):
        return _number_text(value, cell.number_format or "")
    return " ".join(str(value).split())


def _number_text(value: float, pattern: str) -> str:
    if "%" in pattern:
        decimals = re.search(r"\.(0+)", pattern)
        return f"{100 * value:.{len(decimals[1]) if decimals else 0}f}%"
    return f"{value:.12g}" if abs(value) < 10**12 else f"{value:.0f}"
