"""The rows of a published exam's file, whatever its encoding, header or container.

CSV files have a header with a question, options from A on and mostly an answer; CFLUE
is a JSON list. ``published_rows`` judges the rows.
"""

import ast
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from finllm_utils.data.encoding import decode
from finllm_utils.evals.exam.items import LETTERS

MAX_FILE_BYTES = 256 * 2**20
MAX_CHOICES_CHARS = 20_000  # of a dict written as text; the longest of CFLUE has 2,000
HEADERS = {
    ",Question,A,B,C,D,Answer": ("financeiq", "cmmlu"),
    "id,question,A,B,C,D,answer,explanation": ("ceval", "fineval", "fineva"),
    "名称,task,question,choices,answer,analysis": ("cflue",),
}
"""Known headers and whose they are. Case, order, further columns and spaces do not
matter; answer and explanation may be missing, and there may be 2 to 8 options."""
KINDS = tuple(kind for kinds in HEADERS.values() for kind in kinds)
NUMBERED, NAMED, CFLUE = HEADERS
_ALIASES = {
    "id": "id", "question": "question", "题目": "question", "问题": "question",
    "answer": "answer", "答案": "answer", "explanation": "proof", "解析": "proof",
    "analysis": "proof",
}  # fmt: skip
_CFLUE_FIELDS = {"question", "choices", "answer"}


class UnknownHeader(ValueError):
    """A file with another header than those of ``HEADERS``."""


class BrokenChoices(NamedTuple):
    """Options that could not be read, and why."""

    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row as the file has it, texts stripped; ``answer`` None without a column."""

    file: str
    place: str  # "line 12" of a CSV or JSONL file, "item 3" of a JSON list
    id: str
    subject: str
    task: str
    question: str
    options: tuple[str, ...] | BrokenChoices
    answer: str | None
    proof: str


def header_kinds(layout: str) -> tuple[str, ...]:
    """The exams that have the header ``layout``, a key of ``HEADERS``."""
    return HEADERS[layout]


def file_rows(file: Path) -> tuple[str, Iterator[Row]]:
    """The header that ``file`` has, a key of ``HEADERS``, and its rows.

    Raises: ValueError naming file and line for a file that is too large, is not
    readable as text, is no CSV or JSON, or has an unknown header.
    """
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(
            f"{file}: larger than {MAX_FILE_BYTES / 2**20:.0f} MiB: no exam is"
        )
    text, _ = decode(file.read_bytes(), str(file))
    if file.suffix == ".csv":
        return _csv_rows(file, text)
    return CFLUE, _cflue_rows(file, text)


def _csv_rows(file: Path, text: str) -> tuple[str, Iterator[Row]]:
    records = _records(file, text)
    _, header = next(records, (1, []))
    columns = _columns(file, header)
    layout = NAMED if "id" in columns else NUMBERED
    return layout, (
        _csv_row(file, line, fields, columns, len(header)) for line, fields in records
    )


def _records(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(line where it begins, fields) of each record that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield begins, fields
            begins = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {begins}: no readable CSV from here on ({error}); close the "
            "quotation mark, and double those inside a field"
        ) from error


def _columns(file: Path, header: Sequence[str]) -> dict[str, int]:
    """Field -> its column: id, question, answer, proof, and the option letters."""
    columns: dict[str, int] = {}
    for index, name in enumerate(header):
        name = name.strip().lstrip("\ufeff")
        field = name.upper() if name.upper() in [*LETTERS] else _ALIASES.get(
            name.lower()
        )  # fmt: skip
        if field:
            columns.setdefault(field, index)
    if not {"question", "A", "B"} <= set(columns):
        raise UnknownHeader(
            f"{file}: unknown header {','.join(header)!r:.120}; known are "
            f"{_known_headers()}"
        )
    return columns


def _known_headers() -> str:
    return "; ".join(f"{head} ({', '.join(of)})" for head, of in HEADERS.items())


def _csv_row(
    file: Path, line: int, fields: Sequence[str], columns: Mapping[str, int], width: int
) -> Row:
    values = {
        name: fields[i].strip() if i < len(fields) else ""
        for name, i in columns.items()
    }
    options: tuple[str, ...] | BrokenChoices = tuple(
        values[letter] for letter in LETTERS if letter in values
    )
    if len(fields) != width:
        options = BrokenChoices(
            f"{len(fields)} fields under a header of {width}: put a field with commas "
            "in quotation marks"
        )
    index = fields[0].strip() if columns["question"] else ""  # an unnamed first column
    return Row(
        file=str(file), place=f"line {line}", id=values.get("id") or index or str(line),
        subject="", task="", question=values["question"], options=options,
        answer=values.get("answer"), proof=values.get("proof", ""),
    )  # fmt: skip


def _cflue_rows(file: Path, text: str) -> Iterator[Row]:
    for place, value in _json_rows(file, text):
        if not isinstance(value, dict) or not _CFLUE_FIELDS <= set(value):
            raise ValueError(
                f"{file}, {place}: not an exam item ({str(value)[:60]!r}); known are "
                f"{_known_headers()}"
            )
        number = place.split()[1]
        yield Row(
            file=str(file), place=place, id=str(value.get("id", number)),
            subject=_text(value.get("名称")), task=_text(value.get("task")),
            question=_text(value["question"]), options=_choices(value["choices"]),
            answer=_text(value["answer"]), proof=_text(value.get("analysis")),
        )  # fmt: skip


def _json_rows(file: Path, text: str) -> Iterator[tuple[str, object]]:
    try:
        if file.suffix == ".jsonl":
            for number, line in enumerate(text.split("\n"), 1):
                where = f"line {number}"
                if line.strip():
                    yield where, json.loads(line)
            return
        where = "whole"
        rows = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        place = f"line {error.lineno}" if where == "whole" else where
        raise ValueError(
            f"{file}, {place}: broken JSON ({error}); repair it"
        ) from error
    if not isinstance(rows, list):
        raise ValueError(f"{file}: a list of items was expected; known are "
                         f"{_known_headers()}")  # fmt: skip
    yield from ((f"item {number}", row) for number, row in enumerate(rows, 1))


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _choices(value: object) -> tuple[str, ...] | BrokenChoices:
    """Options of a dict letter -> text, which CFLUE writes as Python text."""
    if isinstance(value, str):
        if len(value) > MAX_CHOICES_CHARS:
            return BrokenChoices(
                f"choices of more than {MAX_CHOICES_CHARS:,} characters"
            )
        try:
            value = ast.literal_eval(value.strip())  # constants only, never code
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return BrokenChoices(
                f"choices are no dict of letters and texts: {value!r:.60}"
            )
    if not isinstance(value, dict) or sorted(map(str, value)) != [
        *LETTERS[: len(value)]
    ]:
        return BrokenChoices(
            f"choices have not the letters A, B, ... in a row: {value!r:.60}"
        )
    return tuple(_text(value[letter]) for letter in LETTERS[: len(value)])
