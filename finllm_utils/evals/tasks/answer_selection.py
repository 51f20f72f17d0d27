"""Insurance answer selection: the right answer among up to 200 retrieved wrong ones.

A model prefers the answer whose characters are likeliest behind the question. Two
scores: hit@1, whether its first choice is right, and the reciprocal rank of the first
right answer (their mean is MRR). Answers of equal score are ranked at random, so both
are the expected values. Rules that know no language model stand beside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import bm25s
import numpy as np
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.corpora.insurance import InsuranceAnswer, InsuranceQuestion
from finllm_utils.evals.choice import prompt_text
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.model.score import sequence_nats

HIT_SUITE = "answer_selection.hit_at_1"
RANK_SUITE = "answer_selection.reciprocal_rank"
RULES = ("chance", "shortest", "overlap", "bm25")


@dataclass(frozen=True, slots=True)
class SelectionItem:
    """A question and its candidates, the ``num_right`` right answers first."""

    id: str
    question: str
    candidates: tuple[str, ...]
    num_right: int


def selection_items(
    questions: Sequence[InsuranceQuestion],
    answers: Mapping[str, InsuranceAnswer],
    *,
    num_questions: int,
    num_negatives: int,
    max_chars: int,
    seed: int,
) -> list[SelectionItem]:
    """Up to ``num_questions`` items, drawn by ``seed``.

    Args: num_negatives bounds the wrong answers of a question (200 are retrieved);
    max_chars cuts every candidate, as a long one costs the most to score. A wrong
    answer that then reads like a right one, or like another wrong one, is left out.
    Raises: ValueError when a number is below 1, or no question has both kinds.
    """
    for name, value in (
        ("num_questions", num_questions),
        ("num_negatives", num_negatives),
        ("max_chars", max_chars),
    ):
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
    rng = np.random.default_rng(seed)
    items: list[SelectionItem] = []
    for index in rng.permutation(len(questions)):
        if len(items) == num_questions:
            break
        question = questions[index]
        right = _texts(question.positives, answers, max_chars)
        wrong = _texts(question.negatives, answers, max_chars)
        wrong = [text for text in wrong if text not in right]
        drawn = rng.permutation(len(wrong))[:num_negatives]
        if right and wrong:
            candidates = (*right, *(wrong[i] for i in sorted(drawn)))
            item = SelectionItem(question.id, question.zh, candidates, len(right))
            items.append(item)
    if not items:
        raise ValueError(
            "no question has a right and a wrong answer: pass questions of "
            "splits.insurance_questions with the answers they name"
        )
    return items


def _texts(
    keys: Sequence[str], answers: Mapping[str, InsuranceAnswer], max_chars: int
) -> list[str]:
    """The different wordings of the answers, cut, in order; empty ones are left out."""
    return [t for t in dict.fromkeys(answers[k].zh[:max_chars] for k in keys) if t]


def candidate_scores(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[SelectionItem],
    *,
    prompt: str,
    batch_tokens: int,
) -> list[np.ndarray]:
    """Log-likelihood per character of each candidate (nats; higher is likelier).

    Args: prompt is "chat" or a name in ``choice.PROMPTS``.
    Returns: one array an item, as long as its candidates.
    Raises: ValueError from ``sequence_nats``, as for a text beyond the model's context.
    """
    scores = []
    for item in items:
        head = prompt_text(tokenizer, item.question, prompt)
        texts = [head + candidate for candidate in item.candidates]
        head_ids = np.array(tokenizer(head, add_special_tokens=False)["input_ids"])
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        nats = sequence_nats(
            model,
            ids,
            batch_tokens=batch_tokens,
            pad_id=tokenizer.pad_token_id or 0,
            first_scored=[_shared(head_ids, one) for one in ids],
        )
        chars = [len(candidate) for candidate in item.candidates]
        scores.append(-np.array([n.sum() for n in nats]) / chars)
    return scores


def _shared(head: np.ndarray, whole: Sequence[int]) -> int:
    """Tokens of the prompt; a merge across its end belongs to the answer."""
    same = head[: len(whole)] == np.array(whole[: len(head)])
    return int(np.argmin(same)) if not same.all() else len(same)


def rule_scores(rule: str, items: Sequence[SelectionItem]) -> list[np.ndarray]:
    """Scores by a rule: ``chance``, ``shortest``, ``overlap`` or ``bm25``.

    ``overlap`` counts pairs of characters shared with the question; ``bm25`` weighs
    them by rarity over all candidates of ``items``.
    Raises: ValueError for an unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; use one of {', '.join(RULES)}")
    if rule == "bm25":
        return _bm25(items)
    return [
        np.array([_rule_score(rule, item.question, c) for c in item.candidates], float)
        for item in items
    ]


def _rule_score(rule: str, question: str, candidate: str) -> float:
    if rule == "overlap":
        return len(set(_pairs(question)) & set(_pairs(candidate)))
    return -len(candidate) if rule == "shortest" else 0.0


def _bm25(items: Sequence[SelectionItem]) -> list[np.ndarray]:
    texts = list(dict.fromkeys(text for item in items for text in item.candidates))
    place = {text: i for i, text in enumerate(texts)}
    index = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
    index.index([_pairs(text) for text in texts], show_progress=False)
    scores = []
    for item in items:
        every = index.get_scores(sorted(set(_pairs(item.question))))
        scores.append(every[[place[text] for text in item.candidates]])
    return scores


def _pairs(text: str) -> list[str]:
    text = text.lower()
    return [text[i : i + 2] for i in range(len(text) - 1)]


def selection_results(
    items: Sequence[SelectionItem], scores: Sequence[np.ndarray], model: str
) -> list[ItemResult]:
    """Two records an item: the credit of hit@1, and the reciprocal rank.

    An item whose scores are not finite is failed, not wrong. ``given`` is the candidate
    put first, ``expected`` the first right answer.
    """
    results = []
    for item, values in zip(items, scores, strict=True):
        common = {"model": model, "item": item.id, "expected": item.candidates[0]}
        if not np.isfinite(values).all():
            common |= {"status": "failed", "detail": "a score is not finite"}
            hit = rank = 0.0
        else:
            common["given"] = item.candidates[int(np.argmax(values))]
            hit, rank = expected_ranks(values, item.num_right)
        results += [
            ItemResult(suite=HIT_SUITE, credit=hit, **common),
            ItemResult(suite=RANK_SUITE, credit=rank, **common),
        ]
    return results


def expected_ranks(values: np.ndarray, num_right: int) -> tuple[float, float]:
    """Expected hit@1 and reciprocal rank of the first right answer, ties at random.

    Args: values of the candidates, higher is better, the right ones first.
    Example: expected_ranks(np.array([1.0, 1.0, 0.0]), 1) == (0.5, 0.75).
    """
    best = values[:num_right].max()
    above = int((values > best).sum())
    tied = int((values == best).sum())
    right = int((values[:num_right] == best).sum())
    orders = comb(tied, right)
    rank = sum(
        comb(tied - place, right - 1) / orders / (above + place)
        for place in range(1, tied - right + 2)
    )
    return (0.0 if above else right / tied), rank
