"""Whether reward models that differ in their seed alone judge the same pairs alike.

Where they do not, a policy that pleases one of them has learnt that one's noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np

from finllm_utils.rlhf.preference_baselines import accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedAgreement:
    """How alike several reward models judge one set of pairs."""

    same_side: dict[tuple[int, int], float]
    """Share of pairs on which two seeds prefer the same side; a tie is a side too."""
    mean_same_side: float
    accuracy: dict[int, float]
    """Share of pairs judged right, by seed; a tie counts half."""


def seed_agreement(margins_by_seed: Mapping[int, Sequence[float]]) -> SeedAgreement:
    """Agreement of reward models on the same pairs, in the same order.

    Args: margins_by_seed, by seed, from ``reward_model.pair_margins``.
    Raises: ValueError for fewer than two seeds, no pair, or unequal numbers of pairs.
    """
    sizes = {seed: len(margins) for seed, margins in margins_by_seed.items()}
    if len(sizes) < 2 or len(set(sizes.values())) > 1 or not all(sizes.values()):
        raise ValueError(
            f"margins a seed: {sizes}; give two seeds or more, each with the margins "
            "of the same pairs, and at least one pair"
        )
    sides = {seed: np.sign(margins) for seed, margins in margins_by_seed.items()}
    same = {
        (a, b): float((sides[a] == sides[b]).mean())
        for a, b in combinations(sorted(sides), 2)
    }
    return SeedAgreement(
        same_side=same,
        mean_same_side=fmean(same.values()),
        accuracy={seed: accuracy(margins_by_seed[seed]) for seed in sorted(sides)},
    )
