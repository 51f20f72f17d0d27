"""Eight problems of risk and leverage with worked steps, for ``tasks_formulas``.

Scorecards (KS, PSI), a bond's dirty price, leverage of a firm, a fund and a margin
account, expected credit loss. ``finllm_utils.finance`` has no calculator for them: the
``*_figures`` here work in Decimal. Each question states how to round (half up); a
figure that later steps use is used as it is shown, so a reader can follow by hand.
"""

import random
from decimal import Decimal

from finllm_utils.data.formula_parts import (
    Maker,
    Wordings,
    makers,
    markdown_table,
    multiple,
    parse_wordings,
    plain,
    scaled,
)
from finllm_utils.finance.conventions import exact, round_half_up

PSI_LINES = Decimal("0.1"), Decimal("0.25")
"""Below the first a distribution is stable, above the second it has clearly moved."""
FUND_LIMIT = 140
"""Percent of net assets that an open-ended fund lets its total assets reach."""
MARGIN_LINES = (("平仓线", 130), ("预警线", 140), ("预警线", 150))
"""Usual lines of a margin contract, in percent; the exchanges' rules set none."""
RISK_TEXTS = """
# ks
Q 评分卡上线前做验收，验证样本的好坏客户分布如下。从最低分段开始累计，KS是多少，落在哪一
段？累计占比化成百分数，四舍五入到两位小数后再相减。{table}
Q {table}以上是新版消费贷评分在跨期样本上的表现。由低分到高分累计好、坏客户占比（百分
数，四舍五入到两位小数），两者在哪个分数段差距最大，KS值是多少？
Q 想拿好坏客户拉开最远的位置给准入分数线作参考。下表分数低的在前，请逐段累计，指出差距最
大的分数段和KS；占比一律先化成百分数、保留两位小数。{table}
Q 监管检查要看季度模型报告，KS一栏还空着，这是本季表现期满的样本：{table}请由低分段起累
计计算（占比为百分数，保留两位小数，再求差），并写明在哪一段取到。
A 好客户共 {goods} 人、坏客户共 {bads} 人，从低分段起累计：{steps}差距最大的分数段是“
{band}”，KS = {result}%。
# psi
Q 下表是评分卡建模时和本月进件的分数分布，请算PSI并判断分布稳不稳定：低于0.1为稳定，0.1
至0.25需关注，高于0.25为明显偏移。用自然对数，对数和各段贡献都取四位小数。{table}
Q 上个月新开了线上渠道，通过率随后变了，怀疑进来的客群和建模时不同。请用PSI验证（0.1以下
稳定，0.25以上明显偏移，中间需关注；自然对数及各段贡献四舍五入到四位小数）：{table}
Q {table}催收评分用了一年，要不要重新训练？先看分布漂移：逐段算PSI，自然对数值与每段结果
各保留四位小数，再按“不足0.1稳定、0.1到0.25关注、超过0.25明显偏移”下结论。
A 各段贡献 = (当前占比 - 基准占比) × ln(当前占比 ÷ 基准占比)：{steps}合计 PSI =
 {result}，{verdict}。
# dirty_price
Q 从交易对手买入一只债券，券面总额{face}万元，每百元净价{clean}元，票面利率{coupon}%，
{terms}，上次付息到结算日{days}天。每百元全价和结算金额各是多少？每百元应计利息四舍五入
到四位小数。
Q 屏幕上报的百元净价明明是{clean}元，我们的产品按这个价买{face}万元面值，清算单上的金额
却更大，差在哪里？该券票息{coupon}%，{terms}，距上次付息已{days}天，每百元应计利息取四位
小数。
Q 复核一笔现券成交：面值{face}万元，每百元净价{clean}元，票面利率{coupon}%，{terms}，已
计息{days}天。请复算每百元应计利息（保留四位小数）、全价和应付资金。
A 每百元应计利息 = {accrual} = {accrued} 元（补给卖方）；全价 = {clean} + {accrued} =
 {dirty} 元；结算金额 = {par} ÷ 100 × {dirty} = {result} 元。
# debt_ratio
Q 公司总资产{assets}亿元，总负债{debts}亿元，资产负债率和权益乘数各是多少？前者为百分
数，都保留两位小数。
Q 贷前调查：借款企业负债合计{debts}亿元，所有者权益{equity}亿元。算一下资产负债率，再说
明每1元权益撑起多少元资产，结果取两位小数（资产负债率为百分数）。
Q 做杜邦分析要先有杠杆指标。年报显示资产合计{assets}亿元、股东权益{equity}亿元，求权益乘
数和资产负债率（百分数），均四舍五入到两位小数。
A 资产 {assets} = 负债 {debts} + 权益 {equity}（亿元）。资产负债率 = {debts} ÷ {assets}
 = {ratio}%；权益乘数 = {assets} ÷ {equity} = {result}，即每 1 元权益对应 {result} 元资
产。
# fund_leverage
Q 一只开放式债券基金净资产{net}亿元，正回购融资余额{repo}亿元，其他负债{other}亿元。总资
产相当于净资产的百分之多少（保留两位小数），突破140%的上限了吗，与上限差多少？
Q 基金合同约定总资产不得超过净资产的140%。今天大额赎回确认后净资产是{net}亿元，卖出回购
金融资产款{repo}亿元，其余负债{other}亿元，请报杠杆比例（百分数，两位小数）以及总资产距
上限的金额。
Q 我管的债基靠回购加杠杆：回购借入{repo}亿元，应付赎回款等其他负债{other}亿元，净资产
{net}亿元。总资产÷净资产是多少？按140%的合同上限，总资产还有余地还是已经超标，金额多少？
比例以百分数取两位小数。
A 总资产 = {net} + {repo} + {other} = {total} 亿元；总资产 ÷ 净资产 = {total} ÷ {net} =
 {result}%，{side} 140%。上限为 {net} × 140% = {cap} 亿元，总资产{room} {gap} 亿元。
# margin_ratio
Q 信用账户有现金{cash}元、证券市值{stocks}元，融资未还{loan}元，融券{shares}股、现价
{price}元，利息费用{interest}元。维持担保比例是多少（百分数，两位小数）？离{line}是有余
还是不足，金额多少？
Q 大盘连跌几天，客户问会不会被要求追保：现金{cash}元，担保证券市值{stocks}元，融资余额
{loan}元、已计利息费用{interest}元，另融券卖出{shares}股，该股现价{price}元，合同约定
{line}。请算维持担保比例（百分数保留两位小数）和离这条线的金额。
Q 两融盯市：融资负债{loan}元，融券{shares}股按{price}元计，息费{interest}元；资产端现金
{cash}元、股票{stocks}元。求维持担保比例（精确到0.01%，四舍五入），并对照{line}说明缺口
或安全垫。
A 融券市值 {shares} × {price} = {short} 元；维持担保比例 = ({cash} + {stocks}) ÷ ({loan}
 + {short} + {interest}) = {assets} ÷ {owed} = {result}%，{side}{line}；{room} {gap}
 元。
# expected_loss
Q 企业循环额度已用{drawn}万元、未用{undrawn}万元，未用部分的信用转换系数为{ccf}%。一年违
约概率{pd}%，违约损失率{lgd}%，预期损失是多少万元？保留两位小数。
Q 给一笔授信定价，先要知道风险成本：已提款{drawn}万元，未提款{undrawn}万元预计违约时会再
提{ccf}%，违约概率{pd}%，处置押品和追偿合计能收回敞口的{recovery}%。按PD×LGD×EAD计算，以
万元计、取两位小数。
Q 某信用卡客群透支余额{drawn}万元，未用额度{undrawn}万元，历史上违约前会动用其中的
{ccf}%；年违约率{pd}%，违约后收回{recovery}%。未来一年预计损失多少万元，四舍五入到两位小
数？
A EAD = {drawn} + {undrawn} × {ccf}% = {ead} 万元；LGD = {lgd}%（即回收率
 {recovery}%）；预期损失 EL = PD × LGD × EAD = {pd}% × {lgd}% × {ead} = {result} 万元。
# staged_loss
Q 按三阶段模型计提贷款损失准备，不考虑折现，各阶段先四舍五入到0.01万元再相加。合计要提多
少，哪个阶段最多？阶段一用12个月违约概率，其余用存续期违约概率。{table}
Q {table}这是年末贷款按《企业会计准则第22号》划分阶段的结果。请算各阶段的预期信用损失
（不折现，以万元取两位小数）再加总，并告诉财务总监准备主要压在哪个阶段。
Q 董事会问：阶段一的贷款占了绝大部分，减值准备为什么不是按这个比例分布的？请按三阶段模型
用下表逐段计算（不折现，以万元取两位小数），相加后指出最大的一块。{table}
A 阶段一用12个月违约概率，阶段二、三用存续期违约概率。{steps}；合计 {result} 万元，
{largest}最多。
"""
"""Per problem: questions (Q) and the answer (A); a line break is no part of them."""


