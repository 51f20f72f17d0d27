"""A model per scene: by score, then cost; never by chance, never customers' data out."""

import dataclasses

import pytest

from finllm_utils.evals.report.axis_scores import AxisScore
from finllm_utils.evals.report.recommend import (
    SCENES,
    CostBasis,
    Scene,
    recommend,
    weighted_score,
)
from finllm_utils.evals.report.scoreboard import Entrant, Measure, Measured
from finllm_utils.evals.report.scoreboard_build import build_scoreboard
from finllm_utils.evals.statistics.paired_scores import item_scores
from tests.evals.small_board import RESAMPLING, results

EXAM = Measure(
    name="exam", title="Exam", axis="finance", baseline=0.25,
    baseline_name="chance", ceiling=1.0,
)  # fmt: skip
OPEN = Scene(name="open", weights={"finance": 1.0}, customer_data=False)
CLOSED = Scene(name="closed", weights={"finance": 1.0}, customer_data=True)
NUM = 400


def board(**models):
    """name=(right of 400, Entrant settings)."""
    measured = [
        Measured(
            measure="exam",
            model=name,
            scores=item_scores(results("exam", name, right, NUM)),
            command="c",
        )
        for name, (right, _) in models.items()
    ]
    entrants = [Entrant(name=name, **more) for name, (_, more) in models.items()]
    return build_scoreboard(entrants, [EXAM], measured, **RESAMPLING)


def pick(made, scene=OPEN, **more):
    (one,) = recommend(made, [scene], **more)
    return one


def test_the_clearly_best_wins_whatever_it_costs():
    one = pick(board(a=(380, {"price_per_1000": 9.0}), b=(200, {"price_per_1000": 1})))
    assert one.model == "a" and one.reason.startswith("highest score, clearly; 9 per")
    assert [c.model for c in one.choices] == ["a", "b"]
    assert one.choices[1].verdict == "clearly lower score than the best"


def test_a_tie_is_called_one_and_the_cheaper_wins_in_any_order():
    models = {
        "a": (300, {"price_per_1000": 9.0}),
        "b": (296, {"price_per_1000": 1.0}),
        "c": (297, {}),
    }
    for names in ("abc", "cba", "bca"):
        one = pick(board(**{n: models[n] for n in names}))
        assert one.model == "b", names
        assert one.reason == (
            "tie with a, c; the cheapest of them: 1 per 1,000 requests (given)"
        )
        verdicts = {c.model: c.verdict for c in one.choices}
        assert verdicts["a"] == "tie with b, which is not dearer"
        assert verdicts["b"] == "recommended"


def test_a_cloud_model_gets_no_customers_data():
    made = board(a=(380, {"residency": "cloud"}), b=(300, {"residency": "private"}))
    assert pick(made, OPEN).model == "a"
    one = pick(made, CLOSED)
    assert one.model == "b"
    assert "must not leave" in one.choices[0].verdict


def test_none_when_all_sit_at_chance():
    cheap = {"price_per_1000": 0.1}
    one = pick(board(a=(100, cheap), b=(112, {})))
    assert one.model is None
    assert one.reason == "none: 2 excluded: not clearly above chance and rules"
    assert {c.verdict for c in one.choices} == {
        "excluded: not clearly above chance and rules"
    }
    # beside a model that is above it, a cheap one at chance still cannot win
    assert pick(board(a=(112, cheap), b=(125, {"price_per_1000": 99.0}))).model == "b"


def test_an_ability_that_was_not_measured_excludes():
    scene = Scene(
        name="s", weights={"finance": 0.5, "dialogue": 0.5}, customer_data=False
    )
    one = pick(board(a=(380, {})), scene)
    assert one.model is None
    assert one.choices[0].verdict == "excluded: not measured on all of dialogue"
    assert one.choices[0].score is None


def test_cost_by_hand():
    # 2 * 1e9 * 1000 tokens * 1000 requests = 2e15; at 2e13 a second 100 s; 10 an hour
    assert CostBasis().estimate(10**9) == pytest.approx(100 / 3600 * 10)
    made = board(a=(300, {"num_parameters": 10**9}), b=(300, {}))
    costs = {c.model: (c.cost, c.cost_source) for c in pick(made).choices}
    assert costs["a"] == (pytest.approx(0.27778, rel=1e-4), "estimate")
    assert costs["b"] == (None, "cost unknown")
    assert pick(made).model == "a", "a stated cost goes before an unknown one"
    dear = CostBasis(price_per_hour=36.0)
    assert pick(made, basis=dear).choices[0].cost == pytest.approx(1.0)


def test_weights_by_hand():
    scores = {
        "finance": AxisScore(0.4, (0.1, 0.8), 1),
        "dialogue": AxisScore(0.2, (-0.2, 0.5), 1),
    }
    value, (low, high) = weighted_score(scores, {"finance": 0.5, "dialogue": 0.5})
    assert value == pytest.approx(0.3)
    assert value - low == pytest.approx(0.25)  # half of hypot(0.3, 0.4)
    assert high - value == pytest.approx(0.25)  # half of hypot(0.4, 0.3)
    assert weighted_score(scores, {"chinese": 1.0}) is None
    lost = scores | {"finance": AxisScore(None, None, 1, ("exam",))}
    assert weighted_score(lost, {"finance": 1.0}) is None


def test_scenes_are_the_five_and_odd_ones_are_refused():
    assert [s.name.split()[0] for s in SCENES] == [
        "营销",
        "服务",
        "运营",
        "办公",
        "风控",
    ]
    with pytest.raises(ValueError, match="no axis 'sport'"):
        dataclasses.replace(OPEN, weights={"sport": 1.0})
    for weights in ({}, {"finance": 0.5}, {"finance": 1.5, "dialogue": -0.5}):
        with pytest.raises(ValueError, match="sum to 1"):
            dataclasses.replace(OPEN, weights=weights)
