"""Repetition: what is pasted goes, what names its subject stays; tables are apart."""

import pytest

from finllm_utils.data.filter_repetition import (
    check_repetition,
    check_repetitions,
    gram_counts,
)
from finllm_utils.data.shingles import fold
from finllm_utils.data.text_views import (
    cells,
    decoded,
    split_tables,
    spoken,
    undrawn,
)

CLEAN = (
    "久期衡量债券价格对利率变化的敏感程度。利率上升时，债券价格下降；久期越长，"
    "下降得越多。投资者可以用久期来估计组合在利率变动一个百分点时大约亏损多少，"
    "并据此决定是否缩短持有的期限。需要记住的是，久期只是一次近似。"
)
MEDICARE = (
    "Medicare B部分将支付TMJ手术，如果由Medicare参与医生执行。与所有Medicare用品和服务"
    "一样，手术必须被视为必需，以便Medicare支付。Medicare不支付牙科费用。"
)
TABLE = "\n".join(
    ["| 年度 | 直线法 | 双倍余额法 |", "| --- | --- | --- |"]
    + [f"| {year} | 20000 | {40000 - year * 1000} |" for year in range(1, 21)]
)
FORUM = "\n".join(["| 作者 | 内容 |", "| --- | --- |"] * 6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CLEAN + "哈" * 15, "char_run"),
        ("！" * 40 + CLEAN[:30], "char_run"),
        ("每天签到领取积分\n" * 9 + CLEAN, "duplicate_lines"),
        ("收益稳定增长快，" * 12, "top_4_gram"),
        (CLEAN * 3, "duplicate_16_grams"),
        (
            "问题的答案如下。" + "新旗新新旗新新旗新新旗新新旗新新旗新新旗新新旗" * 2,
            "loop",
        ),
        (
            "信用卡逾期怎么办 信用卡逾期多久上征信 信用卡逾期会坐牢吗 信用卡逾期怎么协商 "
            "信用卡逾期新规定 信用卡逾期三天 信用卡逾期法务 信用卡逾期还款 信用卡逾期停息 "
            "信用卡逾期贷款 信用卡逾期律师 信用卡逾期最新政策 信用卡逾期影响 信用卡逾期案例",
            "top_4_gram",
        ),
    ],
)
def test_repetition_goes(text, reason):
    keep, found = check_repetition(text)
    assert not keep
    assert found.startswith(reason), found


@pytest.mark.parametrize(
    "text",
    [
        CLEAN,
        MEDICARE,
        TABLE,
        f"{CLEAN}\n{TABLE}",
        f"{CLEAN}\n{FORUM}",
        CLEAN + "。" * 14,
        "&#32431;&#20013;&#26041;&#31649;&#29702;&#65292;&#38750;&#24120;&#26834;",
        "一千元以上一万元以下的罚款，一万元以上十万元以下的罚款，十万元以上的罚款。",
    ],
)
def test_natural_repetition_stays(text):
    assert check_repetition(text) == (True, "")


def test_repetition_in_a_batch_equals_one_by_one():
    texts = [
        CLEAN,
        "",
        "短",
        CLEAN * 3,
        "收益稳定增长快，" * 12,
        "A b",
        TABLE,
        MEDICARE,
    ]
    texts += ["新旗" * 11, "新旗新" * 3, "！" * 7, "！" * 7 + "好"]
    assert check_repetitions(texts) == [check_repetition(t) for t in texts]


def test_gram_counts_by_hand():
    codes, bounds, _ = fold(["甲乙甲乙甲", "", "丙"])
    most, kinds = gram_counts(codes, bounds, 2)
    assert most.tolist() == [2, 0, 0]  # 甲乙 twice, 乙甲 twice
    assert kinds.tolist() == [2, 0, 0]


def test_views_by_hand():
    page = "前文\n| 甲 | 12% |\n| --- | --- |\n| 甲 | |\n后文"
    prose, rows = split_tables(page)
    assert prose.split() == ["前文", "后文"]
    assert rows == [["甲", "12%"], ["甲"]]
    assert spoken(page).split() == ["前文", "后文", "甲"]
    assert cells("| a |  | b |") == ["a", "b"]
    assert undrawn("目录......12") == "目录12"
    assert decoded("&#32431;&amp;纯") == "纯&纯"
