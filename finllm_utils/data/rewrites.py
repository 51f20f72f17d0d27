"""Instructions that raters accepted, rewrote or rejected on the card, as a new set.

The card (``annotation.card``) shows each question with its answer, task "rewrite", and
records one line a decision; here these lines meet the instructions again. Nothing here
asks anyone: a recorded file gives the same set without a card. Notebook 05 calls this.

Example::

    items = rewrite_items(chosen)
    show_card(Session(items, path, rater="ming", rater_kind="human", round=1, seed=0))
    rewritten = apply_rewrites(chosen, read_judgements(path))  # in the next cell
    write_rewrites(folder, rewritten)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finllm_utils.annotation.judgements import Item, Judgement, settled
from finllm_utils.data.instruction_formats import require_conversation
from finllm_utils.records import ChatTurn, Instruction, write_records

OUTCOMES = ("accepted", "edited", "rejected", "disputed")
_ANSWER = "answer"  # the one text of an item; every source has the same name


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What came of one instruction, and who said so."""

    instruction: Instruction
    """As the raters saw it."""
    outcome: str
    """accepted, edited, rejected, or disputed: its raters want different things."""
    kept: Instruction | None
    """What to learn from: the same instruction or the edited one; else None."""
    rater_kind: str
    """"human", "model", or "human+model" where raters of both kinds judged it."""
    reasons: tuple[str, ...]
    """What raters gave as reasons; at least one for a rejected instruction."""
    judgements: tuple[Judgement, ...]
    """The latest of each rater, by kind and name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewritten:
    """The instructions after rewriting; each is in one of the four groups."""

    decisions: tuple[Decision, ...]
    """One for each judged instruction, in the order of the instructions."""
    untouched: tuple[Instruction, ...]
    """Those that nobody judged, or that were only skipped."""

    @property
    def kept(self) -> tuple[Instruction, ...]:
        """Accepted instructions as they were, and edited ones."""
        return tuple(d.kept for d in self.decisions if d.kept is not None)

    @property
    def rejected(self) -> tuple[Decision, ...]:
        """Decisions to use an instruction in no form, with their reasons."""
        return tuple(d for d in self.decisions if d.outcome == "rejected")

    @property
    def disputed(self) -> tuple[Decision, ...]:
        """Decisions that raters must settle first; not kept and not rejected."""
        return tuple(d for d in self.decisions if d.outcome == "disputed")


def rewrite_items(instructions: Iterable[Instruction]) -> list[Item]:
    """One item of the task rewrite for each instruction, with its id.

    The text is the last answer; the prompt is the question alone, or, where more came
    before, all turns before that answer, each with its role.
    Raises: ValueError for an id that comes twice and for turns that are no
    conversation (``require_conversation``).
    """
    items = []
    for instruction in _by_id(instructions).values():
        require_conversation(instruction.messages, f"instruction {instruction.id}")
        *before, answer = instruction.messages
        items.append(
            Item(
                id=instruction.id,
                task="rewrite",
                texts={_ANSWER: answer.content},
                prompt=_prompt(before),
            )
        )
    return items


def _prompt(turns: Sequence[ChatTurn]) -> str:
    if len(turns) == 1:
        return turns[0].content
    return "\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def apply_rewrites(
    instructions: Iterable[Instruction], judgements: Iterable[Judgement]
) -> Rewritten:
    """The instructions with what raters decided about them.

    Of one rater the latest line that stands counts, whatever its round; a skip says
    nothing, so a decision of an earlier round stays. Several raters of one instruction
    must want the same: all accept, all reject (for any reasons), or all save the same
    text. Otherwise it is disputed, and no rater overrules another: judge it again, or
    give the judgements of one rater. A saved text equal to the old one is accepted.
    An edited instruction has the id "<old id>/rewritten" and the source
    "rewritten:<kind>:<rater>:<old id>". Its text is new: let it pass the held-out gate
    again before training on it.

    Args: judgements in the order of their file, as ``read_judgements`` gives them, or
    those of ``session.replay``.
    Raises: ValueError for another task, an instruction that is not there, one whose
    question or answer changed since, a rater's name of both kinds, or an edited text
    that cannot be an answer.
    """
    known = _by_id(instructions)
    digests = {item.id: item.sha256 for item in rewrite_items(known.values())}
    latest = _latest(judgements, known)
    for j in (j for raters in latest.values() for j in raters):
        if j.text_sha256 != digests[j.item]:
            raise ValueError(
                f"item {j.item}: its question or answer changed since {j.rater} judged "
                f"it in round {j.round}; judge it again with the card, or give the "
                "instructions as they were"
            )
    return Rewritten(
        decisions=tuple(
            _decision(known[key], latest[key]) for key in known if key in latest
        ),
        untouched=tuple(known[key] for key in known if key not in latest),
    )


def _by_id(instructions: Iterable[Instruction]) -> dict[str, Instruction]:
    known: dict[str, Instruction] = {}
    for instruction in instructions:
        if instruction.id in known:
            raise ValueError(
                f"two instructions have the id {instruction.id}: judgements are found "
                "again by it, so give each its own"
            )
        known[instruction.id] = instruction
    return known


def _latest(
    judgements: Iterable[Judgement], known: dict[str, Instruction]
) -> dict[str, tuple[Judgement, ...]]:
    """Item -> the latest decision of each of its raters, by kind and name."""
    judgements = list(judgements)
    kinds: dict[str, str] = {}
    for j in judgements:
        if kinds.setdefault(j.rater, j.rater_kind) != j.rater_kind:
            raise ValueError(
                f"rater {j.rater!r} is recorded as a model and as a human: give a "
                "model and a person different names"
            )
        if j.task != "rewrite":
            raise ValueError(
                f"item {j.item}: a judgement of the task {j.task} rewrites nothing; "
                "give those of the task rewrite"
            )
    found: dict[str, dict[str, Judgement]] = {}
    for j in settled(judgements):
        if not j.is_decision:
            continue
        if j.item not in known:
            raise ValueError(
                f"item {j.item}, judged by {j.rater}, is not among the "
                f"{len(known)} instructions: give the set that was judged"
            )
        found.setdefault(j.item, {})[j.rater] = j
    return {
        item: tuple(sorted(raters.values(), key=lambda j: (j.rater_kind, j.rater)))
        for item, raters in found.items()
    }


def _decision(old: Instruction, judgements: tuple[Judgement, ...]) -> Decision:
    answers = {_answer(old, j) for j in judgements}
    kept = None
    if len(answers) > 1:
        outcome = "disputed"
    elif answers == {None}:
        outcome = "rejected"
    elif answers == {old.messages[-1].content}:
        outcome, kept = "accepted", old
    else:
        outcome, kept = "edited", _edited(old, answers.pop(), judgements)
    return Decision(
        instruction=old,
        outcome=outcome,
        kept=kept,
        rater_kind="+".join(sorted({j.rater_kind for j in judgements})),
        reasons=tuple(j.comment for j in judgements if j.comment),
        judgements=judgements,
    )


def _answer(old: Instruction, judgement: Judgement) -> str | None:
    """The answer that a rater wants, None when there should be none.

    The action decides: a saved text may read "reject".
    """
    if judgement.action == "reject":
        return None
    kept = judgement.action == "accept"
    return old.messages[-1].content if kept else judgement.verdict


def _edited(
    old: Instruction, answer: str, judgements: Sequence[Judgement]
) -> Instruction:
    raters = "+".join(f"{j.rater_kind}:{j.rater}" for j in judgements)
    last = replace(old.messages[-1], content=answer)
    messages = (*old.messages[:-1], last)
    require_conversation(messages, f"item {old.id}, as rewritten by {raters}")
    return replace(
        old,
        id=f"{old.id}/rewritten",
        messages=messages,
        source=f"rewritten:{raters}:{old.id}",
    )


def rewrite_table(rewritten: Rewritten) -> list[dict[str, object]]:
    """One row a kind of rater: how many instructions came to each outcome."""
    kinds = sorted({d.rater_kind for d in rewritten.decisions})
    rows = []
    for kind in kinds:
        own = [d.outcome for d in rewritten.decisions if d.rater_kind == kind]
        counts = {outcome: own.count(outcome) for outcome in OUTCOMES}
        rows.append({"rater_kind": kind, "items": len(own), **counts})
    return rows


def write_rewrites(folder: Path, rewritten: Rewritten) -> dict[str, int]:
    """Writes kept.jsonl, rejected.jsonl and disputed.jsonl; the lines in each.

    Kept are records of ``Instruction``; the others are ``Decision`` records with the
    instruction, the reasons and who gave them. A file with nothing to hold is empty,
    so that none of an earlier call stays.
    """
    groups = {
        "kept": rewritten.kept,
        "rejected": rewritten.rejected,
        "disputed": rewritten.disputed,
    }
    return {
        name: write_records(Path(folder) / f"{name}.jsonl", records)
        for name, records in groups.items()
    }
