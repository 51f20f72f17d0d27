"""What is judged, the record of one judgement, and the JSONL file that holds them.

The file only grows: a judgement, a skip and an undo are one line each, on disk before
the next item is shown. Nothing here chooses an item or shows one; ``session`` does.

A rewritten text is action "judge" with the text as verdict. A text accepted as it is
and a rejected one are actions of their own, "accept" and "reject", without a verdict:
so no text, whatever it reads, can be taken for either, and neither for a skip. Files
from before these actions hold none of them and read as they did.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

TASKS = ("keep_drop", "rewrite", "ab", "graded", "rank")
RATER_KINDS = ("model", "human")
DECISIONS = ("judge", "accept", "reject")
"""Actions that say something of an item; accept and reject are of the task rewrite."""
ACTIONS = (*DECISIONS, "skip", "undo")
NUM_TEXTS = {
    "keep_drop": (1, 1),
    "rewrite": (1, 1),
    "ab": (2, 2),
    "graded": (2, 2),
    "rank": (3, 4),
}
LEVELS = ("A3", "A2", "A1", "A0", "B0", "B1", "B2", "B3")
"""What a rater says of a graded pair, where A is the text shown first: A3, A is much
better; A0, A is better by a hair; B0 and B3 the same of B. There is no tie.
Source: XuanYuan-6B report, preference annotation."""
MAX_STRENGTH = 3

Verdict = str | tuple[str, int] | tuple[tuple[str, ...], ...] | None
"""keep or drop; the rewritten text; the better name or tie; the better name and the
strength, 0 to 3, of a graded pair; names in groups, best first, where names of one
group are equal; None for every action but judge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Something to judge. The rater sees ``prompt`` and the texts, nothing else."""

    id: str
    task: str
    texts: dict[str, str]
    """Source name -> text: 1 for keep_drop and rewrite, 2 for ab and graded, 3-4 for
    rank."""
    prompt: str = ""
    """The question that the texts answer, if there is one."""
    reason: str = ""
    """The stratum: which filter dropped it, or "kept"; hidden from the rater."""

    def __post_init__(self) -> None:
        _require(f"item {self.id}: task", self.task, TASKS)
        low, high = NUM_TEXTS[self.task]
        if not low <= len(self.texts) <= high:
            raise ValueError(
                f"item {self.id}: {len(self.texts)} texts for the task {self.task}, "
                f"which takes {low if low == high else f'{low} to {high}'}"
            )
        if "tie" in self.texts:
            raise ValueError(f"item {self.id}: a source cannot be named 'tie'")

    @property
    def sha256(self) -> str:
        """Digest of all that the rater sees and of the sources' names."""
        seen = json.dumps([self.prompt, sorted(self.texts.items())], ensure_ascii=False)
        return hashlib.sha256(seen.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One line of the file. Every field but ``reason`` and ``comment`` must be given.

    Raises: ValueError for a verdict that the task and the action do not allow, and for
    a reject without a comment.
    """

    item: str
    task: str
    action: str
    """judge, accept (keep this text as it is), reject (use it in no form), skip, or
    undo, which takes back what was said of this text before."""
    shown: tuple[str, ...]
    """Source names in the order in which the rater saw their texts."""
    verdict: Verdict
    rater: str
    rater_kind: str
    """"model" or "human": no figure may call a model's judgement human."""
    seconds: float
    """From the moment when the item was shown; a pause of the rater counts."""
    round: int
    text_sha256: str
    time: str
    """UTC, ISO 8601."""
    reason: str = ""
    """The item's stratum, which the rater did not see."""
    comment: str = ""
    """Why, in the rater's words; a reject must have one."""

    def __post_init__(self) -> None:
        check_rater(self.rater, self.rater_kind, self.round)
        _require("task", self.task, TASKS)
        _require("action", self.action, ACTIONS)
        object.__setattr__(self, "shown", tuple(self.shown))
        if isinstance(self.verdict, (list, tuple)):
            frozen = tuple(self.verdict)
            if self.task != "graded":
                frozen = tuple(tuple(group) for group in frozen)
            object.__setattr__(self, "verdict", frozen)
        self._check_action()
        self._check_verdict()

    @property
    def is_decision(self) -> bool:
        """Whether this says something of the item: no skip, no undo."""
        return self.action in DECISIONS

    def _check_action(self) -> None:
        if self.action in ("accept", "reject") and self.task != "rewrite":
            raise ValueError(
                f"item {self.item}: {self.action} belongs to the task rewrite, not to "
                f"{self.task}"
            )
        if not isinstance(self.comment, str):
            raise ValueError(
                f"item {self.item}: comment is {self.comment!r:.60}: give a text"
            )
        if self.action == "reject" and not self.comment.strip():
            raise ValueError(
                f"item {self.item}: a reject needs a reason: say in the comment why"
            )

    def _check_verdict(self) -> None:
        if self.action != "judge":
            right = self.verdict is None
        elif self.task == "keep_drop":
            right = self.verdict in ("keep", "drop")
        elif self.task == "rewrite":
            right = isinstance(self.verdict, str) and bool(self.verdict.strip())
        elif self.task == "ab":
            right = self.verdict in (*self.shown, "tie")
        elif self.task == "graded":
            right = _is_graded(self.verdict, self.shown)
        else:
            groups = self.verdict if isinstance(self.verdict, tuple) else ()
            names = sorted(name for group in groups for name in group)
            right = all(groups) and names == sorted(self.shown)
        if not right:
            raise ValueError(
                f"item {self.item}: {self.verdict!r:.60} is no verdict of the task "
                f"{self.task} ({self.action}) on {', '.join(self.shown)}"
            )


def _is_graded(verdict: object, shown: Sequence[str]) -> bool:
    """Whether this is one of two names and its strength."""
    if not isinstance(verdict, tuple) or len(verdict) != 2 or len(set(shown)) != 2:
        return False
    better, strength = verdict
    return better in shown and type(strength) is int and 0 <= strength <= MAX_STRENGTH


def check_rater(rater: str, rater_kind: str, round: int) -> None:
    """Raises ValueError for an empty name, an unknown kind or no round number."""
    _require("rater_kind", rater_kind, RATER_KINDS)
    if not rater:
        raise ValueError("rater is empty: give a name, a pseudonym will do")
    if type(round) is not int or round < 1:
        raise ValueError(f"round is {round!r}: rounds are numbered 1, 2, ...")


def _require(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}: it must be {' or '.join(allowed)}")


def read_judgements(path: Path) -> list[Judgement]:
    """All lines of the file, in file order; no file, no lines.

    A last line without its line end is a write that a kill cut short: it is left out
    when it is not a whole record.
    Raises: ValueError naming file and line of a broken or invalid record.
    """
    path = Path(path)
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    records = [
        _parse(line, f"{path}, line {number}")
        for number, line in enumerate(lines[:-1], 1)
        if line.strip()
    ]
    if _is_whole(lines[-1]):
        records.append(_parse(lines[-1], f"{path}, line {len(lines)}"))
    return records


def _parse(line: bytes, where: str) -> Judgement:
    try:
        row = json.loads(line)
        if unknown := set(row) - {f.name for f in fields(Judgement)}:
            raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
        return Judgement(**row)
    except (ValueError, TypeError) as error:
        text = str(error).replace("Judgement.__init__() ", "")
        raise ValueError(f"{where}: {text}; repair or delete that line") from error


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def append_judgement(path: Path, judgement: Judgement) -> None:
    """Adds one line and waits until it is on disk.

    What an earlier kill left of a half-written last line is removed first, under a
    lock, so that several kernels may write to one file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(judgement), ensure_ascii=False) + "\n"
    with open(path, "a+b") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _end_last_line(handle)
        handle.write(line.encode())
        handle.flush()
        os.fsync(handle.fileno())


def _end_last_line(handle: BinaryIO) -> None:
    size = handle.seek(0, os.SEEK_END)
    if size == 0:
        return
    handle.seek(size - 1)
    if handle.read(1) == b"\n":
        return
    handle.seek(0)
    last = handle.read().rpartition(b"\n")[2]
    if _is_whole(last):
        handle.write(b"\n")
    else:
        handle.truncate(size - len(last))


def settled(judgements: Iterable[Judgement]) -> list[Judgement]:
    """The judgements and skips that stand: without what was undone or judged anew.

    In the order of the file; at most one for each rater, task, round, item and text.
    """
    standing: dict[tuple, tuple[int, Judgement]] = {}
    for number, j in enumerate(judgements):
        key = (j.rater, j.task, j.round, j.item, j.text_sha256)
        if j.action == "undo":
            standing.pop(key, None)
        else:
            standing[key] = (number, j)
    return [j for _, j in sorted(standing.values(), key=itemgetter(0))]


def seeded_order(names: Iterable[str], *context: object) -> list[str]:
    """``names`` in an order that follows from them and ``context`` alone.

    The order of two names stays when others come or go.
    """
    prefix = json.dumps([str(part) for part in context], ensure_ascii=False)
    return sorted(names, key=lambda n: hashlib.sha256(f"{prefix}{n}".encode()).digest())
