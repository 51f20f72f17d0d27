"""The calculator tools: they run ``finance`` and write the figure with its formula."""

from collections.abc import Callable
from decimal import Decimal

from finllm_utils.finance import bonds, expression, funds, interest, loans, tax
from finllm_utils.finance.conventions import VERSION, exact, round_half_up
from finllm_utils.hub import tools
from finllm_utils.hub.arithmetic import plain
from finllm_utils.hub.currencies import chinese_name
from finllm_utils.hub.tools import Answer, Tool

LABELS = {
    "monthly_payment": "每月还款",
    "total_interest": "利息总额",
    "total_repaid": "还款总额",
    "monthly_principal": "每月本金",
    "first_payment": "首月还款",
    "last_payment": "最后一个月还款",
    "monthly_decrease": "每月递减",
    "interest": "利息",
    "total": "本息合计",
    "shares": "份额",
    "fee": "手续费",
    "net_amount": "净申购金额",
    "net": "不含税金额",
    "tax": "税额",
    "present_value": "现值",
    "current_yield": "当期收益率",
    "holding_return": "持有期收益率",
}
EXACT_DECIMALS = 30
"""A value that ends within this many decimals is shown whole."""


def money(value: Decimal, unit: str = "元") -> str:
    """A figure as people read it: 1,234,567.80 元."""
    separator = "" if unit == "%" else " "
    return f"{value:,}{separator}{unit}".strip()


def source_line(title: str, formula: str, arguments: dict) -> str:
    """Formula name, formula, inputs and the version of the conventions."""
    inputs = ", ".join(
        f"{k}={plain(v) if isinstance(v, Decimal) else v}"
        for k, v in arguments.items()
        if v is not None and k not in ("ask", "currency")
    )
    return f"{title}: {formula}; {inputs}; {VERSION}"


def _answer(
    title: str, formula: str, args: tools.Arguments, figures: dict, ask: str
) -> Answer:
    """One figure out of several, the others as details."""
    code = getattr(args, "currency", "CNY")
    unit = "元" if code == "CNY" else chinese_name(code)
    units = {"shares": "份", "current_yield": "%", "holding_return": "%"}
    figures = {k: v for k, v in figures.items() if v is not None}
    unit = units.get(ask, unit)
    label = LABELS.get(ask) or f"第 {args.k} 个月还款"
    return Answer(
        value=figures[ask],
        unit=unit,
        text=f"{label}：{money(figures[ask], unit)}",
        source=source_line(title, formula, args.model_dump()),
        details={k: str(v) for k, v in figures.items()},
    )


def _fields(result: object) -> dict:
    return {name: getattr(result, name) for name in result.__slots__}


def calculate(args: tools.Calculate) -> Answer:
    """Exact value; yuan to 0.01; a share in percent, to 0.01 when it does not end."""
    value = expression.evaluate(args.expression)
    scale = {"万元": -4, "亿元": -8, "%": 2, "bp": 4}.get(args.unit, 0)
    with exact():
        value = value.scaleb(scale)
    if args.unit == "元":
        value = round_half_up(value)
    else:
        rounded = round_half_up(value, EXACT_DECIMALS)
        value = rounded if rounded == value else round_half_up(value)
        value = Decimal(plain(value))
    return Answer(
        value=value,
        unit=args.unit,
        text=f"结果：{money(value, args.unit)}",
        source=source_line("calculate 精确计算", f"{args.expression}", {}).replace(
            "; ;", ";"
        ),
    )


def equal_payment(args: tools.LoanEqualPayment) -> Answer:
    """等额本息."""
    result = loans.loan_equal_payment(args.principal, args.annual_rate, args.months)
    formula = "P*r*(1+r)^n/((1+r)^n-1), r = annual_rate/12"
    return _answer(
        "loan_equal_payment 等额本息", formula, args, _fields(result), args.ask
    )


def equal_principal(args: tools.LoanEqualPrincipal) -> Answer:
    """等额本金."""
    if args.ask == "kth_payment" and args.k is None:
        raise ValueError("k: which month's payment?")
    result = loans.loan_equal_principal(
        args.principal, args.annual_rate, args.months, args.k
    )
    formula = "P/n + (P - P*(k-1)/n)*r, total interest P*r*(n+1)/2, r = annual_rate/12"
    return _answer(
        "loan_equal_principal 等额本金", formula, args, _fields(result), args.ask
    )


