"""How far raters agree, beyond what chance would give. Pure functions on verdicts.

A ranking is compared pair by pair (which of two answers is better, or a tie), so the
same measures serve every task; rewritten texts have none.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from statistics import mean

from finllm_utils.annotation.judgements import Judgement, settled

Units = Sequence[Mapping[str, Hashable]]
"""For each thing judged: rater -> label. A rater may miss some of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Agreement in one round; None where a measure has no meaning."""

    rater_kinds: dict[str, str]
    """Rater -> model or human."""
    num_items: int
    """Items with at least two verdicts."""
    equal_share: float
    """Percent agreement as a share: equal pairs of verdicts on one thing, 0-1."""
    kappa: float | None
    """Cohen's, for two raters."""
    alpha: float | None
    """Krippendorff's for labels without order, for any number of raters."""
    tau: float | None
    """Mean Kendall tau-b over pairs of rankings of one item."""
    same_side_share: float | None = None
    """Of graded pairs: two raters prefer the same text, however strongly, 0-1."""
    ordinal_alpha: float | None = None
    """Of graded pairs: Krippendorff's for ordered levels; the figure to report, since
    nobody knows how far A2 is from A3."""
    interval_alpha: float | None = None
    """Of graded pairs: Krippendorff's on ``signed_strength``, as the margins use it."""


def agreement(judgements: Iterable[Judgement]) -> Agreement:
    """All measures for the raters of one task and one round.

    Raises: ValueError for several tasks or rounds, rewrites, or no item in common.
    """
    own = [j for j in settled(judgements) if j.is_decision]
    if len(parts := sorted({(j.task, j.round) for j in own})) > 1:
        raise ValueError(f"one task and one round at a time, not {parts}")
    if own and own[0].task == "rewrite":
        raise ValueError("rewritten texts have no agreement: judge them with ab")
    by_text: dict[tuple[str, str], dict[str, Judgement]] = {}
    for j in own:
        by_text.setdefault((j.item, j.text_sha256), {})[j.rater] = j
    shared = [raters for raters in by_text.values() if len(raters) > 1]
    if not shared:
        raise ValueError("no item has verdicts of two raters: give both the same items")
    kinds = {rater: j.rater_kind for raters in shared for rater, j in raters.items()}
    units = [unit for raters in shared for unit in _units(raters)]
    graded = own[0].task == "graded"
    return Agreement(
        rater_kinds=dict(sorted(kinds.items())),
        num_items=len(shared),
        equal_share=equal_share(units),
        kappa=_kappa(units) if len(kinds) == 2 else None,
        alpha=krippendorff_alpha(units),
        tau=_mean_tau(shared) if own[0].task == "rank" else None,
        same_side_share=equal_share(_sides(units)) if graded else None,
        ordinal_alpha=krippendorff_alpha(units, "ordinal") if graded else None,
        interval_alpha=krippendorff_alpha(units, "interval") if graded else None,
    )


def equal_share(units: Units) -> float:
    """Percent agreement, 0-1: equal pairs of labels among all pairs on one unit."""
    pairs = [p for unit in units for p in combinations(unit.values(), 2)]
    if not pairs:
        raise ValueError("no unit has the labels of two raters")
    return mean(first == second for first, second in pairs)


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Agreement of two raters beyond chance; None when both only used one label.

    Example: of 50 items 20 yes-yes, 15 no-no, 5 yes-no and 10 no-yes give 0.4.
    Source: Cohen, Educ. Psychol. Meas. 20 (1960), 37-46.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} labels do not pair")
    observed = mean(a == b for a, b in zip(first, second, strict=True))
    left, right = Counter(first), Counter(second)
    expected = sum(left[label] * right[label] for label in left) / len(first) ** 2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def krippendorff_alpha(units: Units, scale: str = "nominal") -> float | None:
    """Agreement of any number of raters beyond chance.

    Args: scale is nominal, labels without order; ordinal, labels that sort; or
    interval, numbers whose differences count.
    None when only one label was ever used. Units with one label are left out.
    Raises: ValueError for another scale.
    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), parts C
    and D.
    """
    columns = [Counter(u.values()) for u in units if len(u) > 1]
    totals = sum(columns, Counter())
    distance = _distance(scale, totals)
    unlike = sum(_unlike(c, distance) / (c.total() - 1) for c in columns)
    expected = _unlike(totals, distance)
    return 1 - (totals.total() - 1) * unlike / expected if expected else None


