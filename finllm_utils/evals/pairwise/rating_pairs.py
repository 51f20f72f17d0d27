"""From blind verdicts on pairs of answers to pairs that the reward model trains on.

``rlhf.preference_formats.write_trl_pairs`` writes them, and ``reward.own_pairs`` takes
the file.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finllm_utils.annotation.judgements import Item, Judgement, settled
from finllm_utils.annotation.results import preference_pairs
from finllm_utils.evals.pairwise.comparisons import Comparisons, outcomes
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.preference_formats import require_pair


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Pairs for training and what gave none."""

    pairs: tuple[PreferencePair, ...]
    num_ties: int
    """Items on which most raters, or the median level, saw no difference."""
    num_split: int
    """Items on which no answer and no tie has more than half of the raters."""
    num_unusable: int
    """Items of which a side cannot be trained on: empty or garbled."""


def training_pairs(comparisons: Comparisons, judgements: Iterable[Judgement]) -> Export:
    """One preference an item, for ``write_trl_pairs`` and so for reward.own_pairs.

    Good, same, bad: the answer that more than half of the raters prefer; the margin is
    the share for it less the share against. Levels: the side of the median level, its
    margin a third of it, see ``annotation.results.preference_pairs``.
    Raises: as ``outcomes``: give one round of each rater.
    """
    judgements = [j for j in settled(judgements) if j.is_decision]
    outcomes(comparisons, judgements)  # says what is wrong with them
    by_item: dict[str, list[Judgement]] = {}
    for j in judgements:
        by_item.setdefault(j.item, []).append(j)
    known = {item.id: item for item in comparisons.items}
    pairs, counts = [], Counter()
    for key, own in by_item.items():
        graded = known[key].task == "graded"
        what, pair = _by_level(known[key], own) if graded else _by_vote(known[key], own)
        if pair is not None and not _usable(pair):
            what = "unusable"
        counts[what] += 1
        pairs += [pair] if what == "pair" else []
    return Export(
        pairs=tuple(pairs),
        num_ties=counts["tie"],
        num_split=counts["split"],
        num_unusable=counts["unusable"],
    )


def _by_level(
    item: Item, own: Sequence[Judgement]
) -> tuple[str, PreferencePair | None]:
    pairs = preference_pairs([item], own)
    return ("pair", pairs[0]) if pairs else ("tie", None)


def _by_vote(item: Item, own: Sequence[Judgement]) -> tuple[str, PreferencePair | None]:
    votes = Counter(j.verdict for j in own)
    better, most = votes.most_common(1)[0]
    if 2 * most <= len(own):
        return "split", None
    if better == "tie":
        return "tie", None
    worse = next(name for name in item.texts if name != better)
    kinds = " and ".join(sorted({j.rater_kind for j in own}))
    return "pair", PreferencePair(
        id=f"{item.id}/majority/{better}>{worse}",
        prompt=item.prompt,
        chosen=item.texts[better],
        rejected=item.texts[worse],
        source=f"majority of {kinds} raters",
        margin=(most - votes[worse]) / len(own),
    )


def _usable(pair: PreferencePair) -> bool:
    try:
        require_pair(pair, pair.id)
    except ValueError:
        return False
    return True
