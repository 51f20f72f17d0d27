"""How sure a figure is: bootstrap over documents or items.

Pure functions on arrays. A comparison of two models on the same items is always paired:
the same resample serves both, so what makes an item hard for both cancels out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from finllm_utils.intervals import Interval


@dataclass(frozen=True, slots=True)
class Change:
    """A difference (after minus before) with its interval and one word for it."""

    value: float
    interval: Interval
    word: str
    """better, worse or no clear change."""


def bootstrap_ratio(
    numerators: Sequence[float],
    denominators: Sequence[float] | None = None,
    *,
    num_bootstrap: int,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of sum(numerators) / sum(denominators) over resampled items.

    Args: denominators default to ones, which makes the ratio a mean.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    top = np.asarray(numerators, dtype=np.float64)
    bottom = np.ones_like(top) if denominators is None else np.asarray(denominators)
    counts = resamples(len(top), num_bootstrap, seed)
    return percentiles((counts @ top) / (counts @ bottom), level)


def paired_change(
    before: Sequence[float],
    after: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    lower_is_better: bool,
    num_bootstrap: int,
    seed: int,
    level: float = 0.95,
) -> Change:
    """Change of sum(x) / sum(weights) from ``before`` to ``after`` on the same items.

    The word is "better" or "worse" only when the interval excludes zero.
    Raises: ValueError when the two do not pair.
    """
    first, second = np.asarray(before, float), np.asarray(after, float)
    if first.shape != second.shape:
        raise ValueError(
            f"{len(first)} and {len(second)} items do not pair: score the same items"
        )
    bottom = np.ones_like(first) if weights is None else np.asarray(weights, float)
    counts = resamples(len(first), num_bootstrap, seed)
    gap = second - first
    low, high = percentiles((counts @ gap) / (counts @ bottom), level)
    word = "no clear change"
    if high < 0 or low > 0:
        word = "better" if (high < 0) == lower_is_better else "worse"
    return Change(float(gap.sum() / bottom.sum()), (low, high), word)


@lru_cache(maxsize=2)  # measures of one test set, and several levels of one measure
def resamples(num_items: int, num_bootstrap: int, seed: int) -> np.ndarray:
    """(num_bootstrap, num_items): how often each resample draws each item.

    Raises: ValueError for no item or no resample.
    """
    if num_items == 0 or num_bootstrap < 1:
        raise ValueError(
            f"{num_items} items and {num_bootstrap} resamples give no interval"
        )
    random = np.random.default_rng(seed)
    shares = np.full(num_items, 1 / num_items)
    counts = random.multinomial(num_items, shares, size=num_bootstrap).astype(
        np.float64
    )
    counts.setflags(write=False)
    return counts


def percentiles(values: np.ndarray, level: float) -> Interval:
    """The middle ``level`` of ``values`` (resamples,)."""
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
