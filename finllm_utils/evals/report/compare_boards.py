"""Two runs held against each other: what is better, worse, unchanged, not comparable.

A model of one run is compared with the model of the same name in the other, on the
items that both were scored on. Figures of different items are never compared: whether
two runs asked the same is read from the digest of their items, not from a name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from finllm_utils.evals.report.scoreboard import (
    Cell,
    Measure,
    Scoreboard,
    read_records,
    read_scoreboard,
)
from finllm_utils.evals.statistics.bootstrap import Change
from finllm_utils.evals.statistics.many_changes import holm
from finllm_utils.evals.statistics.paired_scores import (
    Comparison,
    ItemScore,
    adjusted_changes,
    items_digest,
    shared_items,
    word_for,
)
from finllm_utils.intervals import Interval

NOT_COMPARABLE = "not comparable"
Key = tuple[str, str]  # measure and model
Records = Mapping[Key, Sequence[ItemScore]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunChange:
    """One figure of the other run against the same figure of this one."""

    measure: str
    model: str
    value_before: float | None
    value_after: float | None
    value: float | None = None
    interval: Interval | None = None
    adjusted_p: float | None = None
    num_items: int | None = None
    """Scored in both; None when no records tell."""
    word: str = NOT_COMPARABLE
    """better, worse, no clear change, or not comparable."""
    reason: str = ""
    """How it was compared, or why it was not."""


@dataclass(frozen=True, slots=True)
class RunComparison:
    """All figures of two runs, and what stands in one of them alone."""

    changes: tuple[RunChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]


def compare_folders(
    before: Path, after: Path, *, num_bootstrap: int = 2000, seed: int = 0
) -> RunComparison:
    """Compares the scoreboards in two folders, by item where records lie beside them.

    Raises: ValueError naming the file that is missing or broken.
    """
    return compare_boards(
        read_scoreboard(before),
        read_scoreboard(after),
        read_records(before),
        read_records(after),
        num_bootstrap=num_bootstrap,
        seed=seed,
    )


def compare_boards(
    before: Scoreboard,
    after: Scoreboard,
    records_before: Records,
    records_after: Records,
    *,
    num_bootstrap: int,
    seed: int,
) -> RunComparison:
    """Every (measure, model) of both boards, adjusted for the number of comparisons.

    Paired by item where both have records; otherwise from the two intervals, which
    sees less. Raises: ValueError when records are not those of their board.
    """
    first, second = _cells(before), _cells(after)
    shared = [key for key in second if key in first]
    refused: dict[Key, str] = {}
    found: dict[Key, tuple[Change, float, str]] = {}
    paired: dict[Key, Comparison] = {}
    for key in shared:
        lower = _direction(after, key[0])
        one = _comparison(first[key], second[key], records_before, records_after, lower)
        refused[key] = _refusal(first[key], second[key], one)
        if lower != _direction(before, key[0]):
            refused[key] = "lower is better in one run and worse in the other"
        if not refused[key] and one is not None:
            paired[key] = one
        elif not refused[key]:
            levels = (before.level, after.level)
            found[key] = _from_intervals(first[key], second[key], levels, lower)
    settings = {"num_bootstrap": num_bootstrap, "seed": seed, "level": after.level}
    for key, exact in adjusted_changes(paired, **settings).items():
        found[key] = (exact.change, exact.p_value, "by item")
    adjusted = dict(zip(found, holm([p for _, p, _ in found.values()]), strict=True))
    changes = []
    for key in shared:
        row = _row(first[key], second[key])
        if refused[key]:
            changes.append(RunChange(**row, reason=refused[key]))
            continue
        change, _, how = found[key]
        clear = adjusted[key] <= 1 - after.level
        word = word_for(change.value, clear, _direction(after, key[0]))
        row |= {"value": change.value, "interval": change.interval, "reason": how}
        if one := paired.get(key):
            row["num_items"] = len(shared_items(one.before, one.after))
        changes.append(RunChange(**row, adjusted_p=adjusted[key], word=word))
    return RunComparison(tuple(changes), _alone(first, second), _alone(second, first))


def _cells(board: Scoreboard) -> dict[Key, Cell]:
    return {(cell.measure, cell.model): cell for cell in board.cells}


def _alone(ours: Mapping, others: Mapping) -> tuple[str, ...]:
    return tuple(
        f"{measure} of {model}"
        for measure, model in ours
        if (measure, model) not in others
    )


def _row(first: Cell, second: Cell) -> dict:
    return {
        "measure": first.measure,
        "model": first.model,
        "value_before": first.value,
        "value_after": second.value,
    }


def _comparison(
    first: Cell,
    second: Cell,
    records_before: Records,
    records_after: Records,
    lower_is_better: bool,
) -> Comparison | None:
    """Both runs' scores; None when one of them came without its records."""
    known = [
        _has_records(first, records_before, "the other run"),
        _has_records(second, records_after, "this run"),
    ]
    if not all(known):
        return None
    key = (first.measure, first.model)
    return Comparison(records_before[key], records_after[key], lower_is_better)


def _refusal(first: Cell, second: Cell, comparison: Comparison | None) -> str:
    """Why two figures of one name do not compare; empty when they do."""
    if first.digest != second.digest:
        counts = [cell.num_items + cell.num_failed for cell in (first, second)]
        return f"different items were asked ({counts[0]} and {counts[1]})"
    if first.value is None or second.value is None:
        return "no item could be scored in one of the runs"
    if comparison is None:
        return ""
    try:
        pairs = shared_items(comparison.before, comparison.after)
    except ValueError as error:
        return str(error)
    return "" if pairs else "no item was scored in both"


def _direction(board: Scoreboard, name: str) -> bool:
    measure: Measure = next(m for m in board.measures if m.name == name)
    return measure.lower_is_better


def _has_records(cell: Cell, records: Records, run: str) -> bool:
    """Whether a figure came with its records; they must be the ones it was made of."""
    scores = records.get((cell.measure, cell.model))
    if scores is None:
        return False
    if items_digest(scores) != cell.digest:
        raise ValueError(
            f"{cell.measure} of {cell.model}: records of {run} are not those of its "
            "scoreboard; rerun 09_evaluation there"
        )
    return True


def _from_intervals(
    first: Cell, second: Cell, levels: tuple[float, float], lower_is_better: bool
) -> tuple[Change, float, str]:
    """An unpaired normal comparison of two figures that came with intervals only."""
    errors = [
        (high - low) / 2 / _normal_bound(level)
        for (low, high), level in zip(
            (first.interval, second.interval), levels, strict=True
        )
    ]
    value, error = second.value - first.value, math.hypot(*errors)
    if error == 0:
        p = 1.0 if value == 0 else 0.0
    else:
        p = math.erfc(abs(value) / error / math.sqrt(2))
    half = _normal_bound(levels[1]) * error
    word = word_for(value, p <= 1 - levels[1], lower_is_better)
    change = Change(value, (value - half, value + half), word)
    return change, p, "by intervals: a run has no records"


def _normal_bound(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)
