"""Two simple returns in percent: a bond's current yield and a holding's gain."""

from decimal import Decimal

from finllm_utils.finance.conventions import amount, exact, rate, round_half_up


def bond_current_yield(face: Decimal, coupon_rate: Decimal, price: Decimal) -> Decimal:
    """Coupon over price (当期收益率): face * coupon_rate / price * 100."""
    face, price = amount("face", face), amount("price", price)
    coupon_rate = rate("coupon_rate", coupon_rate)
    with exact():
        return round_half_up(face * coupon_rate / price * 100)


def holding_return(
    buy: Decimal, sell: Decimal, income: Decimal = Decimal(0)
) -> Decimal:
    """Gain over cost (持有期收益率): (sell - buy + income) / buy * 100."""
    buy, sell = amount("buy", buy), amount("sell", sell, positive=False)
    income = amount("income", income, positive=False)
    with exact():
        return round_half_up((sell - buy + income) / buy * 100)
