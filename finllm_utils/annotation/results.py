"""From verdicts to what the course uses: precision, preference pairs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from finllm_utils.annotation.agreement import ranks, signed_strength
from finllm_utils.annotation.judgements import MAX_STRENGTH, Item, Judgement, settled
from finllm_utils.intervals import wilson_interval
from finllm_utils.records import PreferencePair

KEPT = "kept"
"""The reason of items that no filter dropped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """How often raters of one kind agree with what a filter did."""

    reason: str
    rater_kind: str
    num_right: int
    num_judged: int
    share: float
    low: float
    high: float


def judged_items(records: Iterable[Judgement]) -> set[str]:
    """Ids that anyone judged, accepted or rejected in any round."""
    return {j.item for j in settled(records) if j.is_decision}


def precision_with_interval(
    judgements: Iterable[Judgement], level: float = 0.95
) -> list[Precision]:
    """Precision of each reason with Wilson's interval, by reason.

    Right means: the rater drops what a filter dropped, or keeps what was kept.
    Raises: ValueError for other tasks, raters of both kinds, or two verdicts on one
    item: give one rater's judgements.
    """
    verdicts = [j for j in judgements if j.is_decision]
    _require_one_verdict_an_item(verdicts)
    by_reason: dict[str, list[bool]] = {}
    for j in verdicts:
        right = "keep" if j.reason == KEPT else "drop"
        by_reason.setdefault(j.reason, []).append(j.verdict == right)
    rows = []
    for reason, hits in sorted(by_reason.items()):
        low, high = wilson_interval(sum(hits), len(hits), level)
        rows.append(
            Precision(
                reason=reason,
                rater_kind=verdicts[0].rater_kind,
                num_right=sum(hits),
                num_judged=len(hits),
                share=sum(hits) / len(hits),
                low=low,
                high=high,
            )
        )
    return rows


def _require_one_verdict_an_item(verdicts: Sequence[Judgement]) -> None:
    seen: set[str] = set()
    for j in verdicts:
        if j.task != "keep_drop":
            raise ValueError(f"item {j.item}: precision needs keep_drop, not {j.task}")
        if j.rater_kind != verdicts[0].rater_kind:
            raise ValueError("a model's and a person's judgements make no one figure")
        if j.item in seen:
            raise ValueError(
                f"item {j.item} has two verdicts: give the judgements of one rater"
            )
        seen.add(j.item)


def preference_pairs(
    items: Sequence[Item], judgements: Iterable[Judgement]
) -> list[PreferencePair]:
    """Every "better than" in A/B verdicts and rankings; ties give no pair.

    A ranking of 4 gives up to 6 pairs of one prompt: keep them on one side of a split.
    ``margin`` is the distance of the places over the largest possible, ``source`` the
    rater's kind and name.

    Graded verdicts come last, one pair an item: all its raters count once, in the
    median of ``signed_strength``. A median below level 1 gives no pair, as XuanYuan's
    report leaves out A0 and B0; the margin of the others is its size over 3, from 1/3
    to 1. ``source`` names the raters' kinds, as "graded by model raters".
    Raises: ValueError for a judgement of an unknown item or of another text, and for
    two graded verdicts of one rater on one item.
    """
    known = {item.id: item for item in items}
    pairs = []
    graded: dict[str, list[Judgement]] = {}
    for j in settled(judgements):
        if not j.is_decision:
            continue
        item = item_of(known, j)
        if j.task == "graded":
            graded.setdefault(j.item, []).append(j)
        else:
            pairs += _pairs_of(item, j)
    combined = (_graded_pair(known[key], verdicts) for key, verdicts in graded.items())
    return pairs + [pair for pair in combined if pair is not None]


def item_of(known: Mapping[str, Item], j: Judgement) -> Item:
    """The item of ``known``, id -> item, that a judgement is of.

    Raises: ValueError when it is not there, or has other texts than were judged.
    """
    item = known.get(j.item)
    if item is None:
        problem = "is not among the items"
    elif item.sha256 != j.text_sha256:
        problem = "has another text now"
    elif sorted(item.texts) != sorted(j.shown):
        problem = "has other sources than were shown"
    else:
        return item
    raise ValueError(f"item {j.item} {problem}: take the judgements from replay()")


def _graded_pair(item: Item, verdicts: Sequence[Judgement]) -> PreferencePair | None:
    """The preference of all raters together; None when it is below level 1."""
    raters: set[str] = set()
    for j in verdicts:
        if j.rater in raters:
            raise ValueError(
                f"item {item.id} has two verdicts of {j.rater}: give one round of each "
                "rater"
            )
        raters.add(j.rater)
    strength = median(map(signed_strength, verdicts))
    if abs(strength) < 1:
        return None
    better, worse = sorted(item.texts, reverse=strength < 0)
    kinds = " and ".join(sorted({j.rater_kind for j in verdicts}))
    return PreferencePair(
        id=f"{item.id}/graded/{better}>{worse}",
        prompt=item.prompt,
        chosen=item.texts[better],
        rejected=item.texts[worse],
        source=f"graded by {kinds} raters",
        margin=abs(strength) / MAX_STRENGTH,
    )


def _pairs_of(item: Item, j: Judgement) -> list[PreferencePair]:
    if j.task == "ab":
        losers = [name for name in j.shown if name != j.verdict]
        place = {} if j.verdict == "tie" else {j.verdict: 0, losers[0]: 1}
    elif j.task == "rank":
        place = ranks(j)
    else:
        raise ValueError(f"item {j.item}: the task {j.task} compares no texts")
    return [
        PreferencePair(
            id=f"{j.item}/{j.rater}/{better}>{worse}",
            prompt=item.prompt,
            chosen=item.texts[better],
            rejected=item.texts[worse],
            source=f"{j.rater_kind}:{j.rater}",
            margin=(place[worse] - place[better]) / (len(j.shown) - 1),
        )
        for better in sorted(place)
        for worse in sorted(place)
        if place[better] < place[worse]
    ]


def first_side_share(judgements: Iterable[Judgement]) -> float | None:
    """How often the text shown first won, among A/B verdicts that are no tie.

    Graded verdicts count too, level 0 as well: it names a side. Far from one half, the
    rater looks at the side and not at the text.
    """
    sides = [first_side_won(j) for j in judgements if j.action == "judge"]
    wins = [won for won in sides if won is not None]
    return sum(wins) / len(wins) if wins else None


def first_side_won(judgement: Judgement) -> bool | None:
    """Whether the text shown first won; None for a tie and for other tasks."""
    if judgement.task not in ("ab", "graded"):
        return None
    task, verdict = judgement.task, judgement.verdict
    better = verdict if task == "ab" else verdict[0]
    return None if better == "tie" else better == judgement.shown[0]
