"""Stability by hand: what earns nothing, what has failed, and how far chance reaches."""

import random

import pytest

from finllm_utils.evals.models.local import LocalModel
from finllm_utils.evals.models.prompts import Failure
from finllm_utils.evals.suites import stability_suite as suite
from finllm_utils.evals.tasks.stability import ParaphraseGroup, group_stability
from tests.evals.tiny import tiny_model, tiny_tokenizer

GROUPS = [
    ParaphraseGroup(id=f"s/{kind}/1", question=first, paraphrases=(second,))
    for kind, first, second in (
        ("fund", "甲乙丙丁", "丙丁是甲乙"),
        ("loan", "戊己庚辛", "庚辛是戊己"),
        ("tax", "壬癸子丑", "子丑是壬癸"),
    )
]
GOOD = [
    ["赎回要付费", "赎回要付费"],
    ["利率是浮动的", "利率会浮动"],
    ["先缴税", "先缴税"],
]


class Answers:
    """A model of the table that says what it is told to."""

    name = "m"

    def __init__(self, say):
        self.say = say

    def answers(self, prompts, max_new_tokens):
        return [self.say(prompt.messages[-1].content) for prompt in prompts]


def results(answers):
    return suite.stability_results(GROUPS, answers, name="m")


def test_credit_is_the_measured_stability():
    found = results(GOOD)
    assert [one.credit for one in found] == pytest.approx(group_stability(GOOD))
    assert found[0].credit == 1 and 0 < found[1].credit < 1
    assert [one.group for one in found] == ["fund", "loan", "tax"]
    assert found[1].given == "利率是浮动的\n利率会浮动" and not found[1].detail


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (["赎回要付费", ""], "an empty answer"),
        (["赎回要付费", "。。！"], "an empty answer"),
        (["甲乙丙丁。", "丙丁是甲乙"], "the question said again"),
        (["赎回" * 30, "赎回" * 30], "garbled: repetition"),
        (["先 缴税。", "赎回要付费"], "an answer that another question got too"),
    ],
)
def test_answers_that_are_none_earn_nothing(said, why):
    first, *_ = results([said, *GOOD[1:]])
    assert (first.status, first.credit) == ("scored", 0) and why in first.detail


@pytest.mark.parametrize("say", ["请咨询客服。", "好", ""])
def test_a_model_that_says_one_thing_is_not_called_stable(say):
    found = results([[say, say]] * 3)
    assert [one.credit for one in found] == [0, 0, 0] and all(o.detail for o in found)
    half = results([[say, say], [say, say], GOOD[2]])
    assert [one.credit for one in half] == [0, 0, 1]


def test_likeness_to_others_never_counts_below_nothing():
    found = results([["赎回要付费", "先缴费"], ["赎回要付钱", "先缴钱"], GOOD[2]])
    assert group_stability([["赎回要付费", "先缴费"], ["赎回要付钱", "先缴钱"]])[0] < 0
    assert found[0].credit == 0 and not found[0].detail


def test_a_missing_answer_fails_its_group_and_leaves_the_others():
    found = results([["赎回要付费", Failure("time-out")], *GOOD[1:]])
    assert (found[0].status, found[0].detail) == ("failed", "time-out")
    assert found[0].given == "赎回要付费"
    assert [o.credit for o in found[1:]] == pytest.approx(group_stability(GOOD[1:]))
    lost = [Failure("gone"), "好"]
    alone = results([lost, lost, GOOD[2]])
    assert [one.status for one in alone] == ["failed"] * 3
    assert "nothing to compare" in alone[2].detail and alone[0].detail == "gone"


def test_the_suite_asks_every_wording():
    made = suite.stability_suite(6, 8)
    known = {w: f"{i}" for i, q in made.questions.items() for w in q.split("\n")}

    def own(text):
        """An answer of its own to each group, whatever the wording."""
        return "".join(random.Random(known[text]).choices("甲乙丙丁戊己庚辛壬癸", k=9))

    found = made.run(Answers(own))
    assert len(found) == 6 and all(o.credit > 0.8 for o in found)
    assert all(one.credit == 0 for one in made.run(Answers(lambda text: "好的。")))
    assert all(one.credit == 0 for one in made.run(Answers(lambda text: text)))
    assert 0 < suite.stability_suite(60, 8).baseline < 0.1


@pytest.fixture(scope="module")
def heated():
    """Three questions and a model that was taught to chat."""
    return suite.temperature_suite(3, 6)


def test_the_same_prompt_is_drawn_at_every_temperature(heated, monkeypatch):
    model = LocalModel("tiny", tiny_model(), tiny_tokenizer(), chat=True)
    drawn, real = [], suite.sample_rollout

    def sample(network, prompts, **how):
        drawn.append((how["temperature"], how["seed"], len(prompts)))
        return real(network, prompts, **how)

    monkeypatch.setattr(suite, "sample_rollout", sample)
    found = heated.run(model)
    assert drawn == [(0.7, 0, 3), (0.7, 1, 3), (1.0, 0, 3), (1.0, 1, 3)]
    assert [one.item for one in found] == list(heated.questions)
    assert {one.suite for one in found} == {"stability_temperature"}
    again = heated.run(model)
    assert [one.given for one in again] == [one.given for one in found]


def test_temperature_credit_is_that_of_the_draws(heated, monkeypatch):
    model = LocalModel("tiny", tiny_model(), tiny_tokenizer(), chat=True)
    said = ["赎回要付费", "利率是浮动的", "先缴税再入账"]
    monkeypatch.setattr(model, "answers", lambda prompts, number: list(said))
    monkeypatch.setattr(suite, "_sampled", lambda *a: list(said))
    assert [one.credit for one in heated.run(model)] == pytest.approx(
        group_stability([[text] * 5 for text in said])
    )
    other = ["费用另计", "利率会变", "其他"]
    monkeypatch.setattr(suite, "_sampled", lambda *a: list(other))
    mixed = [[text, *[drawn] * 4] for text, drawn in zip(said, other, strict=True)]
    expected = [max(0, value) for value in group_stability(mixed)]
    assert [one.credit for one in heated.run(model)] == pytest.approx(expected)
    long = [Failure("too long"), *said[1:]]
    monkeypatch.setattr(model, "answers", lambda prompts, number: long)
    monkeypatch.setattr(suite, "_sampled", lambda *a: said[1:])
    first, *rest = heated.run(model)
    assert first.status == "failed" and first.detail == "too long"
    assert all(one.status == "scored" for one in rest)


def test_a_rule_that_never_samples_is_the_baseline_of_temperatures(heated):
    said = [[f"好的：{question}"] * 5 for question in heated.questions.values()]
    credits = [max(0, value) for value in group_stability(said)]
    assert heated.baseline == pytest.approx(sum(credits) / len(credits))
    assert 0.5 < heated.baseline < 1


def test_temperatures_are_put_to_chat_models_with_weights_only(heated):
    assert heated.takes(LocalModel("c", tiny_model(), tiny_tokenizer(), chat=True))
    assert not heated.takes(LocalModel("b", tiny_model(), tiny_tokenizer(), chat=False))
    assert not heated.takes(Answers(lambda text: text))
