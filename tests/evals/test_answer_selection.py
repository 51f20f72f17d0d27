"""Answer selection: ranks with ties, the rules, and a model's scores."""

from itertools import permutations

import numpy as np
import pytest
import torch

from finllm_utils.corpora.insurance import InsuranceAnswer, InsuranceQuestion
from finllm_utils.evals.choice import prompt_text
from finllm_utils.evals.tasks.answer_selection import (
    HIT_SUITE,
    RANK_SUITE,
    SelectionItem,
    candidate_scores,
    expected_ranks,
    rule_scores,
    selection_items,
    selection_results,
)
from tests.evals.tiny import tiny_model, tiny_tokenizer

ITEM = SelectionItem(
    "q1", "什么是人寿保险？", ("人寿保险是保险", "银行", "贷款利率是多少", "人寿"), 1
)


def answers(*texts: str) -> dict[str, InsuranceAnswer]:
    return {str(i): InsuranceAnswer(str(i), t, "") for i, t in enumerate(texts)}


def question(key: str, positives: str, negatives: str) -> InsuranceQuestion:
    return InsuranceQuestion(
        key, "问？", "", "life", tuple(positives), tuple(negatives)
    )


def by_all_orders(values: list[float], num_right: int) -> tuple[float, float]:
    """Both scores as means over every order that sorts ``values``."""
    hits, ranks = [], []
    for order in permutations(range(len(values))):
        ordered = [values[i] for i in order]
        if ordered == sorted(values, reverse=True):
            first = next(p for p, i in enumerate(order, 1) if i < num_right)
            hits.append(first == 1)
            ranks.append(1 / first)
    return float(np.mean(hits)), float(np.mean(ranks))


@pytest.mark.parametrize(
    ("values", "num_right"),
    [([3, 1, 2], 1), ([1, 1, 0], 1), ([1, 2, 1, 1, 1], 1), ([1, 1, 1, 1, 2], 2),
     ([0, 0, 0, 0, 0], 3), ([2, 0, 2, 1], 2)],
)  # fmt: skip
def test_ranks_equal_the_mean_over_all_orders(values, num_right):
    found = expected_ranks(np.array(values, float), num_right)
    assert found == pytest.approx(by_all_orders(values, num_right))


def test_items_hold_the_right_ones_first_and_no_twin_of_them():
    texts = answers("甲" * 9, "乙乙", "甲" * 9, "丙丙丙", "乙乙", "甲甲甲甲丁")
    (item,) = selection_items(
        [question("a", "0", "12345"), question("b", "0", "2")], texts,
        num_questions=5, num_negatives=200, max_chars=4, seed=0,
    )  # fmt: skip
    assert item == SelectionItem("a", "问？", ("甲甲甲甲", "乙乙", "丙丙丙"), 1)


def test_numbers_are_bounded_and_checked():
    texts = answers(*(chr(0x4E00 + i) * 3 for i in range(9)))
    questions = [question(str(i), "0", "12345678") for i in range(4)]
    common = dict(num_questions=3, max_chars=9, seed=0)
    items = selection_items(questions, texts, num_negatives=2, **common)
    assert [len(i.candidates) for i in items] == [3, 3, 3]
    with pytest.raises(ValueError, match="num_negatives=0"):
        selection_items(questions, texts, num_negatives=0, **common)
    with pytest.raises(ValueError, match="no question has"):
        selection_items([], texts, num_negatives=2, **common)


def test_rules_by_hand():
    assert rule_scores("chance", [ITEM])[0].tolist() == [0, 0, 0, 0]
    assert rule_scores("shortest", [ITEM])[0].tolist() == [-7, -2, -7, -2]
    assert rule_scores("overlap", [ITEM])[0].tolist() == [3, 0, 0, 1]
    with pytest.raises(ValueError, match="longest"):
        rule_scores("longest", [ITEM])


def test_bm25_by_hand():
    item = SelectionItem("q", "保险", ("保险金", "保险保险", "银行"), 1)
    idf = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))  # two of three texts have 保险
    mean = (2 + 3 + 1) / 3
    wanted = [
        idf * count / (count + 1.2 * (0.25 + 0.75 * length / mean))
        for count, length in ((1, 2), (2, 3))
    ]
    found = rule_scores("bm25", [item])[0]
    assert found[:2] == pytest.approx(wanted, rel=1e-5) and found[2] == 0


def test_a_models_score_is_the_mean_logprob_of_the_characters():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    (scores,) = candidate_scores(
        model, tokenizer, [ITEM], prompt="plain", batch_tokens=64
    )
    head = prompt_text(tokenizer, ITEM.question, "plain")
    start = len(tokenizer(head, add_special_tokens=False)["input_ids"])
    for candidate, score in zip(ITEM.candidates, scores, strict=True):
        ids = tokenizer(head + candidate, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        total = sum(float(logprobs[i - 1, ids[i]]) for i in range(start, len(ids)))
        assert score == pytest.approx(total / len(candidate), abs=1e-4)


def test_results_of_an_item():
    hit, rank = selection_results([ITEM], [np.array([1.0, 3, 2, 0])], "m")
    assert (hit.suite, hit.credit, hit.given) == (HIT_SUITE, 0, "银行")
    assert (rank.suite, rank.credit) == (RANK_SUITE, pytest.approx(1 / 3))
    assert hit.expected == ITEM.candidates[0] and hit.status == "scored"


def test_scores_that_are_no_numbers_fail_the_item():
    for result in selection_results([ITEM], [np.array([1.0, np.nan, 2, 0])], "m"):
        assert (result.status, result.credit) == ("failed", 0)
        assert result.detail
