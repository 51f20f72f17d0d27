"""Each filter on hand-made faults, and all of them on our own hand-written items."""

import random
import re
from difflib import SequenceMatcher
from functools import cache

import pytest

from finllm_utils.corpora.laws import laws
from finllm_utils.corpora.sources import training_laws
from finllm_utils.data import generated_filters as flt
from finllm_utils.data.citations import ArticleBook
from finllm_utils.data.decontaminate import HeldoutIndex
from finllm_utils.data.instruction_gate import Gate
from finllm_utils.data.own_items import read_own_items
from finllm_utils.data.wordings import Source, one_turn

LIMITS = flt.Limits()


@cache
def book() -> ArticleBook:
    return ArticleBook(training_laws())


def judge(seeds=(), gate=None, **limits) -> flt.GeneratedFilter:
    return flt.GeneratedFilter(
        seeds, training_laws(), gate or Gate(), flt.Limits(**limits)
    )


def item(question: str, answer: str):
    return one_turn("self_instruct", "finance", question, question, answer)


GOOD = (
    "提前还房贷，银行能按原来的总利息收我吗？",
    "不能。《民法典》第六百七十七条规定，除另有约定外，“应当按照实际借款的期间计算利息”，"
    "比如500000×3.1%÷12≈1291.67元只是下个月的利息。",
)


def test_a_good_item_is_kept_and_counted():
    found = judge()
    assert found.verdict(item(*GOOD)) == flt.Verdict()
    assert found.table() == [{"reason": "kept", "items": 1, "share": 1.0}]


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        (GOOD[0], "不能收。", "length"),
        ("利率？", GOOD[1], "length"),
        (GOOD[0], "利" * 1001, "length"),
        (GOOD[0], "抱歉，我无法回答您的问题。", "refusal"),
        (GOOD[0], "作为一个AI语言模型，我没有办法判断。", "refusal"),
        (GOOD[0], "No, the bank may only charge interest for the time used.", "language"),
        ("May the bank charge all the interest?", GOOD[1], "language"),
        (GOOD[0], GOOD[0] + "这要看合同。", "broken"),
        (GOOD[0], "不能，利息只按实际借款的时间算，先看合同里有没有提前还款的约定，再", "broken"),
        (GOOD[0], "不能（除非合同另有约定，利息只按实际时间算。", "broken"),
        (GOOD[0], "尊敬的{{客户姓名}}，利息只按实际时间算。", "broken"),
        (GOOD[0], "不能，利息按时间算。\n用户：那违约金呢？", "broken"),
        (GOOD[0], "先看合同的约定。" * 3 + "再预约办理。", "broken"),
        (GOOD[0], "买我们的理财，稳赚不赔，收益比利息高。", "promise"),
        (GOOD[0], "不能。依据《民法典》第两千条，利息按实际时间算。", "article"),
        (GOOD[0], "不能。依据保险法第三百条，利息按实际时间算。", "article"),
        (GOOD[0], "不能。依据《贷款通则》第八条，利息按实际时间算。", "unknown law"),
        (GOOD[0], "不能。依据《民法典》第六百七十七条，“银行应当退还全部利息”。", "quote"),
        (GOOD[0], "不能，下个月的利息是500000×3.1%÷12＝1391.67元。", "arithmetic"),
    ],
)  # fmt: skip
def test_each_fault_has_its_reason(question, answer, reason):
    found = judge()
    assert found.verdict(item(question, answer)).reason == reason
    assert found.counts == {reason: 1}


def test_rouge_l_equals_a_plain_dynamic_programme():
    def slow(left, right):
        rows = [[0] * (len(right) + 1)]
        for a in left:
            row = [0]
            for j, b in enumerate(right):
                row.append(rows[-1][j] + 1 if a == b else max(row[-1], rows[-1][j + 1]))
            rows.append(row)
        return 2 * rows[-1][-1] / max(1, len(left) + len(right))

    assert flt.rouge_l("存款利息", "存款的利率") == pytest.approx(6 / 9)
    assert flt.rouge_l("", "存款") == flt.rouge_l("存款", "") == 0
    rng = random.Random(0)
    for _ in range(200):
        left, right = (
            "".join(rng.choices("存款利率", k=rng.randint(0, 80))) for _ in "ab"
        )
        assert flt.rouge_l(left, right) == pytest.approx(slow(left, right))
    assert SequenceMatcher(None, "ab", "ab").ratio() == flt.rouge_l("ab", "ab")


