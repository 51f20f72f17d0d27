"""From blind verdicts on pairs of answers to results.

How often each model won, by how much, how far raters agree, and how far they go by the
place or the length of an answer and not by what it says. Works on
``comparisons.outcomes``; all intervals resample prompts, since the verdicts on one
prompt hang together.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np

from finllm_utils.annotation.agreement import Agreement, agreement, cohen_kappa
from finllm_utils.annotation.judgements import Judgement, settled
from finllm_utils.evals.pairwise.comparisons import Comparisons, Outcome
from finllm_utils.evals.statistics.bootstrap import (
    Change,
    bootstrap_ratio,
    paired_change,
    percentiles,
    resamples,
)
from finllm_utils.intervals import Interval, wilson_interval

FIRST, SECOND, TIE = "first", "second", "tie"
WHOLE = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class GoodSameBad:
    """How one model fared against another."""

    model: str
    rival: str
    good: int
    """Verdicts for ``model``."""
    same: int
    bad: int
    num_prompts: int
    win_rate: float
    """(good + same / 2) / verdicts."""
    interval: Interval
    """Wilson's, counting prompts and not verdicts: raters repeat each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionBias:
    """Whether raters go by the place."""

    share_first: float
    """Of verdicts that prefer a side: for the text shown first, 0-1. Fair is 0.5."""
    interval: Interval
    num_decided: int
    num_verdicts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionEffect:
    """What the place does to one model's win rate."""

    shown_first: float
    shown_second: float
    balanced: float
    """Mean of the two: the win rate had each place been used equally often."""
    gap: float
    """shown_first - shown_second."""
    gap_interval: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthBias:
    """Whether raters go by the length."""

    share_longer: float
    """Of verdicts that prefer one of two texts of different length: the longer, 0-1."""
    interval: Interval
    num_decided: int


@dataclass(frozen=True, kw_only=True, slots=True)
class KappaResult:
    """How two groups of raters agree on the pairs that both judged."""

    num_pairs: int
    equal_share: float
    kappa: float | None
    """Cohen's, on better, worse or tie; None when both used one word only."""
    interval: Interval | None
    kinds: tuple[str, str]
    """Who stands on each side: "human", "model" or "human and model"."""


def good_same_bad(
    found: Iterable[Outcome], model: str, rival: str, *, level: float = 0.95
) -> GoodSameBad:
    """The counts of ``model`` against ``rival``; levels A0 and B0 are "same".

    Raises: ValueError when the two were never compared.
    """
    own = _between(found, model, rival)
    counts = Counter(_score(o, model) for o in own)
    prompts = len({o.prompt for o in own})
    rate = mean(_score(o, model) for o in own)
    return GoodSameBad(
        model=model,
        rival=rival,
        good=counts[1.0],
        same=counts[0.5],
        bad=counts[0.0],
        num_prompts=prompts,
        win_rate=rate,
        interval=wilson_interval(rate * prompts, prompts, level),
    )


def level_mean(
    found: Iterable[Outcome], model: str, rival: str, *, num_bootstrap: int, seed: int
) -> Change:
    """Mean level of ``model`` over ``rival``, -3 to 3, with a paired interval.

    Each prompt counts once, with the mean of its raters; a level 0 counts 0.5, as in
    ``signed_strength``. "better" means that the interval lies above 0.
    Raises: ValueError for verdicts without levels.
    """
    by_prompt: dict[str, list[float]] = {}
    for o in _between(found, model, rival):
        if o.strength is None:
            raise ValueError("good, same, bad has no levels: compare with scale=levels")
        sign = 1 if o.first == model else -1
        by_prompt.setdefault(o.prompt, []).append(sign * o.strength)
    means = [mean(values) for values in by_prompt.values()]
    return paired_change(
        [0.0] * len(means),
        means,
        lower_is_better=False,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )


def position_bias(
    found: Iterable[Outcome], *, num_bootstrap: int, seed: int
) -> PositionBias:
    """How often the text shown first wins; level 0 names a side and counts.

    Raises: ValueError when no verdict prefers a side.
    """
    asked = [o for o in found if o.shown_first is not None]
    decided = [o for o in asked if o.side]
    hits = [(o.side == 1) == o.shown_first for o in decided]
    share, interval = _share_by_prompt(decided, hits, num_bootstrap, seed)
    return PositionBias(
        share_first=share,
        interval=interval,
        num_decided=len(decided),
        num_verdicts=len(asked),
    )


def length_bias(
    found: Iterable[Outcome], *, num_bootstrap: int, seed: int
) -> LengthBias:
    """How often the longer text wins, by characters.

    A share above one half may also mean that the longer answers are the better ones:
    read it beside the position bias and a sample of the pairs.
    Raises: ValueError when no verdict prefers one of two lengths.
    """
    decided = [o for o in found if o.side and o.num_chars[0] != o.num_chars[1]]
    hits = [(o.side == 1) == (o.num_chars[0] > o.num_chars[1]) for o in decided]
    share, interval = _share_by_prompt(decided, hits, num_bootstrap, seed)
    return LengthBias(share_longer=share, interval=interval, num_decided=len(decided))


