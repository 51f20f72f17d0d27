"""Does a model keep the thread? Dialogues whose last answer a program can check.

Three kinds: a slot said earlier is needed (carry_over), the client corrects a figure
(correction), the client changes the topic and comes back (topic_switch). The user's
turns are fixed; the model hears its own answers. Items: data_samples/exams.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finllm_utils.evals.tasks.following import Reply, spread
from finllm_utils.evals.tasks.item_files import read_items_of
from finllm_utils.records import ChatTurn

DATA_FILES = ("data_samples/exams/multiturn.jsonl",)
EXAM = Path(__file__).resolve().parents[3] / DATA_FILES[0]

KINDS = ("carry_over", "correction", "topic_switch")


@dataclass(frozen=True, kw_only=True, slots=True)
class DialogueItem:
    """User turns, and what the answer to the last of them must say and must not."""

    id: str
    kind: str
    turns: tuple[str, ...]
    must: tuple[tuple[str, ...], ...]
    """Of each group at least one must occur."""
    must_not: tuple[str, ...]
    reference: str

    @classmethod
    def read(cls, row: Mapping) -> "DialogueItem":
        """From a line of the file.

        Raises: ValueError naming the item for an unknown kind, fewer than two turns,
        nothing to check, or a reference that does not pass.
        """
        item = cls(
            id=row["id"],
            kind=row["kind"],
            turns=tuple(row["turns"]),
            must=tuple(tuple(group) for group in row["must"]),
            must_not=tuple(row["must_not"]),
            reference=row["reference"],
        )
        if item.kind not in KINDS:
            raise ValueError(f"{item.id}: kind {item.kind!r}; use {', '.join(KINDS)}")
        if len(item.turns) < 2 or not item.must or not all(item.must):
            raise ValueError(f"{item.id}: give two user turns and what must be said")
        if not item.passes(item.reference):
            raise ValueError(f"{item.id}: its own reference does not pass")
        return item

    def passes(self, answer: str) -> bool:
        """Whether ``answer`` says one of every group and nothing that is forbidden.

        Blanks and the commas of thousands make no difference.
        """
        plain = _plain(answer)
        said = all(any(_plain(p) in plain for p in group) for group in self.must)
        return said and not any(_plain(part) in plain for part in self.must_not)


def read_dialogues(number: int | None = None, path: Path = EXAM) -> list[DialogueItem]:
    """The exam, or ``number`` dialogues spread evenly over its kinds.

    Raises: ValueError naming file, line and item, see ``DialogueItem.read``.
    """
    items = read_items_of(path, DialogueItem.read)
    return spread(sorted(items, key=lambda item: item.kind), number)


def play(items: Sequence[DialogueItem], reply: Reply) -> list[str]:
    """The model's last answer in every dialogue; all dialogues go on side by side."""
    talks: list[list[ChatTurn]] = [[] for _ in items]
    for turn in range(max(len(item.turns) for item in items)):
        going = [i for i, item in enumerate(items) if turn < len(item.turns)]
        for i in going:
            talks[i].append(ChatTurn(role="user", content=items[i].turns[turn]))
        for i, answer in zip(going, reply([talks[i] for i in going]), strict=True):
            talks[i].append(ChatTurn(role="assistant", content=answer))
    return [talk[-1].content for talk in talks]


def dialogue_share(items: Sequence[DialogueItem], reply: Reply) -> float:
    """Share of dialogues, 0 to 1, whose last answer passes."""
    pairs = zip(items, play(items, reply), strict=True)
    return sum(item.passes(answer) for item, answer in pairs) / len(items)


def echo(talks: Sequence[Sequence[ChatTurn]]) -> list[str]:
    """The baseline that repeats all the client ever said, oldest first.

    It says every slot, but the corrected figure with the old one.
    """
    return [
        "".join(turn.content for turn in talk if turn.role == "user") for talk in talks
    ]


def _plain(text: str) -> str:
    return "".join(text.replace(",", "").replace("，", "").split())
