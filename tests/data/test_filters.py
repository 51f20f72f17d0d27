"""Filters on texts of our own: one that stays and one that goes for each."""

import pytest

from finllm_utils.data.char_stats import char_stats
from finllm_utils.data.filters import (
    check_boilerplate,
    check_chinese_share,
    check_garbage,
    check_harm,
    check_length,
    check_repetition,
    check_repetitions,
    gram_counts,
    strip_boilerplate,
)
from finllm_utils.data.shingles import fold

CLEAN = (
    "久期衡量债券价格对利率变化的敏感程度。利率上升时，债券价格下降；久期越长，"
    "下降得越多。投资者可以用久期来估计组合在利率变动一个百分点时大约亏损多少，"
    "并据此决定是否缩短持有的期限。需要记住的是，久期只是一次近似。"
)


def garbage(text: str) -> tuple[bool, str]:
    return check_garbage(text, char_stats(text))


def test_clean_text_passes_everything():
    stats = char_stats(CLEAN)
    verdicts = [check_length(stats, 40), check_chinese_share(stats), garbage(CLEAN)]
    verdicts += [f(CLEAN) for f in (check_repetition, check_boilerplate, check_harm)]
    assert all(keep for keep, _ in verdicts), verdicts


def test_char_stats_by_hand():
    stats = char_stats("的债 A1é！\ufffd😀")
    assert (stats.function, stats.common_han, stats.latin, stats.digit) == (1, 1, 1, 1)
    assert (stats.latin_1, stats.space, stats.broken, stats.symbol) == (1, 1, 1, 2)
    assert stats.han == 2
    assert stats.letters == 5


def test_length_counts_letters_not_marks():
    assert check_length(char_stats("好" * 40), 40) == (True, "")
    assert check_length(char_stats("好" * 39 + "。" * 50), 40) == (
        False,
        "too_short:39",
    )


def test_chinese_share():
    english = "This page is only available in English for now. "
    keep, reason = check_chinese_share(char_stats(english + "中文"))
    assert not keep
    assert reason.startswith("not_chinese:0.0")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("锟斤拷锟斤拷" + CLEAN, "broken_encoding"),
        ("\ufffd" * 5 + CLEAN, "broken_encoding"),
        ("★☆◆▓@#" * 20 + CLEAN, "symbols"),
        ("鐨勫€哄埜浠锋牸瀵瑰埄鐜囧彉鍖栫殑鏁忔劅绋嬪害" * 3, "mojibake_han"),
        ("é“¶è¡Œåº”å½“æŒ‰ç…§" * 5, "mojibake_latin"),
        ("600519 1688.00 12.5 " * 20 + "合计", "numbers"),
        (
            "苹桌灯椅窗鞋帽杯碗盘勺叉刀锅炉盆桶瓶罐篮筐箱柜架床铺被褥枕席帘" * 3,
            "no_func",
        ),
        ("data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUg" * 20, "encoded_data"),
    ],
)
def test_garbage(text, reason):
    keep, found = garbage(text)
    assert not keep
    assert found.startswith(reason), found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CLEAN + "哈" * 15, "char_run"),
        ("每天签到领取积分\n" * 9 + CLEAN, "duplicate_lines"),
        ("收益稳定增长快，" * 12, "top_4_gram"),
        (CLEAN * 3, "duplicate_16_grams"),
    ],
)
def test_repetition(text, reason):
    keep, found = check_repetition(text)
    assert not keep
    assert found.startswith(reason), found


def test_repetition_in_a_batch_equals_one_by_one():
    texts = [CLEAN, "", "短", CLEAN * 3, "收益稳定增长快，" * 12, "A b"]
    assert check_repetitions(texts) == [check_repetition(t) for t in texts]


def test_gram_counts_by_hand():
    codes, bounds, _ = fold(["甲乙甲乙甲", "", "丙"])
    most, kinds = gram_counts(codes, bounds, 2)
    assert most.tolist() == [2, 0, 0]  # 甲乙 twice, 乙甲 twice
    assert kinds.tolist() == [2, 0, 0]


def test_boilerplate_lines_go_and_the_sentence_about_them_stays():
    page = f"首页 > 理财 > 债券\n{CLEAN}\n上一篇：基金定投\n版权所有 ©2024 某某网"
    text, lines = strip_boilerplate(page)
    assert text == CLEAN
    assert lines == 3
    sentence = "客户登录网上银行之后，可以查询自己名下的账户余额和最近的交易记录。"
    assert strip_boilerplate(sentence) == (sentence, 0)


def test_list_page_is_dropped():
    menu = "\n".join(f"债券基金净值公告{i}" for i in range(12))
    keep, reason = check_boilerplate(menu)
    assert not keep
    assert reason.startswith("list_page")


@pytest.mark.parametrize(
    "text",
    [
        "老师带单稳赚不赔，内幕消息每日推送，添加微信立即领取牛股，名额有限先到先得。",
        "百家乐真人荷官在线投注，首存送彩金，提款秒到，立即注册。",
        "黑户可办，无视征信，秒批秒下款，联系客服微信马上到账。",
    ],
)
def test_solicitation_is_dropped(text):
    keep, reason = check_harm(text)
    assert not keep
    assert reason.startswith("harm_")


@pytest.mark.parametrize(
    "text",
    [
        "监管部门提醒：凡是以内幕消息、稳赚不赔为名的荐股群都涉嫌违法，谨防上当受骗。",
        "禁止证券交易内幕信息的知情人利用内幕信息从事证券交易活动。",
        "跟单信用证是银行应进口商的要求开立的付款承诺，无风险利率通常取国债收益率。",
    ],
)
def test_text_about_fraud_stays(text):
    assert check_harm(text)[0]
