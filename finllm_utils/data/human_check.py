"""The human check of cleaning: samples of what each filter dropped, and verdicts.

A rater reads the head of a document without knowing which filter dropped it, if any,
and says keep or drop; the share of "drop" is the filter's precision. Documents are
chosen by a hash of their text: while a filter still drops one, it stays in the sample,
whatever else changes, and a verdict once recorded is found again by that hash.
Recorded verdicts hold no text: the corpora they are about may not be redistributed.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot
from pathlib import Path

from finllm_utils.annotation.judgements import (
    Item,
    Judgement,
    read_judgements,
    settled,
)
from finllm_utils.annotation.results import KEPT, Precision, precision_with_interval
from finllm_utils.annotation.session import Session, replay
from finllm_utils.data.steps import EXCERPT_CHARS
from finllm_utils.files import read_json
from finllm_utils.intervals import Interval, wilson_interval
from finllm_utils.records import Document

DATA_FILES = ("data_samples/judgements",)
JUDGEMENTS = Path(__file__).resolve().parents[2] / DATA_FILES[0]
RATER = "model-1"
"""Whose verdicts ship with the course: a language model's."""
NOT_CHECKED = ("extract", "length", "decontaminate", "dedup")
"""Steps (by how their names begin) whose drops no reader of one text can judge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overall:
    """Precision of all filters together, for one round."""

    rater_kind: str
    num_right: int
    num_judged: int
    share: float
    interval: Interval
    """Of the sample as it is: each judged document counts once."""
    weighted: float
    weighted_interval: Interval
    """Each reason counts as often as it dropped a document."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """Recorded verdicts that apply to this run, and the documents it does not have."""

    judgements: tuple[Judgement, ...]
    absent: tuple[str, ...]
    """Judged items that this run neither drops for a checked reason nor keeps."""


def check_items(
    rejected: Iterable[dict], kept: Iterable[Document], exclude: Collection[str] = ()
) -> list[Item]:
    """Every document a rater could be asked about; one item for equal texts.

    Args: rejected and kept as ``clean_corpus`` gives them, excerpts of
    ``EXCERPT_CHARS``; exclude are ids of documents that nobody may look at.
    """
    items: dict[str, Item] = {}
    for row in rejected:
        if row["step"].startswith(NOT_CHECKED) or row["id"] in exclude:
            continue
        item = _item(row["excerpt"], row["chars"], row, reason_of(row))
        items.setdefault(item.id, item)
    for document in kept:
        if document.id not in exclude:
            text = document.text[:EXCERPT_CHARS]
            origin = {"domain": document.domain, "source": document.source}
            item = _item(text, len(document.text), origin, KEPT)
            items.setdefault(item.id, item)
    return list(items.values())


def reason_of(row: dict) -> str:
    """The reason of a rejected row without its value: ``symbols:0.41`` is symbols.

    What could not be read is "unreadable": there the reason is a sentence on the file.
    """
    return "unreadable" if row["step"] == "extract" else row["reason"].split(":")[0]


def _item(excerpt: str, chars: int, origin: Mapping[str, str], reason: str) -> Item:
    text = excerpt + ("……" if chars > EXCERPT_CHARS else "")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Item(
        id=f"doc-{digest[:16]}",
        task="keep_drop",
        texts={origin["source"]: text},
        prompt=f"corpus: {origin['domain']}",
        reason=reason,
    )


def sample_for_check(
    items: Iterable[Item],
    *,
    per_reason: int,
    num_kept: int,
    judged: Collection[str] = (),
) -> list[Item]:
    """Up to ``per_reason`` items of each reason and ``num_kept`` kept ones, mixed.

    The smallest hashes of texts, in their order, which tells nothing of the reason.
    Args: judged are ids to leave out, for the next round.
    """
    if per_reason < 1 or num_kept < 0:
        raise ValueError(
            f"per_reason is {per_reason} and num_kept {num_kept}: at least 1 and 0"
        )
    taken: Counter = Counter()
    chosen = []
    for item in sorted(items, key=lambda item: item.id):
        limit = num_kept if item.reason == KEPT else per_reason
        if item.id not in judged and taken[item.reason] < limit:
            taken[item.reason] += 1
            chosen.append(item)
    return chosen


def open_check(
    items: Sequence[Item], folder: Path, *, rater: str, seed: int
) -> Session:
    """A person's round over ``items``; each verdict lands in ``folder`` at once.

    Opened again, it goes on where the rater stopped.
    Raises: ValueError for a name that cannot be part of a file name.
    """
    if not rater or not rater.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"data.rater={rater!r}: use letters, digits, - and _ only")
    path = Path(folder) / f"cleaning_{rater}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return Session(items, path, rater=rater, rater_kind="human", round=1, seed=seed)


def replay_check(
    items: Sequence[Item], records: Iterable[Judgement], *, rater: str, round: int
) -> Replayed:
    """The recorded verdicts of a round on the documents of this run.

    Raises: ValueError when none of them is in this run.
    """
    own = [
        j
        for j in settled(records)
        if (j.rater, j.round, j.action) == (rater, round, "judge")
    ]
    present = {item.id for item in items}
    found = {j.item for j in own} & present
    absent = tuple(sorted({j.item for j in own} - present))
    if not found:
        raise ValueError(
            f"none of the {len(own)} documents that {rater} judged in round {round} is "
            f"in this run: excerpts must have {EXCERPT_CHARS} characters and the "
            "corpora be the shipped ones; or judge documents of this run yourself"
        )
    chosen = [item for item in items if item.id in found]
    result = replay(chosen, own, rater=rater, round=round)
    return Replayed(judgements=result.judgements, absent=absent)


def precision_by_reason(
    items: Iterable[Item], judgements: Iterable[Judgement]
) -> list[Precision]:
    """Precision of each reason as this run gives it, with Wilson's interval.

    The row "kept" is the share of kept documents that the rater keeps too: 1 minus the
    miss rate. ``precision_with_interval(judgements)`` uses the reasons of back then.
    """
    reasons = {item.id: item.reason for item in items}
    now = [replace(j, reason=reasons[j.item]) for j in judgements if j.item in reasons]
    return precision_with_interval(now)


def overall_precision(rows: Iterable[Precision], dropped: Mapping[str, int]) -> Overall:
    """All filters together, from the rows of one round and how often each dropped.

    Reasons without a judged document count for nothing. The weighted interval is put
    together from those of the reasons.
    Source: Yan and Su, Statistics in Biopharmaceutical Research 2 (2010), 329-335.
    Raises: ValueError for a judged reason without a count, or none judged.
    """
    chosen = [r for r in rows if r.reason != KEPT]
    if lost := [r.reason for r in chosen if not dropped.get(r.reason)]:
        raise ValueError(
            f"no count of dropped documents for {', '.join(lost)}: give the counts of "
            "the run that the sample came from"
        )
    if not chosen:
        raise ValueError("nothing that a filter dropped was judged: judge a sample")
    right = sum(r.num_right for r in chosen)
    judged = sum(r.num_judged for r in chosen)
    total = sum(dropped[r.reason] for r in chosen)
    parts = [(dropped[r.reason] / total, r) for r in chosen]
    share = sum(weight * r.share for weight, r in parts)
    below = hypot(*(weight * (r.share - r.low) for weight, r in parts))
    above = hypot(*(weight * (r.high - r.share) for weight, r in parts))
    return Overall(
        rater_kind=chosen[0].rater_kind,
        num_right=right,
        num_judged=judged,
        share=right / judged,
        interval=wilson_interval(right, judged),
        weighted=share,
        weighted_interval=(max(0.0, share - below), min(1.0, share + above)),
    )


def precision_change(
    before: tuple[Iterable[Precision], Mapping[str, int]],
    after: tuple[Iterable[Precision], Mapping[str, int]],
) -> Interval:
    """95% interval of the rise in weighted precision from one round to the next.

    Args: each round's rows and dropped documents, as ``overall_precision`` takes them.
    The rounds judge different documents, so nothing is paired.
    Source: Zou and Donner, Statistics in Medicine 27 (2008), 1693-1702.
    """
    first, second = overall_precision(*before), overall_precision(*after)
    (low_1, high_1), (low_2, high_2) = first.weighted_interval, second.weighted_interval
    rise = second.weighted - first.weighted
    below = hypot(second.weighted - low_2, high_1 - first.weighted)
    above = hypot(high_2 - second.weighted, first.weighted - low_1)
    return rise - below, rise + above


def is_own(source: str) -> bool:
    """Whether a document is of data_samples/raw, whose faults were planted."""
    return source == "raw"


def count_dropped(rejected: Iterable[dict]) -> dict[str, int]:
    """How many documents each reason that is checked dropped."""
    counts = Counter(
        reason_of(row) for row in rejected if not row["step"].startswith(NOT_CHECKED)
    )
    return dict(sorted(counts.items()))


def shipped_rounds(
    *, own: bool = False, folder: Path = JUDGEMENTS, rater: str = RATER
) -> list[tuple[list[Judgement], dict[str, int]]]:
    """Each round of ours: one rater's verdicts, and dropped documents by reason.

    Args: own gives those on data_samples/raw, else those on all other text. Thresholds
    were fitted on the former, so the latter say how good the filters are.
    """
    rounds = []
    for number, row in sorted(read_json(folder / "cleaning_rounds.json").items()):
        records = settled(read_judgements(folder / f"cleaning_round{number}.jsonl"))
        chosen = [j for j in records if j.rater == rater and is_own(j.shown[0]) == own]
        rounds.append((chosen, row["dropped_own" if own else "dropped"]))
    return rounds
