"""The exam for any model of the table: asked in words, its written answers read.

Models that only answer (endpoints, recorded outputs) are scored by this alone; local
ones also by likelihood (``exam_scoring.score_exam``) or held to the legal answers.
"""

from collections.abc import Sequence

from finllm_utils.evals.exam_generation import exam_conversations, written_results
from finllm_utils.evals.exam_scoring import PLAIN, Asking
from finllm_utils.evals.item_results import ItemResult
from finllm_utils.evals.prompts import Answering, Prompt
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
