"""Arguments of the interest, loan and savings tools, taken from a question.

Each function returns the arguments that the question states; what is missing stays out,
and the tool's schema then says which one to ask for.
"""

import re
from decimal import Decimal

from finllm_utils.finance.conventions import exact
from finllm_utils.hub.amounts import Quantity
from finllm_utils.hub.context import Question, Role
from finllm_utils.hub.rates import (
    annual_rate,
    bare_count,
    months,
    rate_per,
    term,
    years,
)

MONEY = ("amount", "number")
PERIODS = {
    "日": 365,
    "天": 365,
    "周": 52,
    "月": 12,
    "季": 4,
    "季度": 4,
    "半年": 2,
    "年": 1,
}
_COUNT_WORDS = {"一": 1, "两": 2, "二": 2, "四": 4, "十二": 12, "三": 3, "六": 6}


def known(**arguments: object) -> dict:
    """The arguments that were found."""
    return {k: v for k, v in arguments.items() if v is not None}


def value_of(quantity: Quantity | None) -> Decimal | None:
    """The quantity's value, or None."""
    return None if quantity is None else quantity.value


def currency_of(quantity: Quantity | None) -> str:
    """The currency code of an amount; yuan when none is said."""
    return (
        quantity.unit if quantity is not None and quantity.kind == "amount" else "CNY"
    )


INTEREST_ASK = (
    r"(?<![加和与])利息(?:[^，。？\d]{0,6}(?:一共|总共|合计|总计|总额|共|"
    r"加起来)[^，。？\d]{0,3})?"
)
PRINCIPAL = Role(
    name="principal",
    kinds=MONEY,
    before=(
        "本金|贷款总额|贷款金额|贷款|房贷|车贷|借款|借|贷|本|存入|存款|存|投入|投资|"
        "放|买了?|理财"
    ),
    after=(
        "元?的?(?:贷款|房贷|车贷|借款|按揭|公积金|商贷|商业贷|经营贷|消费贷|本金|"
        "存款|定期|存|放|贷|钱|积蓄)"
    ),
)
PRICE = Role(
    name="price",
    kinds=MONEY,
    before="房价|总价|房款|价格|车价|售价|全款|房子|这套房|那套房|车子",
    after="元?的?(?:房子|房|车|新车|住房)(?!贷)",
    needs_cue=True,
)
DOWN = Role(
    name="down",
    kinds=(*MONEY, "rate"),
    before="首付(?:款)?",
    after="首付",
    needs_cue=True,
)
INCOME = Role(
    name="income",
    kinds=MONEY,
    before="(?:收入|工资|月薪|薪水|年薪|退休金)[^存拿投定取]{0,4}$",
    needs_cue=True,
)


def loan_principal(question: Question) -> Decimal | None:
    """The sum borrowed: said, or the price less the down payment (首付)."""
    roles = question.assign(PRINCIPAL, PRICE, DOWN, INCOME)
    price, down = roles.get("price"), roles.get("down")
    principal = roles.get("principal")
    if principal is not None and question.cue(PRINCIPAL, principal) > 0:
        return principal.value
    price = price or principal
    if price is not None and down is not None:
        with exact():
            if down.kind == "rate":
                return price.value * (1 - down.value)
            return price.value - down.value
    share = [q for q in question.of("rate") if q.unit == "成"]
    if price is not None and share:
        with exact():
            return price.value * share[0].value
    return value_of(principal)


def loan_equal_payment(question: Question) -> dict:
    """principal, annual_rate, months, ask."""
    ask = question.asked(
        {
            "monthly_payment": (
                "月供|每个?月[^，。]{0,6}(?:还|供|付|交|掏)|月还款|每期|还款额|一个月"
            ),
            "total_interest": INTEREST_ASK + "|总利息|全部利息|多付|多还|多掏|多给银行",
            "total_repaid": (
                "本息合计|本息总|本息和|还款总|总还款|(?:总共|一共|总计|合计|累计|"
                "全部|一起)[^，。利]{0,5}(?:还|付|交)|连本带利|本利|本金加利息|本金和利息"
            ),
        },
        "monthly_payment",
    )
    return known(
        principal=loan_principal(question),
        annual_rate=annual_rate(question),
        months=months(question),
        ask=ask,
    )


