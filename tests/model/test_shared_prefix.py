"""Scores of continuations behind one prompt: equal to lm-eval's, in fewer tokens."""

import pytest
import torch

from finllm_utils.model.shared_prefix import (
    _batches,
    _Row,
    encode_pairs,
    score_continuations,
)
from tests.model.byte_level import byte_model as model
from tests.model.byte_level import byte_tokenizer as tokenizer
from tests.model.byte_level import lm_eval_scores

PROMPTS = ["利率是多少？\n答案：", "以下哪项正确？A B C\n答案： ", "答案："]
ANSWERS = [
    ["A", "B", "C", "D"],
    ["AB\n", "AC\n", "ABD\n", "ABCD\n", "BD\n"],
    ["按约定还本付息", "按约定", "按期归还利息和本金", "X"],
]


def assert_same(scores, expected):
    for one, wanted in zip(scores, expected, strict=True):
        assert one.fault == ""
        assert one.loglikelihoods == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_likelihoods_equal_lm_eval(bos, attention):
    llama, pieces = model(attention), tokenizer(bos)
    scores = score_continuations(llama, pieces, PROMPTS, ANSWERS, batch_tokens=150)
    expected = lm_eval_scores(llama, pieces, PROMPTS, ANSWERS)
    assert max(map(max, expected)) - min(map(min, expected)) > 10  # far from uniform
    assert_same(scores, expected)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_what_prompts_begin_with_is_read_once_for_a_batch(attention):
    llama, pieces = model(attention, context=200), tokenizer()
    head = "以下是银行的单项选择题。"
    prompts = [head + "问" * n + "\n答案：" for n in (1, 7, 3, 5, 2)] * 2
    answers = [ANSWERS[0]] * 5 + [ANSWERS[1]] * 5
    read = []
    llama.model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    scores = score_continuations(llama, pieces, prompts, answers, batch_tokens=2000)
    # 10 prompts of 5 texts: the letters "A" to "D" join the row that holds the sets
    shared = len(pieces(head + "问")["input_ids"])
    assert len(read) == 2 and read[0] == (1, shared) and read[1][0] == 5
    assert_same(scores, lm_eval_scores(llama, pieces, prompts, answers))


def test_batches_stay_within_bounds_and_apart_by_kind():
    def row(context, branches=()):
        return _Row(tuple(context), branches={b: 0 for b in branches})

    common = [row([1] * 20 + [2] * n) for n in range(1, 6)]
    others = [row([n] * 30) for n in range(3, 6)]
    trees = [row([1] * 20 + [2], branches=[(7,)])]
    batches = list(_batches(common + others + trees, 100))
    lengths = [[one.length for one in batch] for batch in batches]
    assert lengths == [[22], [30, 30, 30], [25, 24, 23, 22], [21]]


def test_a_prompt_too_long_is_cut_as_lm_eval_cuts_it(caplog):
    llama, pieces = model(context=40), tokenizer()
    prompts = [PROMPTS[0] * 3, PROMPTS[2]]
    answers = [[*ANSWERS[1], "乙", "A"], ANSWERS[0]]
    scores = score_continuations(llama, pieces, prompts, answers, batch_tokens=64)
    assert_same(scores, lm_eval_scores(llama, pieces, prompts, answers))
    (context, tails), _ = encode_pairs(pieces, prompts, answers)
    assert scores[0].num_cut == len(context) + max(map(len, tails)) - 41 > 0
    assert scores[1].num_cut == 0
    assert "1 of 2 prompts exceed 40 tokens" in caplog.text


def test_a_chat_template_with_its_own_bos_gets_no_second_one():
    llama, pieces = model(), tokenizer()
    prompts = ["<s>" + PROMPTS[0]]
    (pair,) = encode_pairs(pieces, prompts, ANSWERS[:1])
    assert pair[0][0] == 0 and pair[0][1] != 0
    scores = score_continuations(llama, pieces, prompts, ANSWERS[:1], batch_tokens=64)
    assert_same(scores, lm_eval_scores(llama, pieces, prompts, ANSWERS[:1]))


def test_letters_cost_one_pass_over_the_prompt():
    llama, pieces = model(), tokenizer()
    read = []
    llama.model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()),
        with_kwargs=True,
    )
    score_continuations(llama, pieces, PROMPTS[:1], ANSWERS[:1], batch_tokens=64)
    (pair,) = encode_pairs(pieces, PROMPTS[:1], ANSWERS[:1])
    assert read == [len(pair[0])]


def test_continuations_and_their_order_do_not_disturb_each_other():
    llama, pieces = model(), tokenizer()

    def score(answers, batch_tokens=64):
        return score_continuations(
            llama, pieces, PROMPTS[:1], [answers], batch_tokens=batch_tokens
        )[0].loglikelihoods

    together = score(ANSWERS[2])
    assert score(ANSWERS[2][::-1])[::-1] == pytest.approx(together, abs=1e-4)
    alone = [score([answer], 1)[0] for answer in ANSWERS[2]]
    assert alone == pytest.approx(together, abs=1e-4)


def test_what_cannot_be_scored_says_why_and_spares_the_others():
    llama, pieces = model(context=40), tokenizer()
    answers = [["A", ""], ["长" * 20, "B"], ["A", "B"]]  # 60 + a space
    scores = score_continuations(llama, pieces, PROMPTS, answers, batch_tokens=64)
    assert "without a token" in scores[0].fault and not scores[0].logprobs
    assert "61 tokens exceeds 40" in scores[1].fault
    assert scores[2].fault == "" and len(scores[2].loglikelihoods) == 2
    with torch.no_grad():
        llama.lm_head.weight[5] = float("nan")
    (broken,) = score_continuations(
        llama, pieces, PROMPTS[:1], ANSWERS[:1], batch_tokens=64
    )
    assert "NaN" in broken.fault


def test_models_that_would_be_scored_wrongly_are_refused():
    llama, pieces = model(), tokenizer()
    with pytest.raises(ValueError, match="blank prompt"):
        score_continuations(llama, pieces, [" "], [["A"]], batch_tokens=64)
    llama.config.final_logit_softcapping = 30.0
    with pytest.raises(ValueError, match="final_logit_softcapping"):
        score_continuations(llama, pieces, PROMPTS, ANSWERS, batch_tokens=64)
    llama.config.final_logit_softcapping = None
    small = model()
    small.resize_token_embeddings(100)
    with pytest.raises(ValueError, match="100 embedding rows"):
        score_continuations(small, pieces, PROMPTS, ANSWERS, batch_tokens=64)
    llama.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="flash_attention_2"):
        score_continuations(llama, pieces, PROMPTS, ANSWERS, batch_tokens=64)
