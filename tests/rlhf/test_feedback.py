"""Thumbs and edits become pairs only where they say which of two answers is better."""

from collections import Counter

import pytest

from finllm_utils.data.pii import find_pii
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.feedback import (
    OUTCOMES,
    SAMPLE,
    Feedback,
    feedback_pairs,
    read_feedback,
)
from finllm_utils.rlhf.preference_formats import read_preferences, write_trl_pairs
from tests.conftest import write_lines

TIME = "2026-03-02T09:15:20+08:00"
ROW = {
    "id": "f1",
    "time": TIME,
    "question": "活期存款能随时取吗？",
    "answer": "能，随时可以取。",
    "thumb": "up",
    "rater_kind": "human",
    "comment": "对",
}


def line(key, answer, thumb="", *, edited="", question="问？", kind="human"):
    return Feedback(
        id=key, time=TIME, question=question, answer=answer, thumb=thumb,
        edited=edited, rater_kind=kind,
    )  # fmt: skip


def sides(result):
    return [(p.chosen, p.rejected) for p in result.pairs]


def counts(result):
    """Outcomes that occur."""
    return {name: number for name, number in result.outcomes.items() if number}


def test_lines_are_read(tmp_path):
    edit = {k: ROW[k] for k in ("time", "question", "answer", "rater_kind")}
    edit |= {"id": "f2", "edited": " 能。 ", "thumb": None}
    first, second = read_feedback(write_lines(tmp_path / "f.jsonl", ROW, edit))
    assert first == Feedback(**ROW)
    assert second == Feedback(**edit | {"edited": "能。", "thumb": ""})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"question": ...}, "field 'question' is missing; write id, time, question,"),
        ({"rater_kind": None}, "field 'rater_kind' is missing"),
        ({"user": "u7"}, "unknown field 'user'; use id, time, question,"),
        ({"answer": " "}, "field 'answer' must hold text, got ' '; fill it"),
        ({"id": 7}, "field 'id' must hold text, got 7"),
        ({"comment": ""}, "field 'comment' must hold text, got ''; fill it or leave it out"),
        ({"edited": "能。"}, "has both of thumb and edited"),
        ({"thumb": ...}, "has none of thumb and edited"),
        ({"thumb": "sideways"}, "thumb 'sideways' is unknown; write up or down"),
        ({"rater_kind": "person"}, "rater_kind 'person' is unknown; write model or human"),
        ({"time": "gestern"}, "time 'gestern' is not ISO 8601; write it as 2026-"),
        ({"time": "2026-03-02T09:15:20"}, "has no offset from UTC; add it, as +08:00"),
        ({"thumb": ..., "edited": "能，随时可以取。 "}, "edited is the answer as it was"),
        ({"id": "f0"}, "f.jsonl, line 1 already; give each item its own"),
    ],
)  # fmt: skip
def test_faults_are_named_with_line_and_remedy(tmp_path, changes, said):
    wrong = {k: v for k, v in (ROW | changes).items() if v is not ...}
    path = write_lines(tmp_path / "f.jsonl", ROW | {"id": "f0"}, wrong)
    with pytest.raises(ValueError) as caught:
        read_feedback(path)
    assert said in str(caught.value) and "f.jsonl, line 2" in str(caught.value)


