"""Every problem worked out again with Fractions, or by another formula, from its key."""

import itertools
import math
import random
import re
from fractions import Fraction as F

import pytest

from finllm_utils.corpora.laws import laws
from finllm_utils.data import tasks_formulas as tf
from finllm_utils.data.instruction_formats import require_conversation

FIGURE = re.compile(r"\d+(?:\.\d+)?")
NEEDED = {
    "mortgage": "wan lpr move years|months",
    "prepayment": "wan rate months",
    "instalment": "bill months fee",
    "savings_plan": "payment when rate years|months",
    "present_value": "wan years rate",
    "bond_price": "coupon years rate",
    "current_yield": "coupon price",
    "redemption": "tiers days shares nav",
    "early_withdrawal": "wan years rate days demand",
    "simple_or_compound": "wan years rate",
    "income_tax": "income social extra",
    "vat_payable": "sales out cost into",
    "stock_sale": "shares price points",
    "fx_spread": "unit bid offer sum",
    "money_fund": "yields",
    "vintage": "table",
    "capital_adequacy": "core other second assets",
}
"""Slots without which a question cannot be answered; a bar means one of the two."""
CONSTANTS = {
    "mortgage": {"1", "12"},
    "savings_plan": {"1", "12"},
    "present_value": {"1"},
    "bond_price": {"1", "100"},
    "current_yield": {"100"},
    "early_withdrawal": {"360"},
    "simple_or_compound": {"1"},
    "income_tax": {"60000"},
    "fx_spread": {"100"},
    "money_fund": {"7", "365", "10000"},
    "capital_adequacy": {"10.5"},
}


def half_up(value, places=2):
    """Decimal text of a Fraction, half up, by integer arithmetic."""
    whole = math.floor(abs(F(value)) * 10**places + F(1, 2))
    digits = str(whole).rjust(places + 1, "0")
    text = digits[:-places] + "." + digits[-places:] if places else digits
    return "-" + text if value < 0 and whole else text


def short(value):
    """Decimal text without closing zeros of a Fraction with at most four decimals."""
    return half_up(value, 4).rstrip("0").rstrip(".")


def level(principal, monthly, months):
    """The payment whose discounted sum, a geometric series, is the principal."""
    v = 1 / (1 + monthly)
    return principal * (1 - v) / (v * (1 - v**months))


def mortgage(k):
    sign, points = re.fullmatch("(加|减)(\\d+)个基点", k["move"]).groups()
    rate = F(k["lpr"]) + F(int(points), 100) * (1 if sign == "加" else -1)
    got = level(F(k["wan"]) * 10_000, rate / 1200, int(k["months"]))
    return {
        "principal": k["wan"] + "0000",
        "years": short(F(k["months"]) / 12),
        "sign": {"加": "+", "减": "-"}[sign],
        "gap": short(F(int(points), 100)),
        "rate": short(rate),
        "result": half_up(got),
    }


def prepayment(k):
    """The difference of two whole loans, not the loan of the difference."""
    months, rate, out = int(k["months"]), F(k["rate"]) / 1200, F(k["left"]) * 10_000
    paid = F(k["wan"]) * 10_000
    before = level(out, rate, months) * months - out
    after = level(out - paid, rate, months) * months - (out - paid)
    return {"result": half_up(before - after)}


def instalment(k):
    bill, months, fee = int(k["bill"]), int(k["months"]), F(k["fee"])
    payment = F(bill, months) + bill * fee / 100
    low, high = 0.0, 1.0  # floats, a sum of discounted payments
    for _ in range(200):
        middle = (low + high) / 2
        worth = sum(float(payment) / (1 + middle) ** n for n in range(1, months + 1))
        low, high = (middle, high) if worth > bill else (low, middle)
    return {
        "nominal": short(fee * 12),
        "payment": half_up(payment),
        "monthly": half_up(F(low) * 100, 4),
        "result": half_up(F(low) * 1200),
    }


def savings_plan(k):
    months, payment = int(k["months"]), F(k["payment"])
    growth, due = 1 + F(k["rate"]) / 1200, k["when"] == "月初"
    total = payment * sum(growth**n for n in range(due, months + due))
    return {
        "years": short(F(months, 12)),
        "due": " × (1 + i)" if due else "",
        "gain": half_up(total - payment * months),
        "result": half_up(total),
    }


def present(k):
    worth = F(k["wan"]) * 10_000
    for _ in range(int(k["years"])):
        worth /= 1 + F(k["rate"]) / 100
    return {"future": k["wan"] + "0000", "result": half_up(worth)}


def bond_price(k):
    """Backwards from the last payment."""
    price, coupon, rate = F(100), F(k["coupon"]), F(k["rate"])
    for _ in range(int(k["years"])):
        price = (price + coupon) / (1 + rate / 100)
    side = "高于票面利率，折价" if price < 100 else "低于票面利率，溢价"
    return {"side": side, "result": half_up(price)}


