"""Did a model learn the exam, or what the exam asks about? Items against paraphrases.

Knowledge answers a question however it is worded; a leaked item is answered as it was
printed. So a stage is flagged when it rises on the items and clearly less on their
paraphrases (other words, other order of choices, same figures). What it cannot see: a
leak of items and paraphrases alike, or one that raised nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finllm_utils.evals.statistics.bootstrap import Change, paired_change
from finllm_utils.evals.statistics.item_results import ItemResult


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What changed on the suspected items, their paraphrases and, if given, others."""

    items: Change
    paraphrases: Change
    excess: Change
    """Rise on an item minus rise on its paraphrase, paired by item."""
    others: Change | None
    num_items: int
    num_failed: int
    """Items left out, since one of their four answers could not be scored."""

    @property
    def flagged(self) -> bool:
        """Clearly better on the items, and clearly more so than on paraphrases."""
        return self.items.word == "better" == self.excess.word

    def sentence(self) -> str:
        """The verdict with its figures, for a report."""
        verdict = "leaked" if self.flagged else "no sign of a leak"
        parts = [("items", self.items), ("paraphrases", self.paraphrases)]
        parts += [("other items", self.others)] if self.others else []
        shown = ", ".join(f"{name} {_shown(change)}" for name, change in parts)
        return (
            f"{verdict}: {shown}; items over paraphrases {_shown(self.excess)} "
            f"({self.num_items} items)"
        )


def leak_report(
    items_before: Sequence[ItemResult],
    items_after: Sequence[ItemResult],
    paraphrases_before: Sequence[ItemResult],
    paraphrases_after: Sequence[ItemResult],
    *,
    num_bootstrap: int,
    seed: int,
    others_before: Sequence[ItemResult] = (),
    others_after: Sequence[ItemResult] = (),
) -> LeakReport:
    """Compares the two rises; a paraphrase has the id of its item.

    Args: others are items that nobody suspects, for the eye: the flag leaves them out.
    Raises: ValueError when an item stands twice, no item was scored all four times, or
    others came from one side only.
    """
    sides = (items_before, items_after, paraphrases_before, paraphrases_after)
    credits = [_credits(side) for side in sides]
    shared = sorted(set.intersection(*map(set, credits)))
    if not shared:
        raise ValueError(
            "no item was scored before and after, itself and its paraphrase: give "
            "results of the same items under the same ids"
        )
    first, second, third, fourth = ([one[i] for i in shared] for one in credits)
    how = dict(lower_is_better=False, num_bootstrap=num_bootstrap, seed=seed)
    rises = [b - a for a, b in zip(first, second, strict=True)]
    reworded = [b - a for a, b in zip(third, fourth, strict=True)]
    every = {one.item for side in sides for one in side}
    return LeakReport(
        items=paired_change(first, second, **how),
        paraphrases=paired_change(third, fourth, **how),
        excess=paired_change(reworded, rises, **how),
        others=_others(others_before, others_after, how),
        num_items=len(shared),
        num_failed=len(every) - len(shared),
    )


def _others(
    before: Sequence[ItemResult], after: Sequence[ItemResult], how: Mapping
) -> Change | None:
    if not before and not after:
        return None
    first, second = _credits(before), _credits(after)
    shared = [item for item in first if item in second]
    if not shared:
        raise ValueError("the other items share no scored one: score them twice")
    return paired_change([first[i] for i in shared], [second[i] for i in shared], **how)


def _credits(results: Sequence[ItemResult]) -> dict[str, float]:
    found: dict[str, float] = {}
    seen: set[str] = set()
    for one in results:
        if one.item in seen:
            raise ValueError(
                f"item {one.item!r} stands twice: give one model's results"
            )
        seen.add(one.item)
        if one.status == "scored":
            found[one.item] = one.credit
    return found


def _shown(change: Change) -> str:
    low, high = change.interval
    return f"{change.value:+.3f} [{low:+.3f}, {high:+.3f}]"
