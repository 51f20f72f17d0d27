"""Does a model choose an answer, or a place? Accuracy over shuffled options."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from finllm_utils.evals.exam import chosen_texts, shuffled
from finllm_utils.evals.item_results import ItemResult
from finllm_utils.records import ExamItem


@dataclass(frozen=True, slots=True)
class OrderSpread:
    """Accuracy over several orders of the options, on items scored in all of them."""

    mean: float
    std: float
    """Sample standard deviation of the accuracies."""
    share_changed: float
    """Of the items, those whose chosen texts are not the same in every order; an answer
    that nobody could read chooses nothing."""
    accuracies: tuple[float, ...]
    num_items: int
    num_failed: int
    """Items left out since at least one order could not be scored."""


def option_order_spread(
    score: Callable[[Sequence[ExamItem]], Sequence[ItemResult]],
    items: Sequence[ExamItem],
    seeds: Sequence[int],
) -> OrderSpread:
    """Scores ``items`` once for each seed's order of options and compares.

    Args: score answers items in their order, as ``score_exam(...).results`` does.
    Raises: ValueError for fewer than two seeds, or when no item was ever scored.
    """
    if len(set(seeds)) < 2:
        raise ValueError(f"seeds={list(seeds)}: give at least two different ones")
    runs = []
    for seed in seeds:
        moved = [shuffled(item, seed) for item in items]
        runs.append(list(zip(moved, score(moved), strict=True)))
    whole = [
        column
        for column in zip(*runs, strict=True)
        if all(result.status == "scored" for _, result in column)
    ]
    if not whole:
        raise ValueError("no item was scored in every order: nothing to compare")
    changed = [
        len({chosen_texts(item, result.given) for item, result in column}) > 1
        for column in whole
    ]
    accuracies = tuple(
        fmean(result.credit for _, result in run) for run in zip(*whole, strict=True)
    )
    return OrderSpread(
        mean=fmean(accuracies),
        std=stdev(accuracies),
        share_changed=fmean(changed),
        accuracies=accuracies,
        num_items=len(whole),
        num_failed=len(items) - len(whole),
    )
