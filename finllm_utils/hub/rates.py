"""Rates and terms of a question: 年息, 月息, 厘, 加 20 个基点; years, months."""

import re
from decimal import Decimal

from finllm_utils.finance.conventions import exact
from finllm_utils.hub.amounts import Quantity
from finllm_utils.hub.context import Question, Role

INTEREST = Role(
    name="rate",
    kinds=("rate",),
    before=(
        "利率|年化|年息|月息|日息|利息|收益率|收益|回报|回报率|LPR|折现率|贴现率|"
        "贴现|折现|息|复利|单利"
    ),
    after="的?(?:年|月|日)?(?:利率|利息|复利|单利|年化|收益|回报|折现|贴现|息)",
)
_UP = re.compile(r"(?:加|上浮|上调|提高|增加|上升|上涨|涨|高|升|\+)(?:了|到|点|出)?$")
_DOWN = re.compile(r"(?:减|下浮|下调|降低|优惠|下降|降|低|-)(?:了|去|点|息)?$")
_MONTH_NOTE = re.compile(r"^的?(?:[(（/]|每)个?月")
_DAILY = re.compile(r"日利率|日息|每日|每天|按日(?!计|复)|一天")
_MONTHLY = re.compile(
    r"月利率|月息|每月利率|每个月利率|月收益|月化|每月收益|月利|月回报|每月利息"
)
_QUARTERLY = re.compile(r"季利率|每季度?利率|季度利率|每季度?收益|季度收益")
_PER_PERIOD = re.compile(r"每期(?:的)?(?:利率|收益率?|回报率?)|期利率|一期")
_STEPS = {"day": 360, "month": 12, "quarter": 4, "year": 1}


def quoted_period(question: Question, quantity: Quantity) -> str:
    """Whether a rate is said for a day, month, quarter, year or "period"."""
    left, right = question.left(quantity), question.right(quantity)[:8]
    if _MONTH_NOTE.search(right):
        return "month"
    for name, pattern in (
        ("period", _PER_PERIOD),
        ("month", _MONTHLY),
        ("quarter", _QUARTERLY),
        ("day", _DAILY),
    ):
        if pattern.search(left) or pattern.search(right):
            return name
    return "year"


def interest_rate(
    question: Question, role: Role = INTEREST
) -> tuple[Decimal, str] | None:
    """The interest rate as quoted and its period, after 加点, 上浮 or 打折."""
    bases = [q for q in question.of("rate") if q.unit not in ("折", "成")]
    bases = [q for q in bases if not _is_change(question, q)] or bases[:1]
    if not bases:
        return None
    base = max(bases, key=lambda q: (question.cue(role, q), -q.start))
    period = quoted_period(question, base)
    value = base.value
    if base.unit in ("厘", "分") and period == "year":
        value *= 10  # 年息四厘 is 4%, 月息四厘 is 0.4% a month
    for change in question.of("rate"):
        if change is not base:
            value = _changed(question, value, change)
    return value, period


def _is_change(question: Question, quantity: Quantity) -> bool:
    left = question.left(quantity)
    return bool(_UP.search(left) or _DOWN.search(left)) and quantity.start > 0


def _changed(question: Question, value: Decimal, change: Quantity) -> Decimal:
    left = question.left(change)
    if change.unit == "折":
        return value * change.value
    if not _is_change(question, change):
        return value
    sign = 1 if _UP.search(left) else -1
    relative = change.unit in ("%", "成") and not re.search(r"加|减|\+|-", left[-3:])
    with exact():
        return (
            value * (1 + sign * change.value)
            if relative
            else value + sign * change.value
        )


def annual_rate(question: Question, role: Role = INTEREST) -> Decimal | None:
    """The yearly rate: a monthly one times 12, a daily one times 360."""
    found = interest_rate(question, role)
    if found is None:
        return None
    value, period = found
    with exact():
        return value * _STEPS.get(period, 1)


def rate_per(question: Question, periods_per_year: int) -> Decimal | None:
    """The rate of one payment period; a rate said "per period" is taken as it is."""
    found = interest_rate(question)
    if found is None:
        return None
    value, period = found
    if period == "period":
        return value
    with exact():
        return value * _STEPS[period] / periods_per_year


_TERM = Role(
    name="term",
    kinds=("duration",),
    before=(
        "存期|期限|存|存了|借|借了|贷|分|持有|连续|坚持|共|用|投|过|年限|为期|按|缴|"
        "还|定期|至"
    ),
    after="后|以后|之后|期|到期|还清|定期|整存|的定期|下来|里|的",
)
_NOT_TERM = re.compile(r"(?:每|每隔|逐|前|近)$")
_EACH = re.compile(
    r"^(?:要|得|该|应该|需要|能|可以|大概)?(?:还|供|交|掏|付|存|多少|的月供|拿)"
)
_QUOTED = re.compile(
    r"^期?(?:以上)?(?:的)?(?:LPR|贷款市场)|^(?:计|付|结|复)(?:息|利)?|"
    r"^[一二三四两\d]+次"
)


def term(question: Question) -> Quantity | None:
    """The duration that says how long; 每半年 or 5 年期 LPR are not it."""
    best, chosen = -1.0, None
    for quantity in question.of("duration"):
        after = question.text[quantity.end : quantity.end + 8]
        if _NOT_TERM.search(question.left(quantity)) or _QUOTED.search(after):
            continue
        if quantity.value == 1 and _EACH.search(after) and best >= 0:
            continue  # "一个月还多少" after the term was named
        if (
            quantity.unit == "days"
            and quantity.value in (360, 365)
            and re.search(
                r"(?:按|按照|以|用|一年|每年)(?:是|为|算)?$", question.left(quantity)
            )
        ):
            continue  # a day-count convention
        score = question.cue(_TERM, quantity)
        if score > best:
            best, chosen = score, quantity
    return chosen


_BARE_COUNT = Role(
    name="count", kinds=("number",), before="期数|月数|还款期|期限", needs_cue=True
)
_BARE_YEARS = Role(name="years", kinds=("number",), before="年数|年限", needs_cue=True)


def bare_count(question: Question) -> Decimal | None:
    """A number of periods without a unit, as in 期数：300."""
    found = question.assign(_BARE_COUNT).get("count")
    return None if found is None else found.value


def months(question: Question) -> Decimal | None:
    """The term in months; 期 counts as a month, days are refused (None)."""
    quantity = term(question)
    if quantity is None:
        return bare_count(question)
    if quantity.unit == "days":
        return None
    return quantity.value * (12 if quantity.unit == "years" else 1)


def years(question: Question) -> Decimal | None:
    """The term in years, as an exact fraction; 第五年末 is five years away."""
    quantity = term(question)
    if quantity is None:
        ordinals = [q.value for q in question.of("ordinal") if q.unit == "年"]
        bare = question.assign(_BARE_YEARS).get("years")
        return ordinals[0] if ordinals else bare.value if bare else None
    steps = {"years": 1, "months": 12, "days": 360, "periods": 1}
    with exact():
        return quantity.value / steps[quantity.unit]
