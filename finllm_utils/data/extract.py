"""Files to text: one document in, one record out, or a reason why not.

``read_file`` opens a file within limits, chooses the reader by suffix and returns the
text and what the file says about itself. Whatever is wrong with a file is a ValueError
with its name and the remedy. Which files to read is ``sources.py``.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from finllm_utils.data.encoding import decode
from finllm_utils.data.extract_dates import stated_date
from finllm_utils.data.extract_files import read_bytes, require_inside
from finllm_utils.data.extract_html import read_html
from finllm_utils.data.extract_office import read_docx, read_xlsx
from finllm_utils.data.extract_pdf import read_pdf
from finllm_utils.data.extract_rows import SUFFIXES, require_rows
from finllm_utils.data.extract_warc import (
    is_warc,
    read_warc_record,
    record_offsets,
)

NOT_STATED = "not stated in the file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one file may cost; beyond it the file is reported, not read."""

    max_file_bytes: int = 64 * 2**20
    """Bytes of a file on disk, or of one record of a WARC file."""
    max_line_bytes: int = 16 * 2**20
    """Bytes of a line of plain text; a longer one is a dump, not text."""
    max_unpacked_bytes: int = 64 * 2**20
    """Bytes of the XML of a DOCX or XLSX file, or of a stream of a PDF, unpacked."""
    max_pages: int = 3_000
    """Pages of a PDF."""


LIMITS = Limits()


def read_file(
    path: Path, limits: Limits = LIMITS, *, root: Path | None = None, offset: int = -1
) -> tuple[str, dict]:
    """The text of one file, chosen by suffix, and what is known about it.

    Args: root is the folder the file must lie in once links are followed; offset is
    where the record starts in a WARC file (``extract_warc.record_offsets``).
    Returns: text and meta: ``file format title date licence``, where title and date
    (of publication, as the document states it) are empty when there are none; keys of
    the format, such as ``created``, when an office program made the file.
    A JSONL or Parquet file is here only to say what is wrong with it.
    Raises: ValueError naming the file and the remedy.
    """
    path = Path(path)
    if root is not None:
        require_inside(path, root)
    if path.suffix in SUFFIXES:  # its good rows are documents already
        require_rows(path, limits.max_line_bytes)
    kind = "warc" if is_warc(path) else _KINDS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"{path}: unknown file type {path.suffix!r}; use {', '.join(_KINDS)}, "
            ".warc, .jsonl or .parquet, or remove it"
        )
    name = str(path)
    try:
        if kind == "warc":
            text, meta = _read_warc(path, offset, limits)
        else:
            data = read_bytes(path, limits.max_file_bytes)
            text, meta = _READERS[kind](data, name, limits)
    except ValueError:
        raise
    except RecursionError as error:
        raise ValueError(f"{name}: nested too deeply; save it again") from error
    except MemoryError as error:
        raise ValueError(f"{name}: needs too much memory; split it") from error
    except Exception as error:  # parsers share no base class; name the file in any case
        raise ValueError(
            f"{name}: cannot be parsed ({error!r:.200}); save it again or remove it"
        ) from error
    known = {"format": kind, "title": "", "date": "", "licence": NOT_STATED}
    meta = {"file": path.name, **known, **meta}
    meta["date"] = meta["date"] or stated_date(text)
    return text, meta


def read_txt(data: bytes, name: str, limits: Limits = LIMITS) -> tuple[str, dict]:
    """Plain text in UTF-8, UTF-16 with its mark, GB18030 or BIG5."""
    start, number = 0, 1
    while start < len(data):
        end = data.find(b"\n", start, start + limits.max_line_bytes + 1)
        if end < 0:
            if len(data) - start > limits.max_line_bytes:
                raise ValueError(
                    f"{name}, line {number}: longer than {limits.max_line_bytes:,} "
                    "bytes; break the text into lines, or raise data.max_line_bytes"
                )
            break
        start, number = end + 1, number + 1
    text, encoding = decode(data, name)
    return text, {"encoding": encoding}


def _read_warc(path: Path, offset: int, limits: Limits) -> tuple[str, dict]:
    if offset < 0:
        first = list(islice(record_offsets(path), 2))
        if len(first) != 1:
            many = "more than one page; give the record" if first else "no page"
            raise ValueError(
                f"{path}: the archive holds {many} (see extract_warc.record_offsets)"
            )
        offset = first[0]
    data, kind, known = read_warc_record(path, offset, limits.max_file_bytes)
    name = f"{path}, record at byte {offset} ({known['url']})"
    if kind == "html":
        text, meta = read_html(data, name, url=known["url"], charset=known["charset"])
    else:
        text, meta = _READERS[kind](data, name, limits)
    known.pop("charset")
    return text, {**meta, **known, "payload": kind}


_KINDS = {
    ".txt": "txt", ".md": "txt", ".html": "html", ".htm": "html", ".pdf": "pdf",
    ".docx": "docx", ".xlsx": "xlsx",
}  # fmt: skip
_READERS = {
    "txt": read_txt,
    "html": lambda data, name, limits: read_html(data, name),
    "pdf": lambda data, name, limits: read_pdf(
        data, name, limits.max_pages, limits.max_unpacked_bytes
    ),
    "docx": lambda data, name, limits: read_docx(data, name, limits.max_unpacked_bytes),
    "xlsx": lambda data, name, limits: read_xlsx(data, name, limits.max_unpacked_bytes),
}
