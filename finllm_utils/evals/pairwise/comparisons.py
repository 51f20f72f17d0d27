"""Answers of several models to the same prompts, as pairs that are judged blind.

``build_comparisons`` makes the items, the annotation card or ``model_judge`` takes the
verdicts, and ``outcomes`` gives back who won: the table that ``ratings`` and
``bradley_terry`` work on. Whoever judges sees the prompt and two texts, no model.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from finllm_utils.annotation.agreement import signed_strength
from finllm_utils.annotation.judgements import Item, Judgement, seeded_order, settled
from finllm_utils.annotation.results import item_of
from finllm_utils.annotation.session import Session
from finllm_utils.records import numbered_lines
from finllm_utils.rlhf.preference_formats import text_key

TASKS = {"gsb": "ab", "levels": "graded"}
"""Scale -> task of the annotation card. gsb: good, same or bad; levels: A3 to B3."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Recorded answers of several models to the same prompts, as ``read_answers``."""

    prompts: tuple[str, ...]
    groups: tuple[str, ...]
    by_model: dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparisons:
    """What is to be judged, and what is not because the answers are the same."""

    items: tuple[Item, ...]
    equal: tuple[Item, ...]
    """Pairs of answers that differ by nothing but spaces and width: nobody is asked,
    each counts as a tie for every rater."""
    seed: int

    def session(
        self, path: Path, *, rater: str, rater_kind: str, round: int = 1
    ) -> Session:
        """One rater's round for ``annotation.card.show_card``.

        Order of items and sides follow from the seed, the round and the rater; the file
        keeps the order shown with every verdict.
        """
        return Session(
            self.items,
            path,
            rater=rater,
            rater_kind=rater_kind,
            round=round,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One rater's verdict on one pair, seen from ``first``, the model first by name."""

    prompt: str
    """All verdicts on one prompt hang together: intervals resample prompts."""
    group: str
    first: str
    second: str
    score: float
    """1, 0.5 for a tie, 0. Of a graded pair a level 0 ("by a hair") is a tie."""
    strength: float | None
    """-3 to 3 of a graded pair, as ``signed_strength``; None for good, same, bad."""
    num_chars: tuple[int, int]
    rater: str
    rater_kind: str
    shown_first: bool | None
    """Whether the answer of ``first`` was shown first; None where nobody was asked."""

    @property
    def side(self) -> int:
        """1 when ``first`` was preferred, even by a hair, -1 when not, 0 for a tie."""
        value = self.score - 0.5 if self.strength is None else self.strength
        return (value > 0) - (value < 0)


def read_answers(path: Path) -> Answers:
    """Reads a JSONL file: ``prompt``, ``group`` and ``answers``, model -> text, a line.

    Raises: ValueError naming file and line for another field or type, or for other
    models than line 1 has.
    """
    rows = []
    for number, row in numbered_lines(Path(path)):
        where = f"{path}, line {number}"
        answers = row.get("answers")
        texts = [row.get("prompt"), row.get("group")]
        texts += answers.values() if isinstance(answers, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"{where}: give prompt and group as text, and answers as model -> text"
            )
        if rows and answers.keys() != rows[0]["answers"].keys():
            raise ValueError(
                f"{where}: answers of {sorted(answers)}, line 1 has "
                f"{sorted(rows[0]['answers'])}: every model answers every prompt"
            )
        rows.append(row)
    return Answers(
        prompts=tuple(row["prompt"] for row in rows),
        groups=tuple(row["group"] for row in rows),
        by_model={
            name: tuple(row["answers"][name] for row in rows)
            for name in sorted(rows[0]["answers"])
        },
    )


def build_comparisons(
    prompts: Sequence[str],
    answers_by_model: Mapping[str, Sequence[str]],
    pairs: Iterable[tuple[str, str]] | None = None,
    *,
    seed: int,
    scale: str = "gsb",
    groups: Sequence[str] | None = None,
    num_prompts: int | None = None,
) -> Comparisons:
    """An item for every prompt and pair of models.

    Args: answers_by_model is model -> one answer a prompt; pairs of models, all by
    default; scale is gsb or levels; groups names the kind of each prompt (hidden from
    the rater, what tables split by); num_prompts draws so many of the prompts.
    Raises: ValueError for answers that do not pair with the prompts, repeated prompts,
    an unknown model, a pair given twice or an unknown scale.
    """
    pairs = _checked_pairs(answers_by_model, pairs)
    _require_paired(prompts, answers_by_model, groups)
    if scale not in TASKS:
        raise ValueError(f"scale is {scale!r}: give {' or '.join(TASKS)}")
    drawn = _drawn(len(prompts), num_prompts, seed)
    items = [
        Item(
            id=f"compare/{index:04}/{first}/{second}",
            task=TASKS[scale],
            prompt=prompts[index],
            texts={name: answers_by_model[name][index] for name in (first, second)},
            reason="" if groups is None else groups[index],
        )
        for index in drawn
        for first, second in pairs
    ]
    return Comparisons(
        items=tuple(item for item in items if not _says_the_same(item)),
        equal=tuple(item for item in items if _says_the_same(item)),
        seed=seed,
    )


def _checked_pairs(
    models: Iterable[str], pairs: Iterable[tuple[str, str]] | None
) -> list[tuple[str, str]]:
    """The pairs, each with the model first by name in front."""
    names = sorted(models)
    if pairs is None:
        found = list(combinations(names, 2))
    else:
        found = [tuple(sorted(pair)) for pair in pairs]
    for pair in found:
        for name in pair:
            if name not in names:
                raise ValueError(f"no answers of {name!r}: there are {names}")
        if len(set(pair)) != 2 or found.count(pair) > 1:
            raise ValueError(f"pair {pair} compares nothing, or stands twice")
    if not found:
        raise ValueError(f"{len(names)} models give no pair: give answers of two")
    return found


def _require_paired(
    prompts: Sequence[str],
    answers_by_model: Mapping[str, Sequence[str]],
    groups: Sequence[str] | None,
) -> None:
    for name, answers in answers_by_model.items():
        if len(answers) != len(prompts):
            raise ValueError(
                f"{len(answers)} answers of {name!r} to {len(prompts)} prompts: give "
                "one each"
            )
    if groups is not None and len(groups) != len(prompts):
        raise ValueError(f"{len(groups)} groups for {len(prompts)} prompts: one each")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt in seen:
            raise ValueError(f"prompt {prompt!r:.60} stands twice: ask it once")
        seen.add(prompt)


def _drawn(number: int, wanted: int | None, seed: int) -> list[int]:
    """Places of the drawn prompts, in order; a larger draw contains a smaller one."""
    if wanted is None:
        return list(range(number))
    if not 1 <= wanted <= number:
        raise ValueError(f"num_prompts is {wanted}: there are {number} prompts")
    order = seeded_order(map(str, range(number)), "prompts", seed)
    return sorted(map(int, order[:wanted]))


def _says_the_same(item: Item) -> bool:
    first, second = map(text_key, item.texts.values())
    return first == second


def outcomes(
    comparisons: Comparisons, judgements: Iterable[Judgement], *, rater_kind: str = ""
) -> list[Outcome]:
    """The verdicts that stand, in the order in which they were given; then equal pairs.

    Args: rater_kind takes only verdicts of model or human raters; empty takes all.
    Raises: ValueError for a judgement of another item, text or task, for a second
    verdict of a rater on an item (give one round), and when none is left.
    """
    known = {item.id: item for item in comparisons.items}
    found, seen = [], set()
    for j in settled(judgements):
        if not j.is_decision or rater_kind not in ("", j.rater_kind):
            continue
        item = item_of(known, j)
        if j.task != item.task:
            raise ValueError(f"item {j.item} was judged as {j.task}, not {item.task}")
        if (j.rater, j.item) in seen:
            raise ValueError(f"item {j.item} has two verdicts of {j.rater}: give one")
        seen.add((j.rater, j.item))
        found.append(_outcome(item, j))
    if not found:
        raise ValueError(f"no {rater_kind or 'rater'} has judged: use the card first")
    kinds = {one.rater: one.rater_kind for one in found}
    equal = [
        _equal_outcome(item, rater, kind)
        for item in comparisons.equal
        for rater, kind in sorted(kinds.items())
    ]
    return found + equal


def _outcome(item: Item, j: Judgement) -> Outcome:
    first, second = sorted(item.texts)
    if j.task == "graded":
        strength = signed_strength(j)
        score = 0.5 if abs(strength) < 1 else float(strength > 0)
    else:
        strength, score = None, {first: 1.0, second: 0.0, "tie": 0.5}[j.verdict]
    return Outcome(
        **_pair_fields(item),
        score=score,
        strength=strength,
        rater=j.rater,
        rater_kind=j.rater_kind,
        shown_first=j.shown[0] == first,
    )


def _equal_outcome(item: Item, rater: str, rater_kind: str) -> Outcome:
    return Outcome(
        **_pair_fields(item),
        score=0.5,
        strength=0.0 if item.task == "graded" else None,
        rater=rater,
        rater_kind=rater_kind,
        shown_first=None,
    )


def _pair_fields(item: Item) -> dict:
    first, second = sorted(item.texts)
    return {
        "prompt": item.prompt,
        "group": item.reason,
        "first": first,
        "second": second,
        "num_chars": (len(item.texts[first]), len(item.texts[second])),
    }
