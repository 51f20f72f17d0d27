"""The record types that travel between stages, and their JSONL and Parquet files.

Reading names the file and the line of whatever is wrong; writing is atomic.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from finllm_utils.files import atomic_file

MAX_LINE_BYTES = 16 * 2**20  # a longer line is a broken export, not a record


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One text with its origin. ``domain``: general_zh, finance_zh, english, ..."""

    id: str
    text: str
    source: str
    domain: str
    meta: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatTurn:
    """One message. ``role``: system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """A conversation to learn from; only assistant turns are scored."""

    id: str
    messages: tuple[ChatTurn, ...]
    task: str
    domain: str  # general or finance
    source: str

    def __post_init__(self) -> None:
        turns = tuple(
            t if isinstance(t, ChatTurn) else ChatTurn(**t) for t in self.messages
        )
        object.__setattr__(self, "messages", turns)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferencePair:
    """Two answers to one prompt, the first preferred. ``margin`` in [0, 1]."""

    id: str
    prompt: str
    chosen: str
    rejected: str
    source: str
    margin: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamItem:
    """One exam question. ``answer``: letters of the right choices, as "BD"."""

    id: str
    subject: str
    type: str  # single, multiple, true_false
    question: str
    choices: tuple[str, ...]
    answer: str
    proof: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))


Record = TypeVar("Record", Document, Instruction, PreferencePair, ExamItem)


def read_lines(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[dict]:
    """Yields one dict a line of a JSONL file.

    Raises: ValueError naming file and line for an empty file, a line that is too
    long, is not UTF-8, not JSON or not an object.
    """
    for _, value in numbered_lines(Path(path), max_line_bytes):
        yield value


def numbered_lines(
    path: Path, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, dict]]:
    """As ``read_lines``, each with its number from 1; blank lines count."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the path of a JSONL file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: empty file (0 bytes); export it again or remove it")
    with open(path, "rb") as handle:
        number = 0
        while line := handle.readline(max_line_bytes + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(line) > max_line_bytes:
                raise ValueError(
                    f"{where}: longer than {max_line_bytes:,} bytes; write one record "
                    "a line, or raise data.max_line_bytes"
                )
            if line.strip():
                yield number, parse_line(line, where)


def parse_line(line: bytes, where: str) -> dict:
    """The object of one JSONL line; ``where`` names it in errors.

    Raises: ValueError when it is not UTF-8, not JSON or not an object.
    """
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: not UTF-8 at byte {error.start}; convert the file, for example "
            "with iconv -f GB18030 -t UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}: broken JSON ({error.msg} at column {error.colno}); repair or "
            "delete that line"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(
            f"{where}: expected an object with named fields, got {value!r:.40}"
        )
    return value


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """All records of a ``.jsonl`` or ``.parquet`` file, in file order.

    Raises: ValueError naming the file, the line and the field that is wrong.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        rows = enumerate(_read_parquet(path), 1)
    elif path.suffix == ".jsonl":
        rows = numbered_lines(path)
    else:
        raise ValueError(
            f"{path}: unknown suffix {path.suffix!r}; use .jsonl or .parquet"
        )
    names = {f.name for f in fields(kind)}
    records = []
    for number, row in rows:
        if unknown := set(row) - names:
            raise ValueError(
                f"{path}, line {number}: unknown field {sorted(unknown)[0]!r}; "
                f"{kind.__name__} has {', '.join(sorted(names))}"
            )
        try:
            records.append(kind(**row))
        except TypeError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return records


def _read_parquet(path: Path) -> list[dict]:
    import pyarrow.parquet as parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except Exception as error:  # pyarrow raises several unrelated types for bad bytes
        raise ValueError(f"{path}: not a readable Parquet file ({error})") from error
    for row in rows:
        if isinstance(row.get("meta"), str):
            row["meta"] = json.loads(row["meta"])
    return rows


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Writes ``.jsonl`` or ``.parquet`` by suffix, atomically; the number written."""
    path = Path(path)
    if path.suffix == ".parquet":
        return _write_parquet(path, list(records))
    count = 0
    with atomic_file(path) as handle:
        for record in records:
            handle.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_parquet(path: Path, records: list[Record]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rows = [asdict(record) for record in records]
    for row in rows:  # free-form metadata has no common column type
        if "meta" in row:
            row["meta"] = json.dumps(row["meta"], ensure_ascii=False)
    with atomic_file(path, "wb") as handle:
        parquet.write_table(pa.Table.from_pylist(rows), handle)
    return len(rows)
