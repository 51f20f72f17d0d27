"""The exam by likelihood: which of the legal answers does the model find most likely?

Two forms. "letters" shows the options and scores the letters; of a multiple item, every
set of two letters or more. "options" hides them and scores their texts, per character;
a set has no one text, so multiple items are scored by letters there too. A prompt is
read once for all its answers (``model.shared_prefix``), and each log-likelihood is what
lm-eval's ``multiple_choice`` computes for the same prompt and continuation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from finllm_utils.evals.exam.items import (
    choose_shots,
    continuations,
    exam_prompt,
    legal_answers,
)
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.model.shared_prefix import PromptScores, score_continuations
from finllm_utils.records import ExamItem

FORMS = ("letters", "options")
NO_TEMPLATE = "the tokenizer has no chat template"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """How an item is put to a model: plain text or a chat turn, with solved examples.

    Shots come from ``pool`` and depend on the seed; chat puts the whole prompt into
    the user's turn.
    """

    chat: bool = False
    pool: Sequence[ExamItem] = ()
    num_shots: int = 0
    seed: int = 0

    def user_text(self, item: ExamItem, listed: bool = True) -> str:
        """The prompt without any chat template."""
        shots = choose_shots(item, self.pool, self.num_shots, self.seed)
        return exam_prompt(item, shots, listed=listed)

    def text(
        self, tokenizer: PreTrainedTokenizerBase, item: ExamItem, listed: bool = True
    ) -> str:
        """All text before the answer. Raises: ValueError without a chat template."""
        words = self.user_text(item, listed)
        if not self.chat:
            return words
        if tokenizer.chat_template is None:
            raise ValueError(f"{NO_TEMPLATE}: ask with chat=False")
        turn = [{"role": "user", "content": words}]
        return tokenizer.apply_chat_template(
            turn, add_generation_prompt=True, tokenize=False
        )


PLAIN, CHAT = Asking(), Asking(chat=True)


@dataclass(frozen=True, slots=True)
class ExamScores:
    """Log-likelihood of every legal answer, and what the likeliest ones earn."""

    loglikelihoods: tuple[np.ndarray, ...]
    """One array an item, in the order of ``legal_answers``; empty where it failed."""
    results: list[ItemResult]


def score_exam(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[ExamItem],
    *,
    name: str,
    batch_tokens: int,
    form: str = "letters",
    asking: Asking = PLAIN,
    suite: str = "exam",
    max_length: int | None = None,
) -> ExamScores:
    """Takes the likeliest legal answer of every item; exact ties share the credit.

    An item is failed, not wrong, when it cannot be scored. One whose prompt was cut to
    fit the context, on the left as lm-eval does, is scored and says so.
    Args: name stands in the results; max_length as in ``score_continuations``.
    """
    if form not in FORMS:
        raise ValueError(f"form={form!r}: use {' or '.join(FORMS)}")
    if asking.chat and tokenizer.chat_template is None:
        scores = [PromptScores(fault=NO_TEMPLATE)] * len(items)
    else:
        by_text = [_by_text(item, form) for item in items]
        scores = score_continuations(
            model,
            tokenizer,
            [
                asking.text(tokenizer, item, listed=not text)
                for item, text in zip(items, by_text, strict=True)
            ],
            [
                item.choices if text else continuations(item)
                for item, text in zip(items, by_text, strict=True)
            ],
            batch_tokens=batch_tokens,
            max_length=max_length,
        )
    results = [
        likelihood_result(item, one, form=form, name=name, suite=suite)
        for item, one in zip(items, scores, strict=True)
    ]
    return ExamScores(tuple(one.loglikelihoods for one in scores), results)


def _by_text(item: ExamItem, form: str) -> bool:
    return form == "options" and item.type != "multiple"


def likelihood_result(
    item: ExamItem, scores: PromptScores, *, form: str, name: str, suite: str
) -> ItemResult:
    """The record of one item from the scores of its legal answers, in their order."""
    known = dict(
        suite=suite, model=name, item=item.id, group=item.subject, expected=item.answer
    )
    if scores.fault:
        return ItemResult(credit=0, status="failed", detail=scores.fault, **known)
    values = scores.loglikelihoods
    if _by_text(item, form):
        values = values / [len(choice) for choice in item.choices]
    answers = legal_answers(item)
    best = [answers[i] for i in np.flatnonzero(values == values.max())]
    notes = []
    if len(best) > 1:
        notes.append(f"tie of {', '.join(best)}")
    if scores.num_cut:
        notes.append(f"prompt cut by {scores.num_cut} tokens on the left")
    return ItemResult(
        credit=(item.answer in best) / len(best),
        given=best[0],
        detail="; ".join(notes),
        **known,
    )
