"""Does a model choose an answer, or a place? Accuracy over shuffled options."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from finllm_utils.evals.exam.items import chosen_texts, shuffled
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.records import ExamItem


@dataclass(frozen=True, slots=True)
class InOrders:
    """One item with its options in several orders."""

    id: str
    orders: tuple[ExamItem, ...]


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


def in_orders(items: Sequence[ExamItem], seeds: Sequence[int]) -> list[InOrders]:
    """Each item in one order a seed.

    Raises: ValueError for fewer than two seeds.
    """
    if len(set(seeds)) < 2:
        raise ValueError(f"seeds={list(seeds)}: give at least two different ones")
    return [
        InOrders(item.id, tuple(shuffled(item, seed) for seed in seeds))
        for item in items
    ]


def in_every_order(
    score: Callable[[Sequence[ExamItem]], Sequence[ItemResult]],
    items: Sequence[InOrders],
    *,
    suite: str,
) -> list[ItemResult]:
    """One result an item, its credit the least over the orders.

    A model that knows the answer keeps it, one that likes a place loses it. ``given``
    has the chosen texts of each order; an item that failed in any order has failed.
    Args: score as in ``option_order_spread``.
    """
    found = []
    for column in _asked(score, items):
        item = column[0][0]
        failed = next((r for _, r in column if r.status != "scored"), None)
        found.append(
            ItemResult(
                suite=suite,
                model=column[0][1].model,
                item=item.id,
                credit=0.0 if failed else min(result.credit for _, result in column),
                group=item.subject,
                given="" if failed else "\n".join(_chosen(*pair) for pair in column),
                expected=" / ".join(sorted(chosen_texts(item, item.answer))),
                status=failed.status if failed else "scored",
                detail=failed.detail if failed else "",
            )
        )
    return found


def _chosen(moved: ExamItem, result: ItemResult) -> str:
    return " / ".join(sorted(chosen_texts(moved, result.given)))


def _asked(
    score: Callable[[Sequence[ExamItem]], Sequence[ItemResult]],
    items: Sequence[InOrders],
) -> list[tuple[tuple[ExamItem, ItemResult], ...]]:
    """Of each item, every order of it with what was said."""
    runs = [
        list(zip(moved, score(moved), strict=True))
        for moved in zip(*(item.orders for item in items), strict=True)
    ]
    return list(zip(*runs, strict=True))


def option_order_spread(
    score: Callable[[Sequence[ExamItem]], Sequence[ItemResult]],
    items: Sequence[ExamItem],
    seeds: Sequence[int],
) -> OrderSpread:
    """Scores ``items`` once for each seed's order of options and compares.

    Args: score answers items in their order, as ``score_exam(...).results`` does.
    Raises: ValueError for fewer than two seeds, or when no item was ever scored.
    """
    whole = [
        column
        for column in _asked(score, in_orders(items, seeds))
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
