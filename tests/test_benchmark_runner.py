"""A benchmark is run part by part, and only a whole run leaves a result."""

import json
import sys
from types import SimpleNamespace

import pytest

from tests.benchmarks import harness, runner

PARTS = ("first", "second")
BENCH = SimpleNamespace(
    first=lambda: ({"a": 1.0, "b": 2.0}, {"rounds": 3}),
    second=lambda: ({"b": 4.0}, {"rounds": 5}),
)


@pytest.fixture
def asks(monkeypatch):
    """Sets what the command line says."""

    def say(*words):
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])

    return say


def test_parts_are_run_in_the_order_asked():
    found = runner.run_parts(BENCH, PARTS)
    assert found == (
        {"a": 1.0, "b": 4.0}, {"first": {"rounds": 3}, "second": {"rounds": 5}},
    )  # fmt: skip
    seen = []

    def told(part, figures, notes):
        seen.append((part, figures))
        return notes | {"seconds": len(seen)}

    figures, runs = runner.run_parts(BENCH, PARTS[::-1], told)
    assert figures == {"a": 1.0, "b": 2.0}
    assert seen == [("second", {"b": 4.0}), ("first", {"a": 1.0, "b": 2.0})]
    assert runs["first"] == {"rounds": 3, "seconds": 2}


def test_a_dated_part_shows_its_own_figures(monkeypatch, capsys):
    monkeypatch.setattr(runner, "today", lambda: "2026-01-02")
    _, runs = runner.dated_parts(BENCH, PARTS, {"b": ">= 3"})
    assert runs["second"] == {"rounds": 5, "date": "2026-01-02"}
    lines = [x.split() for x in capsys.readouterr().out.splitlines() if x[0] != "["]
    assert lines == [
        ["a", "1.0000"], ["b", "2.0000", ">=", "3", "NOT", "MET"],
        ["b", "4.0000", ">=", "3", "met"],
    ]  # fmt: skip


def test_only_a_whole_run_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    path = tmp_path / "x.json"
    runner.publish("x", ({"a": 1.0}, {"first": {}}), ["none such"], quick=True)
    assert "no result was written" in capsys.readouterr().out and not path.exists()
    packages = ("numpy", "trl==1.12.0")
    runner.publish("x", ({"a": 1.0}, {"first": {}}), packages)
    assert capsys.readouterr().out.strip() == str(path)
    runner.publish("x", ({"b": 2.0}, {"second": {}}), packages, beside=True)
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["command"] == "make bench ONLY=x"
    assert result["figures"] == {"a": 1.0, "b": 2.0}
    assert set(result["runs"]) == set(PARTS)
    assert result["versions"]["trl"] == "1.12.0"
    assert set(result["versions"]) == {"python", "numpy", "trl"}
    runner.publish("x", ({"b": 2.0}, {"second": {}}), packages)
    assert json.loads(path.read_text(encoding="utf-8"))["figures"] == {"b": 2.0}


def test_a_course_that_is_not_finished_is_refused(tmp_path, asks, capsys):
    asks("--run", tmp_path, "--parts", "second", "--quick")
    with pytest.raises(SystemExit):
        runner.course_options("What for.", PARTS, "05_sft_data/instructions")
    said = f"{tmp_path} holds no finished 05: run `finllm run --to 05` first"
    assert said in capsys.readouterr().err
    (tmp_path / "05_sft_data" / "instructions").mkdir(parents=True)
    asked = runner.course_options("What for.", PARTS, "05_sft_data/instructions")
    assert vars(asked) == {
        "run": tmp_path, "parts": ["second"], "quick": True, "profile": "toy",
    }  # fmt: skip
    asks()
    asked = runner.course_parser("", PARTS, "small", "small").parse_args()
    assert (asked.parts, asked.profile, asked.quick) == (PARTS, "small", False)
    assert asked.run == harness.REPOSITORY / "runs" / "small"
    asks("--parts", "third")
    with pytest.raises(SystemExit):
        runner.parts_parser("", PARTS).parse_args()


def test_one_size_at_a_time(asks):
    for words, size in (
        ((), "default"),
        (["--quick"], "quick"),
        (["--small"], "small"),
    ):
        asks(*words)
        assert runner.size_option("What for.") == size
    asks("--quick", "--small")
    with pytest.raises(SystemExit):
        runner.size_option("What for.")


def test_a_scratch_folder_ends_with_its_use(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "ENVIRONMENTS", tmp_path / "runs" / "envs")
    with runner.scratch_folder() as folder:
        assert folder.parent == tmp_path / "runs" and not list(folder.iterdir())
    assert not folder.exists()
