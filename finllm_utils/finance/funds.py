"""Buying fund shares in China: the fee is taken out of the amount paid (外扣法)."""

from dataclasses import dataclass
from decimal import Decimal

from finllm_utils.finance.conventions import amount, exact, rate, round_half_up


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """What a payment buys: yuan to 0.01, shares to 0.01."""

    net_amount: Decimal
    fee: Decimal
    shares: Decimal | None


def fund_subscription(
    paid: Decimal, fee_rate: Decimal, nav: Decimal | None = None
) -> Subscription:
    """Net = paid / (1 + fee_rate) to 0.01; fee = paid - net; shares = net/nav to 0.01.

    Args: nav (net asset value a share) may be left out when no shares are asked for.
    Source: CSRC fund sales rules, outer-deduction method (外扣法), in use since 2007.
    """
    paid, fee_rate = amount("amount", paid), rate("fee_rate", fee_rate)
    with exact():
        net = round_half_up(paid / (1 + fee_rate))
        shares = None
        if nav is not None:
            shares = round_half_up(net / amount("nav", nav))
    return Subscription(net_amount=net, fee=round_half_up(paid - net), shares=shares)