def test_a_file_without_feedback(tmp_path):
    (tmp_path / "f.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="no feedback in it"):
        read_feedback(tmp_path / "f.jsonl")


def test_an_edit_beats_its_original():
    result = feedback_pairs([line("f1", "差的", edited="好的")])
    assert result.pairs == [
        PreferencePair(
            id="feedback/f1/edit", prompt="问？", chosen="好的", rejected="差的",
            source="feedback: human", margin=0.0,
        )
    ]  # fmt: skip
    assert result.outcomes == {
        "paired": 1, "contradictory": 0, "alone": 0, "unchanged": 0,
    }  # fmt: skip


def test_up_beats_every_down_of_the_same_question():
    result = feedback_pairs(
        [
            line("f1", "坏一", "down"),
            line("f2", "好", "up", question=" 问 ?"),
            line("f3", "坏二", "down"),
            line("f4", "坏一", "down"),
            line("f5", "别处的", "down", question="另问？"),
        ]
    )
    assert sides(result) == [("好", "坏一"), ("好", "坏二")]
    assert [p.id for p in result.pairs] == ["feedback/f2>f1", "feedback/f2>f3"]
    assert {p.prompt for p in result.pairs} == {"问？"}
    assert counts(result) == {"paired": 4, "alone": 1}


@pytest.mark.parametrize(
    "lines",
    [
        [line("f1", "甲", "up"), line("f2", "乙", "up")],
        [line("f1", "甲", "down"), line("f2", "乙", "down")],
        [line("f1", "甲", "up"), line("f2", "乙", "down", question="另问？")],
        [line("f1", "甲", "up"), line("f2", "乙", "down", kind="model")],
    ],
    ids=["two up", "two down", "two questions", "two kinds of rater"],
)
def test_a_thumb_alone_compares_nothing(lines):
    result = feedback_pairs(lines)
    assert result.pairs == [] and counts(result) == {"alone": 2}


def test_contradictions_give_no_pair():
    both = [line("f1", "甲", "up"), line("f2", "甲", "down"), line("f3", "乙", "down")]
    result = feedback_pairs(both)
    assert result.pairs == []
    assert counts(result) == {"contradictory": 2, "alone": 1}
    circle = [line("f1", "甲", edited="乙"), line("f2", "乙", edited="甲")]
    assert feedback_pairs(circle).pairs == []
    assert counts(feedback_pairs(circle)) == {"contradictory": 2}
    mixed = [
        line("f1", "甲", "up"), line("f2", "乙", "down"), line("f3", "甲", edited="乙"),
        line("f4", "丙", "down"),
    ]  # fmt: skip
    result = feedback_pairs(mixed)  # 甲 over 丙 is left, which also uses f1
    assert sides(result) == [("甲", "丙")]
    assert counts(result) == {"paired": 2, "contradictory": 2}


def test_the_same_preference_twice_is_one_pair():
    lines = [
        line("f1", "差", edited="好"), line("f2", "差", edited="好"),
        line("f3", "好", "up"), line("f4", "差", "down"),
    ]  # fmt: skip
    result = feedback_pairs(lines)
    assert sides(result) == [("好", "差")] and counts(result) == {"paired": 4}


def test_personal_data_is_masked_before_a_pair_is_made():
    question = "我叫李建国，手机13800138000，想提前还房贷。"
    edited = (
        "系统里李建国名下有一笔房贷，可以申请。"  # the name only the question explains
    )
    answer = "请打13900139000。"
    result = feedback_pairs([line("f1", answer, edited=edited, question=question)])
    (pair,) = result.pairs
    assert pair.prompt == "我叫[姓名]，手机[手机号]，想提前还房贷。"
    assert pair.chosen == "系统里[姓名]名下有一笔房贷，可以申请。"
    assert pair.rejected == "请打[手机号]。"
    assert result.masked == {"name": 2, "mobile": 2}
    assert not find_pii(edited), "alone the answer would keep its name"


def test_an_edit_of_personal_data_alone_is_no_preference():
    lines = [line("f1", "请打13800138000。", edited="请打13900139000。")]
    result = feedback_pairs(lines)
    assert result.pairs == [] and counts(result) == {"unchanged": 1}


def test_spaces_and_width_are_no_difference():
    lines = [
        line("a", "活期,  能取。", edited="活期，能取。"),
        line("b", "活期 能取", "up"),
        line("c", "活期能取", "down"),
    ]
    found = feedback_pairs(lines)
    assert found.pairs == []
    assert found.outcomes == {
        "paired": 0, "contradictory": 2, "alone": 0, "unchanged": 1,
    }  # fmt: skip


def test_the_sample_shows_every_outcome(tmp_path):
    lines = read_feedback()
    assert len(lines) == 24
    result = feedback_pairs(lines)
    assert result.outcomes == {
        "paired": 19, "contradictory": 2, "alone": 2, "unchanged": 1,
    }  # fmt: skip
    assert tuple(result.outcomes) == OUTCOMES
    assert len(result.pairs) == 14 and len({p.id for p in result.pairs}) == 14
    assert Counter(p.source for p in result.pairs) == {"feedback: model": 14}
    assert result.masked["mobile"] == 3 and result.masked["name"] == 3
    write_trl_pairs(tmp_path / "pairs.jsonl", result.pairs)
    assert read_preferences(tmp_path / "pairs.jsonl") == result.pairs
    text = (tmp_path / "pairs.jsonl").read_text(encoding="utf-8")
    assert "李建国" in SAMPLE.read_text(encoding="utf-8") and "李建国" not in text
    assert "13800138000" not in text
