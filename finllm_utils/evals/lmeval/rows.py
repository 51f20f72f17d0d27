"""Our items as rows of lm-eval's data files, one row a request; see ``lmeval.export``.

What a verdict needs travels in the row as JSON, since a column of a data set has one
type only. ``lmeval.results`` reads it there.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from finllm_utils.evals.bits_per_byte import heldout_texts
from finllm_utils.evals.choice import PROMPTS, ChoiceItem
from finllm_utils.evals.exam.items import continuations, exam_fault, legal_answers
from finllm_utils.evals.exam.option_order import InOrders
from finllm_utils.evals.exam.scoring import Asking
from finllm_utils.evals.suites.hallucination_suite import (
    HallucinationItem,
    item_id,
    part_of,
)
from finllm_utils.evals.suites.numeric_suite import NumericItem
from finllm_utils.evals.tasks.answer_selection import SelectionItem
from finllm_utils.evals.tasks.following import FollowingItem
from finllm_utils.evals.tasks.hallucination import Passage, Question, StatutePrompt
from finllm_utils.evals.tasks.safety import SafetyItem
from finllm_utils.evals.tasks.stability import ParaphraseGroup
from finllm_utils.records import Document, ExamItem

CHAT = "chat"
"""The prompt of insurance questions that is the question alone, in a chat turn."""
Insurance = ChoiceItem | SelectionItem
Written = FollowingItem | NumericItem | SafetyItem | ParaphraseGroup | HallucinationItem
Item = ExamItem | InOrders | Insurance | Document | Written


def in_chat(item: Item, asking: Asking, prompt: str) -> bool:
    """Whether lm-eval must put items of this kind into the model's chat template."""
    if isinstance(item, ExamItem | InOrders):
        return asking.chat
    if isinstance(item, Insurance):
        return prompt == CHAT
    return isinstance(item, Written)


def task_rows(
    items: Sequence[Item], asking: Asking, prompt: str
) -> dict[str, list[dict]]:
    """The rows of every task of a suite, by the part that the task's name ends with.

    A paraphrase group has a row for each wording, an item in several orders one for
    each of them, a document without text none.
    Raises: ValueError naming what cannot be asked.
    """
    if isinstance(items[0], Document):
        texts = heldout_texts(items)
        rows = [{"id": d.id, "text": t} for d, t in zip(items, texts, strict=True) if t]
        return {"": rows}
    parts: dict[str, list[dict]] = {}
    for item in items:
        for part, row in _rows(item, asking, prompt):
            parts.setdefault(part, []).append(row)
    return parts


def _rows(item: Item, asking: Asking, prompt: str) -> Iterator[tuple[str, dict]]:
    if isinstance(item, ParaphraseGroup):
        yield from (("", row) for row in _wordings(item))
    elif isinstance(item, InOrders):
        yield from (("", row) for row in _orders(item, asking))
    elif isinstance(item, ExamItem):
        row = {"id": item.id} | _exam_row(item, asking)
        yield f"{_place(item.id)}_{item.type}", row
    elif isinstance(item, Insurance):
        yield "", {"id": item.id} | _insurance_row(item, prompt)
    elif isinstance(item, StatutePrompt | Question | Passage):
        known = {"id": item_id(item), "prompt": item.prompt, "part": part_of(item)}
        yield part_of(item), known | {"item": _json(asdict(item))}
    else:
        part, row = _written_row(item)
        yield part, {"id": item.id} | row


def _place(one_id: str) -> str:
    """The part of an id before its last: exam/bank/001 gives bank."""
    return re.sub(r"\W+", "_", ("/" + one_id).split("/")[-2]) or "all"


def _exam_row(item: ExamItem, asking: Asking) -> dict:
    if fault := exam_fault(item):
        raise ValueError(f"{item.id}, {fault}")
    return {
        "prompt": asking.user_text(item),
        "choices": list(continuations(item)),
        "gold": legal_answers(item).index(item.answer),
    }


def _insurance_row(item: Insurance, prompt: str) -> dict:
    if prompt != CHAT and prompt not in PROMPTS:
        raise ValueError(f"prompt={prompt!r}: use {CHAT}, {', '.join(PROMPTS)}")
    asked = "{question}" if prompt == CHAT else PROMPTS[prompt]
    row = {"prompt": asked.format(question=item.question)}
    if isinstance(item, ChoiceItem):
        return row | {"choices": list(item.options), "gold": item.answer}
    choices = list(item.candidates)
    return row | {"choices": choices, "gold": 0, "num_right": item.num_right}


def _written_row(item: FollowingItem | NumericItem | SafetyItem) -> tuple[str, dict]:
    if isinstance(item, FollowingItem):
        rules = _json([dict(rule) for rule in item.rules])
        return item.domain, {"prompt": item.prompt, "rules": rules}
    if isinstance(item, NumericItem):
        return "", {"prompt": item.question}
    return item.category, {"prompt": item.prompt, "item": _json(asdict(item))}


def _orders(item: InOrders, asking: Asking) -> Iterator[dict]:
    """Rows that tell whether the item was asked in all its orders."""
    for number, moved in enumerate(item.orders):
        known = {"id": f"{item.id}/{number}", "group": item.id, "of": len(item.orders)}
        yield known | _exam_row(moved, asking)


def _wordings(group: ParaphraseGroup) -> Iterator[dict]:
    """Rows that tell whether all wordings of a group were asked."""
    for number, wording in enumerate(group.wordings):
        yield {
            "id": f"{group.id}/{number}",
            "prompt": wording,
            "group": group.id,
            "number": number,
            "of": len(group.wordings),
        }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
