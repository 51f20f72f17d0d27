"""Cross rates and conversions from a table of rates in units per euro.

The table comes from ``corpora.ecb_rates``; nothing here reads a file or knows a clock.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from finllm_utils.finance.conventions import amount, exact, round_half_up

WHOLE_UNITS = ("JPY", "KRW")
"""Currencies whose amounts have no decimals."""
MAX_GAP_DAYS = 10
"""A longer gap than Christmas or Easter means that the series had stopped."""

Rates = Mapping[str, Mapping[date, Decimal]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fixing:
    """A cross rate (quote per one base, not rounded) and the day of its fixing."""

    rate: Decimal
    day: date


def last_day(rates: Rates) -> date:
    """The last day on which any currency was fixed."""
    return max(max(series) for series in rates.values() if series)


def fixing(rates: Rates, base: str, quote: str, day: date | None = None) -> Fixing:
    """Quote per one base: rate[quote] / rate[base] on ``day``.

    A day without a fixing (weekend, holiday) uses the last one before it.
    Args: day None is the last day of the table.
    Raises: ValueError naming the currency or the day that is not in the table.
    """
    if base == quote:
        raise ValueError(f"quote={quote}: the two currencies are the same")
    end = last_day(rates)
    if day is not None and day > end:
        raise ValueError(f"date={day}: the series ends on {end}; there is no rate yet")
    day = day or end
    series = {c: rates[c] for c in (base, quote) if c != "EUR" and c in rates}
    for code in (base, quote):
        if code != "EUR" and code not in series:
            raise ValueError(f"{code}: the European Central Bank gives no rate for it")
    days = sorted(set.intersection(*(set(s) for s in series.values())))
    position = bisect_right(days, day)
    if position == 0 or (day - days[position - 1]).days > MAX_GAP_DAYS:
        known = f"{days[0]} to {days[-1]}" if days else "no common day"
        raise ValueError(f"date={day}: {base}/{quote} is known from {known} only")
    found = days[position - 1]
    one = Decimal(1)
    with exact():
        top = series[quote][found] if quote in series else one
        bottom = series[base][found] if base in series else one
        return Fixing(rate=top / bottom, day=found)


def convert(value: Decimal, cross: Fixing, quote: str) -> Decimal:
    """``value`` in the quote currency at the unrounded rate; yen and won are whole."""
    with exact():
        product = amount("amount", value) * cross.rate
    return round_half_up(product, 0 if quote in WHOLE_UNITS else 2)
