"""The board shows every number it is given, in place, and hardly costs time."""

import json
import threading

import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat import v4

from finllm_utils import board as board_module
from finllm_utils.board import LiveBoard
from finllm_utils.board_frame import (
    MAX_POINTS,
    draw_board,
    png_bytes,
    text_line,
    thinned,
)

ROWS = [
    {
        "step": 0,
        "tokens": 1_000_000,
        "loss": 9.0,
        "loss/zh": 9.5,
        "rate": 0.1,
        "odd": 1,
    },
    {"step": 10, "tokens": 3_000_000, "loss": 7.0, "loss/zh": 7.5, "rate": 1.0},
    {"step": 5, "bpb/zh": 2.5, "score/fpb": 0.4},
]


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes}


def points(axes, label):
    line = next(x for x in axes.lines if x.get_label() == label)
    return list(zip(*(map(float, d) for d in line.get_data()), strict=True))


class Recorder:
    """Stands for a Run."""

    def __init__(self):
        self.written = []

    def log(self, step, **values):
        self.written.append((step, values))


class Screen:
    """Stands for the displays of a notebook cell."""

    def __init__(self):
        self.lines, self.pictures = [], []

    def line(self, text):
        self.lines.append(text)

    def picture(self, png):
        self.pictures.append(png)


@pytest.fixture
def screen(monkeypatch):
    screens = []

    def make():
        screens.append(Screen())
        return screens[-1]

    monkeypatch.setattr(board_module, "_Screen", make)
    return screens


def test_the_frame_shows_every_number_where_it_was_measured():
    shown = panels(draw_board(ROWS, title="stage1"))
    assert list(shown) == [
        "loss (nats/token)", "unseen text (bits/byte)", "task scores",
        "learning rate (share of its peak)", "odd",
    ]  # fmt: skip
    loss = shown["loss (nats/token)"]
    assert points(loss, "loss") == [(1.0, 9.0), (3.0, 7.0)]
    assert points(loss, "zh") == [(1.0, 9.5), (3.0, 7.5)]
    # the evaluation at step 5 counts no tokens: half way between 1M and 3M
    assert points(shown["unseen text (bits/byte)"], "zh") == [(2.0, 2.5)]
    assert points(shown["task scores"], "fpb") == [(2.0, 0.4)]
    assert points(shown["odd"], "odd") == [(1.0, 1.0)]
    assert shown["odd"].get_xlabel() == "tokens (millions)"
    assert [t.get_text() for t in loss.get_legend().get_texts()] == ["loss", "zh"]
    same = [shown[name].lines[-1] for name in list(shown)[:2]]  # a domain's two lines
    assert same[0].get_color() == same[1].get_color() != loss.lines[0].get_color()
    assert {axes.get_xlim() for axes in shown.values()} == {loss.get_xlim()}


def test_drawing_is_a_pure_function_of_the_rows():
    before = json.dumps(ROWS)
    first, second = (png_bytes(draw_board(ROWS)) for _ in range(2))
    assert first == second and json.dumps(ROWS) == before


def test_without_tokens_the_axis_counts_steps():
    axes = draw_board([{"step": 3, "loss": 2.0}, {"step": 4, "loss": 1.0}]).axes[0]
    assert axes.get_xlabel() == "steps"
    assert points(axes, "loss") == [(3.0, 2.0), (4.0, 1.0)]


def test_what_a_rollback_undid_is_not_drawn():
    row = {"step": 2, "tokens": 3e6, "loss": 40.0}
    again = [{"step": 1, "tokens": 2e6, "loss": 6.0}, row | {"loss": 5.0}]
    first = [
        {"step": 0, "tokens": 1e6, "loss": 9.0},
        {"step": 1, "tokens": 2e6, "loss": 8.0},
    ]
    axes = draw_board([*first, row, *again]).axes[0]
    assert points(axes, "loss") == [(1, 9), (2, 6), (3, 5)]


def test_an_empty_board_draws_nothing():
    assert draw_board([]).axes == []


def test_the_band_lies_behind_its_own_line():
    band = {"tokens": [1e6, 3e6], "low": [8.0, 6.0], "high": [10.0, 8.0]}
    shown = panels(draw_board(ROWS, bands={"loss": band, "loss/absent": band}))
    (area,) = shown["loss (nats/token)"].collections
    corners = area.get_paths()[0].vertices
    assert corners.min(0).tolist() == [1.0, 6.0]
    assert corners.max(0).tolist() == [3.0, 10.0]
    assert not shown["unseen text (bits/byte)"].collections


def test_panels_left_out_are_named():
    row = {"step": 0} | {f"key{i:02d}": 1.0 for i in range(14)}
    figure = draw_board([row], title="x")
    assert len(figure.axes) == 12
    assert figure.get_suptitle() == "x (not drawn: key12, key13)"


