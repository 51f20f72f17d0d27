"""The exam by writing: held to the legal answers, or free and then read.

Constrained decoding takes the likeliest next token among those that still lead to a
legal answer, and so always ends in one. For one-letter answers this equals scoring by
likelihood; for sets the first letter decides before the rest is seen, and the two may
differ (``differing`` lists where). Free text is read by ``exam.answers.read_answer``.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from finllm_utils.evals.exam.answers import read_answer
from finllm_utils.evals.exam.items import continuations, legal_answers
from finllm_utils.evals.exam.scoring import CHAT, NO_TEMPLATE, PLAIN, Asking
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.evals.tasks.following import Reply
from finllm_utils.model.shared_prefix import Ids, encode_pairs, score_ids
from finllm_utils.records import ChatTurn, ExamItem

NO_ANSWER = "no answer found"
_SHOWN = 60  # characters of an unreadable answer that its record keeps


class NoReply(Protocol):
    """What stands for an answer that never came, with the reason."""

    reason: str


def constrained_exam(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[ExamItem],
    *,
    name: str,
    batch_tokens: int,
    asking: Asking = CHAT,
    suite: str = "exam",
) -> list[ItemResult]:
    """Greedy decoding that can only write a legal answer and then stop.

    The tree of legal answers is scored in one pass and walked, which gives what
    ``model.generate`` gives with ``prefix_allowed_tokens_fn``.
    """
    if asking.chat and tokenizer.chat_template is None:
        return [_failed(item, NO_TEMPLATE, name, suite) for item in items]
    pairs = encode_pairs(
        tokenizer,
        [asking.text(tokenizer, item) for item in items],
        [_endings(item, asking.chat) for item in items],
    )
    stop = (tokenizer.eos_token_id,) if asking.chat else ()
    tails = [tuple(tail + stop for tail in own) for _, own in pairs]
    scores = score_ids(
        model, [context for context, _ in pairs], tails, batch_tokens=batch_tokens
    )
    results = []
    for item, own, one in zip(items, tails, scores, strict=True):
        fault = one.fault
        if len(set(own)) < len(own):
            fault = "the tokenizer writes two answers alike"
        if fault:
            results.append(_failed(item, fault, name, suite))
            continue
        given = legal_answers(item)[greedy_walk(own, one.logprobs)]
        notes = f"prompt cut by {one.num_cut} tokens on the left" * (one.num_cut > 0)
        results.append(_answered(item, given, notes, name, suite))
    return results


def _endings(item: ExamItem, chat: bool) -> tuple[str, ...]:
    """The answers; a chat model closes its turn behind them, another one the line."""
    return legal_answers(item) if chat else continuations(item)


def greedy_walk(tails: Sequence[Ids], logprobs: Sequence[np.ndarray]) -> int:
    """Index of the tail that taking the likeliest allowed token each time ends in.

    Args: tails are different and none begins another; logprobs are of their tokens.
    """
    alive, depth = list(range(len(tails))), 0
    while len(alive) > 1:
        best = max(alive, key=lambda i: logprobs[i][depth])
        alive = [i for i in alive if tails[i][depth] == tails[best][depth]]
        depth += 1
    return alive[0]


def exam_conversations(
    items: Sequence[ExamItem], asking: Asking = PLAIN
) -> list[tuple[ChatTurn, ...]]:
    """One user turn an item, for a chat model that answers in its own words."""
    return [(ChatTurn(role="user", content=asking.user_text(item)),) for item in items]


def free_exam(
    reply: Reply,
    items: Sequence[ExamItem],
    *,
    name: str,
    asking: Asking = PLAIN,
    suite: str = "exam",
) -> list[ItemResult]:
    """Asks ``reply`` (as ``generate.chat_reply`` makes it) and reads its answers."""
    answers = reply(exam_conversations(items, asking))
    return written_results(items, answers, name=name, suite=suite)


def written_results(
    items: Sequence[ExamItem],
    answers: Sequence[str | NoReply],
    *,
    name: str,
    suite: str = "exam",
) -> list[ItemResult]:
    """Credits of written answers, from a model or recorded ones.

    Text that gives no legal answer is the model's own fault and earns nothing; an
    answer that never came is failed.
    """
    results = []
    for item, answer in zip(items, answers, strict=True):
        if not isinstance(answer, str):
            results.append(_failed(item, answer.reason, name, suite))
            continue
        given = read_answer(answer, item)
        if given in legal_answers(item):
            results.append(_answered(item, given, "", name, suite))
            continue
        shown = " ".join(answer.split())[:_SHOWN]
        why = f"illegal answer {given}" if given else NO_ANSWER
        results.append(_answered(item, "", f"{why}: {shown}", name, suite))
    return results


def differing(
    first: Sequence[ItemResult], second: Sequence[ItemResult]
) -> list[tuple[ItemResult, ItemResult]]:
    """Items that came out with different answers, say by likelihood and by writing.

    Items that failed in one of the two are left out.
    Raises: ValueError when the two share no scored item.
    """
    known = {one.item: one for one in first if one.status == "scored"}
    pairs = [
        (known[one.item], one)
        for one in second
        if one.status == "scored" and one.item in known
    ]
    if not pairs:
        raise ValueError("no item was scored both ways: give results of the same items")
    return [(one, other) for one, other in pairs if one.given != other.given]


def _answered(
    item: ExamItem, given: str, detail: str, name: str, suite: str
) -> ItemResult:
    return ItemResult(
        suite=suite,
        model=name,
        item=item.id,
        credit=float(given == item.answer),
        group=item.subject,
        given=given,
        expected=item.answer,
        detail=detail,
    )


def _failed(item: ExamItem, reason: str, name: str, suite: str) -> ItemResult:
    return ItemResult(
        suite=suite,
        model=name,
        item=item.id,
        credit=0,
        group=item.subject,
        expected=item.answer,
        status="failed",
        detail=reason or "no reply and no reason given",
    )
