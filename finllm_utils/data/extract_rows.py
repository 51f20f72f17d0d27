"""Rows of JSONL and Parquet files: each is a document, or a reason why not.

One bad row does not cost the file: the others are read, and the file stands in the
audit trail with its first fault and how many more there are.
"""

from collections.abc import Iterator
from pathlib import Path

from finllm_utils.data.extract_files import open_regular
from finllm_utils.records import parse_line

SUFFIXES = (".jsonl", ".parquet")
_TOO_LONG = (
    "longer than {:,} bytes; write one record a line, or raise data.max_line_bytes"
)
_UNREADABLE = "not a readable Parquet file (%s); write it again"


def read_rows(path: Path, max_line_bytes: int) -> Iterator[tuple[int, dict | str]]:
    """(line, row with a ``text``) or (line, what is wrong with it), in file order.

    Raises: ValueError naming a file that cannot be read at all.
    """
    rows = _parquet_rows(path) if path.suffix == ".parquet" else None
    for number, row in rows or _json_rows(path, max_line_bytes):
        if isinstance(row, dict) and not isinstance(row.get("text"), str):
            row = (
                f"{path}, line {number}: no text field; call the column with the text "
                "'text'"
            )
        yield number, row


def require_rows(path: Path, max_line_bytes: int) -> None:
    """Raises ValueError with the first fault of the file and the number of faults."""
    faults, count = [], 0
    for _, row in read_rows(path, max_line_bytes):
        count += 1
        if isinstance(row, str):
            faults.append(row)
    if not faults:
        raise ValueError(f"{path}: changed while it was read; run again")
    more = f"; {len(faults) - 1} more such lines" if len(faults) > 1 else ""
    left = count - len(faults)
    raise ValueError(f"{faults[0]}{more}{f'; {left} others were read' * bool(left)}")


def _json_rows(path: Path, max_line_bytes: int) -> Iterator[tuple[int, dict | str]]:
    with open_regular(path) as file:
        number = 0
        while line := file.readline(max_line_bytes + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(line) > max_line_bytes:
                yield number, f"{where}: {_TOO_LONG.format(max_line_bytes)}"
                while line and not line.endswith(b"\n"):  # the rest, a piece at a time
                    line = file.readline(2**20)
            elif line.strip():
                try:
                    yield number, parse_line(line, where)
                except (ValueError, RecursionError) as error:
                    yield number, _reason(error, where)


def _reason(error: Exception, where: str) -> str:
    if isinstance(error, RecursionError):
        return f"{where}: nested too deeply; repair or delete that line"
    return str(error)


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    import pyarrow.parquet as parquet

    open_regular(path).close()
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
    except Exception as error:  # pyarrow raises several unrelated types for bad bytes
        raise ValueError(f"{path}: {_UNREADABLE % error}") from error
    if "text" not in names:
        raise ValueError(
            f"{path}: no column 'text' among {', '.join(names)}; call the column with "
            "the text 'text'"
        )
    number, columns = 0, [name for name in ("id", "text") if name in names]
    try:
        for batch in file.iter_batches(1_024, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except Exception as error:  # a page in the middle
        yield number + 1, f"{path}, row {number + 1}: {_UNREADABLE % error}"