def test_thinning_keeps_ends_and_spikes():
    x = np.arange(10_000.0)
    y = np.sin(x / 500)
    y[4_321], y[77] = 50.0, -50.0
    few_x, few_y = thinned(x, y)
    assert len(few_x) <= MAX_POINTS and few_x[0] == 0 and few_x[-1] == 9_999
    assert {50.0, -50.0} <= set(few_y.tolist())
    assert (np.diff(few_x) > 0).all() and np.array_equal(few_y, y[few_x.astype(int)])
    short = thinned(x[:5], y[:5])
    assert short[0].tolist() == [0, 1, 2, 3, 4]


def test_one_line_a_row_in_a_terminal(capsys):
    run = Recorder()
    with LiveBoard(run, prefix="stage1", notebook=False) as board:
        board.update(1200, {"loss": 6.25, "loss/zh": 7.0, "tokens": 1_228_800})
        board.evaluate(1200, {"bpb/zh": np.float64(2.5)})
    assert capsys.readouterr().out.splitlines() == [
        "stage1 step 1,200  1.23M tokens  loss 6.25",
        "stage1 step 1,200  bpb/zh 2.5",
    ]
    assert run.written == [
        (
            1200,
            {"stage1/loss": 6.25, "stage1/loss/zh": 7.0, "stage1/tokens": 1_228_800},
        ),
        (1200, {"stage1/bpb/zh": 2.5}),
    ]
    assert board.rows[1] == {"step": 1200, "bpb/zh": 2.5}
    assert board.num_frames == 0, "no figure where nobody can see one"
    assert text_line({"step": 3, "loss/a": 1.0, "odd/x": 2}) == "step 3  odd/x 2"


def test_more_numbers_are_added_to_those_of_the_loop(capsys):
    board = LiveBoard(more=lambda v: {"mfu": v["tokens_per_s"] / 100}, notebook=False)
    board.update(0, {"tokens_per_s": 25.0})
    assert board.rows == [{"step": 0, "tokens_per_s": 25.0, "mfu": 0.25}]


def test_frames_stay_within_their_share_of_the_time(screen, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(board_module.time, "monotonic", lambda: clock[0])

    def slow(*args, **kwargs):
        clock[0] += 0.5
        return draw_board([])

    monkeypatch.setattr(board_module, "draw_board", slow)
    board = LiveBoard(notebook=True, share=0.01, refresh_s=3.0)
    for step in range(1_000):
        board.update(step, {"loss": 1.0})
        clock[0] += 0.2
    # 200 s of training: the first frame at once, then one every 50 s
    assert board.num_frames == len(screen[0].pictures) == 4
    assert (board.drawing_s - 0.5) / clock[0] < 0.01
    assert len(screen[0].lines) == 1_000
    board.close()
    board.close()  # nothing new: nothing drawn
    assert board.num_frames == 5
    assert screen[0].lines[-1] == "last log at step 999"


def test_the_last_frame_is_drawn_when_training_fails(screen):
    with pytest.raises(KeyError), LiveBoard(notebook=True, refresh_s=99) as board:
        board.update(0, {"loss": 1.0})
        board.update(1, {"loss": 40.0})
        raise KeyError
    assert board.num_frames == 2


def test_it_follows_what_other_processes_write(tmp_path, screen):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "seconds": 1, "stage1/loss": 99.0}\n')
    board = LiveBoard(prefix="stage1", notebook=True)
    with board.following(tmp_path, every_s=0.01):
        with open(path, "a") as handle:
            handle.write('{"step": 1, "seconds": 2, "stage1/loss": 3.0}\n{"step": 2')
            handle.flush()
            threading.Event().wait(0.1)
            assert [row["step"] for row in board.rows] == [1], "whole lines only"
            handle.write(', "base/loss": 1.0}\n{"step": 3, "stage1/loss": 2.0}\n')
    assert [(row["step"], row["loss"]) for row in board.rows] == [(1, 3.0), (3, 2.0)]
    assert screen[0].pictures


def test_a_notebook_keeps_one_picture_renewed_in_place():
    code = (
        "from finllm_utils.board import LiveBoard\n"
        "with LiveBoard(prefix='s', refresh_s=0, share=1e9) as board:\n"
        "    for step in range(3):\n"
        "        board.update(step, {'loss': 3.0 - step, 'tokens': step})\n"
        "    board.evaluate(2, {'bpb/zh': 2.0})\n"
        "assert board.num_frames == 4, board.num_frames\n"
    )
    notebook = v4.new_notebook(cells=[v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    line, picture = notebook.cells[0].outputs
    assert line["data"]["text/plain"] == "s last log at step 2"
    assert picture["output_type"] == "display_data"
    assert picture["data"]["image/png"].startswith("iVBORw0KGgo")  # base64 of a PNG
