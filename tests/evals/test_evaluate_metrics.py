"""Our metrics load through ``evaluate`` from their files, offline, and are right."""

import math
from pathlib import Path

import evaluate
import pytest

from finllm_utils.dependencies import REPOSITORY

FOLDER = REPOSITORY / "finllm_utils" / "evals" / "metrics"


@pytest.fixture
def compute(monkeypatch, tmp_path):
    """Loads a metric with nothing but its file and computes it."""
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)

    def load(name: str, predictions: list, references: list) -> float:
        metric = evaluate.load(str(FOLDER / f"{name}.py"), cache_dir=str(tmp_path))
        found = metric.compute(predictions=predictions, references=references)
        assert list(found) == [name]
        return found[name]

    return load


def test_every_metric_has_a_test_here():
    names = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    text = Path(__file__).read_text("utf-8")
    assert names and all(f'compute("{name}"' in text for name in names)


def test_bits_per_byte_weighs_by_bytes(compute):
    found = compute("bits_per_byte", [8 * math.log(2), 0], ["ab", "中"])
    assert found == pytest.approx(8 / 5)
    with pytest.raises(ValueError, match="no text"):
        compute("bits_per_byte", [1.0], [""])


def test_letter_sets_are_right_as_a_whole_only(compute):
    given = ["AD", "d、 a", "A", "ABD", "", "A和D", "ＤＡ"]
    right = [1, 1, 0, 0, 0, 0, 1]
    assert compute("exact_letter_set", given, ["AD"] * 7) == sum(right) / 7
    for one, mark in zip(given, right, strict=True):
        assert compute("exact_letter_set", [one], ["AD"]) == mark
    with pytest.raises(ValueError, match="A to H"):
        compute("exact_letter_set", ["A"], ["Z"])


@pytest.mark.parametrize(
    ("given", "wanted", "score"),
    [
        ("年利率3.5%", "利率为3.5%", 0.8),  # 年利率35, 利率为35
        ("丙乙甲。", "甲乙丙", 1),
        ("甲甲", "甲", 2 / 3),  # precision 1/2, recall 1
        ("", "，", 1),
        ("", "甲", 0),
        ("ＡＢＣ", "abc", 1),
    ],
)
def test_character_f1_by_hand(compute, given, wanted, score):
    assert compute("character_f1", [given], [wanted]) == pytest.approx(score)
    mean = compute("character_f1", [given, "甲"], [wanted, "乙"])
    assert mean == pytest.approx(score / 2)
