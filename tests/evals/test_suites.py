"""The course's suites at toy size: held out, in step with their items, well based."""

import pytest

from finllm_utils.config import EvalsConfig
from finllm_utils.evals.models.local import LocalModel
from finllm_utils.evals.models.recorded import Recorded
from finllm_utils.evals.report.scoreboard import AXES
from finllm_utils.evals.suites.course import course_suites
from tests.evals.tiny import tiny_model, tiny_tokenizer

CFG = EvalsConfig(
    batch_tokens=512, max_documents=1, num_choice_items=1, num_suite_items=12,
    num_selection_questions=3, num_selection_negatives=4, num_exam_items=4,
    num_accept_items=8, max_exam_tokens=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def suites():
    return course_suites(CFG, seed=0)


def test_every_suite_stands_on_an_axis_beside_a_baseline(suites):
    assert {suite.axis for suite in suites.values()} == {*AXES, ""} - {"chinese"}
    outside = [name for name, one in suites.items() if not one.axis]
    assert outside == ["exam_orders", "stability_temperature"]
    for name, suite in suites.items():
        assert suite.name == name and suite.baseline_name
        assert 0 <= suite.baseline < 1
        assert suite.questions and all(suite.questions.values())


def test_sizes_are_those_of_the_settings(suites):
    assert len(suites["exam"].questions) == 12
    assert len(suites["statute_unseen"].questions) == 12  # three of each of four kinds
    assert len(suites["answer_selection.reciprocal_rank"].questions) == 3
    assert len(suites["safety"].questions) == 8


def test_a_seed_gives_the_same_items(suites):
    again = course_suites(CFG, seed=0)
    assert all(again[n].questions == s.questions for n, s in suites.items())
    other = course_suites(CFG, seed=1)
    assert other["statute_open"].questions != suites["statute_open"].questions


def test_who_is_asked(suites, tmp_path):
    def names(model) -> set[str]:
        return {name for name, suite in suites.items() if suite.takes(model)}

    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "a", "text": "b"}\n', encoding="utf-8")
    base = LocalModel("base", tiny_model(), tiny_tokenizer(), chat=False)
    assert "exam" in names(base) and "safety" not in names(base)
    theirs = names(Recorded("theirs", path))
    assert {"exam", "safety"} <= theirs
    assert not {"dialogue", "choice"} & theirs


def test_a_run_gives_one_record_an_item(suites):
    model = LocalModel("m", tiny_model(), tiny_tokenizer(), chat=True)
    for name in ("following", "safety", "dialogue"):
        results = suites[name].run(model)
        assert [one.item for one in results] == list(suites[name].questions)
        assert {one.model for one in results} == {"m"}
