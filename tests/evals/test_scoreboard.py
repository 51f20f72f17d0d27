"""The board: hand-counted changes, planted drops, and what it refuses."""

import dataclasses
import json
import random

import pytest

from finllm_utils.evals.report.axis_scores import axis_scores, scale_ranges, scaled
from finllm_utils.evals.report.scoreboard import (
    Entrant,
    Measure,
    Measured,
    read_records,
    read_scoreboard,
    write_scoreboard,
)
from finllm_utils.evals.report.scoreboard_build import build_scoreboard
from finllm_utils.evals.statistics.paired_scores import ItemScore
from tests.evals.small_board import (
    ENTRANTS,
    MEASURES,
    RESAMPLING,
    small_board,
    small_measured,
)


@pytest.fixture(scope="module")
def board():
    return small_board()


def test_cells_have_value_interval_and_counts(board):
    cell = board.cell("exam", "other")
    assert cell.value == 28 / 38 and (cell.num_items, cell.num_failed) == (38, 2)
    low, high = cell.interval
    assert low < cell.value < high
    assert cell.command == "score exam --models all"
    assert board.cell("dialogue", "other") is None
    assert board.lineage == ("base", "sft2", "ppo")
    assert board.references == ("other",)


def test_a_planted_drop_is_called_worse(board):
    up, down = board.steps("exam")
    assert (up.before, up.after, up.word) == ("base", "sft2", "better")
    assert (up.num_gained, up.num_lost, up.value) == (20, 0, 0.5)
    assert (down.before, down.after, down.word) == ("sft2", "ppo", "worse")
    assert (down.num_gained, down.num_lost) == (0, 18)
    assert down.p_value == 2 / 2**18
    assert down.adjusted_p > down.p_value
    still = board.steps("dialogue")[-1]
    assert (still.word, still.num_gained) == ("no clear change", 1)


def test_retention_is_held_against_the_first_stage(board):
    steps = [(c.before, c.after, c.word) for c in board.steps("english")]
    assert steps == [("base", "sft2", "worse"), ("sft2", "ppo", "no clear change")]
    since = [(c.before, c.after, c.word) for c in board.since_first("english")]
    assert since == [("base", "sft2", "worse"), ("base", "ppo", "worse")]
    assert [c.after for c in board.since_first("exam")] == ["sft2"]


def test_the_last_stage_is_held_against_references_on_shared_items(board):
    (one,) = board.against_references("exam")
    assert (one.before, one.after, one.word) == ("other", "ppo", "worse")
    assert one.num_lost == 16  # items 12 to 27
    assert one.num_items == 38  # two could not be asked
    assert board.against_references("dialogue") == []
    assert len(board.changes) == 2 + 2 + 2 + 1 + 1  # steps, base to ppo, reference


def test_examples_are_items_whose_answer_changed(board):
    lost = [e for e in board.examples if (e.measure, e.after) == ("exam", "ppo")]
    assert [(e.item, e.word) for e in lost] == [
        ("exam/012", "worse"),
        ("exam/013", "worse"),
    ]
    assert lost[0].given_before == "B" and lost[0].given_after.endswith("ppo")
    assert lost[0].question.startswith("题目 12")


def test_the_order_of_what_was_measured_does_not_matter(board):
    measured = small_measured()
    random.Random(1).shuffle(measured)
    mixed = [
        dataclasses.replace(
            one, scores=random.Random(2).sample(one.scores, len(one.scores))
        )
        for one in measured
    ]
    again = small_board(mixed)
    assert [(c.measure, c.before, c.after, c.word) for c in again.changes] == [
        (c.measure, c.before, c.after, c.word) for c in board.changes
    ]
    assert [c.p_value for c in again.changes] == [c.p_value for c in board.changes]
    assert again.examples == board.examples
    assert [c.digest for c in again.cells] == [c.digest for c in board.cells]


def test_a_stage_that_was_not_measured_is_stepped_over():
    measured = [m for m in small_measured() if (m.measure, m.model) != ("exam", "sft2")]
    steps = small_board(measured).steps("exam")
    assert [(c.before, c.after, c.num_gained) for c in steps] == [("base", "ppo", 2)]


def test_board_and_records_survive_a_round_trip(tmp_path):
    measured = small_measured()
    board = small_board(measured, alarms=["exam fell"], leaks=[])
    write_scoreboard(board, measured, tmp_path)
    assert read_scoreboard(tmp_path) == board
    records = read_records(tmp_path)
    assert records == {(m.measure, m.model): list(m.scores) for m in measured}


