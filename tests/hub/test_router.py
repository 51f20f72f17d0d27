"""Routing and arguments: development questions, the frozen exam, refusals."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from finllm_utils.corpora.laws import laws
from finllm_utils.hub.exam import (
    frozen_questions,
    mark_numeric,
    mark_refusals,
    mark_statutes,
    refusal_questions,
    share,
    statute_questions,
)
from tests.hub import numeric_answers

DEV = Path(__file__).with_name("dev_questions.jsonl")
ROWS = [json.loads(line) for line in DEV.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_development_question(hub, row):
    answer = hub.ask(row["question"])
    assert answer.tool == row["tool"]
    assert answer.value == Decimal(row["answer"])


def test_development_questions_cover_every_numeric_tool(toolbox):
    texts = {"law_article", "insurance_search"}
    assert {row["tool"] for row in ROWS} == set(toolbox) - texts


def test_frozen_questions_are_exact_with_their_source(hub):
    marked = mark_numeric(hub, frozen_questions())
    assert [m.row["id"] for m in marked if not m.right] == []
    assert [m.row["answer"] for m in marked] == list(numeric_answers.answers().values())


def test_an_edited_exam_is_noticed(tmp_path):
    for name in ("numeric_questions.jsonl", "numeric_questions.sha256"):
        source = numeric_answers.QUESTIONS.with_name(name)
        (tmp_path / name).write_bytes(source.read_bytes())
    assert len(frozen_questions(tmp_path)) == 40
    with open(tmp_path / "numeric_questions.jsonl", "a") as handle:
        handle.write("{}\n")
    with pytest.raises(ValueError, match="not the frozen"):
        frozen_questions(tmp_path)


def test_refusals(hub):
    marked = mark_refusals(hub, refusal_questions())
    assert len(marked) >= 20
    assert [m.row["id"] for m in marked if not m.right] == []
    assert all(m.answer.value is None for m in marked)


def test_statutes_by_number_are_exact(hub):
    rows = [
        r for r in statute_questions(laws(), 40, seed=3) if "“" not in r["question"]
    ]
    assert share(mark_statutes(hub, rows)) == 1.0


def test_statute_source_names_law_article_and_day(hub):
    answer = hub.ask("《保险法》第十六条讲了什么？")
    assert "如实告知" in answer.text
    assert "《中华人民共和国保险法》第十六条" in answer.source
    assert answer.details["effective_date"] in answer.source


def test_statutes_by_key_words(hub):
    answer = hub.ask("保险法里投保人的如实告知义务是怎么规定的")
    assert answer.details["law"] == "中华人民共和国保险法"
    assert "如实告知" in answer.text


def test_knowledge_answer_is_the_passage_with_its_id(hub):
    answer = hub.ask("定期人寿保险到期以后怎么办？")
    assert answer.status == "answered" and answer.value is None
    assert answer.details["passage_id"] == "7" and "answer 7" in answer.source


@pytest.mark.parametrize(
    "text", ["", "   ", "？", "1", "元", "a" * 5000, "\u0000", "《》", "%%%"]
)
def test_odd_input_never_raises_and_never_answers(hub, text):
    assert hub.ask(text).status != "answered"
