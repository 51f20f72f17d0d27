"""Each rule by hand: one answer that keeps it, and one that just does not."""

import pytest

from finllm_utils.evals.tasks.following import (
    RULES,
    FollowingItem,
    broken_rules,
    following_share,
    read_following,
)

CASES = [
    ("max_chars", 4, "四个字。", "五个字的。"),
    ("min_chars", 4, "四个字。", "三字。"),
    ("num_lines", 2, "一\n\n二", "一\n二\n三"),
    ("num_items", 2, "要点：\n1. 甲\n2、乙", "1. 甲\n乙"),
    ("num_items", 3, "- a\n* b\n• c", "- a\n-\n- c"),
    ("json_keys", ["a", "b"], '{"a": 1, "b": [2]}', '{"a": 1}'),
    ("json_keys", ["a"], '{"a": null}', '结果：{"a": 1}'),
    ("one_of", ["是", "否"], " 是\n", "是的"),
    ("contains", ["本金", "利息"], "本金和利息", "本金"),
    ("contains_any", ["无法", "缺少"], "缺少期限。", "期限三年。"),
    ("not_contains", ["保证"], "不承诺收益", "保证收益"),
    ("starts_with", "结论", "结论：可以", "可以，结论"),
    ("ends_with", "。", "完。", "完"),
    ("only_digits", True, "120", "120元"),
    ("only_digits", True, "7", "７"),
    ("language", "zh", "年化收益率 APR", "annual rate 年"),
    ("language", "en", "The rate is 3%.", "The 利率 is 3%."),
    ("language", "en", "Yes", "3%"),
]


@pytest.mark.parametrize(("name", "value", "good", "bad"), CASES)
def test_each_rule_by_hand(name, value, good, bad):
    rule = {"type": name, "value": value}
    assert broken_rules(good, [rule]) == []
    assert broken_rules(bad, [rule]) == [name]
    assert broken_rules(" \n", [rule]) == [name], "an empty answer keeps nothing"


def test_every_rule_has_a_case_and_broken_ones_are_named_in_order():
    assert {case[0] for case in CASES} == set(RULES)
    rules = [{"type": "max_chars", "value": 2}, {"type": "contains", "value": ["x"]}]
    assert broken_rules("abc", rules) == ["max_chars", "contains"]
    with pytest.raises(ValueError, match="unknown rule 'polite'"):
        broken_rules("a", [{"type": "polite"}])


def test_an_item_whose_reference_breaks_its_rules_is_refused():
    row = {
        "id": "f/1", "domain": "general", "prompt": "用三个字回答。", "reference": "不知道",
        "rules": [{"type": "max_chars", "value": 3}],
    }  # fmt: skip
    assert FollowingItem.read(row).rules[0]["value"] == 3
    with pytest.raises(ValueError, match="f/1: its reference breaks max_chars"):
        FollowingItem.read(row | {"reference": "我不知道"})


def test_the_exam_and_its_share():
    exam = read_following()
    assert len(exam) == 90 and len({item.id for item in exam}) == 90
    part = read_following(4)
    assert [exam.index(item) for item in part] == [0, 22, 45, 67]
    right = {item.prompt: item.reference for item in exam}

    def knows(talks):
        return [right[talk[-1].content] for talk in talks]

    def knows_half(talks):
        return [a if i % 2 else "" for i, a in enumerate(knows(talks))]

    assert following_share(exam, knows) == 1.0
    assert following_share(exam, knows_half) == 0.5
