"""The risk problems worked out from what their questions give, with Fractions.

Each function takes the slots of a question, text as read from it, and returns the slots
of the answer. Nothing here comes from the generator.
"""

import math
import re
from fractions import Fraction as F

from tests.data.test_tasks_formulas import half_up, short


def read(template, text):
    """The slots of ``text`` by name, or None where it does not follow the template."""
    pattern, seen = "", set()
    for i, part in enumerate(re.split(r"{(\w+)}", template)):
        if i % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += f"(?P={part})" if part in seen else f"(?P<{part}>.+?)"
            seen.add(part)
    found = re.fullmatch(pattern, text, re.DOTALL)
    return found and found.groupdict()


def table_text(*rows):
    return "\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def cells(table):
    """The rows of a Markdown table without its two heading lines."""
    rows = [line.strip("|").split("|") for line in table.strip().split("\n")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def percent(value):
    return half_up(value * 100)


def ks(k):
    rows = [(band, int(good), int(bad)) for band, good, bad in cells(k["table"])]
    goods, bads = sum(row[1] for row in rows), sum(row[2] for row in rows)
    heads = ["分数段", "累计坏客户占比", "累计好客户占比", "差距（百分点）"]
    lines, gaps, good, bad = [heads, ["---"] * 4], {}, 0, 0
    for band, more_good, more_bad in rows:
        good, bad = good + more_good, bad + more_bad
        left, right = percent(F(bad, bads)), percent(F(good, goods))
        gaps[band] = F(left) - F(right)
        shares = f"{bad} ÷ {bads} = {left}%", f"{good} ÷ {goods} = {right}%"
        lines.append([band, *shares, half_up(gaps[band])])
    worst = max(gaps, key=gaps.get)
    assert sorted(gaps.values())[-2] < gaps[worst], "two bands share the largest gap"
    return {
        "goods": str(goods),
        "bads": str(bads),
        "steps": table_text(*lines),
        "band": worst,
        "result": half_up(gaps[worst]),
    }


def psi(k):
    """The logarithm is a float's; the parts are added as they are shown."""
    rows = [
        (band, int(base.strip("%")), int(now.strip("%")))
        for band, base, now in cells(k["table"])
    ]
    assert sum(row[1] for row in rows) == sum(row[2] for row in rows) == 100
    heads = ["分数段", "当前 - 基准", "ln(当前 ÷ 基准)", "贡献"]
    lines, total = [heads, ["---"] * 4], F(0)
    for band, base, now in rows:
        log = half_up(F(math.log(now / base)), 4)
        part = half_up(F(now - base, 100) * F(log), 4)
        total += F(part)
        lines.append([band, f"{now}% - {base}% = {now - base}%", log, part])
    exact = sum((now - base) / 100 * math.log(now / base) for _, base, now in rows)
    assert abs(float(total) - exact) < 5e-4
    verdict = "高于 0.25，分布明显偏移，应查明原因"
    if exact < 0.25:
        verdict = "在 0.1 与 0.25 之间，分布有变化，需关注"
    if exact < 0.1:
        verdict = "低于 0.1，分布稳定"
    return {
        "steps": table_text(*lines),
        "verdict": verdict,
        "result": half_up(total, 4),
    }


def dirty_price(k):
    """Interest of the coupon period by its share of days, as the question counts."""
    coupon, days = F(k["coupon"]), int(k["days"])
    if "实际天数/365" in k["terms"]:
        assert "每年付息一次" in k["terms"]
        accrued, text = coupon * days / 365, f"{k['coupon']} × {days} ÷ 365"
    else:
        assert "每年付息两次" in k["terms"] and "实际天数/实际天数" in k["terms"]
        period = int(re.search(r"本付息期(\d+)天", k["terms"])[1])
        assert days < period
        accrued = coupon / 2 * F(days, period)
        text = f"{k['coupon']} ÷ 2 × {days} ÷ {period}"
    accrued = half_up(accrued, 4)
    dirty = half_up(F(k["clean"]) + F(accrued), 4)
    return {
        "accrual": text,
        "accrued": accrued,
        "dirty": dirty,
        "par": k["face"] + "0000",
        "result": half_up(int(k["face"]) * 100 * F(dirty)),
    }


def debt_ratio(k):
    """Any two of assets, debts and equity give the third."""
    if "assets" not in k:
        k = k | {"assets": short(F(k["debts"]) + F(k["equity"]))}
    if "debts" not in k:
        k = k | {"debts": short(F(k["assets"]) - F(k["equity"]))}
    assets, debts = F(k["assets"]), F(k["debts"])
    times = 1 / (1 - debts / assets)
    equity = short(assets - debts)
    ratio = percent(debts / assets)
    return k | {"equity": equity, "ratio": ratio, "result": half_up(times)}


def fund_leverage(k):
    net, owed = F(k["net"]), F(k["repo"]) + F(k["other"])
    total, cap = half_up(net + owed), half_up(net * F("1.4"))
    over = owed - net * F("0.4")
    side, room = "未超过", f"离上限还有 {cap} - {total} ="
    if over > 0:
        side, room = "超过", f"已超出 {total} - {cap} ="
    return {
        "total": total,
        "cap": cap,
        "side": side,
        "room": room,
        "gap": half_up(abs(over)),
        "result": percent(1 + owed / net),
    }


def margin_ratio(k):
    line = int(re.fullmatch(r"(?:平仓|预警)线(\d+)%", k["line"])[1])
    short_value = F(k["shares"]) * F(k["price"])
    assets = int(k["cash"]) + int(k["stocks"])
    owed = int(k["loan"]) + int(k["interest"]) + short_value
    gap = assets - owed * line / 100
    side, room = "高于", f"负债不变时担保资产还可减少 {assets} - {owed} × {line}% ="
    if gap < 0:
        side, room = "低于", f"补到该线要追加现金 {owed} × {line}% - {assets} ="
    return {
        "short": short(short_value),
        "assets": str(assets),
        "owed": short(owed),
        "side": side,
        "room": room,
        "gap": half_up(abs(gap)),
        "result": percent(assets / owed),
    }


def expected_loss(k):
    lgd = F(k["lgd"]) if "lgd" in k else 100 - F(k["recovery"])
    ead = F(k["drawn"]) + F(k["undrawn"]) * F(k["ccf"]) / 100
    lost = ead * F(k["pd"]) / 100 * lgd / 100
    return {
        "ead": short(ead),
        "lgd": short(lgd),
        "recovery": short(100 - lgd),
        "result": half_up(lost),
    }


def staged_loss(k):
    parts, lost = [], {}
    for name, size, year, life, lgd in cells(k["table"]):
        pd = year if name == "阶段一" else life
        part = half_up(F(size) * F(pd.strip("%")) * F(lgd.strip("%")) / 10_000)
        lost[name] = F(part)
        parts.append(f"{name} {size} × {pd} × {lgd} = {part} 万元")
    largest = max(lost, key=lost.get)
    assert sorted(lost.values())[-2] < lost[largest]
    total = half_up(sum(lost.values()))
    return {"steps": "，".join(parts), "largest": largest, "result": total}


AGAIN = {
    "ks": ks,
    "psi": psi,
    "dirty_price": dirty_price,
    "debt_ratio": debt_ratio,
    "fund_leverage": fund_leverage,
    "margin_ratio": margin_ratio,
    "expected_loss": expected_loss,
    "staged_loss": staged_loss,
}
