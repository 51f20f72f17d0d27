"""Web archives: one document a response, read at its place in the file.

``record_offsets`` lists the responses that hold text, ``read_warc_record`` gives one of
them; so a worker reads only its own records. Both accept .warc and .warc.gz with one
gzip member a record, as crawlers write it.
Source: WARC 1.1, ISO 28500:2017. Differs: datatrove's reader also needs libmagic and
guesses the encoding; ``encoding.decode`` takes its place.
"""

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from finllm_utils.data.extract_files import open_regular

if TYPE_CHECKING:
    from warcio.recordloader import ArcWarcRecord

_KINDS = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/plain": "txt",
    "application/pdf": "pdf",
}
_OFFICE = "application/vnd.openxmlformats-officedocument."
_KINDS |= {
    f"{_OFFICE}wordprocessingml.document": "docx",
    f"{_OFFICE}spreadsheetml.sheet": "xlsx",
}
_CHUNK = 2**16
_GZIP = b"\x1f\x8b"


def is_warc(path: Path) -> bool:
    """Whether the name says that it is a web archive."""
    return path.name.lower().endswith((".warc", ".warc.gz"))


def record_offsets(path: Path) -> Iterator[int]:
    """Where each response starts that was successful and is of a type we read.

    Where the archive breaks off, the place of the break comes last: reading it gives
    the reason.
    Raises: ValueError naming the file when it cannot be opened.
    """
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    with open_regular(path) as handle:
        records = ArchiveIterator(handle)
        try:
            for record in records:
                kind = _payload_kind(record)
                place = records.get_record_offset()  # reads the record to its end
                if kind:
                    yield place
        except (ArchiveLoadFailed, OSError, ValueError, zlib.error):
            yield records.offset if records.offset >= 0 else 1  # inside one stream
            return
        if records.offset < os.fstat(handle.fileno()).st_size:
            yield records.offset


def read_warc_record(
    path: Path, offset: int, max_bytes: int
) -> tuple[bytes, str, dict]:
    """The payload of the record at ``offset``, its reader's name, and what is known.

    Known are ``url``, ``fetched`` (when it was crawled, not when it was written) and
    ``charset`` as the server stated it.
    Raises: ValueError naming file and place: broken, cut off or too large.
    """
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    where = f"{path}, record at byte {offset}"
    with open_regular(path) as handle:
        if handle.read(2) == _GZIP and handle.seek(offset) and handle.read(2) != _GZIP:
            raise ValueError(
                f"{where}: broken, or compressed as one stream; run warcio recompress "
                "on the file"
            )
        handle.seek(offset)
        try:
            record = next(ArchiveIterator(handle))
            kind = _payload_kind(record)
            data = _payload(record, max_bytes)
            left = record.raw_stream.limit
        except (ArchiveLoadFailed, StopIteration, OSError, zlib.error) as error:
            raise ValueError(
                f"{where}: broken ({' '.join(str(error).split()):.200}); fetch the "
                "archive again"
            ) from error
    if len(data) > max_bytes:
        raise ValueError(
            f"{where}: more than {max_bytes:,} bytes; raise data.max_file_bytes, or "
            "take it out"
        )
    if left > 0:
        raise ValueError(
            f"{where}: cut off, {left:,} bytes are missing; fetch the archive again"
        )
    if not data.strip():
        raise ValueError(f"{where}: empty response; take it out")
    if not kind:
        raise ValueError(f"{where}: no page starts there; list the places again")
    charset = re.search(r"charset=[\"']?([\w-]+)", _content_type(record), re.IGNORECASE)
    known = {
        "url": record.rec_headers.get_header("WARC-Target-URI") or "",
        "fetched": record.rec_headers.get_header("WARC-Date") or "",
        "charset": charset[1] if charset else "",
    }
    return data, kind, known


def _payload(record: "ArcWarcRecord", max_bytes: int) -> bytes:
    """At most a little more than ``max_bytes``, however well it was compressed."""
    stream, chunks, size = record.content_stream(), [], 0
    while size <= max_bytes and (chunk := stream.read(_CHUNK)):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _payload_kind(record: "ArcWarcRecord") -> str:
    """The reader's name, or "" for what is no document."""
    if record.rec_type not in ("response", "conversion", "resource"):
        return ""
    if record.http_headers and record.http_headers.get_statuscode() != "200":
        return ""
    return _KINDS.get(_content_type(record).split(";")[0].strip().lower(), "")


def _content_type(record: "ArcWarcRecord") -> str:
    headers = record.http_headers or record.rec_headers
    return headers.get_header("Content-Type") or ""
