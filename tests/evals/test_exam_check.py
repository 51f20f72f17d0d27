"""The check of the exam finds every planted fault, and nothing in a sound exam."""

import copy
from pathlib import Path

import numpy as np
import pytest

from finllm_utils.dependencies import REPOSITORY
from finllm_utils.evals.exam.baselines import exam_baselines, top_credit
from finllm_utils.evals.exam.check import Finding, check_exam, clues, to_item
from finllm_utils.evals.exam.overlap import overlaps, own_training_texts
from finllm_utils.records import read_lines
from tests.conftest import write_lines
from tests.evals.small_exam import exam_item as item

QUOTE = "商业银行以安全性、流动性、效益性为经营原则"
SUM = {
    "id": "exam/bank/001", "subject": "银行", "type": "single",
    "question": "10万元按年利率3.5%存90天，一年按360天，利息是多少？",
    "choices": ["350元", "875元", "3500元", "863元"], "answer": "B",
    "proof": "本金乘年利率乘天数除以360。",
    "check": [{"expr": "100000*3.5%*90/360", "value": "875"}],
}  # fmt: skip
RULE = {
    "id": "exam/bank/002", "subject": "银行", "type": "multiple",
    "question": "商业银行的经营原则有哪些？",
    "choices": ["安全性", "流动性", "效益性", "公益性"], "answer": "ABC",
    "proof": "商业银行法写明三项原则。",
    "statute": [{"law": "中华人民共和国商业银行法", "article": "第四条", "quote": QUOTE}],
}  # fmt: skip
JUDGED = {
    "id": "exam/bank/003", "subject": "银行", "type": "true_false",
    "question": "本金10万元、年利率3.5%的存款，90天利息为875元。",
    "choices": ["正确", "错误"], "answer": "A", "proof": "算式的值就是题中的数。",
    "check": [{"expr": "100000*3.5%*90/360", "value": "875"}],
}  # fmt: skip


def findings(folder: Path, *rows: dict, paraphrases: tuple = ()) -> list[Finding]:
    """What an exam of these rows has, without the rules that need many items."""
    for name, own in (("bank", rows), ("paraphrases_bank", paraphrases)):
        if own:
            write_lines(folder / f"{name}.jsonl", *own)
    return [f for f in check_exam(folder) if f.item != "exam"]


def changed(row: dict, **fields: object) -> dict:
    return {**copy.deepcopy(row), **fields}


def test_a_sound_exam_has_no_finding(tmp_path):
    other = {**SUM, "question": "存款10万元，90天，3.5%，得利息几何？"}
    assert findings(tmp_path, SUM, RULE, JUDGED, paraphrases=(other,)) == []


@pytest.mark.parametrize(
    ("row", "rule", "words"),
    [
        (changed(SUM, answer="E"), "form", "not of ABCD"),
        (changed(SUM, answer="AB"), "form", "single with 2 right"),
        (changed(SUM, choices=["875元", "875 元", "1元", "2元"]), "form", "equal"),
        (changed(SUM, type="essay"), "form", "unknown type"),
        (changed(SUM, proof=""), "form", "proof is missing"),
        (changed(SUM, check=[]), "form", "neither statute nor check"),
        (changed(SUM, id="exam/fund/001"), "form", "does not begin"),
        (changed(SUM, answer="C"), "check", "no right choice states 875"),
        (changed(SUM, check=[{"expr": "1+1", "value": "3"}]), "check", "gives 2"),
        (changed(SUM, check=[{"expr": "1+", "value": "1"}]), "check", "ends too early"),
        (changed(SUM, check=[{"sum": "1", "value": "1"}]), "check", "unexpected"),
        (changed(JUDGED, question="利息为880元。"), "check", "no right choice"),
        (changed(JUDGED, choices=["对", "错"]), "form", "choices of its own"),
        (changed(RULE, answer="CBA"), "form", "not sorted"),
    ],
)
def test_a_fault_of_an_item_is_found(tmp_path, row, rule, words):
    found = findings(tmp_path, row)
    assert any(f.rule == rule and words in f.detail for f in found), found
    assert {f.item for f in found} == {row["id"]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"article": "第四百条"}, "has no 第四百条"),
        ({"law": "中华人民共和国银行利率法"}, "has no"),
        ({"quote": "以公益性为经营原则"}, "does not say"),
        ({"quote": "安全性"}, "does not say"),
        ({"article": "第五条"}, "does not say"),
    ],
)
def test_a_false_quotation_is_found(tmp_path, fields, words):
    row = changed(RULE, statute=[RULE["statute"][0] | fields])
    (found,) = findings(tmp_path, row)
    assert (found.item, found.rule) == (RULE["id"], "statute") and words in found.detail


