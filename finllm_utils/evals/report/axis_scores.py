"""Measures of one ability on one scale: 0 is the baseline, 1 the top.

The top is the measure's stated ceiling or else the best model of the board. An axis
score is the plain mean over the measures of the axis that have a baseline. A model that
lacks one of them has no score there: means over different measures do not compare.
"""

import math
from dataclasses import dataclass

from finllm_utils.evals.report.scoreboard import AXES, Measure, Scoreboard
from finllm_utils.intervals import Interval


@dataclass(frozen=True, slots=True)
class AxisScore:
    """A model on one axis; None where it was not measured on all of the axis."""

    value: float | None
    interval: Interval | None
    num_measures: int
    missing: tuple[str, ...] = ()
    """Measures of the axis that the model has no figure on."""


def axis_scores(board: Scoreboard) -> dict[str, dict[str, AxisScore]]:
    """Scores by model and axis; an axis without measures is left out.

    The interval adds those of the measures as independent, since their items differ;
    it takes baseline and top as exact.
    """
    ranges = scale_ranges(board)
    return {
        entrant.name: {
            axis: _axis_score(board, entrant.name, ours, ranges)
            for axis in AXES
            if (
                ours := [
                    m for m in board.measures if m.axis == axis and m.name in ranges
                ]
            )
        }
        for entrant in board.entrants
    }


def scale_ranges(board: Scoreboard) -> dict[str, tuple[float, float]]:
    """(baseline, top) of every measure that has a baseline."""
    ranges = {}
    for measure in board.measures:
        if measure.baseline is None:
            continue
        cells = [c for c in board.cells if c.measure == measure.name]
        values = [c.value for c in cells if c.value is not None]
        best = min if measure.lower_is_better else max
        top = measure.ceiling
        if top is None:
            top = best([*values, measure.baseline])
        ranges[measure.name] = (measure.baseline, top)
    return ranges


def scaled(measure: Measure, value: float, range_: tuple[float, float]) -> float:
    """Where a value lies between baseline (0) and top (1); 0 when nobody rises above.

    Example: accuracy 0.4 with chance 0.25 and ceiling 1 gives 0.2.
    """
    baseline, top = range_
    span = baseline - top if measure.lower_is_better else top - baseline
    gain = baseline - value if measure.lower_is_better else value - baseline
    return gain / span if span > 0 else 0.0


def _axis_score(
    board: Scoreboard,
    model: str,
    measures: list[Measure],
    ranges: dict[str, tuple[float, float]],
) -> AxisScore:
    cells = {m.name: board.cell(m.name, model) for m in measures}
    missing = tuple(n for n, c in cells.items() if c is None or c.value is None)
    if missing:
        return AxisScore(None, None, len(measures), missing)
    values, below, above = [], [], []
    for measure in measures:
        cell, range_ = cells[measure.name], ranges[measure.name]
        value = scaled(measure, cell.value, range_)
        low, high = sorted(scaled(measure, end, range_) for end in cell.interval)
        values.append(value)
        below.append((value - low) ** 2)
        above.append((high - value) ** 2)
    n, mean = len(values), sum(values) / len(values)
    interval = (mean - math.sqrt(sum(below)) / n, mean + math.sqrt(sum(above)) / n)
    return AxisScore(mean, interval, n)
