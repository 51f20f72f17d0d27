"""Scores an item: what every figure of the report card is made of and compared by.

One shape for both kinds of measure: credit in [0, 1] with weight 1, and nats of a
document with its bytes (times ln 2) as weight, so a figure is sum(value) / sum(weight).
An item that failed has no value: it is counted and never compared.
"""

import hashlib
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np

from finllm_utils.evals.statistics.bootstrap import (
    Change,
    bootstrap_ratio,
    paired_change,
)
from finllm_utils.evals.statistics.item_results import ItemResult, SuiteScore
from finllm_utils.evals.statistics.many_changes import (
    UNCLEAR,
    AdjustedChange,
    holm,
    sign_test,
)

Key = TypeVar("Key", bound=Hashable)
EXACT = 12  # items that moved, up to which all 2^n signs are tried


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemScore:
    """One model on one item; texts are kept so that a reader can look at what changed.

    Raises: ValueError for a value that is not finite, a weight that is not above 0, or
    a missing value without a reason in ``detail``.
    """

    item: str
    value: float | None
    weight: float = 1.0
    question: str = ""
    given: str = ""
    expected: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if self.value is None and not self.detail:
            raise ValueError(f"{self.item}: no value and no reason; say why it failed")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.item}: {self.value} is no score; let it be None")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"{self.item}: weight {self.weight} is not above 0")


def item_scores(
    results: Sequence[ItemResult], questions: Mapping[str, str] | None = None
) -> list[ItemScore]:
    """A suite's records of one model. Args: questions by item, shown with examples."""
    return [
        ItemScore(
            item=one.item,
            value=one.credit if one.status == "scored" else None,
            question=(questions or {}).get(one.item, ""),
            given=one.given,
            expected=one.expected,
            detail=one.detail,
        )
        for one in results
    ]


def document_scores(
    ids: Sequence[str], nats: Sequence[float], num_bytes: Sequence[int]
) -> list[ItemScore]:
    """Nats of documents; their figure is bits per byte. Nats not finite have failed.

    Args: as ``BitsPerByte`` keeps them, ids in the same order.
    """
    return [
        ItemScore(
            item=name,
            value=float(total) if math.isfinite(total) else None,
            weight=size * math.log(2),
            detail="" if math.isfinite(total) else f"{total} nats",
        )
        for name, total, size in zip(ids, nats, num_bytes, strict=True)
    ]


def figure_of(
    scores: Sequence[ItemScore], *, num_bootstrap: int, seed: int, level: float = 0.95
) -> SuiteScore:
    """sum(value) / sum(weight) of the scored items, with a bootstrap interval."""
    kept = [one for one in scores if one.value is not None]
    failed = len(scores) - len(kept)
    if not kept:
        return SuiteScore(None, None, 0, failed)
    values, weights = [one.value for one in kept], [one.weight for one in kept]
    interval = bootstrap_ratio(
        values, weights, num_bootstrap=num_bootstrap, seed=seed, level=level
    )
    return SuiteScore(sum(values) / sum(weights), interval, len(kept), failed)


def items_digest(scores: Sequence[ItemScore]) -> str:
    """SHA-256 of what was asked, in any order: items, questions and weights.

    Raises: ValueError when an item stands twice.
    """
    names = [one.item for one in scores]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"item {twice!r} stands twice")
    lines = sorted(f"{one.item}\0{one.question}\0{one.weight:.9g}\n" for one in scores)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def shared_items(
    before: Sequence[ItemScore], after: Sequence[ItemScore]
) -> list[tuple[ItemScore, ItemScore]]:
    """The items that both were scored on, in the order of their names.

    Raises: ValueError when one name stands for two items: other weight or answer.
    """
    later = {one.item: one for one in after if one.value is not None}
    pairs = [
        (one, later[one.item])
        for one in sorted(before, key=lambda score: score.item)
        if one.value is not None and one.item in later
    ]
    for first, second in pairs:
        same_weight = math.isclose(first.weight, second.weight)
        if not same_weight or first.expected != second.expected:
            raise ValueError(
                f"item {first.item!r} is not the same in both: expected "
                f"{first.expected!r} and {second.expected!r}, weight "
                f"{first.weight:g} and {second.weight:g}"
            )
    return pairs


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models' scores on one measure."""

    before: Sequence[ItemScore]
    after: Sequence[ItemScore]
    lower_is_better: bool


def adjusted_changes(
    comparisons: Mapping[Key, Comparison],
    *,
    num_bootstrap: int,
    seed: int,
    level: float = 0.95,
) -> dict[Key, AdjustedChange]:
    """Every change with a word that holds for all of them together.

    The p-value is of the figure itself (sign flips), Holm's correction covers all.
    Comparisons without a shared scored item are left out.
    Raises: ValueError naming the comparison whose items are not the same.
    """
    found: dict[Key, tuple[Change, np.ndarray, bool]] = {}
    for key, one in comparisons.items():
        try:
            pairs = shared_items(one.before, one.after)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
        if not pairs:
            continue
        first = np.array([a.value for a, _ in pairs])
        second = np.array([b.value for _, b in pairs])
        change = paired_change(
            first,
            second,
            [a.weight for a, _ in pairs],
            lower_is_better=one.lower_is_better,
            num_bootstrap=num_bootstrap,
            seed=seed,
            level=level,
        )
        found[key] = (change, second - first, one.lower_is_better)
    p_values = [sign_flip_test(gaps) for _, gaps, _ in found.values()]
    return {
        key: _adjusted(change, gaps, lower, p, adjusted, level)
        for (key, (change, gaps, lower)), p, adjusted in zip(
            found.items(), p_values, holm(p_values), strict=True
        )
    }


def sign_flip_test(gaps: Sequence[float]) -> float:
    """Two-sided p-value of a sum of paired differences, were their signs by chance.

    Equal sizes (right and wrong): McNemar's exact test. Up to 12 items that moved: all
    signs tried. More: the normal distribution of such sums.
    Example: gaps 1, 2, 3 reach |sum| = 6 in 2 of 8 ways: 0.25.
    Source: Good, Permutation, Parametric and Bootstrap Tests, 3rd ed., section 3.2.
    """
    moved = np.array([gap for gap in gaps if gap], float)
    sizes = np.abs(moved)
    if not len(moved):
        return 1.0
    if np.allclose(sizes, sizes[0], rtol=1e-9, atol=0):
        return sign_test(int((moved > 0).sum()), int((moved < 0).sum()))
    total = abs(moved.sum())
    if len(moved) <= EXACT:
        sums = np.array(list(product((-1, 1), repeat=len(moved)))) @ sizes
        return float(np.mean(np.abs(sums) >= total * (1 - 1e-9)))
    return math.erfc(total / math.sqrt(2 * (sizes**2).sum()))


def word_for(value: float, clear: bool, lower_is_better: bool) -> str:
    """better, worse or no clear change."""
    if not clear or value == 0:
        return UNCLEAR
    return "better" if (value < 0) == lower_is_better else "worse"


def _adjusted(
    change: Change,
    gaps: np.ndarray,
    lower: bool,
    p: float,
    adjusted: float,
    level: float,
) -> AdjustedChange:
    up, down = int((gaps > 0).sum()), int((gaps < 0).sum())
    gained, lost = (down, up) if lower else (up, down)
    word = word_for(change.value, adjusted <= 1 - level, lower)
    return AdjustedChange(change, p, adjusted, word, gained, lost)
