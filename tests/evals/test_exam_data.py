"""The finance exam itself, once all of its subjects are there."""

from collections import Counter

import pytest

from finllm_utils.dependencies import REPOSITORY
from finllm_utils.evals.exam.check import TYPES, check_exam, exam_rows, to_item
from finllm_utils.evals.exam.items import SUBJECTS
from finllm_utils.evals.exam.overlap import (
    overlaps,
    own_training_texts,
    training_texts,
)
from finllm_utils.profiles import load_profile
from finllm_utils.records import ExamItem

FOLDER = REPOSITORY / "data_samples" / "exam"

pytestmark = pytest.mark.skipif(
    not all((FOLDER / f"{name}.jsonl").exists() for name in SUBJECTS),
    reason="data_samples/exam lacks a subject",
)


def items() -> list[ExamItem]:
    rows = exam_rows(FOLDER)
    return [to_item(row) for name in SUBJECTS for row in rows[name]]


def test_the_exam_is_whole():
    assert Counter(item.type for item in items()) == TYPES
    for name in SUBJECTS.values():
        counts = Counter(item.type for item in items() if item.subject == name)
        assert counts == {kind: total // 11 for kind, total in TYPES.items()}


def test_every_key_is_proved_and_nothing_gives_it_away():
    assert check_exam(FOLDER) == []


def reworded() -> list[ExamItem]:
    return [
        ExamItem(
            id=f"paraphrase of {row['id']}", subject="", type="", proof="",
            question=row["question"], choices=row["choices"], answer=row["answer"],
        )
        for row in exam_rows(FOLDER).get("paraphrases", [])
    ]  # fmt: skip


def test_no_item_stands_in_our_own_training_texts():
    assert overlaps([*items(), *reworded()], own_training_texts()) == []


@pytest.mark.course
def test_no_item_stands_in_any_training_text():
    """Against all shipped corpora, whatever share of them a profile reads."""
    texts = training_texts(load_profile("base7b", {}).data)
    assert overlaps([*items(), *reworded()], texts) == []
