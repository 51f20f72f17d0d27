"""Elo ratings, one verdict after the other, and how far they hang on the order.

Elo was made for players who change. A model does not, so its strength should not depend
on which verdict came last: ``elo_spread`` shows that it does, and by how much, which is
why the report uses ``bradley_terry``.
Source: Elo, The Rating of Chessplayers, Past and Present (1978), chapter 8.
"""

from collections.abc import Sequence

import numpy as np

from finllm_utils.evals.pairwise.bradley_terry import ELO_SCALE
from finllm_utils.evals.pairwise.comparisons import Outcome

K_FACTOR = 32.0
"""Points at stake in one verdict: a win against an equal moves a rating by half."""
BASE = 1000.0


def elo_curve(
    outcomes: Sequence[Outcome],
    names: Sequence[str],
    *,
    k_factor: float = K_FACTOR,
    base: float = BASE,
) -> np.ndarray:
    """(verdicts + 1, n): ratings before the first verdict and after each.

    A verdict moves the winner up by k_factor x (1 - expected score), a tie by
    k_factor x (0.5 - expected score), and the other down by as much.
    Raises: ValueError for a k_factor that is not positive or an unknown model.
    """
    if not 0 < k_factor < np.inf:
        raise ValueError(f"k_factor is {k_factor}: give points above 0, 32 is usual")
    place = {name: i for i, name in enumerate(names)}
    ratings = np.full(len(names), base)
    curve = [ratings]
    for o in outcomes:
        if not {o.first, o.second} <= place.keys():
            raise ValueError(f"{o.first} against {o.second}: not among {list(names)}")
        i, j = place[o.first], place[o.second]
        expected = 1 / (1 + np.exp((ratings[j] - ratings[i]) / ELO_SCALE))
        ratings = ratings.copy()
        ratings[i] += k_factor * (o.score - expected)
        ratings[j] -= k_factor * (o.score - expected)
        curve.append(ratings)
    return np.array(curve)


def elo_spread(
    outcomes: Sequence[Outcome],
    names: Sequence[str],
    *,
    num_orders: int,
    seed: int,
    k_factor: float = K_FACTOR,
    base: float = BASE,
) -> np.ndarray:
    """(num_orders, n): last ratings of the same verdicts in random orders."""
    random = np.random.default_rng(seed)
    last = []
    for _ in range(num_orders):
        shuffled = [outcomes[i] for i in random.permutation(len(outcomes))]
        curve = elo_curve(shuffled, names, k_factor=k_factor, base=base)
        last.append(curve[-1])
    return np.array(last)
