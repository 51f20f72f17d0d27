"""Models and suites joined: what is asked, what is kept, what the board says."""

import json

import pytest

from finllm_utils.evals.evaluate import Plan, entrants, evaluate, make_board
from finllm_utils.evals.models.table import ModelSpec
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.evals.suites.suite import Suite
from finllm_utils.model.load import save_model
from finllm_utils.records import Document
from tests.evals.tiny import TEXTS, tiny_model, tiny_tokenizer

RESAMPLING = {"num_bootstrap": 50, "seed": 0}

pytestmark = pytest.mark.usefixtures("one_thread")


class Counted:
    """A suite of two items whose credit is 1 and 0, counting how often it is run."""

    def __init__(self, needs: str = "", second: str = "乙") -> None:
        self.runs: list[str] = []
        self.suite = Suite(
            name="exam",
            title="exam",
            axis="finance",
            run=self.run,
            questions={"a": "甲", "b": second},
            key=f"甲{second}",
            baseline=0.25,
            baseline_name="chance",
            needs=needs,
        )

    def run(self, model) -> list[ItemResult]:
        self.runs.append(model.name)
        return [
            ItemResult(suite="exam", model=model.name, item=item, credit=credit)
            for item, credit in (("a", 1.0), ("b", 0.0))
        ]


@pytest.fixture
def spec(tmp_path):
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "stage2")
    return ModelSpec(name="stage2", kind="folder", where=str(tmp_path / "stage2"))


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "甲"}) + "\n", encoding="utf-8")
    return ModelSpec(name="theirs", kind="recorded", where=str(path))


def plan_of(counted: Counted, **more) -> Plan:
    return Plan(suites={"exam": counted.suite}, command="by hand", **more)


def test_scores_are_kept_and_a_second_run_asks_nothing(spec, tmp_path, monkeypatch):
    counted = Counted()
    (one,) = evaluate([spec], plan_of(counted), tmp_path / "out")
    assert [(s.item, s.value, s.question) for s in one.scores] == [
        ("a", 1.0, "甲"),
        ("b", 0.0, "乙"),
    ]
    monkeypatch.setattr(
        "finllm_utils.evals.evaluate.open_model", lambda *a, **k: pytest.fail("opened")
    )
    assert evaluate([spec], plan_of(counted), tmp_path / "out") == [one]
    assert counted.runs == ["stage2"]


def test_other_weights_or_other_items_are_asked_anew(spec, tmp_path):
    counted, other = Counted(), Counted(second="丙")
    evaluate([spec], plan_of(counted), tmp_path / "out")
    evaluate([spec], plan_of(other), tmp_path / "out")
    assert len(other.runs) == 1
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "stage2")
    evaluate([spec], plan_of(counted), tmp_path / "out")
    assert len(counted.runs) == 2


def test_a_killed_run_goes_on_where_it_was(spec, tmp_path):
    counted = Counted()
    broken = Counted()
    broken.suite = Suite(
        name="later",
        title="later",
        axis="finance",
        run=lambda model: 1 / 0,
        questions={"z": "?"},
        key="z",
        baseline=0.0,
        baseline_name="nothing",
    )
    plan = Plan(suites={"exam": counted.suite, "later": broken.suite})
    with pytest.raises(ZeroDivisionError):
        evaluate([spec], plan, tmp_path / "out")
    evaluate([spec], plan_of(counted), tmp_path / "out")
    assert len(counted.runs) == 1


def test_who_cannot_be_asked_has_no_figure(spec, recorded, tmp_path):
    counted = Counted(needs="weights")
    documents = [
        Document(id="kept_out/1", text=TEXTS[0], source="t", domain="english"),
        Document(id="kept_out/2", text=TEXTS[1], source="t", domain="english"),
    ]
    plan = plan_of(counted, documents={"english": documents}, window=12)
    measured = evaluate([spec, recorded], plan, tmp_path / "out")
    assert [(m.measure, m.model) for m in measured] == [
        ("bpb.english", "stage2"),
        ("exam", "stage2"),
    ]
    board = make_board([spec, recorded], plan, measured, **RESAMPLING)
    assert board.cell("exam", "stage2").value == 0.5
    assert board.cell("exam", "theirs") is None
    assert [e.stage for e in entrants([spec, recorded])] == ["pretraining", "reference"]


def test_only_names_measures_and_an_unknown_one_is_refused(spec, tmp_path):
    plan = plan_of(Counted())
    with pytest.raises(ValueError, match="'stage2': no measure 'exams'; .* exam"):
        evaluate([spec], plan, tmp_path, only={"stage2": ["exams"]})


def test_a_broken_kept_file_is_named(spec, tmp_path):
    plan = plan_of(Counted())
    evaluate([spec], plan, tmp_path / "out")
    (kept,) = (tmp_path / "out" / "items").iterdir()
    kept.write_text('{"item": "a"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1.*delete the file to ask again"):
        evaluate([spec], plan, tmp_path / "out")
