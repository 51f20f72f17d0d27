"""Files to text: HTML, PDF, DOCX and TXT, one function a format.

Each raises ValueError with the file's name and the remedy when there is nothing to
read. Reading is bounded to one file at a time; which files to read is ``sources.py``.
"""

import re
from collections import Counter
from io import BytesIO
from pathlib import Path

from finllm_utils.data.encoding import decode

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
_MAX_LINK_DENSITY = 0.4  # share of a block's text that is links; menus are near 1


def read_file(path: Path) -> tuple[str, dict]:
    """The text of one file, chosen by suffix, and what is known about it.

    Raises: ValueError naming the file and the remedy: empty, encrypted, scanned,
    undecodable or of an unknown type.
    """
    path = Path(path)
    readers = {
        ".txt": read_txt, ".md": read_txt, ".html": read_html, ".htm": read_html,
        ".pdf": read_pdf, ".docx": read_docx,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path}: unknown file type {path.suffix!r}; use {', '.join(readers)}, "
            ".jsonl or .parquet, or remove it"
        )
    data = path.read_bytes()
    if not data:
        raise ValueError(f"{path}: empty file (0 bytes); export it again or remove it")
    try:
        text, meta = reader(data, str(path))
    except ValueError:
        raise
    except Exception as error:  # parsers share no base class; name the file in any case
        raise ValueError(
            f"{path}: cannot be parsed ({error!r}); save it again"
        ) from error
    return text, {"file": path.name, **meta}


def read_txt(data: bytes, name: str) -> tuple[str, dict]:
    """Plain text in UTF-8, UTF-16, GB18030 or BIG5."""
    text, encoding = decode(data, name)
    return text, {"encoding": encoding}


def read_html(data: bytes, name: str) -> tuple[str, dict]:
    """The main text of a page by trafilatura, else by link density."""
    import trafilatura

    declared = _CHARSET.search(data[:2_048])
    text, encoding = decode(data, name, declared and declared.group(1).decode("ascii"))
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    main = trafilatura.extract(
        text, include_comments=False, include_tables=True, favor_recall=False,
        deduplicate=False,
    )  # fmt: skip
    blocks = main_blocks(text)
    # Far less than the page's text is a miss; far more, trafilatura's short-page rescue
    # printing the same paragraphs twice.
    if main and (0.6 * len(blocks) <= len(main) <= 1.5 * len(blocks) or not blocks):
        return main, {"encoding": encoding, "extractor": "trafilatura"}
    if not blocks:
        raise ValueError(
            f"{name}: no text in the page; save the rendered page or remove it"
        )
    return blocks, {"encoding": encoding, "extractor": "link_density"}


def main_blocks(html: str) -> str:
    """Blocks of a page that are text rather than links: the fall-back extractor."""
    from lxml import html as parser

    if not html.strip():
        return ""
    root = parser.fromstring(html)
    for element in list(root.iter(*_SKIPPED)):
        element.drop_tree()
    lines = []
    for block in root.iter(*_BLOCKS):
        if any(child.tag in _BLOCKS for child in block.iterdescendants()):
            continue
        text = " ".join(block.text_content().split())
        linked = sum(len(" ".join(a.text_content().split())) for a in block.iter("a"))
        if text and linked <= _MAX_LINK_DENSITY * len(text):
            lines.append(text)
    return "\n".join(lines)


def read_pdf(data: bytes, name: str) -> tuple[str, dict]:
    """The text of a PDF, lines rejoined, without heads, feet and page numbers."""
    import pdfplumber
    from pdfplumber.utils.exceptions import PdfminerException

    try:
        with pdfplumber.open(BytesIO(data)) as pdf:
            pages = [(page.extract_text() or "").split("\n") for page in pdf.pages]
            images = sum(len(page.images) for page in pdf.pages)
    except PdfminerException as error:
        if "Password" in repr(error.args) or "Encrypt" in repr(error.args):
            raise ValueError(
                f"{name}: encrypted PDF; save a copy without password, for example "
                "with qpdf --decrypt, or remove it"
            ) from error
        raise ValueError(
            f"{name}: not a readable PDF ({error!r}); export it again"
        ) from error
    if not any(line.strip() for page in pages for line in page):
        what = (
            f"scanned PDF ({images} images, no text)" if images else "PDF without text"
        )
        raise ValueError(f"{name}: {what}; run OCR on it first, or remove it")
    return join_lines(remove_running_lines(pages)), {"pages": len(pages)}


