"""Statistics that the benchmark ``evals`` computes on records: no model runs here."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np

from finllm_utils.evals.pairwise import bradley_terry as ours
from finllm_utils.evals.statistics.many_changes import UNCLEAR
from finllm_utils.evals.statistics.paired_scores import (
    Comparison,
    ItemScore,
    adjusted_changes,
)

NUM_BOOTSTRAP = 1_000


def false_alarms(
    credits: Mapping[str, Sequence[float]], repeats: int, seed: int
) -> dict[str, float]:
    """Share of repeats in which two models of equal ability are called different.

    Two ways to be equal: one model's credits on disjoint halves of the items
    (``halves``), and two models that exchange names item by item at random (``swapped``).
    Two verdicts: of the bootstrap interval alone (``interval``), and of the exact test
    that reports go by (``report``).
    Args: credits by model, all on the same items.
    """
    rng = np.random.default_rng(seed)
    names, alarms = sorted(credits), Counter()
    for repeat in range(repeats):
        values = rng.permutation(credits[names[repeat % len(names)]])
        half = len(values) // 2
        alarms.update(_alarms("halves", values[:half], values[half : 2 * half]))
        first, second = (np.asarray(credits[n]) for n in rng.permutation(names)[:2])
        swap = rng.random(len(first)) < 0.5
        one, other = np.where(swap, first, second), np.where(swap, second, first)
        alarms.update(_alarms("swapped", one, other))
    return {
        f"{way}.{verdict}": alarms[f"{way}.{verdict}"] / repeats
        for way in ("halves", "swapped")
        for verdict in ("interval", "report")
    }


def _alarms(way: str, first: Sequence[float], second: Sequence[float]) -> list[str]:
    found = verdicts({"credits": (credit_scores(first), credit_scores(second), False)})
    change = found["credits"]
    words = {"interval": change.change.word, "report": change.word}
    return [f"{way}.{name}" for name, word in words.items() if word != UNCLEAR]


def credit_scores(credits: Sequence[float]) -> list[ItemScore]:
    """Credits as items named by their place."""
    return [ItemScore(item=f"{i:06}", value=float(c)) for i, c in enumerate(credits)]


def verdicts(
    measures: Mapping[str, tuple[list[ItemScore], list[ItemScore], bool]],
) -> dict:
    """What the report says of (before, after, lower is better), all taken together."""
    compared = {name: Comparison(*one) for name, one in measures.items()}
    return adjusted_changes(compared, num_bootstrap=NUM_BOOTSTRAP, seed=0)


def permuted_answers(number: int, seed: int) -> list[int]:
    """For each question the index of another one's answer: nobody keeps the own.

    Raises: ValueError for fewer than two.
    """
    if number < 2:
        raise ValueError(f"{number} answers cannot change places")
    order = np.random.default_rng(seed).permutation(number)
    found = np.empty(number, int)
    found[order] = np.roll(order, 1)
    return found.tolist()


def bradley_terry_difference(models: int, trials: int, seed: int) -> float:
    """Largest difference of a log strength to choix over random tables of wins."""
    import choix

    rng, largest = np.random.default_rng(seed), 0.0
    names = [f"model {i}" for i in range(models)]
    for _ in range(trials):
        wins = rng.integers(1, 30, (models, models))
        np.fill_diagonal(wins, 0)
        data = [
            pair for pair in permutations(range(models), 2) for _ in range(wins[pair])
        ]
        theirs = choix.ilsr_pairwise(models, data, tol=1e-12)
        fit = ours.bradley_terry(wins, names=names).log_strengths
        largest = max(largest, float(np.abs(fit - theirs).max()))
    return largest
