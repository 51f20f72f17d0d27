"""The exam by likelihood: equal to lm-eval's choice scores, and fair about failures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from finllm_utils.evals.exam.items import continuations, exam_prompt
from finllm_utils.evals.exam.scoring import Asking, likelihood_result, score_exam
from finllm_utils.model.shared_prefix import PromptScores
from tests.evals.small_exam import three_kinds
from tests.model.byte_level import byte_model, byte_tokenizer, lm_eval_scores

SINGLE, MULTIPLE, JUDGEMENT = three_kinds()
ITEMS = [SINGLE, MULTIPLE, JUDGEMENT]


def scored(**options):
    found = score_exam(
        byte_model(context=options.pop("context", 512)),
        byte_tokenizer(),
        options.pop("items", ITEMS),
        name="tiny",
        batch_tokens=600,
        **options,
    )
    return found


def assert_same(found, prompts, answers):
    expected = lm_eval_scores(
        byte_model(context=512), byte_tokenizer(), prompts, answers
    )
    for values, wanted in zip(found.loglikelihoods, expected, strict=True):
        assert values == pytest.approx(wanted, abs=1e-4)


def test_letters_equal_lm_eval():
    found = scored()
    assert_same(
        found, [exam_prompt(i) for i in ITEMS], [continuations(i) for i in ITEMS]
    )
    assert [len(values) for values in found.loglikelihoods] == [4, 11, 2]
    first = found.results[0]
    assert first.given == "ABCD"[int(np.argmax(found.loglikelihoods[0]))]
    assert (first.suite, first.model, first.group) == ("exam", "tiny", "银行")
    assert len(found.results[1].given) >= 2


def test_options_are_scored_by_character_and_sets_by_letters():
    found = scored(form="options")
    listed = [False, True, False]
    answers = [SINGLE.choices, continuations(MULTIPLE), JUDGEMENT.choices]
    prompts = [exam_prompt(i, listed=s) for i, s in zip(ITEMS, listed, strict=True)]
    assert_same(found, prompts, answers)
    by_character = found.loglikelihoods[0] / [1, 3, 1, 2]
    assert found.results[0].given == "ABCD"[int(np.argmax(by_character))]
    with pytest.raises(ValueError, match="letters or options"):
        scored(form="text")


def test_shots_and_chat_turns_are_part_of_the_prompt():
    pool = [replace(SINGLE, id=f"s{i}", question=f"问{i}？") for i in range(3)]
    asking = Asking(pool=pool, num_shots=2, seed=1)
    text = asking.user_text(SINGLE)
    assert text.count("题目：") == 3 and text.endswith(exam_prompt(SINGLE)[-30:])
    found = scored(items=[SINGLE], asking=asking)
    assert_same(found, [text], [continuations(SINGLE)])
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ bos_token }}U:{{ messages[0].content }}\nA:"
    whole = Asking(chat=True).text(tokenizer, SINGLE)
    assert whole == "<s>U:" + exam_prompt(SINGLE) + "\nA:"


def test_without_a_chat_template_every_item_fails():
    found = scored(asking=Asking(chat=True))
    assert {r.status for r in found.results} == {"failed"}
    assert "chat template" in found.results[0].detail
    with pytest.raises(ValueError, match="chat=False"):
        Asking(chat=True).text(byte_tokenizer(), SINGLE)


def test_a_cut_prompt_is_scored_and_says_so():
    whole, cut = scored(), scored(context=120)
    assert [r.detail for r in whole.results] == ["", "", ""]
    assert "on the left" in cut.results[0].detail
    assert cut.results[0].status == "scored"


def result(item, logprobs, form="letters", **scores):
    values = tuple(np.array([v]) for v in logprobs)
    one = PromptScores(values, **scores)
    return likelihood_result(item, one, form=form, name="m", suite="exam")


def test_credit_by_hand():
    right = result(SINGLE, [-3, -1, -2, -4])
    assert (right.credit, right.given, right.detail) == (1, "B", "")
    tie = result(SINGLE, [-1, -1, -2, -4])
    assert (tie.credit, tie.given, tie.detail) == (0.5, "A", "tie of A, B")
    part = result(MULTIPLE, [-9, -8, -7, -9, -9, -9, -9, -6, -9, -9, -5])
    assert (part.credit, part.given, part.expected) == (0, "ABCD", "ABD")
    whole = result(MULTIPLE, [-9, -8, -7, -9, -9, -9, -9, -6, -9, -9, -7])
    assert (whole.credit, whole.given) == (1, "ABD")
    text = result(SINGLE, [-2, -3, -1.5, -2.2], form="options")  # per character
    assert (text.credit, text.given) == (1, "B")


def test_a_model_that_returns_nan_fails_the_item_instead_of_losing_it():
    model = byte_model(context=512)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    found = score_exam(model, byte_tokenizer(), ITEMS, name="nan", batch_tokens=600)
    assert {r.status for r in found.results} == {"failed"}
    assert "NaN" in found.results[0].detail
