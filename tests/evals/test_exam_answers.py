"""Reading written exam answers: what counts as an answer, and what does not."""

from dataclasses import replace

import pytest

from finllm_utils.evals.exam.answers import read_answer
from tests.evals.small_exam import three_kinds

SINGLE, MULTIPLE, JUDGEMENT = three_kinds(
    choices=("季度", "按活期利率", "A股市场", "十年")
)


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("B", "B"),
        ("b", "B"),
        ("Ｂ。", "B"),
        ("(B)", "B"),
        ("（B）按活期利率", "B"),
        ("**B**", "B"),
        ("B. 按活期利率", "B"),
        ("B 按活期利率", "B"),
        ("B\n\n题目：下一题\n答案：C", "B"),
        ("答案：B", "B"),
        ("正确答案是：B。因为 A 项不符合规定。", "B"),
        ("答案为【B】", "B"),
        ("选B", "B"),
        ("我选择 B 选项", "B"),
        ("不选A，应选B。", "B"),
        ("先看，答案似乎是A；再算一遍，故答案选C。", "C"),
        ("The answer is B.", "B"),
        ("B项正确，其余错误。", "B"),
        ("按活期利率", "B"),
        ("按活期利率。", "B"),
        ("答案：AB", "AB"),  # not legal here, but it is what was said
        ("A股市场", "C"),
        ("A股上涨，与题目无关", ""),
        ("A bank should decide", ""),
        ("选项B正确，选项A、C错误。", "B"),
        ("答案：B\nBecause it is so", "B"),
        ("不选A。", ""),
        ("备选项很多，不能确定", ""),
        ("我不知道", ""),
        ("", ""),
        ("按活期利率或十年", ""),
    ],
)
def test_single_answers(text, letters):
    assert read_answer(text, SINGLE) == letters


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("ABD", "ABD"),
        ("DBA", "ABD"),
        ("A、B、D", "ABD"),
        ("A，B，D。", "ABD"),
        ("答案：A B D", "ABD"),
        ("故选A、B和D。", "ABD"),
        ("A、B、D 项均正确，C项错误。", "ABD"),
        ("A项正确，C项不正确，D项正确。", "AD"),
        ("全部正确", ""),
    ],
)
def test_sets_of_letters(text, letters):
    assert read_answer(text, MULTIPLE) == letters


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("正确", "A"),
        ("错误。", "B"),
        ("对", "A"),
        ("×", "B"),
        ("答案：错误", "B"),
        ("A", "A"),
        ("答案：B. 错误", "B"),
        ("该说法正确。", "A"),
        ("这一说法是错误的，正确的做法是公开。", "B"),
        ("上述表述不正确。", "B"),
        ("不对，应为三十日。", "B"),
        ("说法对不对要看合同", "A"),
        ("应当依照合同", ""),
    ],
)
def test_verdicts(text, letter):
    assert read_answer(text, JUDGEMENT) == letter


def test_a_verdict_follows_the_order_of_choices():
    turned = replace(JUDGEMENT, choices=("错误", "正确"))
    assert read_answer("正确", turned) == "B"
