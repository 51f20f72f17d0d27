"""The risk problems read back from their questions and worked out again."""

import ast
import itertools
import random
import re
from collections import Counter
from decimal import Decimal as D
from pathlib import Path

import pytest

from finllm_utils.data import formula_parts
from finllm_utils.data import tasks_formulas as tf
from finllm_utils.data import tasks_formulas_risk as risk
from tests.data.risk_answers import (
    AGAIN,
    cells,
    debt_ratio,
    dirty_price,
    expected_loss,
    fund_leverage,
    ks,
    margin_ratio,
    psi,
    read,
    staged_loss,
)
from tests.data.test_tasks_formulas import AGAIN as OLDER
from tests.data.test_tasks_formulas import FIGURE

SEEDS = 200
NEEDED = {
    "ks": "table",
    "psi": "table",
    "dirty_price": "face clean coupon terms days",
    "fund_leverage": "net repo other",
    "margin_ratio": "cash stocks loan shares price interest line",
    "expected_loss": "drawn undrawn ccf pd lgd|recovery",
    "staged_loss": "table",
}
"""Slots without which a question cannot be answered; a bar means one of the two."""


def inputs_of(name, question):
    """What the question gives, read with the one wording that it follows."""
    found = [read(wording, question) for wording in risk.RISK_WORDINGS[name][0]]
    (inputs,) = [slots for slots in found if slots is not None]
    return inputs


def answer_to(name, question):
    """The answer as it follows from the question alone."""
    slots = inputs_of(name, question)
    return risk.RISK_WORDINGS[name][1].format(**slots | AGAIN[name](slots))


def drawn(name, seeds=SEEDS):
    return [
        risk.RISK_FORMULAS[name](random.Random(f"{name}/{s}")) for s in range(seeds)
    ]


@pytest.mark.parametrize("name", sorted(AGAIN))
def test_every_figure_follows_from_the_question(name):
    """Inputs are read from the words of the question, never from the key."""
    for question, answer, key in drawn(name):
        assert answer == answer_to(name, question)
        assert list(key)[-1] == "result" and key["result"] in FIGURE.findall(answer)
        assert answer[-1] == "。" and not re.search(r"[{}]|E[+-]|-0\.0+\b", answer)


def test_ks_by_hand():
    """100 bad: 50, 80, 100%. 1,000 good: 5, 40, 100%. Gaps 45, 40 and 0: KS 45%."""
    rows = risk.ks_figures([50, 350, 600], [50, 30, 20])
    assert [str(row[-1]) for row in rows] == ["45.00", "40.00", "0.00"]
    assert rows[1][:2] == (80, 400)
    # 2/3 = 66.67%, 1/6 = 16.67% (16.666.. up): 50.00; unrounded it is 50 as well
    first = risk.ks_figures([1, 5], [2, 1])[0]
    assert [str(x) for x in first] == ["2", "1", "66.67", "16.67", "50.00"]
    table = "| a | b | c |\n| - | - | - |\n| 低 | 50 | 50 |\n| 中 | 350 | 30 |\n| 高 | 600 | 20 |"
    got = ks({"table": table})
    assert (got["band"], got["result"]) == ("低", "45.00")
    assert "| 中 | 80 ÷ 100 = 80.00% | 400 ÷ 1000 = 40.00% | 40.00 |" in got["steps"]


def test_psi_by_hand():
    """ln 1.25 = 0.22314, ln 0.9 = -0.10536: 5% x 0.2231 = 0.0112, -5% x -0.1054 = 0.0053."""
    rows = risk.psi_figures([20, 30, 50], [25, 30, 45])
    assert [(str(a), str(b)) for a, b in rows] == [
        ("0.2231", "0.0112"),
        ("0.0000", "0.0000"),
        ("-0.1054", "0.0053"),
    ]
    table = "| a | b | c |\n| - | - | - |\n| 低 | 20% | 25% |\n| 中 | 30% | 30% |\n| 高 | 50% | 45% |"
    got = psi({"table": table})
    assert (got["result"], got["verdict"][:6]) == ("0.0165", "低于 0.1")


