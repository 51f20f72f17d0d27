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

from finllm_utils.evals.bootstrap import Change
from finllm_utils.evals.many_changes import holm
from finllm_utils.evals.paired_scores import (
    Comparison,
    ItemScore,
    adjusted_changes,
    items_digest,
    word_for,
)
from finllm_utils.evals.scoreboard import (
    Cell,
    Measure,
    Scoreboard,
    read_records,
    read_scoreboard,
)
from finllm_utils.intervals import Interval

NOT_COMPARABLE = "not comparable"
Records = Mapping[tuple[str, str], Sequence[ItemScore]]


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
    refused = {key: _refusal(key, before, after) for key in shared}
    open_keys = [key for key in shared if not refused[key]]
    lower = {m.name: m.lower_is_better for m in after.measures}
    paired = {
        key: Comparison(records_before[key], records_after[key], lower[key[0]])
        for key in open_keys
        if _has_records(first[key], records_before, "the other run")
        and _has_records(second[key], records_after, "this run")
    }
    settings = {"num_bootstrap": num_bootstrap, "seed": seed, "level": after.level}
    exact = adjusted_changes(paired, **settings)
    found = {key: (one.change, one.p_value, "by item") for key, one in exact.items()}
    for key in open_keys:
        if key in paired and key not in exact:
            refused[key] = "no item was scored in both"
        elif key not in paired:
            found[key] = _from_intervals(first[key], second[key], lower[key[0]])
    adjusted = dict(zip(found, holm([p for _, p, _ in found.values()]), strict=True))
    changes = []
    for key in shared:
        row = _row(key, first[key], second[key])
        if refused[key]:
            changes.append(RunChange(**row, reason=refused[key]))
            continue
        change, _, how = found[key]
        clear = adjusted[key] <= 1 - after.level
        changes.append(
            RunChange(
                **row,
                value=change.value,
                interval=change.interval,
                adjusted_p=adjusted[key],
                word=word_for(change.value, clear, lower[key[0]]),
                reason=how,
            )
        )
    return RunComparison(tuple(changes), _alone(first, second), _alone(second, first))


def _cells(board: Scoreboard) -> dict[tuple[str, str], Cell]:
    return {(cell.measure, cell.model): cell for cell in board.cells}


def _alone(ours: Mapping, others: Mapping) -> tuple[str, ...]:
    return tuple(
        f"{measure} of {model}"
        for measure, model in ours
        if (measure, model) not in others
    )


def _row(key: tuple[str, str], first: Cell, second: Cell) -> dict:
    return {
        "measure": key[0],
        "model": key[1],
        "value_before": first.value,
        "value_after": second.value,
    }


def _refusal(key: tuple[str, str], before: Scoreboard, after: Scoreboard) -> str:
    """Why two figures of one name do not compare; empty when they do."""
    first, second = before.cell(*key), after.cell(*key)
    if first.digest != second.digest:
        counts = [c.num_items + c.num_failed for c in (first, second)]
        return f"different items were asked ({counts[0]} and {counts[1]})"
    if _direction(before, key[0]) != _direction(after, key[0]):
        return "lower is better in one run and worse in the other"
    if first.value is None or second.value is None:
        return "no item could be scored in one of the runs"
    return ""


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
    first: Cell, second: Cell, lower_is_better: bool
) -> tuple[Change, float, str]:
    """An unpaired normal comparison of two figures that came with intervals only."""
    value = second.value - first.value
    z = NormalDist().inv_cdf(0.975)
    errors = [(high - low) / (2 * z) for low, high in (first.interval, second.interval)]
    error = math.hypot(*errors)
    if error == 0:
        p = 1.0 if value == 0 else 0.0
    else:
        p = math.erfc(abs(value) / error / math.sqrt(2))
    interval = (value - z * error, value + z * error)
    word = word_for(value, p <= 0.05, lower_is_better)
    return Change(value, interval, word), p, "by intervals: a run has no records"