def test_the_proof_states_the_sum_when_no_choice_has_a_figure(tmp_path):
    words = ["够", "不够", "一半", "多余"]
    row = changed(SUM, choices=words, proof="合计875元，所以不够。")
    assert findings(tmp_path, row) == []
    (found,) = findings(tmp_path, changed(row, proof="所以不够。"))
    assert found.rule == "check"


def test_repeated_ids_questions_and_bad_paraphrases(tmp_path):
    twin = changed(RULE, id=SUM["id"], question=" " + SUM["question"])
    found = findings(tmp_path, SUM, twin)
    assert [f.detail for f in found] == ["this id stands 2 times"] * 2 + [
        "this question stands 2 times"
    ] * 2
    bad = (SUM, {**SUM, "id": "exam/bank/099"}, SUM)
    found = findings(tmp_path, SUM, paraphrases=bad)
    assert [f.detail for f in found] == [
        "the question is the original's",
        "there is no such item",
        "paraphrased twice",
    ]


def test_a_file_of_no_subject_is_refused(tmp_path):
    (tmp_path / "law.jsonl").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="no subject of the exam"):
        check_exam(tmp_path)


def test_uneven_letters_and_lengths_are_clues():
    even = [item(str(i), "ABCD"[i % 4], "一", "二", "三", "四") for i in range(40)]
    assert clues(even) == []
    (found,) = clues([item(str(i), "B", "一", "二", "三", "四") for i in range(40)])
    assert found.rule == "letters"
    long = [
        item(str(i), "ABCD"[i % 4], *("长" * (1 + (j == i % 4)) for j in range(4)))
        for i in range(40)
    ]
    assert [f.rule for f in clues(long)] == ["longest"]
    # in 3 of 10 the longest is right, and in the rest all are alike: 0.3 + 0.7 / 4
    assert [f.rule for f in clues(even[:28] + long[28:])] == ["longest"]
    assert clues(even[:38] + long[38:]) == [], "at most five points over chance"


def test_baselines_by_hand():
    items = [
        item("1", "A", "一二三", "一", "二", "三"),
        item("2", "A", "一二", "三四", "一", "二"),
        item("3", "B", "一二", "一", "四", "四五"),
        item("4", "AB", "一", "二", "三", "四"),
    ]
    found = exam_baselines(items, ["一一一", "二二", "一二"])
    wanted = {
        "chance": 1 / 4, "majority": 2 / 3, "longest": (1 + 1 / 2 + 0) / 3,
        "shortest": (0 + 0 + 1 / 2) / 3, "frequent": (0 + 0 + 1) / 3,
    }  # fmt: skip
    assert found == pytest.approx(wanted)
    assert top_credit(items[3], len) == 1 / 2
    assert top_credit(to_item(JUDGED), len) == 1 / 2
    with pytest.raises(ValueError, match="no item"):
        exam_baselines(items[3:], [])


def test_overlap_takes_fifty_characters_or_half_of_the_windows():
    draw = np.random.default_rng(0)
    text = "".join(map(chr, draw.integers(0x4E00, 0x9000, 400)))
    new = "".join(map(chr, draw.integers(0x4E00, 0x9000, 400)))
    items = [
        item("run", "A", "一", "二", question=new[:200] + text[:50]),
        item("49", "A", "一", "二", question=new[:200] + text[100:149]),
        item("half", "A", text[200:242], "二", question=new[:42]),  # 30 of 60 windows
        item("less", "A", text[200:241], "二", question=new[:42]),  # 29 of 59
        item("choice", "A", text[300:360], "二", question=new),
    ]
    found = overlaps(items, ["别的文字", " ".join(text)])
    assert [f.item for f in found] == ["run", "half", "choice"]
    cut = [text[200:221] + "。", "另外" + text[215:236]]  # in two texts, no run of 50
    whole = item("whole", "A", "一", "二", question=text[200:236])
    assert [f.detail for f in overlaps([whole], cut)] == [
        "75% of its 13-grams stand in training texts"
    ]


def test_our_own_training_texts_are_read():
    texts = set(own_training_texts())
    for path, field in (
        ("preferences/privacy.jsonl", "prompt"),
        ("instructions/items/tax.jsonl", "basis"),
    ):
        row = next(read_lines(REPOSITORY / "data_samples" / path))
        assert row[field] in texts
        (found,) = overlaps([item(path, "A", row[field], "二")], texts)
        assert found.item == path
