"""Accuracy over shuffled options, for answerers whose habits are known."""

from statistics import stdev

import pytest

from finllm_utils.evals.exam.items import LETTERS, shuffled
from finllm_utils.evals.exam.option_order import (
    in_every_order,
    in_orders,
    option_order_spread,
)
from finllm_utils.evals.statistics.item_results import ItemResult
from tests.evals.small_exam import turning

ITEMS = turning(40)


def answerer(choose, fails=()):
    def score(items):
        made = []
        for item in items:
            known = dict(suite="exam", model="m", item=item.id)
            if item.id in fails:
                made.append(
                    ItemResult(credit=0, status="failed", detail="time-out", **known)
                )
                continue
            given = choose(item)
            credit = float(given == item.answer)
            made.append(ItemResult(credit=credit, given=given, **known))
        return made

    return score


def test_a_model_that_knows_does_not_change():
    knows = answerer(lambda item: LETTERS[item.choices.index("乙")])
    spread = option_order_spread(knows, ITEMS, range(4))
    assert spread.accuracies == (0.25,) * 4
    assert (spread.mean, spread.std, spread.share_changed) == (0.25, 0, 0)


def test_a_model_that_takes_the_first_place_is_seen():
    first = answerer(lambda item: "A")
    spread = option_order_spread(first, ITEMS, range(3))
    orders = [[shuffled(item, seed) for item in ITEMS] for seed in range(3)]
    right = [sum(i.answer == "A" for i in order) / 40 for order in orders]
    assert spread.accuracies == tuple(right)
    assert spread.std == pytest.approx(stdev(right))
    changed = [len({i.choices[0] for i in c}) > 1 for c in zip(*orders, strict=True)]
    assert spread.share_changed == sum(changed) / 40 > 0.8


def test_failed_items_are_left_out_and_unread_answers_choose_nothing():
    seen = []

    def sometimes(item):
        seen.append(item.id)
        return "" if len(seen) == 1 else LETTERS[item.choices.index("甲")]

    spread = option_order_spread(answerer(sometimes, {"x1"}), ITEMS[:4], (0, 1))
    assert (spread.num_items, spread.num_failed) == (3, 1)
    assert spread.share_changed == pytest.approx(1 / 3)
    assert spread.accuracies == (0, pytest.approx(1 / 3))  # x0 alone is 甲
    with pytest.raises(ValueError, match="every order"):
        option_order_spread(answerer(sometimes, {"x1"}), ITEMS[1:2], (0, 1))
    with pytest.raises(ValueError, match="two different"):
        option_order_spread(answerer(sometimes), ITEMS, (3, 3))


def test_only_what_is_right_in_every_order_earns():
    knows = answerer(lambda item: LETTERS[item.choices.index("乙")])
    found = in_every_order(knows, in_orders(ITEMS, range(3)), suite="orders")
    assert [one.credit for one in found] == [0, 1, 0, 0] * 10
    assert found[1].given == "乙\n乙\n乙" and found[1].expected == "乙"
    moved = in_orders(ITEMS, range(3))
    first = in_every_order(answerer(lambda item: "A"), moved, suite="orders")
    orders = [[shuffled(item, seed) for item in ITEMS] for seed in range(3)]
    whole = [
        all(i.answer == "A" for i in column) for column in zip(*orders, strict=True)
    ]
    assert [one.credit for one in first] == [float(one) for one in whole]
    assert 0 < sum(whole) < 8  # about one in 64


def test_an_item_that_failed_in_one_order_has_failed():
    moved = in_orders(ITEMS, range(2))
    fails = answerer(lambda item: "A", fails={"x3"})
    found = in_every_order(fails, moved, suite="orders")
    assert (found[3].status, found[3].detail, found[3].given) == (
        "failed", "time-out", "",
    )  # fmt: skip
    assert all(one.status == "scored" for one in found if one.item != "x3")