def position_effect(
    found: Iterable[Outcome], model: str, rival: str, *, num_bootstrap: int, seed: int
) -> PositionEffect:
    """The win rate of ``model`` when its answer was shown first and when second.

    Resamples in which one place does not occur are left out of the interval.
    Raises: ValueError when it was never shown in one of the places.
    """
    own = [o for o in _between(found, model, rival) if o.shown_first is not None]
    prompts = list(dict.fromkeys(o.prompt for o in own))
    sums = np.zeros((2, 2, len(prompts)))  # place first or second; score, verdicts
    for o in own:
        place = 0 if o.shown_first == (o.first == model) else 1
        sums[place, :, prompts.index(o.prompt)] += _score(o, model), 1
    totals = sums.sum(2)
    if not totals[:, 1].all():
        raise ValueError(f"{model} was always shown in one place: judge more pairs")
    first, second = totals[:, 0] / totals[:, 1]
    drawn = sums @ resamples(len(prompts), num_bootstrap, seed).T
    usable = drawn[:, 1].all(axis=0)
    rates = drawn[:, 0, usable] / drawn[:, 1, usable]
    return PositionEffect(
        shown_first=float(first),
        shown_second=float(second),
        balanced=float(first + second) / 2,
        gap=float(first - second),
        gap_interval=percentiles(rates[0] - rates[1], 0.95),
    )


def agreement_by_group(
    comparisons: Comparisons, judgements: Iterable[Judgement]
) -> dict[str, Agreement]:
    """Agreement of the raters over all pairs, under "all", and in each group.

    Models are renamed to first and second by name before: with several pairs of models
    their names would count as labels that no other pair can have, and chance would seem
    smaller than it is. Groups with no pair judged by two raters are left out.
    Raises: ValueError for judgements of several rounds, or no pair with two verdicts.
    """
    renamed = [_renamed(j) for j in settled(judgements) if j.is_decision]
    found = {WHOLE: agreement(renamed)}
    group_of = {item.id: item.reason for item in comparisons.items}
    for group in sorted(set(group_of.values()) - {""}):
        own = [j for j in renamed if group_of[j.item] == group]
        if max(Counter(j.item for j in own).values(), default=0) > 1:
            found[group] = agreement(own)
    return found


def kappa_between(
    ours: Iterable[Outcome], theirs: Iterable[Outcome], *, num_bootstrap: int, seed: int
) -> KappaResult:
    """How far two groups of raters agree, a model judge and people for example.

    Each group's verdict on a pair is what more than half of it says, else a tie. Pairs
    that nobody was asked about, their answers being equal, are left out.
    Raises: ValueError when no pair was judged by both.
    """
    ours, theirs = list(ours), list(theirs)
    one, other = _majorities(ours), _majorities(theirs)
    shared = [key for key in one if key in other]
    if not shared:
        raise ValueError("no pair was judged by both: give them the same comparisons")
    labels = [(one[key], other[key]) for key in shared]
    kappa = cohen_kappa(*zip(*labels, strict=True))
    prompts = list(dict.fromkeys(key[0] for key in shared))
    rows = [[i for i, key in enumerate(shared) if key[0] == p] for p in prompts]
    draws = []
    for counts in resamples(len(prompts), num_bootstrap, seed):
        chosen = [
            labels[i]
            for count, row in zip(counts.astype(int), rows, strict=True)
            for i in row * count
        ]
        draws.append(cohen_kappa(*zip(*chosen, strict=True)))
    known = np.array([k for k in draws if k is not None])
    return KappaResult(
        num_pairs=len(shared),
        equal_share=mean(a == b for a, b in labels),
        kappa=kappa,
        interval=percentiles(known, 0.95) if kappa is not None else None,
        kinds=(_kinds(ours), _kinds(theirs)),
    )


def _between(found: Iterable[Outcome], model: str, rival: str) -> list[Outcome]:
    own = [o for o in found if {o.first, o.second} == {model, rival}]
    if not own or model == rival:
        raise ValueError(f"no verdict on {model} against {rival}")
    return own


def _score(outcome: Outcome, model: str) -> float:
    return outcome.score if outcome.first == model else 1 - outcome.score


def _share_by_prompt(
    decided: Sequence[Outcome], hits: Sequence[bool], num_bootstrap: int, seed: int
) -> tuple[float, Interval]:
    if not decided:
        raise ValueError("no verdict prefers one of the texts: all are ties")
    by_prompt: dict[str, list[bool]] = {}
    for outcome, hit in zip(decided, hits, strict=True):
        by_prompt.setdefault(outcome.prompt, []).append(hit)
    interval = bootstrap_ratio(
        [sum(h) for h in by_prompt.values()],
        [len(h) for h in by_prompt.values()],
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    return mean(hits), interval


def _renamed(j: Judgement) -> Judgement:
    first, second = sorted(j.shown)
    names = {first: FIRST, second: SECOND, "tie": TIE}
    verdict = j.verdict
    verdict = names[verdict] if j.task == "ab" else (names[verdict[0]], verdict[1])
    return replace(j, shown=tuple(names[s] for s in j.shown), verdict=verdict)


def _majorities(found: Iterable[Outcome]) -> dict[tuple[str, str, str], str]:
    """(prompt, first, second) -> first, second or tie, of pairs that were shown."""
    votes: dict[tuple[str, str, str], Counter] = {}
    for o in found:
        if o.shown_first is not None:
            word = {1.0: FIRST, 0.5: TIE, 0.0: SECOND}[o.score]
            key = (o.prompt, o.first, o.second)
            votes.setdefault(key, Counter())[word] += 1
    return {key: _majority(counts) for key, counts in votes.items()}


def _majority(votes: Counter) -> str:
    word, most = votes.most_common(1)[0]
    return word if 2 * most > votes.total() else TIE


def _kinds(found: Iterable[Outcome]) -> str:
    return " and ".join(sorted({o.rater_kind for o in found}))