def test_dirty_price_by_hand():
    """3.65% for 120 of 365 days is 1.20 on 100; 101.30 + 1.20 = 102.50; x 500 = 51,250."""
    got = risk.price_figures(D("101.3000"), D("3.65") * 120 / 365, 5)
    texts = {name: str(value) for name, value in got.items()}
    assert texts == {
        "accrued": "1.2000",
        "dirty": "102.5000",
        "par": "50000",
        "result": "51250.00",
    }
    terms = "每年付息两次，应计利息按实际天数/实际天数计算，本付息期183天"
    # half of 3% for a third of the period (61 of 183 days): 0.50
    given = {"face": "1000", "clean": "99.5000", "coupon": "3", "days": "61"}
    again = dirty_price(given | {"terms": terms})
    assert (again["accrued"], again["dirty"]) == ("0.5000", "100.0000")
    assert again["result"] == "10000000.00"
    # 2.6 x 100 / 365 = 0.712328..: the fifth decimal is cut by the stated rule
    assert (
        str(risk.price_figures(D(100), D("2.6") * 100 / 365, 1)["accrued"]) == "0.7123"
    )


def test_leverage_by_hand():
    """Debts 300 of 500: 60%; equity 200, so 2.5 of assets to 1 of equity."""
    firm = risk.debt_figures(D(500), D(300))
    assert {n: str(v) for n, v in firm.items()} == {
        "equity": "200",
        "ratio": "60.00",
        "result": "2.50",
    }
    assert debt_ratio({"debts": "300", "equity": "200"})["result"] == "2.50"
    # net 10: limit 14. Owed 3.8: 138%, 0.2 left. Owed 4.5: 145%, 0.5 over. Owed 4: at it
    for repo, words in (
        ("3.50", ("138.00", "未超过", "0.20")),
        ("4.20", ("145.00", "超过", "0.50")),
        ("3.70", ("140.00", "未超过", "0.00")),
    ):
        got = risk.fund_figures(D(10), D(repo), D("0.30"))
        assert (str(got["result"]), got["side"], str(got["gap"])) == words
        again = fund_leverage({"net": "10", "repo": repo, "other": "0.30"})
        assert (again["result"], again["side"], again["gap"]) == words


def test_margin_ratio_by_hand():
    """920,000 on 504,000 is 182.54%; 150% of 504,000 is 756,000, so 650,000 lacks 106,000."""
    for assets, line, words in (
        (920_000, 130, ("182.54", "高于", "264800.00")),
        (650_000, 130, ("128.97", "低于", "5200.00")),
        (650_000, 150, ("128.97", "低于", "106000.00")),
    ):
        got = risk.margin_figures(assets, 504_000, line)
        assert (str(got["result"]), got["side"], str(got["gap"])) == words
    # 100 shares at 12.50 are 1,250 of debt: 300,000 / (150,000 + 1,250 + 750) = 197.37%
    given = {"cash": "20000", "stocks": "280000", "loan": "150000", "interest": "750"}
    given |= {"shares": "100", "price": "12.50", "line": "平仓线130%"}
    again = margin_ratio(given)
    assert (again["owed"], again["result"], again["gap"]) == (
        "152000",
        "197.37",
        "102400.00",
    )


def test_expected_loss_by_hand():
    """800 + 200 x 40% = 880; 2% x 45% x 880 = 7.92."""
    got = risk.loss_figures(800, 200, 40, D(2), 45)
    assert {n: str(v) for n, v in got.items()} == {"ead": "880", "result": "7.92"}
    given = {"drawn": "800", "undrawn": "200", "ccf": "40", "pd": "2"}
    assert expected_loss(given | {"recovery": "55"})["result"] == "7.92"
    assert expected_loss(given | {"lgd": "45"})["recovery"] == "55"


def test_staged_loss_by_hand():
    """1,000 x 1% x 40% = 4; 100 x 20% x 40% = 8, not 5% of 12 months; 10 x 60% = 6: 18."""
    table = """| 阶段 | 敞口 | 12个月 | 存续期 | LGD |\n| - | - | - | - | - |
| 阶段一 | 1000 | 1% | 3% | 40% |\n| 阶段二 | 100 | 5% | 20% | 40% |
| 阶段三 | 10 | 100% | 100% | 60% |"""
    got = staged_loss({"table": table})
    assert (got["result"], got["largest"]) == ("18.00", "阶段二")
    assert [str(risk.loss_figures(*x)["result"]) for x in (
        (1000, 0, 0, 1, 40), (100, 0, 0, 20, 40), (10, 0, 0, 100, 60),
    )] == ["4.00", "8.00", "6.00"]  # fmt: skip