_PAGE_NUMBER = re.compile(
    r"^[\s\-–—_.·|~]*(?:第?\s*[\d一二三四五六七八九十]+\s*页?|page\s*\d+)"
    r"(?:\s*(?:/|of|，|,|共)?\s*共?\s*\d+\s*页?)?[\s\-–—_.·|~]*$",
    re.IGNORECASE,
)
_EDGE_LINES = 3  # lines at the top and bottom of a page that may be a running head


def remove_running_lines(pages: list[list[str]]) -> list[str]:
    """All lines of ``pages`` but page numbers and heads or feet that most pages repeat.

    Digits are compared as one, so "第 3 页" and "第 4 页" are the same foot.
    """
    pages = [[line for line in page if line.strip()] for page in pages]
    edges = Counter()
    for page in pages:
        near = page[:_EDGE_LINES] + page[-_EDGE_LINES:]
        edges.update({_shape(line) for line in near})
    repeated = {s for s, n in edges.items() if n >= 2 and n > len(pages) / 2}
    kept = []
    for page in pages:
        for place, line in enumerate(page):
            edge = place < _EDGE_LINES or place >= len(page) - _EDGE_LINES
            if edge and (_PAGE_NUMBER.match(line) or _shape(line) in repeated):
                continue
            kept.append(line)
    return kept


def _shape(line: str) -> str:
    return re.sub(r"\d+", "0", "".join(line.split()))


_ENDS = re.compile(r"[。！？!?：:；;…”」』）)]$")
_NEW = re.compile(
    r"^(?:第[零〇一二三四五六七八九十百\d]+[章节条]|[一二三四五六七八九十]+、|[(（][一二三四五六七八九十\d]+[)）]"
    r"|\d+[.、．]\s*\D|[•●■◆▪]|表\s*\d|图\s*\d)"
)


def join_lines(lines: list[str]) -> str:
    """Paragraphs from printed lines: a full line without an end mark runs on."""
    width = max((_width(line) for line in lines), default=0)
    parts: list[str] = []
    running = False
    for line in map(str.strip, lines):
        if running and not _NEW.match(line):
            glue = " " if parts[-1][-1].isascii() and line[0].isascii() else ""
            parts[-1] += glue + line
        else:
            parts.append(line)
        running = not _ENDS.search(line) and _width(line) >= 0.8 * width
    return "\n".join(parts)


def _width(line: str) -> int:
    return sum(1 if c.isascii() else 2 for c in line.strip())


def read_docx(data: bytes, name: str) -> tuple[str, dict]:
    """Paragraphs and table rows of a Word file in document order."""
    import docx
    from docx.table import Table

    if data.startswith(b"\xd0\xcf\x11\xe0"):  # OLE container: old .doc or a password
        raise ValueError(
            f"{name}: encrypted or old Word format; save it as .docx without password"
        )
    try:
        document = docx.Document(BytesIO(data))
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"{name}: not a readable .docx ({error}); save it again"
        ) from error
    except Exception as error:  # zipfile and lxml errors share no base class
        raise ValueError(f"{name}: broken .docx ({error!r}); save it again") from error
    lines = []
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            for row in block.rows:
                cells = [cell for cell in row.cells if cell.text.strip()]
                merged = [
                    cell
                    for i, cell in enumerate(cells)
                    if i == 0 or cell._tc is not cells[i - 1]._tc
                ]  # a merged cell is listed once for each column it spans
                lines.append(" | ".join(" ".join(c.text.split()) for c in merged))
        else:
            lines.append(block.text)
    if not any(line.strip() for line in lines):
        raise ValueError(
            f"{name}: no text in the document; run OCR if it holds pictures"
        )
    return "\n".join(lines), {}
