"""Choice items and their scoring."""

import dataclasses

import numpy as np
import pytest
import torch

from finllm_utils.corpora.insurance import InsuranceAnswer, InsuranceQuestion
from finllm_utils.evals.choice import (
    ChoiceItem,
    build_choice_items,
    choice_accuracy,
    most_overlap,
    option_nats,
    prompt_for,
    prompt_text,
    result,
    shortest_option,
)
from tests.evals.tiny import tiny_model, tiny_tokenizer

ALPHABET = np.array(list("保险公司应当按照合同约定赔付银行贷款利率资金安全"))


def data(num: int = 60) -> tuple[list[InsuranceQuestion], dict[str, InsuranceAnswer]]:
    random = np.random.default_rng(0)
    answers = {}
    for key in range(400):
        text = "".join(random.choice(ALPHABET, random.integers(20, 60)))
        answers[str(key)] = InsuranceAnswer(str(key), text, "")
    keys = list(answers)
    questions = []
    for i in range(num):
        picked = random.permutation(keys)[:80]
        questions.append(
            InsuranceQuestion(
                f"q{i}", f"什么是保险{i}？", "", "life", (picked[0],), tuple(picked[1:])
            )
        )
    return questions, answers


def test_options_are_alike_in_length_and_include_the_answer_once():
    questions, answers = data()
    items = build_choice_items(questions, answers, 40, 0.1, seed=3)
    by_id = {q.id: q for q in questions}
    assert len(items) == 40
    for item in items:
        lengths = [len(option) for option in item.options]
        assert max(lengths) <= 1.1 * min(lengths)
        assert len(set(item.options)) == 4
        question = by_id[item.id]
        assert item.options[item.answer] == answers[question.positives[0]].zh
        wrong = {answers[a].zh for a in question.negatives}
        assert set(item.options) - {item.options[item.answer]} <= wrong


def test_items_depend_on_the_seed_only():
    questions, answers = data()
    first = build_choice_items(questions, answers, 20, 0.1, seed=1)
    assert first == build_choice_items(questions, answers, 20, 0.1, seed=1)
    assert first != build_choice_items(questions, answers, 20, 0.1, seed=2)


def test_neither_place_nor_length_gives_the_answer_away():
    questions, answers = data(400)
    items = build_choice_items(questions, answers, 400, 0.2, seed=0)
    places = np.bincount([item.answer for item in items], minlength=4) / len(items)
    assert places == pytest.approx([0.25] * 4, abs=0.07)
    assert shortest_option(items).accuracy == pytest.approx(0.25, abs=0.07)
    longest = result(-np.array([[len(o) for o in i.options] for i in items]), items)
    assert longest.accuracy == pytest.approx(0.25, abs=0.07)


def test_questions_without_three_like_answers_are_skipped():
    questions, answers = data(10)
    lonely = dataclasses.replace(questions[0], negatives=questions[0].negatives[:2])
    with pytest.raises(ValueError, match="tolerance"):
        build_choice_items([lonely], answers, 5, 0.1, seed=0)
    same = dataclasses.replace(questions[0], negatives=questions[0].positives * 9)
    with pytest.raises(ValueError, match="tolerance"):
        build_choice_items([same], answers, 5, 0.1, seed=0)


def test_baselines_by_hand():
    item = ChoiceItem("q", "寿险是什么", ("寿险好", "车险", "房险贵了", "寿险贵"), 0)
    assert shortest_option([item]).hits == (0.0,)
    assert most_overlap([item]).hits == (0.5,)  # two options repeat 寿险
    right = dataclasses.replace(item, answer=1)
    assert shortest_option([right]).accuracy == 1.0


@pytest.mark.parametrize("prompt", ["plain", "chat", "blind"])
def test_option_nats_equal_the_log_softmax_of_each_option(prompt):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    item = ChoiceItem(
        "q", "什么是保险", ("银行贷款", "资金安全", "按照约定", "赔付"), 0
    )
    scores = option_nats(model, tokenizer, [item], prompt=prompt, batch_tokens=50)
    head = tokenizer(
        prompt_text(tokenizer, item.question, prompt), add_special_tokens=False
    )["input_ids"]
    assert head[0] == tokenizer.bos_token_id
    for option, score in zip(item.options, scores[0], strict=True):
        tail = tokenizer(option, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([head + tail])
        with torch.no_grad():
            logprobs = model(ids).logits[0].double().log_softmax(-1)
        places = range(len(head) - 1, len(head) + len(tail) - 1)
        expected = -sum(
            logprobs[p, t].item() for p, t in zip(places, tail, strict=True)
        )
        assert score == pytest.approx(expected / len(option), abs=1e-3)


def test_the_order_of_options_does_not_matter():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    questions, answers = data()
    items = build_choice_items(questions, answers, 15, 0.1, seed=0)
    turned = [
        ChoiceItem(i.id, i.question, i.options[::-1], 3 - i.answer) for i in items
    ]
    one = choice_accuracy(model, tokenizer, items, prompt="plain", batch_tokens=500)
    two = choice_accuracy(model, tokenizer, turned, prompt="plain", batch_tokens=500)
    assert one.hits == two.hits


def test_prompt_names():
    assert prompt_for("stage2") == "plain"
    assert prompt_for("ppo") == "chat"
    with pytest.raises(ValueError, match="use chat"):
        prompt_text(tiny_tokenizer(), "什么", "rude")
