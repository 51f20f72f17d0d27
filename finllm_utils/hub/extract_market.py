"""Arguments of the fund, bond, tax and currency tools, taken from a question."""

import re
from decimal import Decimal

from finllm_utils.finance.conventions import exact
from finllm_utils.hub.context import Question, Role
from finllm_utils.hub.currencies import find_currencies
from finllm_utils.hub.extract import MONEY, known, value_of
from finllm_utils.hub.rates import annual_rate

_NAV = Role(
    name="nav",
    kinds=MONEY,
    before="净值|每份|一份|单价|价格",
    after="元?(?:一份|每份|/份)",
)
_PAID = Role(
    name="amount",
    kinds=MONEY,
    before="申购金额|认购金额|申购|认购|投入|投|买入|买|拿出|拿|花|用|打算|金额|转入",
    after="元?(?:申购|认购|去?买|去申购|来买|投|的?基金)",
)
_FEE = Role(
    name="rate",
    kinds=("rate",),
    before="申购费率|认购费率|手续费率?|费率|申购费|认购费|费",
    after="的?(?:申购|认购)?(?:手续)?费",
)


def fund_subscription(question: Question) -> dict:
    """amount, fee_rate, nav, ask."""
    roles = question.assign(_PAID, _NAV)
    ask = question.asked(
        {
            "shares": "份额|多少份|几份|份数|多少基金|份",
            "fee": "申购费|手续费|费用|认购费|多少费|费",
            "net_amount": (
                "净申购|净认购|净额|净金额|实际(?:用于|投|申购|买)|真正|扣除费用后|"
                "扣掉.{0,4}费"
            ),
        },
        "shares",
    )
    fee_rate = annual_rate(question, _FEE)
    if fee_rate is None and question.has(
        "免(?:申购|手续|认购)?费|零费率|不收(?:申购|手续|认购)?费"
    ):
        fee_rate = Decimal(0)
    return known(
        amount=value_of(roles.get("amount")),
        fee_rate=fee_rate,
        nav=value_of(roles.get("nav")),
        ask=ask,
    )


_FACE = Role(
    name="face",
    kinds=MONEY,
    before="面值|票面金额|票面价值|票面额|票面(?!利率|息)",
    after="元?(?:面值|的?面额)",
    needs_cue=True,
)
_PRICE = Role(
    name="price",
    kinds=MONEY,
    before=(
        "市价|市场价格?|市值|价格|现价|买入价|买价|净价|全价|成交价|报价|交易价|卖|"
        "买入|买|跌到|涨到|花了?"
    ),
    after="元?(?:的?市价|的?价格|买|成交|的时候|时)",
)
_COUPON_PAID = Role(
    name="coupon",
    kinds=MONEY,
    before="年利息|每年(?:付|派|支付|给|拿|收|得)?(?:息|利息)?|票息|年息|利息",
    after="元?(?:利息|票息|的利息)",
    needs_cue=True,
)
_COUPON = Role(
    name="rate",
    kinds=("rate",),
    before="票面利率|票面年利率|票息率|票面|票息|息票率|利率|年息",
    after="的?票面",
)


def bond_current_yield(question: Question) -> dict:
    """Face (100 yuan when not said), coupon_rate, price."""
    roles = question.assign(_PRICE, _FACE, _COUPON_PAID)
    face = value_of(roles.get("face")) or Decimal(100)
    coupon_rate = annual_rate(question, _COUPON)
    if coupon_rate is None and "coupon" in roles:
        with exact():
            coupon_rate = roles["coupon"].value / face
    return known(face=face, coupon_rate=coupon_rate, price=value_of(roles.get("price")))


_BUY = Role(
    name="buy",
    kinds=MONEY,
    before="买入价?|买进|购入|买的|买了|买|成本|购买|入手|进价|建仓|投入|认购|申购",
    after=(
        "元?(?:钱)?(?:每股|一股|一份)?(?:的?价格)?(?:时)?(?:买入|买进|买的|买|购入|"
        "入手|建仓|认购|申购|的成本)"
    ),
)
_SELL = Role(
    name="sell",
    kinds=MONEY,
    before=(
        "卖出价?|卖掉|卖了|卖|抛售|抛掉|抛出|抛|出手|赎回|售出|到期兑付|兑付|清仓|"
        "转让|现价|涨到|跌到"
    ),
    after=(
        "元?(?:钱)?(?:每股|一股|一份)?(?:的?价格)?(?:时)?(?:卖出|卖掉|卖了|卖|抛|"
        "出手|赎回|售出|清仓|转让)"
    ),
)
_GAIN = Role(
    name="income",
    kinds=MONEY,
    before="分红|股息|利息|票息|派息|红利|现金|分到|分得|派|收到|收了|拿到|租金",
    after="元?(?:的)?(?:现金)?(?:分红|股息|利息|票息|红利|租金)",
    needs_cue=True,
)


