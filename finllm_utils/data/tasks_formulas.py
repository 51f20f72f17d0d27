"""Money problems with worked steps: loans, deposits, bonds, funds, tax, risk.

The question states every rate and rule, except the statutory income tax table. Figures
come from ``finllm_utils.finance`` or, where it has no calculator, from Decimal here;
amounts are rounded half up to the cent. None of ``tasks_finance``'s six is repeated.
Those of risk and leverage are in ``tasks_formulas_risk``.
"""

import random
from collections.abc import Iterator
from decimal import Decimal
from itertools import cycle

from finllm_utils.data.formula_parts import (
    Maker,
    makers,
    markdown_table,
    multiple,
    parse_wordings,
    plain,
    scaled,
)
from finllm_utils.data.tasks_finance import FinanceTexts
from finllm_utils.data.tasks_formulas_risk import RISK_FORMULAS
from finllm_utils.data.wordings import one_turn
from finllm_utils.finance import bonds, interest
from finllm_utils.finance.conventions import exact, round_half_up
from finllm_utils.finance.loans import loan_equal_payment
from finllm_utils.records import Instruction

TAX_BRACKETS = (
    (36_000, 3, 0), (144_000, 10, 2_520), (300_000, 20, 16_920), (420_000, 25, 31_920),
    (660_000, 30, 52_920), (960_000, 35, 85_920), (10**9, 45, 181_920),
)  # fmt: skip
"""Taxable yuan a year up to: percent, quick deduction (个人所得税法, 税率表一)."""
REDEMPTION_FEES = (
    ((7, "1.5"), (30, "1"), (180, "0.5"), (10**4, "0")),
    ((7, "1.5"), (30, "0.75"), (365, "0.5"), (730, "0.25"), (10**4, "0")),
)
"""Held for fewer days than: percent of the amount. Two usual schedules."""
QUOTES = {"美元": (69_000, 73_000), "欧元": (75_000, 85_000), "港元": (8800, 9300)}
"""Plausible cents for 100 units of a currency."""
TEXTS = """
# mortgage
Q 首套房贷款{wan}万元，{years}年等额本息，利率按LPR（{lpr}%）{move}，每月还多少？
Q 我的房贷合同写着LPR{move}，现在LPR是{lpr}%，贷了{wan}万元、{months}期等额本息，月供多
少？
Q 请测算月供：个人住房贷款{wan}万元，等额本息{years}年，定价基准LPR为{lpr}%，{move}。
A 执行利率 {lpr}% {sign} {gap}% = {rate}%，月利率 i 为其 1/12；月供 = {principal} × i ×
 (1 + i)^{months} ÷ ((1 + i)^{months} - 1) = {result} 元。
# prepayment
Q 房贷余额{left}万元，等额本息，年利率{rate}%，还剩{months}期。想提前还{wan}万元，期限不
变、月供减少，能省多少利息？
Q 手上有{wan}万元闲钱，想提前还一部分房贷：年利率{rate}%，等额本息，还有{months}个月，还
款后期限不变。能少付多少利息？
Q 客户部分提前还款{wan}万元，选“减少月供、期限不变”。等额本息，年利率{rate}%，剩余
{months}期，节省利息总额是多少？
A 期限不变，省下的利息就是这 {wan} 万元按 {rate}%、{months} 期等额本息要付的利息，共
 {result} 元（月供不先取整，未计违约金）。
# instalment
Q 信用卡账单{bill}元分{months}期还，每期手续费率{fee}%，按内部收益率折算，年化利率（月利
率×12）是多少？
Q 客服推荐账单分期：{bill}元，{months}期，每期手续费{fee}%，说一年才{nominal}%。真实年利
率是多少？用IRR月利率乘12算。
Q 某分期产品本金{bill}元，等额分{months}期归还，每期另收本金的{fee}%作手续费。请按IRR
（单利，月利率×12）披露年化利率。
A 每期还 {bill} ÷ {months} + {bill} × {fee}% = {payment} 元，月内部收益率约 {monthly}%，
年化约 {result}%，高于名义的 {nominal}%。
# savings_plan
Q 每月{when}定投{payment}元，假设年化收益率{rate}%、按月复利，{years}年后有多少钱？
Q 给孩子攒教育金，每个月{when}存{payment}元，年利率{rate}%、按月复利，{years}年后本息多
少？
Q 测算定投终值：每期{payment}元，{when}扣款，共{months}期，年利率{rate}%，按月计复利。
A 月利率 i = {rate}% ÷ 12，终值 {payment} × ((1 + i)^{months} - 1) ÷ i{due} = {result}
 元，收益 {gain} 元。
# present_value
Q {years}年后孩子上大学要用{wan}万元，按每年{rate}%复利测算，现在一次性要存多少？
Q 保险合同约定{years}年后给付{wan}万元，折现率取{rate}%，这笔钱今天值多少？
Q 长期应收款{years}年后才能收回{wan}万元，按年利率{rate}%复利折现，现值是多少？
A 现值 = {future} ÷ (1 + {rate}%)^{years} = {result} 元。
# bond_price
Q 面值100元的债券，票面利率{coupon}%，按年付息，剩{years}年，到期收益率{rate}%，价格多
少？
Q 市场收益率变到{rate}%，我那只票息{coupon}%、剩{years}年、年付息、面值100元的债值多少
钱？
Q 给债券估值，看是折价还是溢价：面值100元，年付息，票息{coupon}%，剩{years}年，折现率
{rate}%。
A 价格 = {coupon} × (1 - (1 + {rate}%)^-{years}) ÷ {rate}% + 100 ÷ (1 + {rate}%)^{years}
 = {result} 元；收益率{side}。
# current_yield
Q 债券面值100元，票面利率{coupon}%，市价{price}元，当期收益率是多少？
Q 一只票息{coupon}%的债券，每百元面值卖{price}元。只看利息，买入后一年的收益率有多少？
Q 票面利率{coupon}%的债券价格到了{price}元（面值100元），当期收益率比票面利率高还是低？
A 当期收益率 = 100 × {coupon}% ÷ {price} = {result}%，{side}票面利率 {coupon}%。
# redemption
Q 基金赎回费率：{tiers}。我持有{days}天，赎回{shares}份，净值{nav}元，到账多少？
Q 持有{days}天的基金全部赎回，{shares}份，单位净值{nav}元。赎回费：{tiers}。费用和实得多
少？
Q 请核对赎回确认单的到账金额：份额{shares}份，净值{nav}元，持有{days}天，费率为{tiers}。
A 持有 {days} 天，费率 {percent}%；赎回总额 {shares} × {nav} = {gross} 元，赎回费 {fee}
 元，到账 {result} 元。
# early_withdrawal
Q {wan}万元存了{years}年定期，年利率{rate}%，第{days}天急用钱全部取出，按活期{demand}%计
息（一年360天），利息多少？比到期少多少？
Q 定期存单{wan}万元，{years}年期，利率{rate}%。客户存了{days}天要提前支取，活期利率
{demand}%，按360天计，利息损失多少？
Q 定期没到期就取，利息怎么算？我存了{wan}万元、{years}年、{rate}%，存满{days}天，活期
{demand}%，一年按360天。
A 提前支取按活期：{principal} × {demand}% × {days} ÷ 360 = {early} 元；到期可得
 {principal} × {rate}% × {years} = {full} 元，少拿 {result} 元。
# simple_or_compound
Q {wan}万元放{years}年，年利率{rate}%，每年复利一次比单利多多少利息？
Q 两款{years}年期产品利率都是{rate}%，一款单利、一款年复利，各投{wan}万元，利息差多少？
Q 本金{wan}万元、年利率{rate}%、{years}年，按年复利和按单利各得多少利息，差额是多少？
A 单利利息 {principal} × {rate}% × {years} = {simple} 元；复利利息 {principal} × ((1 +
 {rate}%)^{years} - 1) = {compound} 元，多 {result} 元。
# income_tax
Q 全年工资{income}元，个人缴三险一金{social}元，专项附加扣除{extra}元，没有其他收入，年
度汇算应纳个税多少？
Q 按综合所得税率表算：工资薪金{income}元，减除费用6万元，专项扣除{social}元，专项附加扣
除{extra}元，应纳税额是多少？
Q 我一年税前工资{income}元，社保公积金自己交{social}元，专项附加扣除{extra}元，别的都没
有，全年交多少个税？
A 应纳税所得额 = {income} - 60000 - {social} - {extra} = {taxable} 元，适用税率
 {percent}%、速算扣除数 {quick}，税额 {taxable} × {percent}% - {quick} = {result} 元。
# vat_payable
Q 一般纳税人本月不含税销售额{sales}元，税率{out}%；采购不含税{cost}元，取得税率{into}%的
专票，应交增值税多少？
Q 公司本月开票不含税{sales}元（税率{out}%），可抵扣的进货不含税{cost}元（税率{into}%），
无留抵，增值税要缴多少？
Q 填增值税申报：销项按{sales}元、{out}%计，进项按{cost}元、{into}%计，金额都不含税，当期
应纳税额是多少？
A 销项 {sales} × {out}% = {output} 元，进项 {cost} × {into}% = {input} 元，应纳增值税
 {output} - {input} = {result} 元。
# stock_sale
Q 卖出{shares}股，成交价{price}元，印花税0.05%，佣金万分之{points}、最低5元，到手多少
钱？
Q 我以{price}元卖掉{shares}股A股。佣金万{points}，不足5元收5元，印花税千分之0.5，不算过
户费，实收多少？
Q 核算卖出股票的净收入：{shares}股，每股{price}元，佣金万分之{points}（5元起），印花税
0.05%，忽略过户费。
A 成交额 {shares} × {price} = {gross} 元，印花税 {stamp} 元，佣金 {fee} 元，净得
 {result} 元。
# fx_spread
Q 牌价（每100{unit}）：现汇买入价{bid}元，卖出价{offer}元。换{sum}{unit}要付多少人民币？
按同一牌价换回，亏多少？
Q 购汇{sum}{unit}后行程取消，当天按原牌价全部结汇。每100{unit}银行买入{bid}元、卖出
{offer}元，一来一回损失多少？
Q 客户先买{sum}{unit}、再全部卖回，各用哪个价？银行每100{unit}买入{bid}元、卖出{offer}
元，请算人民币金额和差额。
A 购汇用卖出价：{sum} × {offer} ÷ 100 = {paid} 元；结汇用买入价：{sum} × {bid} ÷ 100 =
 {back} 元；差额 {result} 元。
# money_fund
Q 某货币基金最近7天的万份收益（元）为{yields}，按单利算，七日年化收益率是多少？
Q 手机上只显示每天的万份收益：{yields}（元，连续7天）。按单利、365天，七日年化多少？
Q 由7天的每万份收益{yields}元，计算单利口径的七日年化收益率，保留三位小数。
A 7 天合计 {sum} 元，七日年化 = {sum} ÷ 7 × 365 ÷ 10000 = {result}%（单利）。
# vintage
Q 下表是各批放款满6个月（MOB6）时30天以上的逾期余额，哪批逾期率最高？{table}
Q {table}按放款月计算MOB6的30+逾期率（金额口径），指出表现最差的一批。
Q 做Vintage分析：用表中数据算各批MOB6的30+逾期率，哪批最差？{table}
A 逾期率 = 逾期余额 ÷ 放款额：{rates}；{worst}放款的一批最高，为 {result}%。
# capital_adequacy
Q 某银行核心一级资本净额{core}亿元、其他一级{other}亿元、二级{second}亿元，风险加权资产
{assets}亿元，资本充足率达到10.5%吗？
Q 资本充足率（含储备资本）要求10.5%。核心一级{core}亿、其他一级{other}亿、二级{second}
亿，风险加权资产{assets}亿元，够不够？
Q 计算资本充足率并与10.5%比较：风险加权资产{assets}亿元，资本净额为核心一级{core}亿元、
其他一级{other}亿元、二级{second}亿元。
A 资本充足率 = ({core} + {other} + {second}) ÷ {assets} = {result}%，{met} 10.5%。
"""
"""Per problem: questions (Q) and the answer (A); a line break is no part of them."""


