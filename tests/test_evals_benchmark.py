"""The statistics of the benchmark ``evals`` by hand, and that they see what is wrong."""

import numpy as np
import pytest

from finllm_utils.records import ChatTurn, Instruction
from tests.benchmarks import evals_arms as arms
from tests.benchmarks import evals_checks as checks

RANDOM = np.random.default_rng(0)
CREDITS = {"a": RANDOM.integers(0, 2, 100), "b": RANDOM.integers(0, 2, 100)}


def test_equal_models_are_rarely_called_different():
    rates = checks.false_alarms(CREDITS, repeats=200, seed=0)
    assert set(rates) == {
        "halves.interval", "halves.report", "swapped.interval", "swapped.report",
    }  # fmt: skip
    assert 0 < max(rates.values()) < 0.12
    assert rates["halves.report"] <= rates["halves.interval"]
    solved = {"a": np.ones(20), "b": np.ones(20)}
    assert set(checks.false_alarms(solved, 5, 0).values()) == {0}


def test_intervals_that_are_too_narrow_show_as_false_alarms(monkeypatch):
    monkeypatch.setattr(checks, "NUM_BOOTSTRAP", 3)
    rates = checks.false_alarms(CREDITS, repeats=60, seed=0)
    assert min(rates["halves.interval"], rates["swapped.interval"]) > 0.15


def test_every_answer_moves_and_none_is_lost():
    places = checks.permuted_answers(50, seed=3)
    assert sorted(places) == list(range(50))
    assert all(place != i for i, place in enumerate(places))
    with pytest.raises(ValueError, match="change places"):
        checks.permuted_answers(1, seed=0)
    items = [
        Instruction(
            id=str(i),
            messages=(
                ChatTurn(role="user", content=f"q{i}"),
                ChatTurn(role="assistant", content=f"a{i}"),
            ),
            task="t",
            domain="finance",
            source="s",
        )
        for i in range(5)
    ]
    moved = arms.with_wrong_answers(items)
    assert [one.messages[0].content for one in moved] == [f"q{i}" for i in range(5)]
    answers = [one.messages[1].content for one in moved]
    assert sorted(answers) == [f"a{i}" for i in range(5)]
    assert all(answer != f"a{i}" for i, answer in enumerate(answers))


def test_labels_change_places_and_nothing_else_does():
    rows = [
        {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "task": "t"},
        {"input_ids": [4, 5, 6, 7], "labels": [-100, -100, 6, 7]},
    ]
    moved = arms.with_shuffled_labels(rows)
    assert [{**m, "labels": None} for m in moved] == [
        {**r, "labels": None} for r in rows
    ]
    learnt = [x for m in moved for x in m["labels"] if x != -100]
    assert sorted(learnt) == [2, 3, 6, 7]
    assert all(now != was for now, was in zip(learnt, [2, 3, 6, 7], strict=True))
    assert [x == -100 for x in moved[1]["labels"]] == [True, True, False, False]


def rows(values):
    return [
        {"item": f"{i:03}", "value": v, "weight": 2.0} for i, v in enumerate(values)
    ]


def test_a_stage_that_got_worse_is_told_by_every_measure():
    low, high = [0.0] * 30, [1.0] * 30
    before = {"answers": rows(low), "choice": rows(high), "bpb_finance_zh": rows(low)}
    after = {"answers": rows(high), "choice": rows(low), "bpb_finance_zh": rows(low)}
    found = arms.told(before, after)
    words = {name: one["word"] for name, one in found.items()}
    assert words == {
        "answers": "worse", "choice": "worse", "bpb_finance_zh": "no clear change",
    }  # fmt: skip
    assert found["answers"]["change"] == 0.5 and found["choice"]["change"] == -0.5


def test_strengths_equal_those_of_choix():
    pytest.importorskip("choix", reason="choix is not installed (extra dev)")
    assert checks.bradley_terry_difference(4, 3, seed=1) < 1e-6


def test_items_of_four_choices_come_from_exam_and_statutes():
    exam = arms.exam_items("four", 12)
    assert len(exam) == 12 and {one.type for one in exam} == {"single"}
    assert {len(one.choices) for one in exam} == {4}
    assert len({one.subject for one in arms.exam_items("mixed", 33)}) > 5