def test_later_items_must_differ_from_seeds_and_from_kept_ones():
    seed = "存款200000元，年利率1.9%，三年的利息是多少？"
    found = judge([seed])
    answer = "按年利率乘本金再乘年数来算。"
    other = "存款350000元，年利率2.1%，五年的利息是多少？"
    assert found.verdict(item(other, answer)).reason == "similar"
    fresh = "汇票丢了，怎么向付款人挂失止付？"
    assert (
        found.verdict(item(fresh, "带上证件和票据信息，去付款人处办理。")).reason == ""
    )
    again = "汇票丢了，怎样向付款人挂失止付呢？"
    assert found.verdict(item(again, "去付款人处申请挂失止付。")).reason == "similar"
    assert found.counts == {"similar": 2, "kept": 1}


def test_a_refused_item_is_nothing_to_differ_from():
    found = judge()
    assert found.verdict(item(GOOD[0], "不能收。")).reason == "length"
    assert found.verdict(item(*GOOD)).reason == ""


def test_the_gate_refuses_exams_and_knows_what_was_asked():
    secret = (
        "这是一段被保留下来只用于评测的文字，训练集里不应当出现它的任何三十个字的片段。"
    )
    gate = Gate(HeldoutIndex.build([secret], 30), ["人寿保险要交税吗？"])
    found = judge(gate=gate)
    leaked = item("请介绍一下。", f"可以这样说：{secret}")
    assert found.verdict(leaked).reason == "held-out"
    leaked = item("客户问：人寿保险要交税吗？怎么答？", "要看险种和用途，请先问清。")
    assert found.verdict(leaked).reason == "held-out"
    gate.seen.add(GOOD[0])  # another stage asked it already
    assert found.verdict(item(*GOOD)).reason == "similar"


@pytest.mark.parametrize(
    "text",
    [
        "合计1000＋1250＋800＝3050份；平均3000÷3050≈0.9836元。",
        "应赔16×50÷80＝10万元，即160000元×50÷80＝10万元。",
        "(12－6－2)万＝40000元，5万元×1.55%×3年＝2325元。",
        "价格3÷(1＋4%)＋103÷(1＋4%)²≈98.11元。",
        "(－0.03)×(－0.1054)＝0.003162。",
        "费率15÷100＝15%，利息 1,000,000 × 2% × 45% = 9,000 元。",
        "净额20000÷(1＋0.15%)≈19970.04元。",
        "（本金10000元，利息10000×0.5%＝50元）",
        "税后＝收入120000－费用20000×2＝80000元，2026-11-22，电话400-800。",
        "每100美元＝719.20元；再×365÷10000＝1.679%；√12×0.07＝0.24。",
    ],
)
def test_true_steps_and_what_is_no_step_pass(text):
    assert flt.wrong_step(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "200000×1.9%×3＝11600元。",
        "应赔16×50÷80＝12万元。",
        "(－0.03)×(－0.1054)＝0.004162。",
        "(1＋12%)×(1－10%)－1＝2%。",
        "价格3÷(1＋4%)＋103÷(1＋4%)²≈99.11元。",
        "先算5×2＝10，再算10×3＝31。",
        "1,000,000 × 2% = 2,000 元。",
        "5÷30＝20%。",
        "80万元－35万元＝55万元。",
    ],
)
def test_false_steps_are_found(text):
    assert flt.wrong_step(text)


@pytest.mark.parametrize(
    ("text", "is_wrong"),
    [
        ("《票据法》第九条规定“更改的票据无效”。", False),
        ("《票据法》第九条规定，「票据金额、日期……不得更改」。", False),
        ("《票据法》第九条规定“更改的票据可以补正”。", True),
        ("《票据法》第九条、第十条规定“必须给付对价”。", False),
        ("《票据法》第九条规定“必须给付对价”。", True),
        ("《票据法》第九条不许改金额。柜员说“没关系”是不对的。", False),
    ],
)
def test_quoted_words_stand_in_the_cited_article(text, is_wrong):
    assert bool(flt.misquoted(text, book())) == is_wrong


@pytest.mark.parametrize(
    ("text", "is_promise"),
    [
        ("这款产品保本保息，年化5%。", True),
        ("我们承诺保证收益，特别推荐。", True),
        ("新股肯定会涨，放心买入。", True),
        ("不要错过，零风险高回报！", True),
        ("理财有风险。但这一只本金绝对安全。", True),
        ("不得承诺保本保息，零风险的说法属于误导。", False),
        ("“稳赚不赔”是违规宣传，应当删除。", False),
        ("凡是说零风险、无风险高收益的，都要当心。", False),
        ("结构性存款不保证收益，无风险利率取1.8%。", False),
        ("没有哪只基金能保证盈利。", False),
    ],
)
def test_promises_are_told_from_warnings(text, is_promise):
    assert bool(flt.promise(text)) == is_promise