def simple(args: tools.SimpleInterest) -> Answer:
    """单利."""
    result = interest.simple_interest(
        args.principal, args.annual_rate, args.term, args.unit, args.days_per_year
    )
    formula = f"P*rate*years (months/12, days/{args.days_per_year})"
    return _answer("simple_interest 单利", formula, args, _fields(result), args.ask)


def compound(args: tools.CompoundInterest) -> Answer:
    """复利."""
    result = interest.compound_interest(
        args.principal, args.annual_rate, args.years, args.periods_per_year
    )
    formula = "P*(1+r/m)^(m*years)"
    return _answer("compound_interest 复利", formula, args, _fields(result), args.ask)


def annuity(args: tools.AnnuityFutureValue) -> Answer:
    """年金终值."""
    result = interest.annuity_future_value(
        args.payment, args.rate_per_period, args.periods, args.due
    )
    formula = "A*((1+i)^n-1)/i" + ("*(1+i), 期初" if args.due else ", 期末")
    return _answer(
        "annuity_future_value 年金终值", formula, args, _fields(result), args.ask
    )


def present(args: tools.PresentValue) -> Answer:
    """现值."""
    value = interest.present_value(args.future, args.annual_rate, args.years)
    figures = {"present_value": value}
    return _answer("present_value 现值", "F/(1+r)^n", args, figures, "present_value")


def fund(args: tools.FundSubscription) -> Answer:
    """基金申购."""
    if args.ask == "shares" and args.nav is None:
        raise ValueError("nav: the net asset value a share is needed for the shares")
    result = funds.fund_subscription(args.amount, args.fee_rate, args.nav)
    formula = "外扣法, net = amount/(1+fee_rate), fee = amount - net, shares = net/nav"
    return _answer(
        "fund_subscription 基金申购", formula, args, _fields(result), args.ask
    )


def current_yield(args: tools.BondCurrentYield) -> Answer:
    """当期收益率."""
    value = bonds.bond_current_yield(args.face, args.coupon_rate, args.price)
    figures = {"current_yield": value}
    formula = "face*coupon_rate/price"
    return _answer(
        "bond_current_yield 当期收益率", formula, args, figures, "current_yield"
    )


def holding(args: tools.HoldingReturn) -> Answer:
    """持有期收益率."""
    value = bonds.holding_return(args.buy, args.sell, args.income)
    figures = {"holding_return": value}
    formula = "(sell - buy + income)/buy"
    return _answer(
        "holding_return 持有期收益率", formula, args, figures, "holding_return"
    )


def vat(args: tools.VatSplit) -> Answer:
    """价税分离."""
    result = tax.vat_split(args.gross, args.rate)
    formula = "net = gross/(1+rate), tax = gross - net"
    return _answer("vat_split 价税分离", formula, args, _fields(result), args.ask)


def calculator_tools() -> dict[str, Tool]:
    """The twelve calculators by name."""
    table: tuple[tuple[str, str, type, Callable], ...] = (
        ("calculate", "精确计算", tools.Calculate, calculate),
        ("loan_equal_payment", "等额本息", tools.LoanEqualPayment, equal_payment),
        ("loan_equal_principal", "等额本金", tools.LoanEqualPrincipal, equal_principal),
        ("simple_interest", "单利", tools.SimpleInterest, simple),
        ("compound_interest", "复利", tools.CompoundInterest, compound),
        ("annuity_future_value", "年金终值", tools.AnnuityFutureValue, annuity),
        ("present_value", "现值", tools.PresentValue, present),
        ("fund_subscription", "基金申购", tools.FundSubscription, fund),
        ("bond_current_yield", "当期收益率", tools.BondCurrentYield, current_yield),
        ("holding_return", "持有期收益率", tools.HoldingReturn, holding),
        ("vat_split", "价税分离", tools.VatSplit, vat),
    )
    return {
        name: Tool(name=name, title=title, schema=schema, run=run)
        for name, title, schema, run in table
    }