def loan_equal_principal(question: Question) -> dict:
    """principal, annual_rate, months, k, ask."""
    k = kth_month(question)
    ask = question.asked(
        {
            "kth_payment": "第" if k else "(?!)",
            "first_payment": (
                "首月|第一个?月|首期|第一期|头一个?月|头一期|首个月|第1个?月|第1期|月供"
            ),
            "last_payment": "最后一|末月|末期|尾月|尾期|最末|最终一|末尾",
            "monthly_decrease": (
                "递减|减少|少还|下降|降低|降多少|减多少|(?<!多)少(?:付|交|多少)|"
                "比上个?月"
            ),
            "total_interest": INTEREST_ASK + "|总利息|全部利息",
            "total_repaid": (
                "本息合计|本息总|本息和|还款总|总还款|(?:总共|一共|总计|合计|"
                "累计)[^，。利]{0,5}"
                "(?:还|付)|连本带利|本利"
            ),
        },
        "kth_payment" if k else "first_payment",
    )
    if ask == "kth_payment" and k == 1:
        ask = "first_payment"
    return known(
        principal=loan_principal(question),
        annual_rate=annual_rate(question),
        months=months(question),
        k=k if ask == "kth_payment" else None,
        ask=ask,
    )


def kth_month(question: Question) -> int | None:
    """The month asked for: 第 12 期, 第十个月, 第 3 年第 2 个月."""
    year, after_year, month = 0, -1, None
    for quantity in question.of("ordinal"):
        if quantity.unit == "年":
            year, after_year = int(quantity.value) - 1, quantity.end
        elif quantity.unit in ("个月", "期", "月", "次", "个", ""):
            inside = 0 <= quantity.start - after_year <= 1  # 第三年第一个月
            month = int(quantity.value) + 12 * year * inside
    if month is None and after_year >= 0:
        if question.has("年的?(?:首月|头一个月)"):
            return year * 12 + 1
        if question.has("年的?最后一"):
            return year * 12 + 12
    return month


_GROWTH_ASK = {
    "interest": INTEREST_ASK + "|收益(?!率)|赚|利钱|生息|多出",
    "total": (
        "本息|本利|连本带利|一共|总共|合计|总额|到期[^利]{0,4}(?:拿|取|有|得|回)|"
        "本金和利息|本金加利息|本金利息|拿回|取回|变成|终值|增长到|涨到|滚到|值|"
        "总值|积累|账户|有多少钱|能有|能取|剩"
    ),
}


def simple_interest(question: Question) -> dict:
    """principal, annual_rate, term, unit, days_per_year, ask."""
    span = term(question)
    if span is None:
        span = _days_between(question)
    roles = question.assign(PRINCIPAL, INCOME)
    return known(
        principal=value_of(roles.get("principal")),
        annual_rate=annual_rate(question),
        term=value_of(span),
        unit=None
        if span is None
        else "months"
        if span.unit == "periods"
        else span.unit,
        days_per_year=365 if question.has(r"365|三百六十五") else None,
        ask=question.asked(_GROWTH_ASK, "interest"),
        currency=currency_of(roles.get("principal")),
    )


def _days_between(question: Question) -> Quantity | None:
    days = question.of("date")
    if len(days) != 2:
        return None
    length = Decimal((days[1].value - days[0].value).days)
    return Quantity(
        kind="duration", value=length, unit="days", start=0, end=0, text=f"{length}天"
    )


_TIMES = re.compile(
    r"(?:一年|每年|(?<!半)年)(?:内|里)?(?:计息|复利|结息|付息|计|结|付|"
    r"滚)?(?P<n>\d+|[一二两三四六]|十二)次"
)
_EVERY = re.compile(
    r"(?:按|每个?|逐|以|一个?)?(?<![\d零一二三四五六七八九十])(?P<n>[36三六]个月|"
    r"半年|季度|季|月|年|日|天|周)(?:为一期|一次)?(?:来)?"
    r"(?:的)?(?:计算?)?(?:复利|复息|计息|计复利|计利|滚|结息|付息|结转|利滚利|"
    r"结一次|计一次|算一次|一结|一计)"
)
_EVERY_AFTER = re.compile(
    r"(?:复利|计息|结息|滚存|滚)(?:周期)?(?:是|为|按)?每?个?(?P<n>半年|季度|季|"
    r"月|年|日|天)"
)