def _bands(rng: random.Random, number: int) -> list[str]:
    first, step = rng.randrange(520, 621, 20), rng.choice((20, 30, 40, 50))
    edges = [first + step * i for i in range(number - 1)]
    middle = [f"{low}～{low + step - 1}" for low in edges[:-1]]
    return [f"低于{first}", *middle, f"{edges[-1]}及以上"]


def ks_figures(good: list[int], bad: list[int]) -> list[tuple]:
    """Per band, lowest score first: cumulated bad, good, their percents, the gap.

    Percents are rounded to 0.01 before they are subtracted; the largest gap is the KS.
    """
    rows = []
    for i in range(1, len(good) + 1):
        sums = sum(bad[:i]), sum(good[:i])
        with exact():
            shares = [
                round_half_up(Decimal(part) / sum(whole) * 100)
                for part, whole in zip(sums, (bad, good), strict=True)
            ]
        rows.append((*sums, *shares, shares[0] - shares[1]))
    return rows


def _ks(rng: random.Random) -> dict:
    number, good, bad = rng.choice((4, 5)), [], []
    bands, rate = _bands(rng, number), rng.randint(180, 320)  # per mille of the band
    for _ in bands:
        customers = rng.randint(300, 1500)
        bad.append(max(1, customers * rate // 1000))
        good.append(customers - bad[-1])
        rate = rate * rng.randint(30, 65) // 100
    rows = ks_figures(good, bad)
    first, second = sorted((row[-1] for row in rows), reverse=True)[:2]
    if first - second < Decimal("0.05"):
        return _ks(rng)  # rounding must not decide where the largest gap is
    goods, bads = sum(good), sum(bad)
    steps = markdown_table(
        ("分数段", "累计坏客户占比", "累计好客户占比", "差距（百分点）"),
        *(
            (band, f"{b} ÷ {bads} = {x}%", f"{g} ÷ {goods} = {y}%", gap)
            for band, (b, g, x, y, gap) in zip(bands, rows, strict=True)
        ),
    )
    counts = zip(bands, good, bad, strict=True)
    table = markdown_table(("分数段", "好客户", "坏客户"), *counts)
    worst = next(b for b, row in zip(bands, rows, strict=True) if row[-1] == first)
    shown = dict(table=table, goods=goods, bads=bads, steps=steps)
    return shown | dict(band=worst, result=first)


def psi_figures(base: list[int], now: list[int]) -> list[tuple[Decimal, Decimal]]:
    """Per band of two distributions in percent: ln(now / base) and its part of the PSI.

    Both are rounded to 0.0001, the part from the rounded logarithm; the parts' sum is
    the PSI. Shares must be above zero.
    """
    rows = []
    with exact():
        for before, after in zip(base, now, strict=True):
            log = round_half_up((Decimal(after) / before).ln(), 4)
            rows.append((log, round_half_up((after - before) * log / 100, 4)))
    return rows


def _psi(rng: random.Random) -> dict:
    number = rng.choice((4, 5))
    low, high = {4: (20, 29), 5: (15, 23)}[number]
    base = [rng.randint(low, high) for _ in range(number - 1)]
    base.append(100 - sum(base))
    now, most, downwards = list(base), rng.choice((2, 4, 9, 14)), rng.random() < 0.5
    for _ in range(number):  # customers move mostly one way
        to, source = sorted(rng.sample(range(number), 2), reverse=not downwards)
        moved = min(rng.randint(1, most), max(0, now[source] - base[source] * 2 // 5))
        now[source], now[to] = now[source] - moved, now[to] + moved
    rows, bands = psi_figures(base, now), _bands(rng, number)
    got = sum(part for _, part in rows)
    if now == base or min(abs(got - line) for line in PSI_LINES) < Decimal("0.002"):
        return _psi(rng)  # rounding must not decide the verdict
    verdict = "低于 0.1，分布稳定"
    if got > PSI_LINES[0]:
        verdict = "在 0.1 与 0.25 之间，分布有变化，需关注"
    if got > PSI_LINES[1]:
        verdict = "高于 0.25，分布明显偏移，应查明原因"
    shares = zip(bands, (f"{x}%" for x in base), (f"{x}%" for x in now), strict=True)
    steps = markdown_table(
        ("分数段", "当前 - 基准", "ln(当前 ÷ 基准)", "贡献"),
        *(
            (band, f"{after}% - {before}% = {after - before}%", log, part)
            for band, before, after, (log, part) in zip(
                bands, base, now, rows, strict=True
            )
        ),
    )
    table = markdown_table(("分数段", "基准占比", "当前占比"), *shares)
    return dict(table=table, steps=steps, verdict=verdict, result=got)


def price_figures(clean: Decimal, accrued: Decimal, face: int) -> dict:
    """Dirty price of 100 yuan of nominal, and the yuan paid for ``face`` x 10,000.

    ``accrued`` is rounded to 0.0001; with a clean price of four decimals the rest is
    exact.
    """
    accrued = round_half_up(accrued, 4)
    dirty, par = clean + accrued, face * 10_000
    paid = round_half_up(par // 100 * dirty)
    return dict(accrued=accrued, dirty=dirty, par=par, result=paid)


def _dirty_price(rng: random.Random) -> dict:
    coupon, face = multiple(rng, "1.5", "4.5", "0.05"), rng.randrange(500, 20_001, 500)
    clean = scaled(rng, 970_000, 1_045_000, 4)
    if rng.random() < 0.5:
        period, yearly = 365, 1
        terms = "每年付息一次，应计利息按实际天数/365计算"
    else:
        period, yearly = rng.randint(181, 184), 2
        terms = f"每年付息两次，应计利息按实际天数/实际天数计算，本付息期{period}天"
    days = rng.randint(5, period - 3)
    with exact():
        accrued = coupon / yearly * days / period
    half = " ÷ 2" if yearly == 2 else ""
    inputs = dict(face=face, clean=clean, coupon=coupon, terms=terms, days=days)
    accrual = f"{coupon}{half} × {days} ÷ {period}"
    return inputs | dict(accrual=accrual) | price_figures(clean, accrued, face)


def debt_figures(assets: Decimal, debts: Decimal) -> dict:
    """Equity, debt ratio in percent and equity multiplier (assets / equity)."""
    with exact():
        equity = assets - debts
        ratio, times = debts / assets * 100, assets / equity
    rounded = dict(ratio=round_half_up(ratio), result=round_half_up(times))
    return dict(equity=plain(equity)) | rounded


def _debt_ratio(rng: random.Random) -> dict:
    assets = multiple(rng, "5", "900", "0.1")
    debts = plain(round_half_up(assets * rng.randint(2500, 8500) / 10_000, 1))
    return dict(assets=assets, debts=debts) | debt_figures(assets, debts)


def fund_figures(net: Decimal, repo: Decimal, other: Decimal) -> dict:
    """Total over net assets in percent, and the gap to ``FUND_LIMIT`` in the same unit.

    ``net`` has one decimal at most, so the limit in two decimals is exact.
    """
    total = net + repo + other
    with exact():
        ratio, cap = total / net * 100, round_half_up(net * FUND_LIMIT / 100)
    side, room = "未超过", f"离上限还有 {cap} - {total} ="
    if total > cap:
        side, room = "超过", f"已超出 {total} - {cap} ="
    found = dict(total=total, cap=cap, side=side, room=room, gap=abs(cap - total))
    return found | dict(result=round_half_up(ratio))


def _fund_leverage(rng: random.Random) -> dict:
    net = multiple(rng, "2", "120", "0.1")
    low, high, most = rng.choice(((50, 340, 20), (200, 380, 20), (370, 400, 60)))
    repo = round_half_up(net * rng.randint(low, high) / 1000)
    other = round_half_up(net * rng.randint(2, most) / 1000)
    return dict(net=net, repo=repo, other=other) | fund_figures(net, repo, other)


def margin_figures(assets: int, owed: int, percent: int) -> dict:
    """Collateral over debt in percent, and the yuan between it and a line."""
    with exact():
        ratio, need = Decimal(assets) / owed * 100, Decimal(owed) * percent / 100
    side = "高于"
    room = f"负债不变时担保资产还可减少 {assets} - {owed} × {percent}% ="
    if assets < need:
        side, room = "低于", f"补到该线要追加现金 {owed} × {percent}% - {assets} ="
    gap = round_half_up(abs(assets - need))
    found = dict(assets=assets, owed=owed, side=side, room=room, gap=gap)
    return found | dict(result=round_half_up(ratio))


def _margin_ratio(rng: random.Random) -> dict:
    loan, cash = rng.randrange(200_000, 3_000_001, 10_000), rng.randint(10, 1500) * 100
    shares, price = rng.randint(10, 200) * 100, scaled(rng, 500, 4000, 2)
    short, interest = int(shares * price), loan * rng.randint(3, 30) // 1000
    stocks = (loan + short) * rng.randint(105, 200) // 100
    (name, percent), owed = rng.choice(MARGIN_LINES), loan + short + interest
    inputs = dict(cash=cash, stocks=stocks, loan=loan, shares=shares, price=price)
    inputs |= dict(interest=interest, line=f"{name}{percent}%", short=short)
    return inputs | margin_figures(cash + stocks, owed, percent)


def loss_figures(
    drawn: int, undrawn: int, ccf: int, pd: Decimal, lgd: Decimal
) -> dict[str, Decimal]:
    """Exposure at default and expected loss; ccf, pd and lgd in percent."""
    with exact():
        ead = drawn + Decimal(undrawn) * ccf / 100
        loss = ead * pd * lgd / 10_000
    return dict(ead=plain(ead), result=round_half_up(loss))


def _expected_loss(rng: random.Random) -> dict:
    drawn, undrawn = rng.randrange(200, 9001, 50), rng.randrange(100, 4001, 50)
    ccf, lgd = rng.choice((10, 20, 40, 50, 75)), rng.randrange(40, 81, 5)
    pd = multiple(rng, "0.3", "6", "0.1")
    inputs = dict(drawn=drawn, undrawn=undrawn, ccf=ccf, pd=pd, lgd=lgd)
    return inputs | dict(recovery=100 - lgd) | loss_figures(**inputs)


def _staged_loss(rng: random.Random) -> dict:
    first = rng.randrange(8000, 60_001, 100)
    later = [first * rng.randint(*span) // 1000 for span in ((30, 100), (4, 20))]
    year = multiple(rng, "0.4", "2", "0.1"), multiple(rng, "3", "9", "0.5"), 100
    ends = plain(year[0] * rng.choice((2, 3, 4))), rng.randint(12, 32), 100
    lgd = rng.randrange(25, 56, 5)
    sizes, lgds = (first, *later), (lgd, lgd, lgd + rng.randrange(5, 26, 5))
    used = (year[0], *ends[1:])  # 12 months in stage 1, the whole life after it
    lost = [
        loss_figures(size, 0, 0, pd, share)["result"]
        for size, pd, share in zip(sizes, used, lgds, strict=True)
    ]
    if lost.count(max(lost)) > 1:
        return _staged_loss(rng)
    names = ("阶段一", "阶段二", "阶段三")
    heads = "阶段", "敞口（万元）", "12个月违约概率", "存续期违约概率", "违约损失率"
    rates = ([f"{x}%" for x in column] for column in (year, ends, lgds))
    table = markdown_table(heads, *zip(names, sizes, *rates, strict=True))
    steps = "，".join(
        f"{name} {size} × {pd}% × {share}% = {part} 万元"
        for name, size, pd, share, part in zip(
            names, sizes, used, lgds, lost, strict=True
        )
    )
    largest = names[lost.index(max(lost))]
    return dict(table=table, steps=steps, largest=largest, result=sum(lost))


RISK_WORDINGS: Wordings = parse_wordings(RISK_TEXTS)
RISK_FORMULAS: dict[str, Maker] = makers(
    (
        _ks, _psi, _dirty_price, _debt_ratio, _fund_leverage, _margin_ratio,
        _expected_loss, _staged_loss,
    ),
    RISK_WORDINGS,
)  # fmt: skip
"""By name: a maker that draws a question, its answer and its key."""
