"""Exams of the user's own, put on the card beside the course's suites.

The setting ``evals.exams`` names one exam: a CSV with the header
id,question,A,B,C,D,answer (explanation may follow; 2 to 8 options), any other form that
``published`` reads, or a folder of such files. Or it names a TOML file that lists
several, with paths that start from that file's folder::

    [[exams]]
    name = "house_rules"
    where = "exams/house_rules.csv"
    title = "house rules"     # the name, when left out
    split = "val"             # of a folder with dev, val and test files
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from finllm_utils.evals.exam.published import MAX_BAD_SHARE, read_published
from finllm_utils.evals.report.scoreboard import AXES
from finllm_utils.records import ExamItem

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_SUFFIXES = (".csv", ".json", ".jsonl", ".toml")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamSource:
    """Where an exam of the user's lies and how the card names it."""

    name: str
    """Of the measure: a letter, then letters, digits, - and _, at most 40."""
    where: str
    """A file, or a folder of files of one exam."""
    title: str = ""
    """On the card; the name when empty."""
    kind: str = "auto"
    """auto, or one of ``published_files.KINDS``."""
    split: str = ""
    """dev, val or test; empty takes all files."""
    axis: str = "finance"
    """A key of ``scoreboard.AXES``, or empty: outside the four abilities."""
    max_bad_share: float = MAX_BAD_SHARE
    """Of the rows; with more faulty ones the exam is refused."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r}: begin with a letter and use letters, digits, - "
                "and _, at most 40"
            )
        if self.axis and self.axis not in AXES:
            raise ValueError(f"axis {self.axis!r}: use {', '.join(AXES)}, or none")
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"max_bad_share={self.max_bad_share}: use 0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnExam:
    """An exam as read, with the rows that could not be."""

    source: ExamSource
    items: Sequence[ExamItem]
    left_out: Sequence[str]
    """A sentence a row, naming file and line."""


def read_own_exams(path: Path | str) -> dict[str, OwnExam]:
    """The exam of a file or folder, or those that a TOML file lists, by name.

    Raises: ValueError naming the file, and the entry, for a place that is not there, an
    unknown or missing field, a name or an item id that stands twice, and all that
    ``read_published`` refuses.
    """
    path = Path(path)
    if not path.exists() or (path.is_file() and path.suffix not in _SUFFIXES):
        raise ValueError(
            f"evals.exams={str(path)!r}: give an existing folder, or a file that ends "
            f"in {', '.join(_SUFFIXES)}"
        )
    if path.suffix == ".toml" and path.is_file():
        sources = _listed(path)
    else:
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", path.resolve().stem).strip("_")
        named = name if _NAME.fullmatch(name) else "own_exam"
        sources = [ExamSource(name=named, where=str(path), title=path.resolve().stem)]
    return {source.name: _read(source) for source in sources}


def _listed(path: Path) -> list[ExamSource]:
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("exams")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML in UTF-8 ({error})") from error
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: expected [[exams]] tables, each with name and where")
    sources: list[ExamSource] = []
    for number, row in enumerate(rows, 1):
        try:
            source = _source(row, path.parent)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, exam {number}: {error}") from error
        if source.name in {one.name for one in sources}:
            raise ValueError(f"{path}, exam {number}: {source.name!r} stands twice")
        sources.append(source)
    return sources


def _source(row: object, folder: Path) -> ExamSource:
    if not isinstance(row, Mapping):
        raise ValueError(f"expected a table with name and where, got {row!r:.60}")
    known = {field.name for field in fields(ExamSource)}
    if unknown := sorted(set(row) - known):
        raise ValueError(f"unknown field {unknown[0]!r}; use {', '.join(known)}")
    for key in ("name", "where"):
        if not isinstance(row.get(key), str) or not row[key]:
            raise ValueError(f"{key} is missing or no text")
    return ExamSource(**dict(row) | {"where": str(folder / row["where"])})


def _read(source: ExamSource) -> OwnExam:
    if not Path(source.where).exists():
        raise ValueError(f"exam {source.name!r}: {source.where} does not exist")
    items, problems = read_published(
        source.where,
        source.kind,
        split=source.split,
        max_bad_share=source.max_bad_share,
    )
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise ValueError(f"exam {source.name!r}: id {item.id!r} stands twice")
        seen.add(item.id)
    return OwnExam(source=source, items=items, left_out=tuple(str(p) for p in problems))
