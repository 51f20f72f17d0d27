"""Several comparisons at once: which changes remain clear when many were looked at?

Of twenty models that are all alike, one differs "significantly" from the first at 5%.
Holm's correction keeps the chance that any such word is wrong below the level, whatever
the comparisons share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from finllm_utils.evals.statistics.bootstrap import Change

UNCLEAR = "no clear change"


@dataclass(frozen=True, slots=True)
class AdjustedChange:
    """A change, its exact p-value alone, and what remains among all comparisons.

    ``change.word`` looks at its own interval alone; ``word`` heeds the others too.
    """

    change: Change
    p_value: float
    adjusted_p: float
    word: str
    num_gained: int
    num_lost: int


def sign_test(num_gained: int, num_lost: int) -> float:
    """Two-sided exact p-value that items change for the better as often as the worse.

    On right and wrong this is McNemar's exact test. Items that stay are not counted.
    Example: 1 gained, 7 lost gives 2 * (1 + 8) / 256.
    Source: Conover, Practical Nonparametric Statistics, 3rd ed., sections 3.4 and 3.5.
    """
    if min(num_gained, num_lost) < 0:
        raise ValueError(f"{num_gained} gained and {num_lost} lost are no counts")
    total = num_gained + num_lost
    tail = sum(comb(total, k) for k in range(min(num_gained, num_lost) + 1))
    return min(1.0, 2 * tail / 2**total)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order.

    Example: 0.01, 0.04, 0.03 becomes 0.03, 0.06, 0.06.
    Source: Holm, Scand. J. Statist. 6 (1979), 65-70.
    """
    if odd := [p for p in p_values if not 0 <= p <= 1]:
        raise ValueError(f"{odd[0]} is no p-value: give numbers from 0 to 1")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