def current_yield(k):
    got = F(k["coupon"]) / F(k["price"]) * 100
    return {
        "side": "高于" if got > F(k["coupon"]) else "低于",
        "result": half_up(got),
    }


def redemption(k):
    """The rate is read from the words of the schedule."""
    days, percent = int(k["days"]), None
    for tier in k["tiers"].split("，"):
        low = re.search("满(\\d+)天(?:不满|免收)", tier)
        high = re.search("不满(\\d+)天", tier)
        inside = (not low or int(low[1]) <= days) and (not high or days < int(high[1]))
        if inside:
            assert percent is None, "two steps of the schedule apply"
            found = re.search("天([\\d.]+)%", tier)
            percent = found[1] if found else "0"
    gross = half_up(F(k["shares"]) * F(k["nav"]))
    fee = half_up(F(gross) * F(percent) / 100)
    rest = half_up(F(gross) - F(fee))
    return {"percent": percent, "gross": gross, "fee": fee, "result": rest}


def early_withdrawal(k):
    money = int(k["wan"]) * 10_000
    early = half_up(money * F(k["demand"]) * int(k["days"]) / 36_000)
    full = half_up(money * F(k["rate"]) * int(k["years"]) / 100)
    lost = half_up(F(full) - F(early))
    return {"principal": str(money), "early": early, "full": full, "result": lost}


def simple_or_compound(k):
    money, rate = F(k["wan"]) * 10_000, F(k["rate"]) / 100
    balance = money
    for _ in range(int(k["years"])):
        balance += balance * rate
    simple = half_up(sum([money * rate] * int(k["years"])))
    compound = half_up(balance - money)
    return {
        "principal": str(money),
        "simple": simple,
        "compound": compound,
        "result": half_up(F(compound) - F(simple)),
    }


def statutory_steps():
    """(above, percent) of each step of the table at the end of the income tax law."""
    law = next(x for x in laws() if x.name.endswith("个人所得税法"))
    text = law.articles[-1].text.split("税率表二")[0]
    lines = re.findall("^\\d (\\D+)(\\d+)元\\D*?(?:(\\d+)元)?的.* (\\d+)$", text, re.M)
    return [(0 if "不超过" in a else int(b), int(p)) for a, b, _, p in lines]


def income_tax(k):
    """Step by step of the statute, without quick deductions."""
    steps = statutory_steps()
    assert len(steps) == 7
    taxable = int(k["income"]) - 60_000 - int(k["social"]) - int(k["extra"])
    tops = [low for low, _ in steps[1:]] + [10**12]
    parts = [
        (max(0, min(taxable, top) - low), percent)
        for (low, percent), top in zip(steps, tops, strict=True)
    ]
    percent = [p for part, p in parts if part > 0][-1]
    tax = sum(F(part * p, 100) for part, p in parts)
    quick = F(taxable * percent, 100) - tax
    return {
        "taxable": str(taxable),
        "percent": str(percent),
        "quick": short(quick),
        "result": half_up(tax),
    }


def vat_payable(k):
    output = half_up(F(k["sales"]) * F(k["out"]) / 100)
    paid = half_up(F(k["cost"]) * F(k["into"]) / 100)
    return {"output": output, "input": paid, "result": half_up(F(output) - F(paid))}


def stock_sale(k):
    gross = half_up(F(k["shares"]) * F(k["price"]))
    fee = half_up(max(F(5), F(half_up(F(gross) * F(k["points"]) / 10_000))))
    stamp = half_up(F(gross) / 2000)
    rest = half_up(F(gross) - F(fee) - F(stamp))
    return {"gross": gross, "fee": fee, "stamp": stamp, "result": rest}


def fx_spread(k):
    paid = half_up(F(k["sum"]) * F(k["offer"]) / 100)
    back = half_up(F(k["sum"]) * F(k["bid"]) / 100)
    return {"paid": paid, "back": back, "result": half_up(F(paid) - F(back))}


def money_fund(k):
    daily = [F(x) for x in k["yields"].split("、")]
    assert len(daily) == 7
    mean = sum(daily) / 7
    return {"sum": half_up(sum(daily), 4), "result": half_up(mean * F(365, 100), 3)}


def vintage(k):
    lines = [x.strip("|").split("|") for x in k["table"].split("\n") if x][2:]
    rows = [[cell.strip() for cell in line] for line in lines]
    shares = {name: F(late) / F(lent) * 100 for name, lent, late in rows}
    worst = max(shares, key=shares.get)
    return {
        "rates": "，".join(f"{n} {half_up(s)}%" for n, s in shares.items()),
        "worst": worst,
        "result": half_up(shares[worst]),
    }


