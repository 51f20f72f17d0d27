"""Stability by hand: what earns nothing, what has failed, and how far chance reaches."""

import random

import pytest

from finllm_utils.evals import stability_suite as suite
from finllm_utils.evals.local_models import LocalModel
from finllm_utils.evals.prompts import Asked, Failure, Mark, user_prompt
from finllm_utils.evals.stability import ParaphraseGroup, group_stability
from tests.evals.small_exam import turning
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


PROMPTS = ["银行", "保险", "风险控制", "资金"]


def asked(mark):
    return [Asked(user_prompt(text, text), mark) for text in PROMPTS]


@pytest.fixture(scope="module")
def model():
    return LocalModel("tiny", tiny_model(), tiny_tokenizer())


def test_spread_over_temperatures(model):
    seen = []

    def mark(answer):
        seen.append(answer)
        return Mark(float("险" in answer), answer)

    found = suite.temperature_spread(model, asked(mark), max_new_tokens=6)
    assert list(found.means) == [0.0, 0.7, 1.0]
    assert [len(runs) for runs in found.means.values()] == [1, 2, 2]
    draws = [seen[i : i + 5] for i in range(0, 20, 5)]
    greedy = model.answers([user_prompt(t, t) for t in PROMPTS], 6)
    assert [row[0] for row in draws] == greedy
    hits = [[float("险" in text) for text in row] for row in draws]
    assert found.means[1.0][1] == pytest.approx(sum(row[4] for row in hits) / 4)
    assert found.share_changed == sum(len(set(row)) > 1 for row in hits) / 4 > 0
    spreads = [(sum(row) / 5 * (1 - sum(row) / 5)) ** 0.5 for row in hits]
    assert found.std == pytest.approx(sum(spreads) / 4)


def test_what_cannot_be_marked_is_left_out(model):
    sure = suite.temperature_spread(
        model, asked(lambda answer: Mark(0.5, answer)), max_new_tokens=2
    )
    assert (sure.std, sure.share_changed, sure.num_items) == (0, 0, 4)
    long = Asked(user_prompt("x", "银" * 200), lambda answer: Mark(1.0, answer))
    found = suite.temperature_spread(
        model, [long, *asked(lambda answer: Mark(0.5, answer))], max_new_tokens=2
    )
    assert (found.num_items, found.num_failed) == (4, 1)
    assert found.means[0.0] == (0.5,)
    with pytest.raises(ValueError, match="no prompt was marked"):
        suite.temperature_spread(
            model, asked(lambda answer: Failure("unread")), max_new_tokens=2
        )
    with pytest.raises(ValueError, match="temperatures above 0"):
        suite.temperature_spread(
            model, asked(lambda a: Mark(1.0, a)), max_new_tokens=2, temperatures=(0.0,)
        )


def test_orders_of_options_as_figures():
    items = turning(12)
    first = Answers(lambda text: "答案：A")
    found = suite.option_order_figures(first, items, batch_tokens=64)
    assert found["num_items"] == 12 and found["share_changed"] > 0.5

    def knows(text):
        line = next(row for row in text.splitlines() if row.endswith(". 乙"))
        return f"答案：{line[0]}"

    sure = suite.option_order_figures(Answers(knows), items, batch_tokens=64)
    assert sure == {"mean": 0.25, "std": 0, "share_changed": 0, "num_items": 12}
