"""Simple and compound interest, present value, and what a savings plan grows to."""

from dataclasses import dataclass
from decimal import Decimal

from finllm_utils.finance.conventions import (
    DAYS_PER_YEAR,
    amount,
    count,
    exact,
    rate,
    round_half_up,
)

UNITS = ("years", "months", "days")


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """A sum and what it grew to, in yuan to 0.01."""

    interest: Decimal
    total: Decimal


def year_fraction(
    term: Decimal, unit: str, days_per_year: int = DAYS_PER_YEAR
) -> Decimal:
    """A term in years: months/12, days/360 (China's bank convention) or days/365."""
    term = amount("term", term)
    if unit not in UNITS:
        raise ValueError(f"unit={unit!r}: use one of {', '.join(UNITS)}")
    if days_per_year not in (360, 365):
        raise ValueError(f"days_per_year={days_per_year}: use 360 or 365")
    with exact():
        return term / {"years": 1, "months": 12, "days": days_per_year}[unit]


def simple_interest(
    principal: Decimal,
    annual_rate: Decimal,
    term: Decimal,
    unit: str = "years",
    days_per_year: int = DAYS_PER_YEAR,
) -> Growth:
    """Interest without interest on interest (单利): P * rate * years.

    Source: People's Bank of China, rules on interest (a day is yearly rate / 360).
    """
    principal, annual_rate = (
        amount("principal", principal),
        rate("annual_rate", annual_rate),
    )
    years = year_fraction(term, unit, days_per_year)
    with exact():
        interest = principal * annual_rate * years
        total = principal + interest
    return Growth(interest=round_half_up(interest), total=round_half_up(total))


def compound_interest(
    principal: Decimal,
    annual_rate: Decimal,
    years: Decimal,
    periods_per_year: int = 1,
) -> Growth:
    """Compound interest (复利): P * (1 + r/m) ** (m * years)."""
    principal, annual_rate = (
        amount("principal", principal),
        rate("annual_rate", annual_rate),
    )
    years, periods = (
        amount("years", years),
        count("periods_per_year", periods_per_year, 366),
    )
    with exact():
        exponent = periods * years
        if abs(exponent - exponent.to_integral_value()) < Decimal("1e-20"):
            exponent = exponent.to_integral_value()  # 18 months are 1.5 years exactly
        total = principal * (1 + annual_rate / periods) ** exponent
        interest = total - principal
    return Growth(interest=round_half_up(interest), total=round_half_up(total))


def present_value(future: Decimal, annual_rate: Decimal, years: Decimal) -> Decimal:
    """What ``future`` is worth today (现值): F / (1 + r) ** n."""
    future, annual_rate = amount("future", future), rate("annual_rate", annual_rate)
    years = amount("years", years)
    with exact():
        value = future / (1 + annual_rate) ** years
    return round_half_up(value)


def annuity_future_value(
    payment: Decimal, rate_per_period: Decimal, periods: int, due: bool = False
) -> Growth:
    """End value of equal payments (年金终值): A * ((1+i)**n - 1) / i.

    Args: due means paid at the start of each period (期初), which multiplies by 1 + i.
    Returns: Growth; ``interest`` is the end value less all payments.
    """
    payment, step = amount("payment", payment), rate("rate_per_period", rate_per_period)
    periods = count("periods", periods)
    with exact():
        total = payment * periods
        if step:
            total = payment * ((1 + step) ** periods - 1) / step
        if due:
            total *= 1 + step
        interest = total - payment * periods
    return Growth(interest=round_half_up(interest), total=round_half_up(total))