@pytest.mark.parametrize("name", sorted(AGAIN))
def test_wordings_say_what_is_needed_and_how_to_round(name):
    wordings, answer = risk.RISK_WORDINGS[name]
    assert len(wordings) >= 3 and "{result}" in answer
    for wording in wordings:
        slots = set(re.findall(r"{(\w+)}", wording))
        for needed in NEEDED.get(name, "").split():
            assert slots & set(needed.split("|")), (needed, wording)
        if name == "debt_ratio":
            assert len(slots & {"assets", "debts", "equity"}) == 2
        assert re.search(r"[两四]位小数|0\.01", wording), wording
        if name == "psi":
            assert {"0.1", "0.25"} <= set(FIGURE.findall(wording))
            assert "自然对数" in wording
        if name == "fund_leverage":
            assert "140%" in wording


def test_no_wording_repeats_another():
    """Two wordings of a problem share less than half of their character pairs."""
    every = [w for ws in (tf.WORDINGS, risk.RISK_WORDINGS) for w, _ in ws.values()]
    bare = [re.sub(r"{\w+}|[，。：？、（）]", "", w) for ws in every for w in ws]
    assert len(set(bare)) == len(bare)
    for name, (wordings, _) in risk.RISK_WORDINGS.items():
        for one, two in itertools.combinations(wordings, 2):
            a, b = (
                {t[i : i + 2] for i in range(len(t) - 1)}
                for t in (re.sub(r"{\w+}", "", w) for w in (one, two))
            )
            assert len(a & b) / len(a | b) < 0.5, (name, one, two)


def test_no_question_comes_twice_and_every_wording_is_used():
    for name, (wordings, _) in risk.RISK_WORDINGS.items():
        questions = [question for question, _, _ in drawn(name)]
        assert len(set(questions)) == len(questions)
        used = Counter(
            wording
            for q in questions
            for wording in wordings
            if read(wording, q) is not None
        )
        assert set(used) == set(wordings) and sum(used.values()) == len(questions)


def test_every_outcome_is_drawn():
    """Both sides of a limit, all three verdicts, each stage, both day counts."""
    keys = {name: [key for _, _, key in drawn(name)] for name in AGAIN}
    for name, slot, number in (
        ("psi", "verdict", 3),
        ("fund_leverage", "side", 2),
        ("margin_ratio", "side", 2),
        ("margin_ratio", "line", 3),
        ("staged_loss", "largest", 3),
    ):
        counts = Counter(key[slot] for key in keys[name])
        assert len(counts) == number and min(counts.values()) >= 10, counts
    yearly = sum("/365" in key["terms"] for key in keys["dirty_price"])
    assert 60 <= yearly <= 140
    bands = {key["band"] for key in keys["ks"]}
    assert len(bands) > 20
    assert all(15 < float(key["result"]) < 70 for key in keys["ks"])


def test_rounding_decides_neither_a_band_nor_a_verdict():
    for _, _, key in drawn("ks"):
        gaps = sorted(D(line[-1]) for line in cells(key["steps"]))
        assert gaps[-1] - gaps[-2] >= D("0.05")
    for _, _, key in drawn("psi"):
        got = float(key["result"])
        assert abs(got - 0.1) >= 0.002 and abs(got - 0.25) >= 0.002


def test_answers_are_no_longer_than_their_steps():
    for name in AGAIN:
        longest = max(len(answer) for _, answer, _ in drawn(name))
        assert longest <= (460 if name in ("ks", "psi") else 190), name


def test_the_problems_join_the_others():
    assert list(tf.FORMULAS) == [*tf.WORDINGS, *risk.RISK_WORDINGS]
    assert set(tf.FORMULAS) == set(OLDER) | set(AGAIN)
    assert not set(OLDER) & set(AGAIN)
    number = len(tf.FORMULAS)
    found = list(itertools.islice(tf.formulas(None, random.Random(3)), number))
    names = [i.source.removeprefix("computed-").rsplit("-", 1)[0] for i in found]
    assert names == list(tf.FORMULAS)


@pytest.mark.parametrize("module", [formula_parts, risk])
def test_the_parts_import_none_of_the_problems(module):
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert "finllm_utils.data.tasks_formulas" not in imported
    assert module is risk or risk.__name__ not in imported


def test_wordings_are_parsed_as_they_are_folded():
    text = "\n# one\nQ 甲{a}\n乙？\nQ 丙\nA 丁\n {b}。\n# two\nQ 戊\nA 己\n"
    assert formula_parts.parse_wordings(text) == {
        "one": (("甲{a}乙？", "丙"), "丁 {b}。"),
        "two": (("戊",), "己"),
    }
    assert formula_parts.markdown_table(("a", "b"), (1, D("2.0"))) == (
        "\n| a | b |\n| --- | --- |\n| 1 | 2.0 |\n"
    )
