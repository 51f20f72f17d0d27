"""Holds ``runs/toy/report.json`` against the checks; runs after ``make course``.

Deselected by default: ``pytest -m course``.
"""

import json

import pytest

from finllm_utils.checks import CHECKS, missing_spine_keys
from finllm_utils.dependencies import REPOSITORY

RUN = REPOSITORY / "runs" / "toy"
STAGES = {p.name[:2] for p in (REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb")}
SPINE = {f"{number:02d}" for number in range(11)}

pytestmark = pytest.mark.course


@pytest.fixture(scope="module")
def values() -> dict:
    path = RUN / "report.json"
    assert path.exists(), "no report: run `make course` first"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.id)
def test_check_holds(check, values):
    if check.stage not in STAGES:
        pytest.skip(f"notebook {check.stage} is not there yet")
    assert check.verdict(values) == "HOLDS", f"{check.id}: {check.text(values)}"


def test_every_spine_key_is_present_and_finite(values):
    if not SPINE <= STAGES:
        pytest.skip(f"notebooks {sorted(SPINE - STAGES)} are not there yet")
    assert missing_spine_keys(values) == []


def test_every_stage_succeeded():
    status = json.loads((RUN / "status.json").read_text(encoding="utf-8"))
    states = {name: record["state"] for name, record in status["stages"].items()}
    expected = {p.stem for p in (REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    assert {n for n, s in states.items() if s == "done"} >= expected, states
