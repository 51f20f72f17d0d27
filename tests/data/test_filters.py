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
    strip_boilerplate,
)

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
    japanese = "本サービスをご利用いただくには、会員登録が必要です。"
    keep, reason = check_chinese_share(char_stats(japanese))
    assert not keep
    assert reason.startswith("foreign_script:0.6")
    names = "他用 Allstate Life Insurance 的例子说明，利率 β 为零。"
    assert check_chinese_share(char_stats(names)) == (True, "")


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
    "rows",
    [
        [f"| 用户{i} 初级会员 | 沙发 |" for i in range(12)],
        [f"| 首页{i} | 新闻 | 财经 | 股票 | 基金 | 债券 | 外汇 |" for i in range(12)],
    ],
)
def test_a_table_of_labels_is_a_list_page(rows):
    keep, reason = check_boilerplate("\n".join(rows))
    assert not keep
    assert reason.startswith("list_page")


AMOUNTS = [f"| {i} | 10245.42 | {450 - i}.27 | 9795.4{i} |" for i in range(12)]


def test_a_table_of_amounts_is_data():
    table = "\n".join(
        ["| 期次 | 月供 | 利息 | 本金 |", "| --- | --- | --- | --- |", *AMOUNTS]
    )
    for check in (check_boilerplate, check_repetition, garbage):
        assert check(table) == (True, ""), check
    assert not garbage("\n".join(AMOUNTS))[0]  # amounts of nothing


POEM = """蹲在窑洞的土炕上
这只想心事的布老虎
可感到惆怅和孤独
早已消失
震惊得扑簌簌的树叶
也早已旋转着落下
只有沉寂，填满空谷
它和龙早被埋进了黄土
染出斑斓的条纹
给孩子们做的帽子"""


def test_a_poem_is_no_list_of_links():
    assert check_boilerplate(POEM) == (True, "")
    assert check_boilerplate(f"{POEM}\n{CLEAN * 3}") == (True, "")


def test_ruling_lines_are_no_symbols():
    law = "第一条 本条例自公布之日起施行。"
    assert garbage(f"{law}\n{'-' * 200} {'=' * 90}\n税目 | 税率 | 备注\n| | |") == (
        True,
        "",
    )


def test_entities_are_characters_not_numbers():
    review = "补充点评：&#32431;&#20013;&#26041;&#31649;&#29702;&#65292;&#38750;&#24120;&#26834;"
    assert garbage(review) == (True, "")
