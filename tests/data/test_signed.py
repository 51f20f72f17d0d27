"""Signed files: lines as they were, hashes counted, and nothing of the text in memory."""

import json
import shutil

import numpy as np
import pytest

from finllm_utils.data import signed
from finllm_utils.data.rejected import RejectedRows
from finllm_utils.data.signed import (
    HASHES,
    PARAGRAPHS,
    WINDOWS,
    SignedRows,
    SignedWriter,
    columns_type,
    frequent,
    record_line,
    rows_with,
)


@pytest.fixture
def stems(tmp_path):
    """Two files whose documents are dealt in turn; row i has the hashes 0..i."""
    made = []
    for part in range(2):
        orders = range(part, 7, 2)
        columns = np.zeros(len(orders), columns_type(3))
        columns["order"] = orders
        rows = [{"id": f"d{i}", "text": f"第{i}篇", "meta": {}} for i in orders]
        values = [np.arange(i + 1, dtype=np.uint64) << np.uint64(60) for i in orders]
        for name in HASHES:
            columns[name] = [len(v) for v in values]
        lines = [record_line(row) for row in rows]
        with SignedWriter(tmp_path / str(part)) as file:
            for some in (slice(0, 1), slice(1, None)):
                own = dict.fromkeys(HASHES, values[some])
                file.add(lines[some], columns[some], own)
        made.append(tmp_path / str(part))
    return made


def test_rows_come_back_in_document_order(stems, tmp_path):
    with SignedRows(stems, 3, tmp_path / "changed") as rows:
        assert rows.columns["order"].tolist() == list(range(7))
        assert [rows.record(i)["id"] for i in range(7)] == [f"d{i}" for i in range(7)]
        assert rows.home.tolist() == [0, 1, 0, 1, 0, 1, 0]
        joined = b"".join(rows.lines([0, 2, 4, 3, 6]))
        assert joined == b"".join(rows.line(i) for i in [0, 2, 4, 3, 6])
        assert json.loads(rows.line(4)) == {"id": "d4", "text": "第4篇", "meta": {}}


def test_a_changed_row_is_read_changed_and_leaves_no_file(stems, tmp_path):
    with SignedRows(stems, 3, tmp_path / "changed") as rows:
        rows.change(2, "新的", cut="0.5")
        rows.change(5, "又一篇")
        assert rows.record(2) == {"id": "d2", "text": "新的", "meta": {"cut": "0.5"}}
        assert [rows.text(i) for i in (1, 5, 6)] == ["第1篇", "又一篇", "第6篇"]
        assert rows.columns["chars"][[2, 5]].tolist() == [2, 3]
        assert b"".join(rows.lines(range(7))).count(b"\n") == 7
    assert not (tmp_path / "changed").exists()


def test_more_files_than_may_be_open(stems, tmp_path, monkeypatch):
    monkeypatch.setattr(signed, "_OPEN_FILES", 1)
    with SignedRows(stems, 3, tmp_path / "changed") as rows:
        rows.change(2, "新的")
        assert [rows.text(i) for i in (0, 1, 2, 3, 2)][-2:] == ["第3篇", "新的"]


@pytest.mark.parametrize("at_once", [3, 1 << 20])
def test_hashes_are_counted_over_files_whatever_the_slice(
    stems, tmp_path, monkeypatch, at_once
):
    monkeypatch.setattr(signed, "_SLICE", at_once)
    wanted = np.array([True] * 6 + [False])
    with SignedRows(stems, 3, tmp_path / "changed") as rows:
        found = frequent(rows, WINDOWS, wanted, 4)  # value v is in rows v..5
        assert (found >> np.uint64(60)).tolist() == [0, 1, 2]
        having = rows_with(rows, PARAGRAPHS, wanted, found[2:])
        assert np.flatnonzero(having).tolist() == [2, 3, 4, 5]
        assert not rows_with(rows, PARAGRAPHS, wanted, found[:0]).any()


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path):
    with pytest.raises(OSError, match="full"), SignedWriter(tmp_path / "a") as file:
        file.add([b"{}\n"], np.zeros(1, columns_type(3)))
        raise OSError("disk full")
    assert not list(tmp_path.iterdir())


def test_rejected_rows_stay_readable_when_the_work_folder_is_gone(tmp_path):
    folder = tmp_path / "work" / "rejected"
    folder.mkdir(parents=True)
    rows = [{"step": "b", "order": 1}, {"step": "b", "order": 0}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "b_00000.jsonl").write_text(text)
    (folder / "a_x_00001.jsonl").write_text('{"step": "a_x", "order": 7}\n')
    found = RejectedRows(tmp_path / "work", ["a_x", "b"])
    shutil.rmtree(tmp_path / "work")
    assert [(r["step"], r["order"]) for r in found] == [("a_x", 7), ("b", 0), ("b", 1)]
    assert found == [found[0], *rows[::-1]] and found[1:] == rows[::-1]
    assert len(found) == 3 and found[-1] == rows[0] and found != rows