def test_an_answer_stays_with_its_passage():
    text = (
        "被更改的票据无效；付款人应当在三日内答复，逾期按日加收万分之五，最多百分之十。"
    )
    passage = Source("laws/票据法/第九条", text, "票据法第九条")
    given = f"金额8000元，晚了2天？{text}"
    for fine in (
        "3日内，按0.05%算，10%封顶：8000×0.05%×2＝8元，共8元。",
        "1. 先看日期。",
    ):
        assert flt.unsupported(fine, given) == ""
    assert flt.unsupported("30日内答复。", given) == "30"
    found = judge()
    for answer, is_kept in (
        ("无效。《票据法》第9条规定，更改的票据无效，请出票人重开。", True),
        ("无效，更改的票据都没有效力，请出票人重开。", False),
        ("无效。《票据法》第九条、第十条都这么规定。", False),
        ("无效。《票据法》第九条规定，更改的票据无效，还要罚500元。", False),
    ):
        verdict = found.verdict(item("支票改了金额还有效吗？", answer), passage)
        assert (verdict.reason == "") == is_kept
        found.known.clear()
        found.gate.seen.clear()
    assert found.counts == {"kept": 1, "off source": 3}


@cache
def own_turns() -> tuple[tuple[str, str], ...]:
    """Every question and answer of our finance items, written and checked by hand."""
    found = []
    for own in read_own_items():
        turns = [t for t in own.messages if t.role != "system"]
        if own.area != "general":
            found += zip(turns[::2], turns[1::2], strict=True)
    return tuple((q.content, a.content) for q, a in found)


def test_hand_written_answers_pass():
    """At most one in fifty is refused: English texts, and short or declining answers."""
    all_laws, refused = ArticleBook(laws()), []
    for question, answer in own_turns():
        faults = (
            flt.bad_length(question, answer, LIMITS),
            flt.refusal(answer),
            flt.foreign(question, answer, LIMITS.min_chinese),
            flt.broken(question, answer),
            flt.promise(answer),
            all_laws.invented(f"{question}\n{answer}"),
            flt.misquoted(answer, all_laws),
            flt.wrong_step(answer),
        )
        refused += [question] if any(faults) else []
        assert not any(faults[4:]), (question, faults)
    assert len(own_turns()) > 500
    assert len(refused) <= len(own_turns()) / 50


def damaged(kind: str, rng: random.Random) -> list[tuple[str, bool]]:
    """(what was damaged, whether the filter says so) for our items, damaged by rule."""
    found = []
    for question, answer in own_turns():
        if kind == "cut" and len(answer) > 60 and answer[0] not in "{[":
            cut = answer[: rng.randint(40, len(answer) - 10)]
            if cut[-1] not in flt._ENDS:
                found.append((cut, flt.broken(question, cut) != ""))
        elif kind == "bracket" and (
            places := [m.start() for m in re.finditer("[（）《》“”]", answer)]
        ):
            place = rng.choice(places)
            text = answer[:place] + answer[place + 1 :]
            found.append((text, flt.broken(question, text) != ""))
        elif kind == "figure":
            for step in re.finditer(r"[×÷＋][\d.%()（）]+[＝=]\s*(\d)", answer):
                digit = str((int(step[1]) + 3) % 10)
                text = answer[: step.end() - 1] + digit + answer[step.end() :]
                found.append((text, flt.wrong_step(text) != ""))
        elif kind == "twin":
            text = re.sub(r"\d", lambda m: str((int(m[0]) + 1) % 10), question)
            words = sorted(rng.sample(range(len(text)), len(text) // 12), reverse=True)
            for place in words:
                text = text[:place] + text[place + 1 :]
            near = flt.similar(text, [flt.shape(question)], LIMITS.similarity)
            found.append((text, near != ""))
    return found


@pytest.mark.parametrize(
    ("kind", "floor", "least"),
    [
        ("cut", 0.94, 200),
        ("bracket", 0.99, 100),
        ("figure", 0.97, 80),
        ("twin", 0.99, 400),
    ],
)
def test_damage_done_by_rule_is_found(kind, floor, least):
    """On texts that were not written for these filters."""
    found = damaged(kind, random.Random(0))
    assert len(found) >= least
    share = sum(seen for _, seen in found) / len(found)
    assert share >= floor, [text for text, seen in found if not seen]
