"""Does a model calculate? Money problems whose one figure a program works out again.

Numbers and results come from the makers of ``tasks_formulas`` and the calculators of
``finllm_utils.finance``; the wordings are the exam's own, so none is a question that 05
trains on. Each asks for one figure and says its unit and how to round. Three problems
of 05 are left out (KS, PSI, staged losses): their tables fill a small context. Signs
are not read, since every result is above zero, and no figure in Chinese characters.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from unicodedata import normalize

from finllm_utils.data.figures import POWERS, Figure, figures
from finllm_utils.data.formula_parts import (
    Maker,
    makers,
    multiple,
    parse_wordings,
    scaled,
)
from finllm_utils.data.tasks_formulas import FORMULAS
from finllm_utils.data.wordings import fill
from finllm_utils.evals.models.prompts import Asked, Mark, run_suite, user_prompt
from finllm_utils.evals.suites.suite import Suite
from finllm_utils.evals.tasks.following import spread
from finllm_utils.finance import bonds, interest
from finllm_utils.finance.funds import fund_subscription
from finllm_utils.finance.loans import loan_equal_principal
from finllm_utils.finance.tax import vat_split

PER_KIND = 5
MARKER = "答案"
UNITS = {"元": 0, "份": 0, "倍": 0, "%": -2}
"""Asked for, with its power of ten."""
_HOW = {
    "元": "结果以元为单位，",
    "份": "结果以份为单位，",
    "倍": "结果写成倍数，",
    "%": "结果写成百分数，",
}
_PLACES = {"2": "两", "3": "三"}
_ENDING = "保留{places}位小数，并以“答案：”加上这个数结尾。"
TEXTS = """
# mortgage
Q 借款人向银行申请{wan}万元房贷，分{years}年按等额本息偿还。合同利率在{lpr}%的LPR上
{move}，他每月的还款额是多少？
A 元 2
# prepayment
Q 某笔等额本息贷款尚欠{left}万元、还有{months}期，年利率{rate}%。借款人现在归还其中
{wan}万元，期数不变，此后合计少付多少利息？月供不先取整。
A 元 2
# savings_plan
Q 小陈打算坚持{years}年，每逢{when}往账户里存{payment}元，账户年利率{rate}%、每月计息
一次并滚入本金。期满时账户里一共有多少钱？
A 元 2
# present_value
Q 一份养老计划承诺在{years}年后一次付{wan}万元。如果资金成本是每年{rate}%（年复利），
现在最多值得为它付多少钱？
A 元 2
# bond_price
Q 交易员想买一只每年付息一次的国债：百元面值，票面利率{coupon}%，剩余期限{years}年。他
要求的到期收益率是{rate}%，每百元面值的买价应是多少？
A 元 2
# current_yield
Q 投资者以{price}元买入面值100元、年票息{coupon}%的债券，一年的利息相当于买价的比例是
多少？
A % 2
# redemption
Q 老周赎回基金{shares}份，当日净值{nav}元，从确认到赎回共{days}天。合同的赎回费率是：
{tiers}。金额和费用都先四舍五入到分，他能拿回多少钱？
A 元 2
# early_withdrawal
Q 一张{wan}万元的存单，存期{years}年，利率{rate}%。储户在第{days}天把钱全取走，只能得
到{demand}%的活期利息（一年按360天）。与存到期相比，他损失多少利息？
A 元 2
# simple_or_compound
Q 把{wan}万元借出{years}年，年利率{rate}%。若利息每年并入本金，比每年都只按最初的本金
计息多收多少利息？
A 元 2
# income_tax
Q 小林去年只有工资收入，共{income}元；个人承担的社保和公积金为{social}元，专项附加扣除
{extra}元，基本减除费用60000元。按居民综合所得年度税率表，她全年应缴多少个人所得税？
A 元 2
# vat_payable
Q 一家一般纳税人当期卖出货物，价款{sales}元（不含税，税率{out}%），买进材料，价款
{cost}元（不含税，专用发票税率{into}%，可全部抵扣）。它当期要缴多少增值税？
A 元 2
# stock_sale
Q 股民把{shares}股股票按每股{price}元全部卖掉。券商收万分之{points}的佣金，至少5元；印
花税率为0.05%，其他费用不计。佣金和税四舍五入到分，进账多少？
A 元 2
# fx_spread
Q 旅客在银行换了{sum}{unit}，行程取消又全数换回。当天的牌价是每100{unit}银行买入{bid}
元、卖出{offer}元，两笔金额各四舍五入到分。他这一来一去亏了多少？
A 元 2
# money_fund
Q 一只货币基金在一周里每天每万份的收益依次是{yields}元。用单利口径、一年365天，它的七
日年化收益率是多少？
A % 3
# vintage
Q 风控经理按放款月份统计，观察期都是六个月：{table}逾期余额占放款额的比例，最高的那个
月是多少？
A % 2
# capital_adequacy
Q 一家银行的风险加权资产合计{assets}亿元；资本净额由核心一级{core}亿元、其他一级
{other}亿元和二级{second}亿元组成。它的资本充足率是多少？
A % 2
# dirty_price
Q 资金部买进面值{face}万元的债券，净价为每百元{clean}元，票面利率{coupon}%，{terms}，
从上次付息算起已有{days}天。每百元应计利息先取四位小数，交割时要付多少钱？
A 元 2
# debt_ratio
Q 一家企业的资产是{assets}亿元，负债是{debts}亿元。它的资产相当于所有者权益的多少倍？
A 倍 2
# fund_leverage
Q 债券基金今天的净资产是{net}亿元，回购借入{repo}亿元，此外还有{other}亿元负债。它的总
资产相当于净资产的百分之几？
A % 2
# margin_ratio
Q 客户的信用账户里有{cash}元现金和{stocks}元股票。他欠券商{loan}元融资款和{interest}元
利息，还融券卖空了{shares}股，这只股票现在是{price}元。维持担保比例是多少？
A % 2
# deposit_days
Q 企业把{money}元存了{days}天，年利率{rate}%，单利，一年按360天计。到期能得多少利息？
A 元 2
# kth_payment
Q 贷款{money}元，年利率{rate}%，按等额本金分{months}个月偿还。第{k}个月应还多少（本金
加利息）？
A 元 2
# vat_inside
Q 店里一件商品标价{gross}元，已含{percent}%的增值税。其中税款是多少？
A 元 2
# fund_shares
Q 投资者用{paid}元申购基金，申购费率{percent}%（外扣法），当日净值{nav}元。净申购金额
先四舍五入到分，他得到多少份？
A 份 2
# holding_return
Q 花{buy}元买进的理财产品，一年后以{sell}元转让，其间收到{income}元分红。持有期收益率
是多少？
A % 2
"""
"""Per problem: its wording (Q), the unit and the decimals of the result (A)."""
WORDINGS = parse_wordings(TEXTS)


@dataclass(frozen=True, kw_only=True, slots=True)
class NumericItem:
    """A question for one figure, and that figure."""

    id: str
    kind: str
    question: str
    value: Decimal
    unit: str
    """A key of ``UNITS``."""
    places: int

    @property
    def expected(self) -> str:
        """The figure with its unit."""
        return f"{self.value}{self.unit}"

    def mark(self, answer: str) -> Mark:
        """1 for the figure as it is asked for, within half of its last decimal.

        The detail says what was read when that is another figure, or that none was.
        """
        found = read_value(answer, self.unit)
        if found is None:
            return Mark(0.0, answer, f"no figure that can be {self.unit}")
        if abs(found - self.value) <= Decimal(5).scaleb(-self.places - 1):
            return Mark(1.0, answer)
        return Mark(0.0, answer, f"read as {found:f}{self.unit}")


def read_value(answer: str, unit: str) -> Decimal | None:
    """What a free answer gives, in ``unit``; None when no figure fits.

    The first figure that fits after the last MARKER; without one, the last that fits.
    1.2万 is 12000 元, 35 bp are 0.35 %; a bare figure counts in ``unit``, in percent
    only where none has a sign.
    """
    before, marked, after = normalize("NFKC", answer).rpartition(MARKER)
    fitting = [
        f for f in figures(after if marked else before + after) if _fits(f, unit)
    ]
    if UNITS[unit] < 0:  # the days of a year stand bare beside a percentage
        fitting = [figure for figure in fitting if figure.unit] or fitting
    if not fitting:
        return None
    found = fitting[0 if marked else -1]
    power = POWERS[found.unit] - UNITS[unit] if found.unit else 0
    return found.value.scaleb(power)


def _fits(figure: Figure, unit: str) -> bool:
    return not figure.unit or (POWERS[figure.unit] < 0) == (UNITS[unit] < 0)


def _current_yield(rng: random.Random) -> dict:
    """To the cent: in steps of half a yuan, as 05 draws them, there are few prices."""
    coupon, price = multiple(rng, "1.55", "6.45", "0.05"), scaled(rng, 8_801, 11_199, 2)
    got = bonds.bond_current_yield(Decimal(100), coupon / 100, price)
    return dict(coupon=coupon, price=price, result=got)


def _deposit_days(rng: random.Random) -> dict:
    money, days = rng.randint(101, 9000) * 1100, rng.randint(20, 700)
    rate = multiple(rng, "0.65", "3.85", "0.05")
    got = interest.simple_interest(Decimal(money), rate / 100, Decimal(days), "days")
    return dict(money=money, days=days, rate=rate, result=got.interest)


def _kth_payment(rng: random.Random) -> dict:
    money, months = rng.randint(31, 900) * 1000, rng.choice((36, 48, 84, 120, 240))
    rate, k = multiple(rng, "2.65", "6.85", "0.05"), rng.randint(2, months)
    got = loan_equal_principal(Decimal(money), rate / 100, months, k).kth_payment
    return dict(money=money, months=months, rate=rate, k=k, result=got)


def _vat_inside(rng: random.Random) -> dict:
    gross, percent = scaled(rng, 9_900, 9_999_900, 2), rng.choice((6, 9, 13))
    got = vat_split(gross, Decimal(percent) / 100).tax
    return dict(gross=gross, percent=percent, result=got)


def _fund_shares(rng: random.Random) -> dict:
    paid, percent = rng.randint(11, 990) * 700, multiple(rng, "0.1", "1.5", "0.1")
    nav = scaled(rng, 6_000, 29_999, 4)
    got = fund_subscription(Decimal(paid), percent / 100, nav).shares
    return dict(paid=paid, percent=percent, nav=nav, result=got)


def _holding_return(rng: random.Random) -> dict:
    buy, income = rng.randint(2_000, 90_000), rng.randint(10, 900)
    sell = buy + rng.randint(20, buy // 4)
    got = bonds.holding_return(Decimal(buy), Decimal(sell), Decimal(income))
    return dict(buy=buy, sell=sell, income=income, result=got)


_OWN = makers(
    (
        _current_yield, _deposit_days, _kth_payment, _vat_inside, _fund_shares,
        _holding_return,
    ),
    WORDINGS,
)  # fmt: skip
MAKERS: Mapping[str, Maker] = {name: (FORMULAS | _OWN)[name] for name in WORDINGS}
"""By the name of a wording: what draws its numbers and works out the result."""


def drawn(kind: str, number: int) -> tuple[dict[str, str], NumericItem]:
    """The numbers of an item, and the item; the same ones whenever it is called."""
    rng = random.Random(f"numeric exam/{kind}/{number}")
    key = MAKERS[kind](rng)[2]
    wordings, asked_for = WORDINGS[kind]
    unit, places = asked_for.split()
    ending = _HOW[unit] + _ENDING.format(places=_PLACES[places])
    return key, NumericItem(
        id=f"numeric/{kind}/{number}",
        kind=kind,
        question=fill(wordings, rng, **key) + ending,
        value=Decimal(key["result"]),
        unit=unit,
        places=int(places),
    )


def numeric_items(number: int | None = None) -> list[NumericItem]:
    """The exam, PER_KIND items of every kind, or ``number`` spread evenly over it."""
    items = [drawn(kind, i)[1] for kind in MAKERS for i in range(PER_KIND)]
    return spread(items, number)


def last_number(question: str) -> str:
    """The baseline that gives the question's last number."""
    return f"{figures(question)[-1].value}"


