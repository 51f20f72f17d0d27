"""Is the model after PPO to be accepted? A verdict computed from paired scores.

Both models answer the same items; every measure holds one score an item and model. Pure
arrays: ``acceptance.run`` collects them, notebook 08 shows the table.

The rule, see ``accept``. Abilities (bits per byte, choice, exams) must not fall: each
has a ``tolerance``, the fall that is allowed, and a ``margin``, the fall that must be
excluded. Gains (safety, helpfulness, stability) must rise, and none may fall.
- rejected: an ability fell by more than its tolerance, or a gain fell, beyond chance;
- accepted: of every ability a fall of its margin is excluded, and every required gain
  rose beyond chance;
- undecided: anything else, such as a toy model whose exams are at chance.

Two errors, each held near (1 - level) / 2, which is 2.5%. A wrong rejection needs one
measure of several, so its tests share the error: Bonferroni, by the number of measures
that can reject. A wrong acceptance needs all tests at once, so none is corrected
(intersection-union test; Berger, Technometrics 24 (1982), 295-300).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from finllm_utils.evals.statistics.bootstrap import bootstrap_ratio, paired_change
from finllm_utils.intervals import Interval

KINDS = ("ability", "gain", "watch")
"""watch: stands in the table and decides nothing."""
REQUIRED = ("safety", "helpfulness", "stability")
MIN_ITEMS = 20  # fewer decide nothing: resamples of them know too few cases
VERDICTS = {"accepted": 1, "undecided": 0, "rejected": -1}
"""The verdict as a number of the report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One score an item from each model.

    Raises: ValueError naming the measure for scores that do not pair, are not finite or
    are missing, an unknown kind, or limits that no rule allows.
    """

    name: str
    kind: str
    before: Sequence[float] = field(repr=False)
    after: Sequence[float] = field(repr=False)
    higher_is_better: bool = True
    weights: Sequence[float] | None = field(default=None, repr=False)
    """Denominators: the figure is sum(scores) / sum(weights); ones give a mean."""
    relative: bool = False
    """Difference, tolerance and margin are shares of the figure before."""
    tolerance: float = 0.0
    """Of an ability: the fall that is allowed; beyond it the model is rejected."""
    margin: float | None = None
    """Of an ability: the fall that must be excluded to accept; the tolerance unless
    given. A tolerance of 0 needs one, since no test can show that nothing changed."""
    chance: float | None = None
    """Of an ability: the figure of guessing. Who is not above it has none to keep."""

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault:
            raise ValueError(f"measure {self.name!r}: {fault}")

    def _fault(self) -> str:
        if self.kind not in KINDS:
            return f"kind {self.kind!r}; use {', '.join(KINDS)}"
        arrays = [self.before, self.after]
        arrays += [] if self.weights is None else [self.weights]
        sizes = [len(a) for a in arrays]
        if len(set(sizes)) > 1 or not sizes[0]:
            return f"{sizes} scores do not pair: score the same items with both models"
        if not all(np.isfinite(np.asarray(a, float)).all() for a in arrays):
            return "a score is not finite"
        if self.weights is not None and not np.sum(self.weights) > 0:
            return "the weights must add up to more than 0"
        if self.relative and not np.sum(self.before) > 0:
            return "relative needs scores that add up to more than 0"
        limits = (self.tolerance, self.margin, self.chance)
        if self.kind != "ability" and limits != (0.0, None, None):
            return "tolerance, margin and chance belong to abilities"
        if not 0 <= self.tolerance <= self.excluded:
            return f"needs 0 <= tolerance {self.tolerance} <= margin {self.excluded}"
        return ""

    @property
    def excluded(self) -> float:
        """The margin, or the tolerance where none is given."""
        return self.tolerance if self.margin is None else self.margin

    @property
    def denominators(self) -> np.ndarray:
        """The weights, or ones."""
        if self.weights is None:
            return np.ones(len(self.before))
        return np.asarray(self.weights, float)

    def figure(self, scores: Sequence[float]) -> float:
        """sum(scores) / sum(weights)."""
        return float(np.sum(scores) / self.denominators.sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one measure shows."""

    measure: Measure
    difference: float
    """After minus before; a share of before when the measure is relative."""
    interval: Interval
    """Of the difference at the level asked for, not corrected."""
    word: str
    """better, worse, unchanged (a fall of the margin is excluded) or undecided; of a
    watch higher, lower or undecided."""
    note: str = ""
    """Why it is undecided, where it is not for the width of the interval."""

    @property
    def gain(self) -> float:
        """The difference, above 0 where it is an improvement."""
        return self.difference * _sign(self.measure)


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """The verdict, its grounds and the finding of every measure."""

    verdict: str
    grounds: tuple[str, ...]
    """Names of the measures that decided, or that are still in the way."""
    findings: tuple[Finding, ...]


