"""Is an answer of use to the one who asked? By rules, and by recorded blind raters.

Rules see form and topic, not truth: they find the ways in which a tuned model gets
worse (one answer for all, echoes, loops, keywords, made-up articles). A reward model's
score is the caller's, ``acceptance.run`` takes one: not the one that trained the
policy, whose score only says that training worked. Raters compare pairs blind on the
annotation card; their kind, model or human, stands beside every figure.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from finllm_utils.annotation.agreement import signed_strength
from finllm_utils.annotation.judgements import MAX_STRENGTH, Item, Judgement, settled
from finllm_utils.annotation.results import item_of
from finllm_utils.data.citations import ArticleBook
from finllm_utils.data.filter_repetition import check_repetitions
from finllm_utils.data.instructions import question_overlap
from finllm_utils.rlhf.preferences import SENTENCE_ENDS

BEATEN = 0.9  # of the other questions share less with the answer: chance passes 1 in 10
MIN_QUESTIONS = 10  # so that a tenth of the others is one
MIN_NEW = 0.5  # of an answer's pairs of characters, not taken from the question
MIN_VARIED = 0.5  # different pairs of all; natural answers of 300 characters have 0.7
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True, kw_only=True, slots=True)
class Helpfulness:
    """Signs of one answer each, 0 to 1; every array is (answers,)."""

    on_topic: np.ndarray
    """Shares more with its question than with nine of ten others."""
    adds: np.ndarray
    """Says something new; in proportion below half of its pairs of characters."""
    ends: np.ndarray
    """Ends a sentence."""
    varied: np.ndarray
    """Does not repeat itself."""
    sound: np.ndarray
    """Cites no article that its law does not have."""

    @property
    def scores(self) -> np.ndarray:
        """on_topic x adds x the mean of the other three; off topic is 0."""
        return self.on_topic * self.adds * (self.ends + self.varied + self.sound) / 3


def helpfulness(
    questions: Sequence[str], answers: Sequence[str], book: ArticleBook
) -> Helpfulness:
    """The signs of each answer; its length is none of them.

    An answer in other words than its question's is taken for off topic.
    Raises: ValueError when the two do not pair, or for under ``MIN_QUESTIONS``.
    """
    if len(questions) != len(answers) or len(questions) < MIN_QUESTIONS:
        raise ValueError(
            f"{len(answers)} answers to {len(questions)} questions: give one each, and "
            f"at least {MIN_QUESTIONS}, since answers are held against other questions"
        )
    asked = list(zip(questions, answers, strict=True))
    ended = [answer.rstrip()[-1:] or "-" for answer in answers]
    unlooped = [keep for keep, _ in check_repetitions(list(answers))]
    return Helpfulness(
        on_topic=np.array(
            [_on_topic(i, a, questions) for i, a in enumerate(answers)], float
        ),
        adds=np.array([min(1, _new_share(q, a) / MIN_NEW) for q, a in asked]),
        ends=np.array([last in SENTENCE_ENDS for last in ended], float),
        varied=np.array(
            [k and _varied(a) for k, a in zip(unlooped, answers, strict=True)], float
        ),
        sound=np.array([not book.invented(a) for a in answers], float),
    )


def _on_topic(index: int, answer: str, questions: Sequence[str]) -> bool:
    shared = np.array([question_overlap(question, answer) for question in questions])
    others = np.delete(shared, index)
    return bool((others < shared[index]).mean() >= BEATEN)


def _new_share(question: str, answer: str) -> float:
    """Share of the answer's pairs of characters that the question lacks."""
    return 1 - question_overlap(answer, question) if len(answer) > 1 else 0.0


def _varied(answer: str) -> bool:
    pairs = [answer[i : i + 2] for i in range(len(answer) - 1)]
    return bool(pairs) and len(set(pairs)) >= MIN_VARIED * len(pairs)


def echo(question: str) -> str:
    """The baseline that says the question again."""
    return question


def polite(question: str) -> str:
    """The baseline that says one friendly sentence to everyone."""
    return "您好，感谢您的提问，建议您根据自身情况，向专业的保险顾问详细咨询。"


BASELINES: dict[str, Callable[[str], str]] = {"echo": echo, "polite": polite}


def comparison_items(
    questions: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    *,
    task: str = "ab",
) -> tuple[Item, ...]:
    """Pairs for the annotation card, which hides names and shuffles sides.

    Equal answers are left out, since there is nothing to compare. Args: task is ab or
    graded. Ids are "compare/<index>".
    """
    rows = zip(questions, before, after, strict=True)
    return tuple(
        Item(
            id=f"compare/{index}",
            task=task,
            prompt=question,
            texts={BEFORE: old, AFTER: new},
        )
        for index, (question, old, new) in enumerate(rows)
        if old != new
    )


def rater_preferences(
    items: Sequence[Item], judgements: Iterable[Judgement], rater_kind: str
) -> np.ndarray:
    """For each item from -1 (before is better) to 1 (after is), the mean over raters.

    Args: judgements as ``read_judgements`` reads the card's file; only those of
    ``rater_kind`` count, model or human. A tie is 0, a graded verdict its signed
    strength over 3. As a measure: before all zeros, after these.
    Raises: ValueError for a judgement of other items, texts or tasks, and for an item
    that no rater of that kind judged.
    """
    known = {item.id: item for item in items}
    found: dict[str, list[float]] = {item.id: [] for item in items}
    for j in settled(judgements):
        if j.rater_kind == rater_kind and j.is_decision:
            item_of(known, j)
            found[j.item].append(_preference(j))
    if missing := [key for key, values in found.items() if not values]:
        raise ValueError(
            f"no {rater_kind} judgement for {len(missing)} of {len(found)} items, the "
            f"first is {missing[0]}: judge them with the card, or take them out"
        )
    return np.array([np.mean(values) for values in found.values()])


def _preference(judgement: Judgement) -> float:
    if judgement.task == "graded":
        return signed_strength(judgement) / MAX_STRENGTH  # AFTER is first by name
    if judgement.task != "ab":
        raise ValueError(
            f"item {judgement.item}: the task {judgement.task} gives no preference "
            "between two answers; use ab or graded"
        )
    return {AFTER: 1.0, BEFORE: -1.0, "tie": 0.0}[judgement.verdict]