def _distance(
    scale: str, totals: Mapping[Hashable, int]
) -> Callable[[Hashable, Hashable], float]:
    """How unlike two labels are. Args: totals is label -> how often it was given."""
    if scale == "nominal":
        return lambda first, second: first != second
    if scale == "interval":
        return lambda first, second: (first - second) ** 2
    if scale != "ordinal":
        raise ValueError(f"scale is {scale!r}: give nominal, ordinal or interval")
    middle: dict[Hashable, float] = {}  # of the ranks that a label takes
    below = 0
    for label in sorted(totals):
        middle[label] = below + totals[label] / 2
        below += totals[label]
    return lambda first, second: (middle[first] - middle[second]) ** 2


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Tau-b of two rankings of the same things; None when one of them is all ties.

    Source: Kendall, Biometrika 33 (1945), 239-251.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} ranks do not pair")
    places = list(zip(first, second, strict=True))
    signs = [(_sign(a, c), _sign(b, d)) for (a, b), (c, d) in combinations(places, 2)]
    untied = sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))
    return sum(x * y for x, y in signs) / untied if untied else None


def _sign(first: float, second: float) -> int:
    return (first > second) - (first < second)


def _unlike(counts: Counter, distance: Callable[[Hashable, Hashable], float]) -> float:
    """Sum of the distances over all pairs of labels."""
    pairs = combinations(counts, 2)
    return sum(counts[a] * counts[b] * distance(a, b) for a, b in pairs)


def _units(raters: Mapping[str, Judgement]) -> list[dict[str, Hashable]]:
    """One unit a verdict, or one for each pair of texts in a ranking."""
    task = next(iter(raters.values())).task
    if task == "graded":
        return [{rater: signed_strength(j) for rater, j in raters.items()}]
    if task != "rank":
        return [{rater: j.verdict for rater, j in raters.items()}]
    places = {rater: ranks(j) for rater, j in raters.items()}
    names = sorted(next(iter(places.values())))
    return [
        {rater: _sign(p[first], p[second]) for rater, p in places.items()}
        for first, second in combinations(names, 2)
    ]


def ranks(judgement: Judgement) -> dict[str, int]:
    """Source name -> place of its group in a ranking, from 0, the best."""
    return {n: place for place, group in enumerate(judgement.verdict) for n in group}


def signed_strength(judgement: Judgement) -> float:
    """Strength of a graded verdict, -3 to 3: above 0 for the source first by name.

    Level 0 counts as 0.5. It still names a side, which 0 would lose, and half a step
    lies below level 1, so that it alone makes no preference.
    """
    better, strength = judgement.verdict
    size = strength or 0.5
    return size if better == min(judgement.shown) else -size


def _sides(units: Units) -> list[dict[str, Hashable]]:
    return [{rater: _sign(s, 0) for rater, s in unit.items()} for unit in units]


def _kappa(units: Units) -> float | None:
    pairs = [[label for _, label in sorted(unit.items())] for unit in units]
    return cohen_kappa(*map(list, zip(*pairs, strict=True)))


def _mean_tau(shared: Sequence[Mapping[str, Judgement]]) -> float | None:
    taus = []
    for raters in shared:
        for first, second in combinations(raters.values(), 2):
            names = sorted(first.shown)
            one, two = ranks(first), ranks(second)
            tau = kendall_tau([one[n] for n in names], [two[n] for n in names])
            taus += [] if tau is None else [tau]
    return mean(taus) if taus else None
