"""The data behind the report card: models, measures, figures, changes, examples.

``scoreboard_build`` makes it; it is written as JSON with the scores of every item
beside it, so that ``finllm report`` renders without a model and two runs compare item
by item. Nothing here imports torch.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from finllm_utils.evals.statistics.paired_scores import ItemScore
from finllm_utils.files import atomic_file, read_json, write_json
from finllm_utils.intervals import Interval
from finllm_utils.records import numbered_lines

AXES = {
    "chinese": "中文 (Chinese)",
    "finance": "金融 (finance)",
    "dialogue": "对话 (dialogue)",
    "application": "应用 (application)",
}
"""The four abilities that the course strengthens; a measure may stand outside them."""
STAGES = ("base", "vocabulary", "pretraining", "tuning", "alignment")
REFERENCE = "reference"
RESIDENCIES = ("local", "private", "cloud")
BOARD_FILE, RECORDS_FILE = "scoreboard.json", "records.jsonl"
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrant:
    """A model on the board; stages of one lineage are given in order of training."""

    name: str
    stage: str = REFERENCE
    """base, vocabulary, pretraining, tuning or alignment; reference for others."""
    residency: str = "local"
    """Where it runs: local, private (own data centre) or cloud (someone else's)."""
    num_parameters: int | None = None
    price_per_1000: float | None = None
    """What 1,000 requests cost; None lets ``recommend`` estimate it from the size."""

    def __post_init__(self) -> None:
        if self.stage not in (*STAGES, REFERENCE):
            known = ", ".join((*STAGES, REFERENCE))
            raise ValueError(f"{self.name}: stage {self.stage!r}; use one of {known}")
        if self.residency not in RESIDENCIES:
            raise ValueError(
                f"{self.name}: residency {self.residency!r}; use one of "
                f"{', '.join(RESIDENCIES)}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """What is measured, and where its scale begins and ends."""

    name: str
    title: str
    axis: str = ""
    """A key of ``AXES``; empty: outside the four abilities, such as English."""
    lower_is_better: bool = False
    baseline: float | None = None
    """What chance or a rule without a model reaches; without it, no axis score."""
    baseline_name: str = ""
    ceiling: float | None = None
    """The stated top of the scale; None takes the best model of the board."""
    retention: bool = False
    """Held against the first stage too: what training must not lose."""

    def __post_init__(self) -> None:
        if self.axis and self.axis not in AXES:
            known = ", ".join(AXES)
            raise ValueError(f"{self.name}: axis {self.axis!r}; use {known} or none")
        if self.baseline is not None and not self.baseline_name:
            raise ValueError(f"{self.name}: say what reaches {self.baseline}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One model's scores on one measure, and the command that made them."""

    measure: str
    model: str
    scores: Sequence[ItemScore]
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One figure of the board; value and interval are None when nothing was scored."""

    model: str
    measure: str
    value: float | None
    interval: Interval | None
    num_items: int
    num_failed: int
    digest: str
    """Of the items asked; figures with different digests do not compare."""
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardChange:
    """A paired change on the items that both models were scored on."""

    measure: str
    before: str
    after: str
    value: float
    interval: Interval
    p_value: float
    adjusted_p: float
    """Among all comparisons of the board (Holm)."""
    word_alone: str
    """What the interval says by itself."""
    word: str
    """What remains among all comparisons: better, worse or no clear change."""
    num_gained: int
    num_lost: int
    num_items: int
    """Scored in both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """An item on which a stage did better or worse than the one before."""

    measure: str
    item: str
    before: str
    after: str
    question: str
    expected: str
    given_before: str
    given_after: str
    value_before: float
    value_after: float
    word: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoreboard:
    """The whole board, as it is written and read."""

    entrants: tuple[Entrant, ...]
    measures: tuple[Measure, ...]
    cells: tuple[Cell, ...]
    changes: tuple[BoardChange, ...]
    examples: tuple[Example, ...]
    level: float
    alarms: tuple[str, ...] | None = None
    """Sentences; empty: watched and silent; None: nobody watched."""
    leaks: tuple[str, ...] | None = None
    """Sentences on items found in training; None: nobody looked."""

    @property
    def lineage(self) -> tuple[str, ...]:
        """Names of the stages, in order of training."""
        return tuple(e.name for e in self.entrants if e.stage != REFERENCE)

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the models that only stand beside."""
        return tuple(e.name for e in self.entrants if e.stage == REFERENCE)

    def cell(self, measure: str, model: str) -> Cell | None:
        """The figure, or None when the model was not measured."""
        wanted = (measure, model)
        return next((c for c in self.cells if (c.measure, c.model) == wanted), None)

    def stages_of(self, measure: str) -> list[str]:
        """The stages that have a figure on a measure, in order of training."""
        cells = {m: self.cell(measure, m) for m in self.lineage}
        return [m for m, c in cells.items() if c is not None and c.value is not None]

    def steps(self, measure: str) -> list[BoardChange]:
        """Changes from each stage to the next one that was measured."""
        return self._among(measure, set(pairwise(self.stages_of(measure))))

    def since_first(self, measure: str) -> list[BoardChange]:
        """Changes from the first stage that was measured to every later one."""
        first, *later = self.stages_of(measure) or [""]
        return self._among(measure, {(first, model) for model in later})

    def against_references(self, measure: str) -> list[BoardChange]:
        """The last stage held against every reference."""
        last = self.stages_of(measure)[-1:]
        return self._among(measure, {(r, m) for r in self.references for m in last})

    def _among(self, measure: str, pairs: set[tuple[str, str]]) -> list[BoardChange]:
        return [
            change
            for change in self.changes
            if change.measure == measure and (change.before, change.after) in pairs
        ]


def write_scoreboard(
    board: Scoreboard, measured: Iterable[Measured], folder: Path
) -> None:
    """Writes ``scoreboard.json`` and, beside it, ``records.jsonl`` an item a line.

    A question stands with the first model that was asked it; what is at its default is
    left out.
    """
    defaults = {f.name: f.default for f in fields(ItemScore)}
    told: set[tuple[str, str]] = set()
    with atomic_file(Path(folder) / RECORDS_FILE) as handle:
        for one in measured:
            for score in one.scores:
                row = {k: v for k, v in asdict(score).items() if v != defaults[k]}
                if (one.measure, score.item) in told:
                    row.pop("question", None)
                told.add((one.measure, score.item))
                row = {"measure": one.measure, "model": one.model} | row
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
    write_json(Path(folder) / BOARD_FILE, asdict(board))


def read_scoreboard(folder: Path) -> Scoreboard:
    """Reads what ``write_scoreboard`` wrote.

    Raises: ValueError naming the file and the field that does not fit.
    """
    path = Path(folder) / BOARD_FILE
    if not path.exists():
        raise ValueError(f"{path}: no scoreboard; 09_evaluation writes it")
    data = read_json(path)
    kinds = {
        "entrants": Entrant,
        "measures": Measure,
        "cells": Cell,
        "changes": BoardChange,
        "examples": Example,
    }
    if not isinstance(data, Mapping) or set(data) != {
        f.name for f in fields(Scoreboard)
    }:
        raise ValueError(f"{path}: not a scoreboard of this version; rerun 09")
    lists = {
        name: tuple(_made(kind, row, path) for row in data[name])
        for name, kind in kinds.items()
    }
    sentences = {
        k: None if data[k] is None else tuple(data[k]) for k in ("alarms", "leaks")
    }
    return Scoreboard(level=data["level"], **lists, **sentences)


def read_records(folder: Path) -> dict[tuple[str, str], list[ItemScore]]:
    """Scores by (measure, model); empty when the board came without its records.

    Raises: ValueError naming file, line and what is wrong.
    """
    path = Path(folder) / RECORDS_FILE
    records: dict[tuple[str, str], list[ItemScore]] = {}
    questions: dict[tuple[str, str], str] = {}
    for number, row in numbered_lines(path) if path.exists() else ():
        where = f"{path}, line {number}"
        try:
            key = (row.pop("measure"), row.pop("model"))
            asked = (key[0], row["item"])
        except KeyError as error:
            raise ValueError(f"{where}: no {error}") from error
        row["question"] = questions.setdefault(asked, row.get("question", ""))
        records.setdefault(key, []).append(_made(ItemScore, row, where))
    return records


def _made(kind: type[Made], row: Mapping, where: Path | str) -> Made:
    try:
        made = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        return kind(**made)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}; rerun 09_evaluation") from error
