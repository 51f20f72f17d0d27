"""Signs of a useful answer by hand, baselines that must not win, raters' preferences."""

from dataclasses import replace
from itertools import count

import pytest

from finllm_utils.annotation.judgements import read_judgements
from finllm_utils.annotation.session import Session
from finllm_utils.evals.tasks import helpfulness as hlp
from tests.evals.test_hallucination import BOOK

SUBJECTS = (
    "年金保险", "车辆损失", "住房贷款", "信用卡账单", "国债利率", "基金定投",
    "退休储蓄", "医疗费用", "股票分红", "外汇兑换", "企业年报", "个人所得税",
)  # fmt: skip
QUESTIONS = [f"我想了解{subject}的规定" for subject in SUBJECTS]
GOOD = [f"{subject}要先看合同条款，再比较条件高低。" for subject in SUBJECTS]


def test_answers_on_topic_score_one():
    found = hlp.helpfulness(QUESTIONS, GOOD, BOOK)
    assert found.scores.tolist() == [1.0] * len(GOOD)


def test_answers_to_other_questions_score_nothing():
    shifted = GOOD[1:] + GOOD[:1]
    assert hlp.helpfulness(QUESTIONS, shifted, BOOK).scores.tolist() == [0.0] * 12


@pytest.mark.parametrize("name", hlp.BASELINES)
def test_baselines_do_not_score(name):
    answers = [hlp.BASELINES[name](question) for question in QUESTIONS]
    assert hlp.helpfulness(QUESTIONS, answers, BOOK).scores.mean() <= 0.1


@pytest.mark.parametrize(
    ("answer", "sign", "score"),
    [
        ("年金保险要先看合同条款，再比较条件", "ends", 2 / 3),
        ("年金保险" + "保险" * 20 + "。", "varied", 0.8 * 2 / 3),
        ("年金保险依照《甲法》第九条，要先看合同条款。", "sound", 2 / 3),
        ("年金保险依照《甲法》第二条，要先看合同条款。", "sound", 1.0),
        ("要先看合同条款，再比较条件高低。", "on_topic", 0.0),
        ("", "adds", 0.0),
        ("年", "adds", 0.0),
    ],
)
def test_each_sign_by_hand(answer, sign, score):
    """Two of the loop's five pairs are new, four fifths of what is wanted."""
    found = hlp.helpfulness(QUESTIONS, [answer, *GOOD[1:]], BOOK)
    assert found.scores[0] == pytest.approx(score)
    assert getattr(found, sign)[0] == (1.0 if score == 1 else 0.0)


def test_new_words_count_in_proportion():
    """Pairs: 年金 金保 保险 are asked, 险好 is new: a quarter, half of what is wanted."""
    found = hlp.helpfulness(QUESTIONS, ["年金保险好", *GOOD[1:]], BOOK)
    assert found.adds[0] == pytest.approx(0.5)


def test_length_is_no_merit():
    long = [
        "".join([answer, "手续可以在网点办理，也可以在线上提交申请。"])
        for answer in GOOD
    ]
    assert hlp.helpfulness(QUESTIONS, long, BOOK).scores.tolist() == [1.0] * 12


def test_too_few_questions_are_refused():
    with pytest.raises(ValueError, match="at least 10"):
        hlp.helpfulness(QUESTIONS[:9], GOOD[:9], BOOK)
    with pytest.raises(ValueError, match="11 answers to 12 questions"):
        hlp.helpfulness(QUESTIONS, GOOD[1:], BOOK)


OLD, NEW = ["旧答一", "旧答二", "同", "旧答四"], ["新答一", "新答二", "同", ""]


def rated(path, items, verdicts, **changes):
    """One rater's round; verdicts by item id: after, before, tie, or (name, level)."""
    how = {"rater": "m1", "rater_kind": "model", "round": 1, "seed": 5}
    clock = count(1_800_000_000, 2)
    session = Session(items, path, clock=lambda: next(clock), **how | changes)
    while shown := session.next():
        item = next(i for i in items if set(i.texts.values()) == set(shown.texts))
        wanted = verdicts[item.id]
        if wanted == "tie":
            session.judge("tie")
        elif isinstance(wanted, tuple):
            side = "AB"[shown.texts.index(item.texts[wanted[0]])]
            session.judge(f"{side}{wanted[1]}")
        else:
            session.judge(shown.texts.index(item.texts[wanted]) + 1)
    return read_judgements(path)


@pytest.fixture
def items():
    return hlp.comparison_items(QUESTIONS[:4], OLD, NEW)


def test_equal_answers_are_not_shown(items):
    assert [item.id for item in items] == ["compare/0", "compare/1", "compare/3"]
    assert items[0].prompt == QUESTIONS[0] and items[2].texts["after"] == ""


def test_preferences_are_the_mean_over_raters_of_one_kind(items, tmp_path):
    path = tmp_path / "votes.jsonl"
    first = {"compare/0": "after", "compare/1": "tie", "compare/3": "before"}
    rated(path, items, first)
    rated(path, items, first | {"compare/0": "tie"}, rater="m2")
    person = dict.fromkeys(first, "before")
    records = rated(path, items, person, rater="阿明", rater_kind="human")
    assert hlp.rater_preferences(items, records, "model").tolist() == [0.5, 0, -1]
    assert hlp.rater_preferences(items, records, "human").tolist() == [-1, -1, -1]


def test_graded_verdicts_count_by_strength(tmp_path):
    items = hlp.comparison_items(QUESTIONS[:2], OLD[:2], NEW[:2], task="graded")
    said = {"compare/0": ("after", 3), "compare/1": ("before", 1)}
    records = rated(tmp_path / "g.jsonl", items, said)
    found = hlp.rater_preferences(items, records, "model")
    assert found.tolist() == pytest.approx([1, -1 / 3])


def test_what_was_not_judged_or_has_changed_is_named(items, tmp_path):
    said = dict.fromkeys((item.id for item in items), "after")
    records = rated(tmp_path / "v.jsonl", items, said)
    with pytest.raises(ValueError, match="no human judgement for 3 of 3 items"):
        hlp.rater_preferences(items, records, "human")
    with pytest.raises(ValueError, match="no model judgement for 1 of 3 items"):
        hlp.rater_preferences(items, records[1:], "model")
    changed = [replace(items[0], prompt="另一问"), *items[1:]]
    with pytest.raises(ValueError, match="compare/0 has another text now"):
        hlp.rater_preferences(changed, records, "model")


def test_tasks_without_a_preference_are_refused(items, tmp_path):
    kept = [replace(i, task="keep_drop", texts={"after": i.id}) for i in items[:1]]
    session = Session(
        kept, tmp_path / "k.jsonl", rater="m", rater_kind="model", round=1, seed=0
    )
    with pytest.raises(ValueError, match="keep_drop gives no preference"):
        hlp.rater_preferences(kept, [session.judge("keep")], "model")