def holding_return(question: Question) -> dict:
    """buy, sell, income (0 when none is said)."""
    roles = question.assign(_BUY, _SELL, _GAIN)
    buy, sell = value_of(roles.get("buy")), value_of(roles.get("sell"))
    income = roles.get("income")
    shares = [q.value for q in question.of("number") if q.unit in ("股", "份", "手")]
    if shares and buy is not None and sell is not None and income is not None:
        whole = not re.search("每|一股|一份", question.left(income)[-8:])
        if whole and question.has("每股|每份|一股|股价|单价|元/股|净值"):
            with exact():
                buy, sell = buy * shares[0], sell * shares[0]
    return known(buy=buy, sell=sell, income=value_of(income) or Decimal(0))


_GROSS = Role(
    name="gross",
    kinds=MONEY,
    before=(
        "含税价?|价税合计|总价|总额|发票|票面|收到|收款|收入|开票|开了|金额|付了|合计"
    ),
    after="元?的?(?:含税|发票|货款|价税|专票|普票|票|的?收入|服务费|货)",
)
_VAT = Role(
    name="rate",
    kinds=("rate",),
    before="税率|增值税率?|征收率|税点|税",
    after="的?(?:增值税|税率|税点|税|征收率)",
)


def vat_split(question: Question) -> dict:
    """gross, rate, ask."""
    ask = question.asked(
        {
            "net": "不含税|税前|去税|除税|净价|净额|剔除税|扣税后|销售额|货款本身",
            "tax": (
                "税额|增值税|(?<!含)税款|(?<!含)税金|销项|进项|的税|多少税|"
                "(?<!含)税(?!率|价|合|前|后|点)"
            ),
        },
        "net",
    )
    roles = question.assign(_GROSS)
    return known(
        gross=value_of(roles.get("gross")), rate=annual_rate(question, _VAT), ask=ask
    )


_INTO = re.compile(
    r"(?:换成|换|兑换成|兑换|兑成|兑|折合成?|折算成?|折成|合|等于|值|变成|对|"
    r"转成|转换成|/|是|能换|可换)"
    r"(?:多少|几)?(?:钱)?(?:个)?(?:的)?$|多少$"
)


def fx(question: Question) -> dict:
    """Amount (when said), base, quote, date.

    The base is the currency of the amount, or the first one named; a currency asked for
    with 多少 or after 换成 is the quote.
    """
    named = find_currencies(question.text)
    amounts = [q for q in question.of("amount") if q.unit]
    codes = list(dict.fromkeys(code for _, _, code in named))
    if question.has(r"(?:多少|几)(?:元|块)|人民币") or len(codes) == 1:
        codes += [] if "CNY" in codes else ["CNY"]
    dates = question.of("date")
    base = quote = None
    amount = amounts[0] if amounts else None
    if amount is None and (numbers := question.of("number")):
        amount = numbers[0]  # "把 5 万换成日元"
    if amount is not None and amount.unit in codes:
        base = amount.unit
    elif amount is not None:
        base = _other(codes, _target(question.text, named))
    elif codes:
        target = _target(question.text, named) if len(codes) > 1 else None
        base = codes[0] if target in (None, codes[0]) else _other(codes, target)
    quote = _other(codes, base)
    return known(
        amount=value_of(amount),
        base=base,
        quote=quote,
        date=dates[0].value if dates else None,
    )


def _target(text: str, named: list[tuple[int, int, str]]) -> str | None:
    for start, _, code in reversed(named):
        if _INTO.search(text[:start]):
            return code
    return named[-1][2] if named else None


def _other(codes: list[str], one: str | None) -> str | None:
    return next((c for c in codes if c != one), None)
