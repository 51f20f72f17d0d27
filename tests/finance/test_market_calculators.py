"""Funds, bonds, VAT, currencies and expressions: hand-computed values and refusals."""

from datetime import date
from decimal import Decimal as D

import pytest

from finllm_utils.finance.bonds import bond_current_yield, holding_return
from finllm_utils.finance.conventions import round_half_up
from finllm_utils.finance.expression import evaluate
from finllm_utils.finance.funds import fund_subscription
from finllm_utils.finance.fx import convert, fixing
from finllm_utils.finance.tax import vat_split

FRIDAY, MONDAY = date(2024, 3, 29), date(2024, 4, 1)
RATES = {
    "USD": {FRIDAY: D("1.08"), MONDAY: D("1.10")},
    "CNY": {FRIDAY: D("7.80"), MONDAY: D("7.81")},
    "JPY": {FRIDAY: D("163.5")},
}


def test_rounding_is_half_up_both_ways():
    assert round_half_up(D("0.125")) == D("0.13")
    assert round_half_up(D("-0.125")) == D("-0.13")
    assert round_half_up(D("2.5"), 0) == 3


def test_fund_subscription_by_hand():
    # 10,000 at 1.5%: 10,000 / 1.015 = 9,852.22; at 1.05 a share 9,383.07 shares
    result = fund_subscription(D(10_000), D("0.015"), D("1.05"))
    assert (result.net_amount, result.fee) == (D("9852.22"), D("147.78"))
    assert result.shares == D("9383.07")
    assert fund_subscription(D(10_000), D("0.015")).shares is None


@pytest.mark.parametrize("gross", ["113", "0.01", "12345.67", "99999999.99"])
def test_vat_parts_add_up(gross):
    for rate in ("0.13", "0.09", "0.06", "0.03", "0"):
        result = vat_split(D(gross), D(rate))
        assert result.net + result.tax == D(gross)


def test_vat_bonds_and_holdings_by_hand():
    assert vat_split(D(113), D("0.13")).net == 100
    assert bond_current_yield(D(100), D("0.05"), D(125)) == 4
    assert holding_return(D(100), D(110), D(5)) == 15
    assert holding_return(D(100), D(90)) == -10


def test_cross_rates():
    assert fixing(RATES, "EUR", "USD", FRIDAY).rate == D("1.08")
    assert fixing(RATES, "USD", "EUR", FRIDAY).rate * D("1.08") == pytest.approx(1)
    cross = fixing(RATES, "USD", "CNY", date(2024, 3, 31))  # Sunday: Friday's fixing
    assert cross.day == FRIDAY and round_half_up(cross.rate, 4) == D("7.2222")
    assert convert(D(100), cross, "CNY") == D("722.22")
    assert fixing(RATES, "USD", "CNY").day == MONDAY
    yen = fixing(RATES, "EUR", "JPY", MONDAY)
    assert yen.day == FRIDAY and convert(D("1.01"), yen, "JPY") == 165


@pytest.mark.parametrize(
    ("base", "quote", "day", "named"),
    [
        ("USD", "VND", FRIDAY, "VND"),
        ("USD", "USD", FRIDAY, "same"),
        ("USD", "CNY", date(2023, 1, 1), "date=2023-01-01"),
        ("USD", "CNY", date(2030, 1, 1), "series ends on 2024-04-01"),
    ],
)
def test_unknown_rates_are_refused(base, quote, day, named):
    with pytest.raises(ValueError, match=named):
        fixing(RATES, base, quote, day)


def test_a_series_that_stopped_is_refused():
    rates = RATES | {"RUB": {date(2022, 3, 1): D(117)}}
    with pytest.raises(ValueError, match="RUB"):
        fixing(rates, "EUR", "RUB", FRIDAY)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(1 + 5%) ** 2 * 100", "110.25"),
        ("-2 ** 2", "-4"),
        ("7 % 4", "3"),
        ("2 ** -1", "0.5"),
        ("0.1 + 0.2", "0.3"),
        ("100 * 0.15%", "0.15"),
        ("2 ** 3 ** 2", "512"),
    ],
)
def test_expressions(text, value):
    assert evaluate(text) == D(value)


@pytest.mark.parametrize(
    "text",
    ["", "1 +", "(1", "1 / 0", "2 ** 99999", "__import__('os')", "1 2", "*3", ")"],
)
def test_bad_expressions_are_refused(text):
    with pytest.raises(ValueError, match="express|exponent|bracket|empty|unexpected"):
        evaluate(text)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: fund_subscription(D(1), D("1.5")), "fee_rate=1.5"),
        (lambda: fund_subscription(D(1), D("0.01"), D(0)), "nav=0"),
        (lambda: vat_split(D(-1), D("0.13")), "gross=-1"),
        (lambda: bond_current_yield(D(100), D("0.03"), D(0)), "price=0"),
        (lambda: holding_return(D(0), D(1)), "buy=0"),
    ],
)
def test_wrong_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