def periods_per_year(question: Question) -> int | None:
    """How often interest is added: 按季, 每半年计息, 月复利, 一年计息 4 次."""
    if match := _TIMES.search(question.text):
        return _COUNT_WORDS.get(match["n"]) or int(match["n"])
    match = _EVERY.search(question.text) or _EVERY_AFTER.search(question.text)
    if match is None:
        return None
    name = match["n"]
    if "个月" in name:
        return 4 if name[0] in "3三" else 2
    return PERIODS[name]


def compound_interest(question: Question) -> dict:
    """principal, annual_rate, years, periods_per_year, ask."""
    roles = question.assign(PRINCIPAL, INCOME)
    return known(
        principal=value_of(roles.get("principal")),
        annual_rate=annual_rate(question),
        years=years(question),
        periods_per_year=periods_per_year(question),
        ask=question.asked(_GROWTH_ASK, "total"),
        currency=currency_of(roles.get("principal")),
    )


FREQUENCY = re.compile(
    r"(?:每个?|逐|按|每一个?)(?P<n>半年|季度|季|月|年|周|期|星期)(?P<when>初|末|"
    r"底|头|1号|一号)?"
)
_PAYMENT = Role(
    name="payment",
    kinds=MONEY,
    before=(
        "每个?(?:半年|季度|季|月|年|周|期)[^，。]{0,8}?|定投|年金|存入?|月存|月投|"
        "年存|投入?"
    ),
    after="元?的?年金|一个?月|/月|每月",
)


def _frequency(question: Question, payment: Quantity | None) -> re.Match | None:
    """每月, 每季 ...: the one said last before the payment, else the first."""
    found = list(FREQUENCY.finditer(question.text))
    if payment is not None:
        before = [m for m in found if m.end() <= payment.start]
        found = before[-1:] or found
    return found[0] if found else None


_START = re.compile("初|期首|月头|年头|先付|预付|即付|1号|一号|开始时")
_END = re.compile("末|底|后付|普通年金")


def _paid_at_start(question: Question, payment: Quantity | None) -> bool:
    """期初 or 期末: the words beside the payment decide, then the whole text."""
    if payment is not None:
        beside = question.left(payment)[-12:] + question.right(payment)
        if bool(_START.search(beside)) != bool(_END.search(beside)):
            return bool(_START.search(beside))
    whole = bool(
        re.search("期初|先付|预付|即付|期首|每[月年季]初|月初|年初", question.text)
    )
    return whole and not re.search("期末付|普通年金|后付|每[月年季]末", question.text)


def annuity_future_value(question: Question) -> dict:
    """payment, rate_per_period, periods, due, ask."""
    roles = question.assign(_PAYMENT, INCOME)
    match = _frequency(question, roles.get("payment"))
    per_year = {"月": 12, "季": 4, "季度": 4, "年": 1, "半年": 2, "周": 52, "星期": 52}
    step = per_year.get(match["n"], 0) if match else 12 * question.has("月") or 1
    span = term(question)
    periods = bare_count(question)
    if span is not None:
        length = {"years": 1, "months": 12, "days": 365, "periods": 0}[span.unit]
        with exact():
            periods = (
                span.value if not (length and step) else span.value * step / length
            )
    return known(
        payment=value_of(roles.get("payment")),
        rate_per_period=rate_per(question, step or 1),
        periods=periods,
        due=_paid_at_start(question, roles.get("payment")),
        ask=question.asked(_GROWTH_ASK, "total"),
        currency=currency_of(roles.get("payment")),
    )


_FUTURE = Role(
    name="future",
    kinds=MONEY,
    before=(
        "终值|拿到|拿|有|攒够|攒|凑够|得到|收到|到期|支付|需要|要用|后的?|变成|达到|"
        "面值|兑付|一笔"
    ),
    after="元?的?(?:钱|款项|款|现金|学费|目标|债|票据|资金)?",
)


def present_value(question: Question) -> dict:
    """future, annual_rate, years."""
    roles = question.assign(_FUTURE)
    return known(
        future=value_of(roles.get("future")),
        annual_rate=annual_rate(question),
        years=years(question),
        currency=currency_of(roles.get("future")),
    )
