"""Two runs: better, worse, unchanged, and what must not be compared."""

import dataclasses
import math

import pytest

from finllm_utils.evals.report.compare_boards import (
    NOT_COMPARABLE,
    compare_boards,
    compare_folders,
)
from finllm_utils.evals.report.scoreboard import write_scoreboard
from finllm_utils.evals.statistics.paired_scores import item_scores
from tests.evals.small_board import (
    NATS,
    RESAMPLING,
    RIGHT,
    questions,
    results,
    small_board,
    small_measured,
)


def run(right=None, nats=None):
    """A board and its records, with some figures planted."""
    measured = small_measured(RIGHT | (right or {}), NATS | (nats or {}))
    records = {(m.measure, m.model): m.scores for m in measured}
    return small_board(measured), records


def compare(before, after):
    found = compare_boards(before[0], after[0], before[1], after[1], **RESAMPLING)
    return found, {(c.measure, c.model): c for c in found.changes}


def test_equal_runs_are_unchanged():
    found, changes = compare(run(), run())
    assert {c.word for c in found.changes} == {"no clear change"}
    assert len(changes) == 10 and all(c.value == 0 for c in found.changes)
    assert found.only_before == found.only_after == ()


def test_planted_changes_are_found_and_nothing_else():
    after = run({("exam", "ppo"): 36, ("dialogue", "sft2"): 10}, {"ppo": 2.5})
    _, changes = compare(run(), after)
    words = {key: c.word for key, c in changes.items() if c.word != "no clear change"}
    assert words == {
        ("exam", "ppo"): "better",
        ("dialogue", "sft2"): "worse",
        ("english", "ppo"): "better",  # fewer bits
    }
    up = changes["exam", "ppo"]
    assert up.value == pytest.approx(24 / 40) and up.reason == "by item"
    assert (up.value_before, up.value_after) == (0.3, 0.9)
    assert (up.num_items, changes["exam", "other"].num_items) == (40, 38)
    assert up.adjusted_p == pytest.approx(8 * 2 / 2**24, rel=0.3)  # 8 to 10 remain


def test_a_small_change_is_no_clear_change():
    _, changes = compare(run(), run({("exam", "ppo"): 15}))
    assert changes["exam", "ppo"].value == pytest.approx(3 / 40)
    assert changes["exam", "ppo"].word == "no clear change"


def test_other_items_are_never_compared():
    """Same measure and model, one question worded otherwise: another exam."""
    before = run()
    measured = [
        dataclasses.replace(
            one,
            scores=[
                dataclasses.replace(s, question="neu") if s.item.endswith("/003") else s
                for s in one.scores
            ],
        )
        if one.measure == "exam"
        else one
        for one in small_measured()
    ]
    after = small_board(measured), {(m.measure, m.model): m.scores for m in measured}
    _, changes = compare(before, after)
    for model in ("base", "sft2", "ppo", "other"):
        one = changes["exam", model]
        assert (one.word, one.value) == (NOT_COMPARABLE, None)
        assert one.reason == "different items were asked (40 and 40)"
    assert changes["dialogue", "ppo"].word == "no clear change"


def test_another_key_for_the_same_question_is_not_comparable():
    before, after = run(), run()
    key = ("exam", "ppo")
    after[1][key] = [dataclasses.replace(s, expected="C") for s in after[1][key]]
    _, changes = compare(before, after)
    assert changes[key].word == NOT_COMPARABLE
    assert "not the same in both: expected 'B' and 'C'" in changes[key].reason


def test_without_records_intervals_decide():
    before, after = run(), run({("exam", "ppo"): 36})
    found = compare_boards(before[0], after[0], {}, after[1], **RESAMPLING)
    (one,) = [c for c in found.changes if (c.measure, c.model) == ("exam", "ppo")]
    assert one.word == "better" and one.reason.startswith("by intervals")
    low, high = one.interval
    assert (low + high) / 2 == pytest.approx(one.value) and low > 0
    ends = [run[0].cell("exam", "ppo").interval for run in (before, after)]
    halves = [(high - low) / 2 for low, high in ends]
    assert (high - low) / 2 == pytest.approx(math.hypot(*halves))
    same = compare_boards(before[0], before[0], {}, {}, **RESAMPLING)
    assert {c.word for c in same.changes} == {"no clear change"}


def test_records_of_another_board_are_refused():
    before, after = run(), run()
    after[1]["exam", "ppo"] = after[1]["exam", "ppo"][:-1]
    with pytest.raises(ValueError, match="exam of ppo: records of this run are not"):
        compare(before, after)


def test_what_stands_in_one_run_alone_is_listed():
    before = run()
    kept = [m for m in small_measured() if (m.measure, m.model) != ("exam", "other")]
    after = small_board(kept), {(m.measure, m.model): m.scores for m in kept}
    assert compare(before, after)[0].only_before == ("exam of other",)
    assert compare(after, before)[0].only_after == ("exam of other",)


def test_other_direction_or_nothing_scored_is_not_comparable():
    before, after = run(), run()
    turned = [
        dataclasses.replace(m, lower_is_better=not m.lower_is_better)
        if m.name == "exam"
        else m
        for m in after[0].measures
    ]
    after = (dataclasses.replace(after[0], measures=tuple(turned)), after[1])
    assert "lower is better" in compare(before, after)[1]["exam", "ppo"].reason
    rows = results("exam", "ppo", 12)
    lost = [
        dataclasses.replace(s, value=None, detail="429")
        for s in item_scores(rows, questions("exam"))
    ]
    measured = [
        dataclasses.replace(m, scores=lost) if (m.measure, m.model) == ("exam", "ppo")
        else m
        for m in small_measured()
    ]  # fmt: skip
    silent = small_board(measured), {(m.measure, m.model): m.scores for m in measured}
    one = compare(before, silent)[1]["exam", "ppo"]
    assert one.word == NOT_COMPARABLE and "no item could be scored" in one.reason


def test_folders_are_compared(tmp_path):
    measured = small_measured()
    for name in ("a", "b"):
        write_scoreboard(small_board(measured), measured, tmp_path / name)
    found = compare_folders(tmp_path / "a", tmp_path / "b", num_bootstrap=50)
    assert {c.reason for c in found.changes} == {"by item"}
    with pytest.raises(ValueError, match=r"none.scoreboard\.json: no scoreboard"):
        compare_folders(tmp_path / "none", tmp_path / "b")