def largest_number(question: str) -> str:
    """The baseline that gives the question's largest number, amounts in full."""
    return f"{max(_in_full(figure) for figure in figures(question)):f}"


def _in_full(figure: Figure) -> Decimal:
    return figure.value.scaleb(max(0, POWERS.get(figure.unit, 0)))


BASELINES: Mapping[str, Callable[[str], str]] = {
    rule.__name__: rule for rule in (last_number, largest_number)
}


def baseline_shares(items: Sequence[NumericItem]) -> dict[str, float]:
    """What rules that do not calculate earn, by name."""
    return {
        name: sum(i.mark(rule(i.question)).credit for i in items) / len(items)
        for name, rule in BASELINES.items()
    }


def numeric_suite(number: int, max_new_tokens: int) -> Suite:
    """At most ``number`` calculations; their groups are the kinds of problem."""
    items = numeric_items(number)
    asked = [
        Asked(user_prompt(i.id, i.question), i.mark, i.kind, i.expected) for i in items
    ]
    return Suite(
        name="numeric",
        title="calculations that a program checks",
        axis="finance",
        run=lambda model: run_suite(model, "numeric", asked, max_new_tokens),
        questions={item.id: item.question for item in items},
        key=str((items, max_new_tokens)),
        baseline=max(baseline_shares(items).values()),
        baseline_name="the last or the largest number of the question",
        needs="chat",
    )
