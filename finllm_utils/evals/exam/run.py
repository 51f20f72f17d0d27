"""The exam for any model of the table: asked in words, its written answers read.

Models that only answer (endpoints, recorded outputs) are scored by this alone; local
ones also by likelihood (``exam.scoring.score_exam``) or held to the legal answers.
"""

from collections.abc import Sequence

from finllm_utils.evals.exam.generation import exam_conversations, written_results
from finllm_utils.evals.exam.scoring import PLAIN, Asking, score_exam
from finllm_utils.evals.models.local import LocalModel
from finllm_utils.evals.models.prompts import Answering, Prompt
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.records import ExamItem

MAX_NEW_TOKENS = 32  # room for "答案：ABCD" and a few words; thinking models need more


def exam_prompts(items: Sequence[ExamItem], asking: Asking = PLAIN) -> list[Prompt]:
    """The prompt of each item; a model without a chat template may continue it."""
    talks = exam_conversations(items, asking)
    return [
        Prompt(item.id, talk, continues=True)
        for item, talk in zip(items, talks, strict=True)
    ]


def run_exam(
    model: Answering,
    items: Sequence[ExamItem],
    *,
    asking: Asking = PLAIN,
    suite: str = "exam",
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[ItemResult]:
    """One result an item: read from the answer, or failed where none came.

    Raises: ValueError for settings that spoil every item, as ``model.answers`` does.
    """
    answers = model.answers(exam_prompts(items, asking), max_new_tokens)
    return written_results(items, answers, name=model.name, suite=suite)


def ask_exam(
    model: Answering,
    items: Sequence[ExamItem],
    *,
    batch_tokens: int,
    suite: str = "exam",
) -> list[ItemResult]:
    """One result an item: by likelihood where the weights are here, else in words.

    A local model is asked in its chat template when it was taught one.
    """
    if not isinstance(model, LocalModel):
        return run_exam(model, items, suite=suite)
    return score_exam(
        model.network,
        model.tokenizer,
        items,
        name=model.name,
        batch_tokens=batch_tokens,
        asking=Asking(chat=model.chat),
        suite=suite,
    ).results