def capital_adequacy(k):
    own = int(k["core"]) + int(k["other"]) + int(k["second"])
    got = F(own, int(k["assets"])) * 100
    return {"result": half_up(got), "met": "达到" if got >= 10.5 else "未达到"}


AGAIN = {
    "mortgage": mortgage,
    "prepayment": prepayment,
    "instalment": instalment,
    "savings_plan": savings_plan,
    "present_value": present,
    "bond_price": bond_price,
    "current_yield": current_yield,
    "redemption": redemption,
    "early_withdrawal": early_withdrawal,
    "simple_or_compound": simple_or_compound,
    "income_tax": income_tax,
    "vat_payable": vat_payable,
    "stock_sale": stock_sale,
    "fx_spread": fx_spread,
    "money_fund": money_fund,
    "vintage": vintage,
    "capital_adequacy": capital_adequacy,
}


def items(number, seed=0):
    return list(itertools.islice(tf.formulas(None, random.Random(seed)), number))


@pytest.mark.parametrize("name", sorted(AGAIN))
def test_results_are_worked_out_again(name):
    """From the inputs alone; every computed slot of the key and figure of the answer."""
    for seed in range(60):
        question, answer, key = tf.FORMULAS[name](random.Random(f"{name}/{seed}"))
        again = AGAIN[name](key)
        assert {slot: key[slot] for slot in again} == again
        inputs = {v for slot, v in key.items() if slot not in again}
        given = set(FIGURE.findall(" ".join(inputs)))
        computed = set(FIGURE.findall(" ".join(again.values())))
        figures = FIGURE.findall(answer)
        assert set(figures) <= given | computed | CONSTANTS.get(name, set())
        assert key["result"] in figures
        assert "{" not in question + answer


@pytest.mark.parametrize("name", sorted(AGAIN))
def test_every_wording_can_be_answered(name):
    wordings, answer = tf.WORDINGS[name]
    assert len(set(wordings)) >= 3
    for wording in wordings:
        slots = set(re.findall("{(\\w+)}", wording))
        for needed in NEEDED[name].split():
            assert slots & set(needed.split("|")), (needed, wording)
    assert "{result}" in answer


def test_by_hand():
    """A million at 4.2% for 30 years: 4,890.17 a month, as bank tables print it."""
    assert half_up(level(F(1_000_000), F("4.2") / 1200, 360)) == "4890.17"
    assert half_up(F(-1, 8)) == "-0.13" and half_up(F(1, 200)) == "0.01"
    # 12,000 over 12 months at 0.6% a month: the usual 13.03% a year
    got = instalment({"bill": "12000", "months": "12", "fee": "0.6"})
    assert (got["payment"], got["nominal"], got["result"]) == (
        "1072.00",
        "7.2",
        "13.03",
    )
    tax = income_tax({"income": "300000", "social": "50000", "extra": "24000"})
    assert (tax["taxable"], tax["quick"], tax["result"]) == (
        "166000",
        "16920",
        "16280.00",
    )


def test_tax_brackets_are_the_statutes():
    """Steps and rates as printed; quick deductions make the tax continuous."""
    steps = statutory_steps()
    tops = [top for top, _, _ in tf.TAX_BRACKETS]
    assert [low for low, _ in steps] == [0, *tops[:-1]]
    assert [p for _, p in steps] == [p for _, p, _ in tf.TAX_BRACKETS]
    for (top, p, q), (_, p2, q2) in itertools.pairwise(tf.TAX_BRACKETS):
        assert top * p - q * 100 == top * p2 - q2 * 100


def test_items_have_the_shape_of_the_other_tasks():
    found = items(204)
    assert len({i.id for i in found}) == 204
    for number, item in enumerate(found):
        require_conversation(item.messages, item.id)
        assert (item.task, item.domain) == ("formula", "finance")
        name = item.source.removeprefix("computed-").rsplit("-", 1)[0]
        assert name in tf.FORMULAS and item.source.endswith(f"-{number}")
        assert item.id == f"formula/{item.source}"
        assert item.messages[1].content[-1] == "。"


def test_problems_wordings_and_questions_vary():
    assert len(tf.FORMULAS) >= 14
    found = items(1020)
    questions = [i.messages[0].content for i in found]
    assert len(set(questions[:300])) >= 0.95 * 300
    skeletons = {FIGURE.sub("#", q) for q in questions if "|" not in q}
    assert len(skeletons) >= 3 * 14
    plain = [i for i in found if i.source.split("-")[1] in AGAIN]  # no risk problems
    lengths = sorted(len(i.messages[1].content) for i in plain)
    assert lengths[int(0.9 * len(lengths))] <= 120


def test_same_seed_same_items():
    assert items(60) == items(60)
    assert items(60) != items(60, seed=1)