WORDINGS = parse_wordings(TEXTS)


def _mortgage(rng: random.Random) -> dict:
    wan, months = rng.randint(30, 320), rng.choice((120, 180, 240, 300, 360))
    lpr = multiple(rng, "3", "4.8", "0.05")
    points = rng.choice((-80, -60, -45, -30, -20, 10, 20, 30, 60))
    rate, gap = plain(lpr + Decimal(points) / 100), plain(abs(Decimal(points)) / 100)
    got = loan_equal_payment(Decimal(wan * 10_000), rate / 100, months).monthly_payment
    word, sign = ("加", "+") if points > 0 else ("减", "-")
    names = dict(wan=wan, principal=wan * 10_000, months=months, years=months // 12)
    quoted = dict(lpr=lpr, move=f"{word}{abs(points)}个基点", sign=sign, gap=gap)
    return names | quoted | dict(rate=rate, result=got)


def _prepayment(rng: random.Random) -> dict:
    wan, months = rng.randint(5, 60), rng.randrange(60, 337, 12)
    rate, left = multiple(rng, "3", "5", "0.05"), wan + rng.randint(20, 150)
    got = loan_equal_payment(Decimal(wan * 10_000), rate / 100, months).total_interest
    return dict(wan=wan, left=left, months=months, rate=rate, result=got)


def _monthly_irr(principal: Decimal, payment: Decimal, months: int) -> Decimal:
    """The monthly rate at which the payments are worth the principal, by bisection."""
    low, high = Decimal(0), Decimal(1)
    with exact():
        for _ in range(100):
            rate = (low + high) / 2
            worth = payment * (1 - (1 + rate) ** -months) / rate
            low, high = (rate, high) if worth > principal else (low, rate)
    return low


def _instalment(rng: random.Random) -> dict:
    months, fee = rng.choice((3, 6, 12, 18, 24)), multiple(rng, "0.3", "0.9", "0.05")
    bill = months * 100 * rng.randint(3, 30)
    paid = Decimal(bill) / months + bill * fee / 100
    irr = _monthly_irr(Decimal(bill), paid, months)
    inputs = dict(bill=bill, months=months, fee=fee, nominal=plain(fee * 12))
    shown = dict(payment=round_half_up(paid), monthly=round_half_up(irr * 100, 4))
    return inputs | shown | dict(result=round_half_up(irr * 1200))


def _savings_plan(rng: random.Random) -> dict:
    payment, years = rng.randrange(300, 5001, 100), rng.randint(2, 20)
    rate, due = multiple(rng, "1.5", "8", "0.1"), rng.random() < 0.5
    got = interest.annuity_future_value(Decimal(payment), rate / 1200, years * 12, due)
    said = dict(when="月初", due=" × (1 + i)") if due else dict(when="月末", due="")
    inputs = dict(payment=payment, years=years, months=years * 12, rate=rate)
    return inputs | said | dict(gain=got.interest, result=got.total)


def _present_value(rng: random.Random) -> dict:
    wan, years = rng.randrange(5, 201, 5), rng.randint(2, 15)
    rate = multiple(rng, "1.5", "6", "0.1")
    got = interest.present_value(Decimal(wan * 10_000), rate / 100, Decimal(years))
    return dict(wan=wan, future=wan * 10_000, years=years, rate=rate, result=got)


def _bond_price(rng: random.Random) -> dict:
    coupon, years = multiple(rng, "1.5", "5", "0.1"), rng.randint(2, 10)
    rate = plain(coupon + rng.choice((-1, 1)) * multiple(rng, "0.1", "1.2", "0.1"))
    with exact():
        worth = [(1 + rate / 100) ** -k for k in range(1, years + 1)]
        price = round_half_up(coupon * sum(worth) + 100 * worth[-1])
    side = "高于票面利率，折价" if rate > coupon else "低于票面利率，溢价"
    return dict(coupon=coupon, years=years, rate=rate, side=side, result=price)


def _current_yield(rng: random.Random) -> dict:
    coupon, away = multiple(rng, "2", "6", "0.1"), multiple(rng, "2", "12", "0.5")
    price = plain(100 + rng.choice((-1, 1)) * away)
    got = bonds.bond_current_yield(Decimal(100), coupon / 100, price)
    side = "低于" if price > 100 else "高于"
    return dict(coupon=coupon, price=price, side=side, result=got)


def _early_withdrawal(rng: random.Random) -> dict:
    wan, years = rng.randint(1, 50), rng.choice((1, 2, 3, 5))
    rate, demand = (
        multiple(rng, "1.1", "3", "0.05"),
        multiple(rng, "0.05", "0.3", "0.05"),
    )
    days, principal = rng.randint(30, years * 360 - 10), Decimal(wan * 10_000)
    early = interest.simple_interest(
        principal, demand / 100, Decimal(days), "days"
    ).interest
    full = interest.simple_interest(principal, rate / 100, Decimal(years)).interest
    inputs = dict(wan=wan, principal=principal, years=years, rate=rate, demand=demand)
    return inputs | dict(days=days, early=early, full=full, result=full - early)


def _simple_or_compound(rng: random.Random) -> dict:
    wan, years = rng.randint(1, 100), rng.randint(2, 10)
    rate, principal = multiple(rng, "1.5", "6", "0.1"), Decimal(wan * 10_000)
    simple = interest.simple_interest(principal, rate / 100, Decimal(years)).interest
    compound = interest.compound_interest(
        principal, rate / 100, Decimal(years)
    ).interest
    inputs = dict(wan=wan, principal=principal, years=years, rate=rate)
    return inputs | dict(simple=simple, compound=compound, result=compound - simple)


def _income_tax(rng: random.Random) -> dict:
    income = rng.choice((rng.randrange(160, 400), rng.randrange(400, 1500))) * 1000
    social = min(80_000, round(income * rng.choice((12, 15, 18)) // 100, -2))  # capped
    extra = rng.choice((12_000, 18_000, 24_000, 36_000, 48_000))
    taxable = income - 60_000 - social - extra
    _, percent, quick = next(b for b in TAX_BRACKETS if taxable <= b[0])
    tax = round_half_up(Decimal(taxable * percent) / 100 - quick)
    inputs = dict(income=income, social=social, extra=extra, taxable=taxable)
    return inputs | dict(percent=percent, quick=quick, result=tax)


def _redemption(rng: random.Random) -> dict:
    fees = rng.choice(REDEMPTION_FEES)
    shares, nav = rng.randint(10, 500) * 100, scaled(rng, 7000, 30_000, 4)
    days = rng.choice((rng.randint(1, 29), rng.randint(30, 200), rng.randint(201, 900)))
    percent = next(Decimal(p) for limit, p in fees if days < limit)
    gross = round_half_up(shares * nav)
    fee = round_half_up(gross * percent / 100)
    tiers = [f"不满{fees[0][0]}天{fees[0][1]}%"]
    for (low, _), (high, p) in zip(fees, fees[1:], strict=False):
        tiers.append(f"满{low}天不满{high}天{p}%" if p != "0" else f"满{low}天免收")
    inputs = dict(tiers="，".join(tiers), shares=shares, nav=nav, days=days)
    return inputs | dict(percent=percent, gross=gross, fee=fee, result=gross - fee)


def _vat_payable(rng: random.Random) -> dict:
    out, into = rng.choice(((13, 13), (13, 9), (13, 6), (9, 9), (9, 6), (6, 6)))
    sales = rng.randrange(200, 3000) * 1000
    cost = round(sales * rng.randint(30, 85) // 100, -3)
    output, paid = Decimal(sales * out).scaleb(-2), Decimal(cost * into).scaleb(-2)
    inputs = dict(sales=sales, out=out, cost=cost, into=into)
    return inputs | dict(output=output, input=paid, result=output - paid)


def _stock_sale(rng: random.Random) -> dict:
    shares, price = rng.randint(1, 80) * 100, Decimal(rng.randint(300, 6000)).scaleb(-2)
    gross, points = round_half_up(shares * price), rng.choice(("1", "1.5", "2.5", "3"))
    fee = max(Decimal("5.00"), round_half_up(gross * Decimal(points) / 10_000))
    stamp = round_half_up(gross * 5 / 10_000)
    inputs = dict(shares=shares, price=price, points=points, gross=gross)
    return inputs | dict(stamp=stamp, fee=fee, result=gross - stamp - fee)


def _vintage(rng: random.Random) -> dict:
    first, number, rows = rng.randint(1, 9), rng.choice((3, 4)), []
    for i, share in enumerate(rng.sample(range(6, 42), number)):
        lent = rng.randrange(800, 6000, 100)
        rows.append((f"{first + i}月", lent, Decimal(lent * share // 100).scaleb(-1)))
    rates = {name: round_half_up(late / lent * 100) for name, lent, late in rows}
    table = markdown_table(("放款月", "放款额（万元）", "逾期余额（万元）"), *rows)
    shown = "，".join(f"{name} {rate}%" for name, rate in rates.items())
    worst = max(rates, key=rates.get)
    return dict(table=table, rates=shown, worst=worst, result=rates[worst])


def _fx_spread(rng: random.Random) -> dict:
    unit = rng.choice(sorted(QUOTES))
    bid = scaled(rng, *QUOTES[unit], 2)
    offer = round_half_up(bid * multiple(rng, "1.003", "1.009", "0.0005"))
    total = rng.randrange(1, 51) * 1000
    paid, back = (round_half_up(total * p / 100) for p in (offer, bid))
    inputs = dict(unit=unit, bid=bid, offer=offer, sum=total)
    return inputs | dict(paid=paid, back=back, result=paid - back)


def _money_fund(rng: random.Random) -> dict:
    start = rng.randint(3200, 6500)
    daily = [scaled(rng, start - 150, start + 150, 4) for _ in range(7)]
    got = round_half_up(sum(daily) / 7 * 365 / 100, 3)
    return dict(yields="、".join(map(str, daily)), sum=sum(daily), result=got)


def _capital_adequacy(rng: random.Random) -> dict:
    assets = rng.randrange(2000, 30_000, 100)
    spans = ((60, 100), (5, 15), (10, 25))  # per mille of the assets
    core, other, second = (assets * rng.randint(*span) // 1000 for span in spans)
    got = Decimal(core + other + second) / assets * 100
    met = "达到" if got >= Decimal("10.5") else "未达到"
    inputs = dict(core=core, other=other, second=second, assets=assets)
    return inputs | dict(met=met, result=round_half_up(got))


FORMULAS: dict[str, Maker] = makers(
    (
        _mortgage, _prepayment, _instalment, _savings_plan, _present_value, _bond_price,
        _current_yield, _redemption, _early_withdrawal, _simple_or_compound,
        _income_tax, _vat_payable, _stock_sale, _fx_spread, _money_fund, _vintage,
        _capital_adequacy,
    ),
    WORDINGS,
) | RISK_FORMULAS  # fmt: skip
"""By name: a maker that draws a question, its answer and its key."""


def formulas(texts: FinanceTexts, rng: random.Random) -> Iterator[Instruction]:
    """A product question -> the worked step and the figure, problem by problem.

    Never ends; ``texts`` is not used. The same ``rng`` gives the same items.
    """
    for number, (name, make) in enumerate(cycle(FORMULAS.items())):
        source, made = f"computed-{name}-{number}", make(rng)
        yield one_turn("formula", "finance", source, *made[:2])
