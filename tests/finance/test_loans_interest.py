"""Loans and interest: textbook values, schedules that reconcile, refused input."""

from decimal import Decimal as D

import pytest

from finllm_utils.finance.interest import (
    annuity_future_value,
    compound_interest,
    present_value,
    simple_interest,
    year_fraction,
)
from finllm_utils.finance.loans import (
    loan_equal_payment,
    loan_equal_principal,
    schedule,
)

LOANS = [("1000000", "0.042", 360), ("8500", "0.1825", 7), ("1", "0", 3)]
CENT = D("0.01")


def test_equal_payment_textbook_value():
    # 100,000 at 12% over 12 months: 1% a month, factor 0.0888487887 (any annuity table)
    result = loan_equal_payment(D(100_000), D("0.12"), 12)
    assert result.monthly_payment == D("8884.88")
    assert result.total_repaid - result.total_interest == 100_000


def test_equal_principal_by_hand():
    # 12,000 at 12% over 12 months: principal 1,000, interest 120, 110, ..., 10
    result = loan_equal_principal(D(12_000), D("0.12"), 12, k=3)
    assert result.first_payment == 1120 and result.kth_payment == 1100
    assert result.last_payment == 1010 and result.monthly_decrease == 10
    assert result.total_interest == sum(range(10, 121, 10)) == 780


@pytest.mark.parametrize(("principal", "rate", "months"), LOANS)
@pytest.mark.parametrize("equal_principal", [False, True])
def test_a_schedule_reconciles(principal, rate, months, equal_principal):
    rows = schedule(D(principal), D(rate), months, equal_principal=equal_principal)
    solve = loan_equal_principal if equal_principal else loan_equal_payment
    result = solve(D(principal), D(rate), months)
    assert abs(sum(r.payment for r in rows) - result.total_repaid) <= CENT / 2
    assert abs(sum(r.interest for r in rows) - result.total_interest) <= CENT / 2
    assert abs(sum(r.principal for r in rows) - D(principal)) < D("1e-15")
    assert abs(rows[-1].balance) < D("1e-15")


def test_month_k_agrees_with_the_schedule():
    rows = schedule(D(360_000), D("0.048"), 60, equal_principal=True)
    for k in (1, 25, 60):
        result = loan_equal_principal(D(360_000), D("0.048"), 60, k)
        assert abs(result.kth_payment - rows[k - 1].payment) <= CENT / 2


def test_equal_principal_costs_less():
    for principal, rate, months in LOANS[:2]:
        level = loan_equal_payment(D(principal), D(rate), months)
        falling = loan_equal_principal(D(principal), D(rate), months)
        assert falling.total_interest < level.total_interest


def test_simple_interest_day_counts():
    # 800,000 at 6% for 90 days: 12,000 on 360 days, 11,835.616... on 365
    assert simple_interest(D(800_000), D("0.06"), D(90), "days").interest == 12_000
    exact = simple_interest(D(800_000), D("0.06"), D(90), "days", 365)
    assert exact.interest == D("11835.62") and exact.total == D("811835.62")
    assert year_fraction(D(18), "months") == D("1.5")


def test_compound_interest_by_hand():
    assert compound_interest(D(100), D("0.1"), D(2)).total == 121
    assert compound_interest(D(100), D("0.1"), D(1), 2).total == D("110.25")
    months = compound_interest(D(300_000), D("0.072"), D("1.5"), 4)
    assert months.total == (300_000 * D("1.018") ** 6).quantize(CENT)


def test_present_value_undoes_compounding():
    grown = compound_interest(D(50_000), D("0.035"), D(8)).total
    assert present_value(grown, D("0.035"), D(8)) == 50_000


def test_annuity_equals_the_sum_of_its_payments():
    # 3 payments of 100 at 10%: 121 + 110 + 100; one period later when paid at the start
    assert annuity_future_value(D(100), D("0.1"), 3).total == 331
    assert annuity_future_value(D(100), D("0.1"), 3, due=True).total == D("364.1")
    assert annuity_future_value(D(100), D(0), 3).interest == 0


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: loan_equal_payment(D(0), D("0.04"), 12), "principal=0"),
        (lambda: loan_equal_payment(D(1), D("4.2"), 12), "annual_rate=4.2.*0.035"),
        (lambda: loan_equal_payment(0.1, D("0.04"), 12), "principal=0.1.*Decimal"),
        (lambda: loan_equal_payment(D(1), D("0.04"), D("1.5")), "months=1.5"),
        (lambda: loan_equal_principal(D(1), D("0.04"), 12, 13), "k=13"),
        (lambda: loan_equal_payment(D("NaN"), D("0.04"), 12), "principal=NaN"),
        (lambda: simple_interest(D(1), D("0.1"), D(1), "weeks"), "unit='weeks'"),
        (lambda: simple_interest(D(1), D("0.1"), D(1), "days", 366), "days_per_year"),
        (lambda: compound_interest(D(1), D("-0.1"), D(1)), "annual_rate=-0.1"),
        (lambda: present_value("one", D("0.1"), D(1)), "future='one'"),
        (lambda: annuity_future_value(D(1), D("0.1"), 0), "periods=0"),
    ],
)
def test_wrong_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
