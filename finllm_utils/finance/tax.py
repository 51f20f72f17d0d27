"""Value-added tax inside a price (价税分离)."""

from dataclasses import dataclass
from decimal import Decimal

from finllm_utils.finance.conventions import amount, exact, rate, round_half_up


@dataclass(frozen=True, kw_only=True, slots=True)
class VatSplit:
    """A gross price in its two parts, which add up to it exactly."""

    net: Decimal
    tax: Decimal


def vat_split(gross: Decimal, vat_rate: Decimal) -> VatSplit:
    """Net = gross / (1 + rate) to 0.01, tax = gross - net.

    Source: 增值税法 (VAT law): sales amount = amount with tax / (1 + rate).
    """
    gross, vat_rate = amount("gross", gross), rate("rate", vat_rate)
    with exact():
        net = round_half_up(gross / (1 + vat_rate))
        return VatSplit(net=net, tax=round_half_up(gross - net))
