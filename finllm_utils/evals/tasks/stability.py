"""Does a model give the same answer to the same question, and only to that one?

Two answers are alike by the pairs of characters that they share (Jaccard, 0 to 1).
Answers to paraphrases of a question, or samples drawn for it, should be alike; answers
to different questions should not, for a model that says one thing to everyone is stable
and useless. So a group's stability is the likeness within minus the likeness to others.
Pure functions, but for the reader of paraphrases. Items: data_samples/stability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finllm_utils.data.shingles import shingle_set
from finllm_utils.evals.tasks.following import Reply
from finllm_utils.evals.tasks.item_files import read_items_of
from finllm_utils.records import ChatTurn

DATA_FILES = ("data_samples/stability",)
FOLDER = Path(__file__).resolve().parents[3] / DATA_FILES[0]
NGRAM = 2  # characters; a short answer has few longer windows in common with any


@dataclass(frozen=True, kw_only=True, slots=True)
class ParaphraseGroup:
    """One question in several wordings that ask the same."""

    id: str
    question: str
    paraphrases: tuple[str, ...]

    @property
    def wordings(self) -> tuple[str, ...]:
        """The question and its paraphrases."""
        return (self.question, *self.paraphrases)

    def fault(self) -> str:
        """Why the group cannot be used; empty when it can."""
        texts = [self.id, *self.wordings]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            return "id, question and paraphrases must be texts that say something"
        if not self.paraphrases or len(set(self.wordings)) < len(self.wordings):
            return "give at least one paraphrase, and each wording once"
        return ""


def read_paraphrases(
    path: Path | str = FOLDER / "paraphrases.jsonl",
) -> tuple[ParaphraseGroup, ...]:
    """The groups of a JSONL file of {"id", "question", "paraphrases": [...]}.

    Raises: ValueError naming file and line for wrong fields, an id that comes twice, or
    a group with a fault.
    """
    return read_items_of(path, _group)


def _group(row: dict) -> ParaphraseGroup:
    if not isinstance(row.get("paraphrases"), list):
        raise ValueError("paraphrases must be a list of texts")
    group = ParaphraseGroup(**dict(row, paraphrases=tuple(row["paraphrases"])))
    if fault := group.fault():
        raise ValueError(fault)  # without the id, which may be what is wrong
    return group


def likeness(texts: Sequence[str]) -> np.ndarray:
    """(texts, texts): shared over all pairs of characters; 0 for an empty text.

    Blanks, punctuation and the case of letters make no difference.
    """
    sets = [shingle_set(text, NGRAM) for text in texts]
    known = np.unique(np.concatenate(sets))
    has = np.zeros((len(sets), len(known)))
    for row, found in enumerate(sets):
        has[row, np.searchsorted(known, found)] = 1
    shared, sizes = has @ has.T, has.sum(1)
    return shared / np.maximum(sizes[:, None] + sizes - shared, 1)


def group_stability(answers: Sequence[Sequence[str]]) -> np.ndarray:
    """Each group's mean likeness of two of its answers, minus that to other groups'.

    Args: answers of each group, two or more. Returns: (groups,), -1 to 1; exactly 0 for
    a model that gives one answer to everything, about 0 for one that answers at random.
    A model that echoes the question scores what the paraphrases share: read it beside
    ``helpfulness``. Groups are not quite independent, since each is compared with all.
    Raises: ValueError for fewer than two groups, or under two answers in one.
    """
    if len(answers) < 2 or min(map(len, answers)) < 2:
        raise ValueError(
            f"{len(answers)} groups, the smallest of "
            f"{min(map(len, answers), default=0)} answers: stability compares two "
            "answers or more in each of two groups or more"
        )
    owner = np.repeat(np.arange(len(answers)), [len(group) for group in answers])
    alike = likeness([text for group in answers for text in group])
    scores = []
    for group in range(len(answers)):
        mine = owner == group
        inside, size = alike[np.ix_(mine, mine)], int(mine.sum())
        pairs = inside[np.triu_indices(size, 1)]
        scores.append(pairs.mean() - alike[np.ix_(mine, ~mine)].mean())
    return np.array(scores)


def paraphrase_answers(
    groups: Sequence[ParaphraseGroup], reply: Reply
) -> list[list[str]]:
    """The answers of one model to every wording, asked all at once."""
    talks = [[ChatTurn(role="user", content=w)] for g in groups for w in g.wordings]
    answers = iter(reply(talks))
    return [[next(answers) for _ in group.wordings] for group in groups]


def spread(values: Sequence[Sequence[float]]) -> np.ndarray:
    """Standard deviation of each question's samples, (questions,).

    Over seeds and temperatures, of lengths or rewards. It cannot tell a sure model from
    one with a single answer to everything, so it decides nothing by itself.
    """
    return np.asarray(values, float).std(axis=1)