def accept(
    measures: Sequence[Measure],
    *,
    required: Collection[str] = REQUIRED,
    num_bootstrap: int = 4000,
    seed: int = 0,
    level: float = 0.95,
) -> Acceptance:
    """The verdict by the rule on top of this file, from paired bootstrap intervals.

    Args: required names the gains that must rise; num_bootstrap of 4,000 leaves about
    ten resamples beyond a corrected bound of ten measures.
    Scores that only pass or fail (a change of 0, a half or 1 an item) get two more
    pairs, one better and one worse: where few items change, the plain bootstrap is too
    sure, and where none does, it knows no doubt at all. Source: the idea of Agresti and
    Min, Biometrics 61 (2005), 515-523. Percentile intervals of under about 30 other
    scores are a little too short.
    Raises: ValueError for no ability, two measures of one name, or a required gain that
    is not there.
    """
    _require_complete(measures, required)
    judges = sum(m.kind != "watch" for m in measures)
    how = {"num_bootstrap": num_bootstrap, "seed": seed}
    findings = tuple(_find(m, judges, level, how) for m in measures)
    worse = tuple(f.measure.name for f in findings if f.word == "worse")
    if worse:
        return Acceptance(verdict="rejected", grounds=worse, findings=findings)
    open_ones = tuple(f.measure.name for f in findings if _in_the_way(f, required))
    if open_ones:
        return Acceptance(verdict="undecided", grounds=open_ones, findings=findings)
    names = tuple(f.measure.name for f in findings if f.measure.kind != "watch")
    return Acceptance(verdict="accepted", grounds=names, findings=findings)


def acceptance_table(acceptance: Acceptance) -> list[dict[str, object]]:
    """Rows for pandas, one a measure; differences of bits per byte are shares."""
    return [
        {
            "name": f.measure.name,
            "kind": f.measure.kind,
            "n": len(f.measure.before),
            "before": f.measure.figure(f.measure.before),
            "after": f.measure.figure(f.measure.after),
            "difference": f.difference,
            "low": f.interval[0],
            "high": f.interval[1],
            "finding": f.word,
            "note": f.note,
        }
        for f in acceptance.findings
    ]


def report_figures(
    acceptance: Acceptance, hacked: Acceptance | None = None
) -> dict[str, float]:
    """``accept.verdict`` (1 accepted, 0 undecided, -1 rejected) and the gains.

    ``accept.<name>_gain`` for every gain of ``REQUIRED``, in the measure's unit;
    ``accept.hacked_rejected`` is 1 when ``hacked``, the verdict on a model hacked on
    purpose, is a rejection, else 0.
    """
    found = {"accept.verdict": float(VERDICTS[acceptance.verdict])}
    for f in acceptance.findings:
        if f.measure.name in REQUIRED:
            found[f"accept.{f.measure.name}_gain"] = f.gain
    if hacked is not None:
        found["accept.hacked_rejected"] = float(hacked.verdict == "rejected")
    return found


def _require_complete(measures: Sequence[Measure], required: Collection[str]) -> None:
    names = Counter(m.name for m in measures)
    if twice := [name for name, times in names.items() if times > 1]:
        raise ValueError(f"two measures are named {twice[0]!r}: names must differ")
    if not any(m.kind == "ability" for m in measures):
        raise ValueError("no ability among the measures: give bits per byte at least")
    gains = {m.name for m in measures if m.kind == "gain"}
    if missing := sorted(set(required) - gains):
        raise ValueError(
            f"required {', '.join(missing)} not among the gains "
            f"({', '.join(sorted(gains)) or 'none'}): measure it, or leave it out of "
            "required"
        )


def _sign(measure: Measure) -> int:
    return 1 if measure.higher_is_better else -1


def _find(measure: Measure, judges: int, level: float, how: dict) -> Finding:
    """``judges`` is how many measures can reject."""
    interval = _interval(measure, level, how)
    corrected = _interval(measure, 1 - (1 - level) / judges, how)
    gap = np.sum(measure.after) - np.sum(measure.before)
    word, note = _word(measure, interval, corrected, how)
    return Finding(
        measure=measure,
        difference=float(gap / _bottom(measure).sum()),
        interval=interval,
        word=word,
        note=note,
    )


def _bottom(measure: Measure) -> np.ndarray:
    """What the difference is divided by, an item each."""
    if measure.relative:
        return np.asarray(measure.before, float)
    return measure.denominators


def _interval(measure: Measure, level: float, how: dict) -> Interval:
    before, after = (np.asarray(a, float) for a in (measure.before, measure.after))
    bottom = _bottom(measure)
    if np.isin(after - before, (-1, -0.5, 0, 0.5, 1)).all():
        before, after = np.append(before, [0, 1]), np.append(after, [1, 0])
        bottom = np.append(bottom, [bottom.mean()] * 2)
    change = paired_change(
        before,
        after,
        bottom,
        lower_is_better=not measure.higher_is_better,
        level=level,
        **how,
    )
    return change.interval


def _word(
    measure: Measure, interval: Interval, corrected: Interval, how: dict
) -> tuple[str, str]:
    """The finding and a note, see ``Finding``."""
    low, high = interval
    if len(measure.before) < MIN_ITEMS:
        return "undecided", f"under {MIN_ITEMS} items"
    if measure.kind == "watch":
        return "higher" if low > 0 else "lower" if high < 0 else "undecided", ""
    if not measure.higher_is_better:
        low, high = -high, -low
        corrected = -corrected[1], -corrected[0]
    if corrected[1] < -measure.tolerance:
        return "worse", ""
    if _at_chance(measure, how):
        return "undecided", "at chance before"
    if low > 0:
        return "better", ""
    if measure.kind == "ability" and low > -measure.excluded:
        return "unchanged", ""
    return "undecided", ""


def _at_chance(measure: Measure, how: dict) -> bool:
    """Whether guessing explains the figure before."""
    if measure.chance is None:
        return False
    low, high = bootstrap_ratio(measure.before, measure.denominators, **how)
    return low <= measure.chance if measure.higher_is_better else high >= measure.chance


def _in_the_way(finding: Finding, required: Collection[str]) -> bool:
    """Whether this finding keeps an unrejected model from being accepted."""
    if finding.measure.kind == "ability":
        return finding.word == "undecided"
    return finding.measure.name in required and finding.word != "better"