def test_broken_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"scoreboard\.json: no scoreboard; 09"):
        read_scoreboard(tmp_path)
    assert read_records(tmp_path) == {}
    write_scoreboard(small_board(), small_measured(), tmp_path)
    path = tmp_path / "scoreboard.json"
    data = json.loads(path.read_text())
    data["entrants"][0]["stage"] = "sleep"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"scoreboard\.json: base: stage 'sleep'"):
        read_scoreboard(tmp_path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="not a scoreboard of this version"):
        read_scoreboard(tmp_path)
    records = tmp_path / "records.jsonl"
    first, rest = records.read_text().split("\n", 1)
    row = json.loads(first)
    for wrong, message in (
        ({"value": None, "detail": ""}, "no reason"),
        ({"extra": 1}, "extra"),
    ):
        records.write_text(json.dumps(row | wrong) + "\n" + rest)
        with pytest.raises(ValueError, match=rf"records\.jsonl, line 1: .*{message}"):
            read_records(tmp_path)
    records.write_text('{"model": "m"}\n')
    with pytest.raises(ValueError, match="line 1: no 'measure'"):
        read_records(tmp_path)


def build(measured, entrants=ENTRANTS, measures=MEASURES):
    return build_scoreboard(entrants, measures, measured, **RESAMPLING)


def test_mixed_items_and_unknown_names_are_refused():
    measured = small_measured()
    shorter = dataclasses.replace(measured[1], scores=measured[1].scores[:-1])
    with pytest.raises(ValueError, match="exam: base and sft2 were asked different"):
        build([measured[0], shorter, *measured[2:]])
    with pytest.raises(ValueError, match="exam of base is given twice"):
        build([*measured, measured[0]])
    with pytest.raises(ValueError, match="'nobody' is not on the board"):
        build([dataclasses.replace(measured[0], model="nobody")])
    with pytest.raises(ValueError, match="'base' stands twice"):
        build(measured, [*ENTRANTS, ENTRANTS[0]])
    twice = dataclasses.replace(measured[0], scores=[measured[0].scores[0]] * 2)
    with pytest.raises(ValueError, match="exam of base: item 'exam/000' stands twice"):
        build([twice])


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (Entrant, {"name": "m", "residency": "moon"}, "local, private, cloud"),
        (Measure, {"name": "m", "title": "", "axis": "sport"}, "chinese, finance"),
        (Measure, {"name": "m", "title": "", "baseline": 0.2}, "say what reaches"),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind, wrong, message):
    with pytest.raises(ValueError, match=message):
        kind(**wrong)


def test_a_measure_on_which_nothing_could_be_scored_has_no_figure():
    lost = [ItemScore(item="a", value=None, detail="429")]
    one = Measured(measure="exam", model="base", scores=lost, command="c")
    board = build([one])
    cell = board.cell("exam", "base")
    assert (cell.value, cell.interval, cell.num_failed) == (None, None, 1)
    assert board.changes == () and board.stages_of("exam") == []
    assert board.since_first("exam") == board.against_references("exam") == []


def test_abilities_run_from_baseline_to_top(board):
    scores = axis_scores(board)
    assert scores["sft2"]["finance"].value == pytest.approx((0.75 - 0.25) / 0.75)
    assert scores["base"]["finance"].value == 0.0
    assert scores["other"]["dialogue"].missing == ("dialogue",)
    assert scores["other"]["dialogue"].value is None
    assert set(scores["base"]) == {"finance", "dialogue"}
    low, high = scores["sft2"]["finance"].interval
    cell = board.cell("exam", "sft2")
    assert low == pytest.approx((cell.interval[0] - 0.25) / 0.75)
    assert high == pytest.approx((cell.interval[1] - 0.25) / 0.75)


def test_a_scale_without_a_ceiling_ends_at_the_best_model():
    open_top = dataclasses.replace(MEASURES[0], ceiling=None)
    bits = Measure(
        name="english", title="", lower_is_better=True, axis="chinese",
        baseline=4.0, baseline_name="bigrams",
    )  # fmt: skip
    board = build(small_measured(), measures=[open_top, MEASURES[1], bits])
    ranges = scale_ranges(board)
    assert ranges["exam"] == (0.25, 0.75)
    best = board.cell("english", "base").value
    assert ranges["english"] == (4.0, best) and best < 4
    assert scaled(bits, (4.0 + best) / 2, ranges["english"]) == pytest.approx(0.5)
    assert axis_scores(board)["base"]["chinese"].value == pytest.approx(1.0)
    hopeless = dataclasses.replace(open_top, baseline=0.99)
    board = build(small_measured(), measures=[hopeless, *MEASURES[1:]])
    assert axis_scores(board)["sft2"]["finance"].value == 0.0, "nobody is above it"
