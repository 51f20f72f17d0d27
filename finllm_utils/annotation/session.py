"""One rater's round over a list of items: what comes next, verdicts, undo, resume.

The order of the items and of the texts within one follows from the seed, the round and
the rater alone: a resumed round goes on unchanged, and no place tells the source.
No widget here: ``card`` draws a session, a program may drive one just as well.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from finllm_utils.annotation.judgements import (
    LEVELS,
    Item,
    Judgement,
    Verdict,
    append_judgement,
    check_rater,
    read_judgements,
    seeded_order,
    settled,
)

logger = logging.getLogger(__name__)

Choice = str | int | Sequence[int | Sequence[int]]
"""A verdict as the rater gives it: texts are called 1, 2, ... in the order shown, the
two of a graded pair A and B."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What the rater sees of one item: no id, no source, no reason."""

    task: str
    prompt: str
    texts: tuple[str, ...]
    number: int
    """Place in the round, from 1."""
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """The verdicts of one rater's finished round."""

    judgements: tuple[Judgement, ...]
    """Verdicts, acceptances and rejections in the order of the items; none for those
    below."""
    skipped: tuple[str, ...]
    changed: tuple[str, ...]
    """Items whose text is not the text that was judged: their verdict is not used."""


class Session:
    """Asks for one verdict after the other; each is on disk before the next item."""

    def __init__(
        self,
        items: Sequence[Item],
        path: Path,
        *,
        rater: str,
        rater_kind: str,
        round: int,
        seed: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens the round and goes on where the file ``path`` ends.

        Args: rater_kind is "model" or "human"; clock gives seconds since 1970.
        Raises: ValueError for items of several tasks, repeated ids or a broken file.
        """
        check_rater(rater, rater_kind, round)
        self.items = _by_id(items)
        self.path, self.clock = Path(path), clock
        self.rater, self.rater_kind, self.round = rater, rater_kind, round
        self._seed = seed
        records = read_judgements(self.path)
        _same_kind(records, rater, rater_kind)
        self._past, self.changed = _standing(self.items, records, rater, round)
        self._order = seeded_order(self.items, seed, round, rater)
        self._current: str | None = None
        self._advance()

    def next(self) -> Shown | None:
        """The item to judge now, the same until it is judged; None at the end."""
        if self._current is None:
            return None
        item = self.items[self._current]
        if self._shown_at is None:
            self._shown_at = self.clock()
        return Shown(
            task=item.task,
            prompt=item.prompt,
            texts=tuple(item.texts[name] for name in self._sides(item)),
            number=self._order.index(item.id) + 1,
            total=len(self._order),
        )

    def judge(self, choice: Choice, comment: str = "") -> Judgement:
        """Records a verdict on the current item.

        Args: choice is keep or drop; the new text; 1, 2 or tie; one of ``LEVELS``, A3
        to B3; or groups of numbers, best first, as ``[2, [1, 3]]``. comment says why,
        if the rater wants to.
        Raises: ValueError when it is none of these; nothing is recorded then.
        """
        item = self._now()
        verdict = _verdict(item, self._sides(item), choice)
        return self._add(item, "judge", verdict, comment)

    def accept(self, comment: str = "") -> Judgement:
        """Records that the current text needs no rewriting.

        Raises: ValueError for another task than rewrite; nothing is recorded then.
        """
        return self._add(self._now(), "accept", None, comment)

    def reject(self, comment: str) -> Judgement:
        """Records that the current text is of no use in any form, and why.

        Raises: ValueError for an empty comment or another task than rewrite; nothing
        is recorded then.
        """
        return self._add(self._now(), "reject", None, comment)

    def skip(self) -> Judgement:
        """Puts the current item aside for this round."""
        return self._add(self._now(), "skip", None)

    def undo(self) -> Judgement | None:
        """Takes back the latest judgement or skip and shows its item again."""
        if not self._past:
            return None
        taken = self._past[-1]
        record = self._record(self.items[taken.item], "undo", None)
        append_judgement(self.path, record)
        self._past.pop()
        self._current, self._shown_at = taken.item, None
        return taken

    @property
    def num_done(self) -> int:
        """Items judged, accepted, rejected or skipped."""
        return len(self._past)

    def judgements(self) -> tuple[Judgement, ...]:
        """What stands so far, in the order of the items, without the skipped ones."""
        found = {j.item: j for j in self._past if j.is_decision}
        return tuple(found[key] for key in self.items if key in found)

    def seconds_shown(self) -> float:
        """Since ``next`` first gave the current item; 0 before that."""
        return (
            0.0 if self._shown_at is None else max(0.0, self.clock() - self._shown_at)
        )

    def _now(self) -> Item:
        if self._current is None:
            raise ValueError("every item of this round is judged: start a new round")
        self.next()  # a program may judge without looking
        return self.items[self._current]

    def _add(
        self, item: Item, action: str, verdict: Verdict, comment: str = ""
    ) -> Judgement:
        record = self._record(item, action, verdict, comment)
        append_judgement(self.path, record)
        self._past.append(record)
        self._advance()
        return record

    def _advance(self) -> None:
        done = {j.item for j in self._past}
        self._current = next((key for key in self._order if key not in done), None)
        self._shown_at: float | None = None

    def _sides(self, item: Item) -> list[str]:
        return seeded_order(item.texts, self._seed, self.round, self.rater, item.id)

    def _record(
        self, item: Item, action: str, verdict: Verdict, comment: str = ""
    ) -> Judgement:
        return Judgement(
            item=item.id,
            task=item.task,
            action=action,
            shown=tuple(self._sides(item)),
            verdict=verdict,
            rater=self.rater,
            rater_kind=self.rater_kind,
            seconds=round(self.seconds_shown(), 1),
            round=self.round,
            text_sha256=item.sha256,
            time=datetime.fromtimestamp(self.clock(), UTC).isoformat("T", "seconds"),
            reason=item.reason,
            comment=comment.strip(),
        )


def replay(
    items: Sequence[Item], records: Iterable[Judgement], *, rater: str, round: int
) -> Replay:
    """The recorded verdicts of a round, equal to what its session held at the end.

    Items whose text has changed since are reported and their verdict is not used.
    Raises: ValueError naming the items that nobody has judged or skipped.
    """
    known = _by_id(items)
    past, changed = _standing(known, records, rater, round)
    found = {j.item: j for j in past}
    missing = [key for key in known if key not in found and key not in changed]
    if missing:
        raise ValueError(
            f"no verdict of {rater} in round {round} for {len(missing)} of "
            f"{len(known)} items, the first is {missing[0]}: judge them with the card "
            "in JupyterLab, or give the rater and round that the file holds"
        )
    kept = [found[key] for key in known if key in found]
    return Replay(
        judgements=tuple(j for j in kept if j.is_decision),
        skipped=tuple(j.item for j in kept if j.action == "skip"),
        changed=changed,
    )


def _by_id(items: Sequence[Item]) -> dict[str, Item]:
    if not items:
        raise ValueError("there are no items to judge")
    if len(tasks := {item.task for item in items}) > 1:
        raise ValueError(f"one task a session, not {', '.join(sorted(tasks))}")
    known: dict[str, Item] = {}
    for item in items:
        if item.id in known:
            raise ValueError(f"two items have the id {item.id}: ids must differ")
        known[item.id] = item
    return known


def _same_kind(records: Iterable[Judgement], rater: str, rater_kind: str) -> None:
    for record in records:
        if record.rater == rater and record.rater_kind != rater_kind:
            raise ValueError(
                f"rater {rater!r} is recorded as {record.rater_kind}, now as "
                f"{rater_kind}: give a model and a person different names"
            )


def _standing(
    items: dict[str, Item], records: Iterable[Judgement], rater: str, round: int
) -> tuple[list[Judgement], tuple[str, ...]]:
    """What stands for these items and texts, in file order; items that changed."""
    digests = {key: item.sha256 for key, item in items.items()}
    own = [
        j
        for j in settled(records)
        if (j.rater, j.round) == (rater, round)
        and j.item in items
        and j.task == items[j.item].task
    ]
    past = [j for j in own if j.text_sha256 == digests[j.item]]
    changed = {j.item for j in own} - {j.item for j in past}
    if changed:
        logger.warning(
            "%d of %d items changed since %s judged them, the first is %s: "
            "these verdicts are not used",
            len(changed),
            len(items),
            rater,
            min(changed),
        )
    return past, tuple(sorted(changed))


def _verdict(item: Item, sides: Sequence[str], choice: Choice) -> Verdict:
    """The choice with the names of the sources in place of their numbers."""

    def name(number: object) -> str:
        if type(number) is not int or not 1 <= number <= len(sides):
            raise ValueError(f"{number!r} is none of the texts 1 to {len(sides)}")
        return sides[number - 1]

    if item.task == "rank":
        if isinstance(choice, (str, int)):
            raise ValueError(f"{choice!r} is no ranking: give [2, [1, 3]], best first")
        groups = [[group] if isinstance(group, int) else group for group in choice]
        return tuple(tuple(sorted(map(name, group))) for group in groups)
    if item.task == "graded":
        if choice not in LEVELS:
            raise ValueError(f"{choice!r} is no level: give {', '.join(LEVELS)}")
        return sides["AB".index(choice[0])], int(choice[1])
    if item.task == "ab" and choice != "tie":
        return name(choice)
    return choice
