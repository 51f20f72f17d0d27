"""Dialogues with tools: system, question, a call in JSON, the tool's result, an answer.

The tools are the hub's: a name, a pydantic schema and code, handed in by the caller
(``hub.calculators.calculator_tools()``), since the data layer stands below the hub.
Every call passes its schema and every result comes from really running the tool.
"""

import datetime as dt
import json
import random
from collections.abc import Mapping
from decimal import Decimal
from itertools import cycle
from typing import Any, NamedTuple

from finllm_utils.data.tasks_finance import FinanceTexts, Task
from finllm_utils.data.wordings import Source, chinese_number, fill
from finllm_utils.records import ChatTurn, Instruction

ASK_BACK_SHARE = 1 / 6
"""Share of dialogues in which an argument is missing at first."""
OTHER_TOOLS = 3
"""Tools that the system turn lists beside the right one."""
TEXTS = """
# loan_equal_payment 等额本息的月供、利息总额、还款总额
W monthly_payment=每月还多少 total_interest=利息一共多少 total_repaid=本息总共要还多少
Q 贷款{wan}万元，年利率{rate}%，等额本息{years}年，{what}？
Q 我打算按揭{wan}万元，分{months}期等额本息还，利率{rate}%。{what}？
Q 客户问：借{wan}万元，{years}年等额本息，年利率{rate}%，{what}？
G 年利率 | 贷款{wan}万元，等额本息{years}年还清，{what}？ | 年利率{rate}%。
G 贷款期限 | 想借{wan}万元，等额本息，年利率{rate}%，{what}？ | 分{months}个月还。
G 贷款金额 | 利率{rate}%，{years}年等额本息，{what}？ | 贷{wan}万元。
# loan_equal_principal 等额本金的首月、末月、第几个月还款和利息总额
W first_payment=第一个月还多少 last_payment=最后一个月还多少 kth_payment=第{k}个月还多少
W monthly_decrease=月供每月递减多少 total_interest=利息总额是多少
Q 等额本金贷{wan}万元，{months}个月，年利率{rate}%，{what}？
Q 如果选等额本金，{wan}万元、年利率{rate}%、{years}年，{what}？
Q 帮我算等额本金：本金{wan}万元，期限{years}年，年利率{rate}%，{what}？
G 年利率 | 等额本金贷{wan}万元，{months}个月还清，{what}？ | 按年利率{rate}%算。
G 贷款期限 | 等额本金，{wan}万元，利率{rate}%，{what}？ | {years}年。
# simple_interest 单利或定期存款的利息、本息
W interest=利息是多少 total=本息一共多少
Q {wan}万元存{term}，年利率{rate}%，单利，到期{what}？
Q 借出{wan}万元，约定年利率{rate}%、单利、{term}后还，{what}？
Q 存单：本金{wan}万元，{term}定期，年利率{rate}%。到期{what}？
G 年利率 | {wan}万元存{term}定期，到期{what}？ | 年利率{rate}%，单利。
G 存期 | {wan}万元存定期，年利率{rate}%，到期{what}？ | 存{term}。
# compound_interest 复利的利息、本息
W total=本息共多少 interest=利息有多少
Q {wan}万元，年利率{rate}%，{per}复利一次，{years}年后{what}？
Q 收益滚存的产品：本金{wan}万元，年化{rate}%，{per}计复利，放{years}年，{what}？
Q 请按复利算：{wan}万元投{years}年，年利率{rate}%，{per}结息，{what}？
G 年利率 | {wan}万元{per}复利，{years}年后{what}？ | 年利率{rate}%。
G 年数 | {wan}万元，年利率{rate}%，{per}复利，到期{what}？ | 放{years}年。
# annuity_future_value 每期存一笔，到期共多少（年金终值）
W total=本息共多少 interest=收益有多少
Q 每月{when}存{payment}元，月利率{rate}%，连存{periods}个月，{what}？
Q 零存计划：{periods}期，每期{when}{payment}元，每期利率{rate}%，到期{what}？
Q 坚持{periods}个月、每月{when}投{payment}元，按月利率{rate}%计，{what}？
G 月利率 | 每月{when}存{payment}元，存{periods}个月，{what}？ | 月利率{rate}%。
G 期数 | 每月{when}存{payment}元，月利率{rate}%，{what}？ | 存{periods}个月。
# present_value 未来一笔钱今天值多少（现值）
Q {years}年后的{wan}万元，按年折现率{rate}%，现在值多少？
Q 想在{years}年后拿到{wan}万元，年收益率{rate}%，今天要投多少？
Q 求现值：{years}年后收到{wan}万元，折现率{rate}%。
G 折现率 | {years}年后的{wan}万元，现在值多少？ | 折现率{rate}%。
G 年数 | 以后能收到{wan}万元，折现率{rate}%，现值多少？ | {years}年后收到。
# fund_subscription 外扣法申购基金的份额、手续费、净申购金额
W shares=能确认多少份 fee=手续费多少 net_amount=净申购金额多少
Q {amount}元申购基金，申购费率{fee}%，净值{nav}元，外扣法，{what}？
Q 我投{amount}元买一只净值{nav}元的基金，申购费率{fee}%，{what}？
Q 申购确认怎么算：金额{amount}元，费率{fee}%，单位净值{nav}元，{what}？
G 申购费率 | {amount}元申购净值{nav}元的基金，{what}？ | 费率{fee}%。
G 申购金额 | 基金净值{nav}元，申购费率{fee}%，{what}？ | 申购{amount}元。
# bond_current_yield 债券当期收益率
Q 面值100元、票面利率{coupon}%的债券，市价{price}元，当期收益率多少？
Q 债券每百元面值报{price}元，票息{coupon}%，当期收益率怎么样？
Q 请算当期收益率：面值100元，票面利率{coupon}%，买入价{price}元。
G 市价 | 面值100元、票面利率{coupon}%的债券，当期收益率多少？ | 现在{price}元。
G 票面利率 | 面值100元的债券卖{price}元，当期收益率多少？ | 票面利率{coupon}%。
# holding_return 持有期收益率
Q {buy}元买入、{sell}元卖出，期间分红{income}元，持有期收益率多少？
Q 我的股票成本{buy}元，卖了{sell}元，还拿到股息{income}元，一共赚了百分之几？
Q 持有期收益率：买入{buy}元，卖出{sell}元，利息收入{income}元。
G 卖出价 | 我{buy}元买的，分红{income}元，持有期收益率多少？ | 卖了{sell}元。
G 买入价 | 卖了{sell}元，分红{income}元，收益率是多少？ | 买入花了{buy}元。
# vat_split 含税价拆成不含税金额和税额
W net=不含税金额多少 tax=税额多少
Q 发票价税合计{gross}元，税率{rate}%，{what}？
Q 含税收入{gross}元，增值税税率{rate}%，价税分离后{what}？
Q 报销单含税{gross}元，按{rate}%拆分，{what}？
G 税率 | 发票价税合计{gross}元，{what}？ | 税率{rate}%。
# fx_rate 某一天两种货币的汇率
Q {day}，1{base}兑多少{quote}？
Q 查{day}{base}对{quote}的汇率。
Q {day}那天{base}换{quote}是什么价？
G 目标币种 | {day}，1{base}能兑多少？ | 兑{quote}。
# fx_convert 按某一天的汇率换算金额
Q {amount}{base}按{day}的汇率能换多少{quote}？
Q {day}收到{amount}{base}，折合{quote}是多少？
Q 请把{amount}{base}折算成{quote}，用{day}的汇率。
G 目标币种 | {day}的{amount}{base}能换多少？ | 换成{quote}。
G 金额 | 按{day}的汇率，我的{base}能换多少{quote}？ | 有{amount}{base}。
# law_article 按法律名称和条号查原文
Q 查一下《{law}》{number}的原文。
Q 《{law}》{number}规定了什么？
Q 我要引用《{law}》{number}，请给出条文。
G 条号 | 查一下《{law}》的原文。 | {number}。
# calculate_growth 算式的精确结果
Q 营业收入从{a}亿元变为{b}亿元，变动百分之几？
Q 上期{a}亿元，本期{b}亿元，环比变动率是多少？
Q 不良余额由{a}亿元到{b}亿元，变化幅度是多少？
G 上期金额 | 本期收入{b}亿元，同比增长百分之几？ | 上期{a}亿元。
# calculate_fee 算式的精确结果
Q 账单{money}元分{months}期，每期手续费率{fee}%，手续费一共多少？
Q 分期{months}个月，本金{money}元，每期收{fee}%，总共要付多少手续费？
Q 手续费按每期{fee}%收，{money}元分{months}期，合计多少？
G 每期费率 | 账单{money}元分{months}期，手续费一共多少？ | 每期{fee}%。
# calculate_sum 算式的精确结果
Q 这几笔加起来多少：{a}元、{b}元、{c}元？
Q 三张发票分别是{a}元、{b}元和{c}元，合计多少？
Q 本月有三笔支出：{a}元、{b}元、{c}元，总数是多少？
"""
"""A case a block: its tool (``calculate_x`` is ``calculate``) and what that is for.

W: choices of ``ask`` and their words, the schema's default first. Q: questions. G: an
argument that is missing: its name, the question, and the user's reply.
"""
SYSTEMS = (
    "你是金融助手，可以调用下列工具。要用时只输出一行 JSON，写明 tool 和 arguments；"
    "缺参数先问，不猜数字。\n{tools}",
    "需要计算或查询时调用工具：只回一行 JSON，含 tool 与 arguments，利率写成小数。"
    "参数不全就追问。\n{tools}",
    "可用工具如下。先判断用哪个，再输出 JSON（tool、arguments）；信息不够时请用户补充。"
    "\n{tools}",
)
ASK_BACKS = (
    "还缺少{label}，请补充后我再算，我不会猜数字。",
    "要回答这个问题还需要{label}，请告诉我。",
    "您没有说明{label}，请补充。",
)
ANSWERS = (
    "{text}。来源：{source}。",
    "{text}。依据：{source}。",
    "{text}（来源：{source}）。",
)
PERIODS = {"每年": 1, "每半年": 2, "每季度": 4, "每月": 12}
CURRENCIES = {
    **{"CNY": "人民币", "USD": "美元", "EUR": "欧元", "GBP": "英镑", "JPY": "日元"},
    **{"HKD": "港元", "AUD": "澳元", "CAD": "加元", "CHF": "瑞士法郎"},
}
Drawn = tuple[dict[str, Any], dict[str, object]]
"""Arguments of the call (amounts as text, since a float is not exact), and slots."""


class Case(NamedTuple):
    """A block of ``TEXTS``. ``gaps``: (argument's name, question, reply)."""

    tool: str
    use: str
    words: list[list[str]]
    wordings: tuple[str, ...]
    gaps: list[list[str]]


def _case(block: str) -> tuple[str, Case]:
    head, *lines = block.strip().split("\n")
    name, use = head.split()
    kinds = {kind: [x[2:] for x in lines if x[0] == kind] for kind in "WQG"}
    words = [pair.split("=") for line in kinds["W"] for pair in line.split()]
    gaps = [line.split(" | ") for line in kinds["G"]]
    tool = "calculate" if name.startswith("calculate") else name
    return name, Case(tool, use, words, tuple(kinds["Q"]), gaps)


_CASES = dict(_case(block) for block in TEXTS.split("\n# ")[1:])


def _number(rng: random.Random, low: int, high: int, places: int) -> Decimal:
    """From low to high in units of the last decimal, without closing zeros."""
    value = Decimal(rng.randint(low, high)).scaleb(-places).normalize()
    return Decimal(format(value, "f"))


def _fraction(percent: Decimal) -> str:
    return format((percent / 100).normalize(), "f")


def _what(tool: str, rng: random.Random, **slots: object) -> tuple[dict, str]:
    """A choice of ``ask`` as arguments (the default is left out), and its words."""
    ask, words = rng.choice(_CASES[tool].words)
    for name, value in slots.items():
        words = words.replace("{" + name + "}", str(value))
    return {} if ask == _CASES[tool].words[0][0] else {"ask": ask}, words


def _loan_equal_payment(rng: random.Random) -> Drawn:
    wan, years, rate = (
        rng.randint(20, 400),
        rng.randint(2, 30),
        _number(rng, 250, 620, 2),
    )
    ask, what = _what("loan_equal_payment", rng)
    slots = dict(wan=wan, years=years, months=years * 12, rate=rate, what=what)
    call = dict(principal=f"{wan}0000", annual_rate=_fraction(rate), months=years * 12)
    return call | ask, slots


def _loan_equal_principal(rng: random.Random) -> Drawn:
    call, slots = _loan_equal_payment(rng)
    call.pop("ask", None)
    k = rng.randint(2, call["months"] - 1)
    ask, slots["what"] = _what("loan_equal_principal", rng, k=k)
    return call | ask | ({"k": k} if ask.get("ask") == "kth_payment" else {}), slots


def _simple_interest(rng: random.Random) -> Drawn:
    wan, rate = rng.randint(1, 90), _number(rng, 50, 480, 2)
    units = (("years", "年", 5), ("months", "个月", 36), ("days", "天", 300))
    unit, word, most = rng.choice(units)
    term, (ask, what) = rng.randint(1, most), _what("simple_interest", rng)
    call = dict(principal=f"{wan}0000", annual_rate=_fraction(rate), term=str(term))
    slots = dict(wan=wan, rate=rate, term=f"{term}{word}", what=what)
    return call | {"unit": unit} | ask, slots


def _compound_interest(rng: random.Random) -> Drawn:
    wan, years, rate = rng.randint(1, 90), rng.randint(2, 12), _number(rng, 120, 600, 2)
    per, (ask, what) = rng.choice(list(PERIODS)), _what("compound_interest", rng)
    call = dict(principal=f"{wan}0000", annual_rate=_fraction(rate), years=str(years))
    call |= {"periods_per_year": PERIODS[per]} if PERIODS[per] > 1 else {}
    return call | ask, dict(wan=wan, years=years, rate=rate, per=per, what=what)


def _annuity_future_value(rng: random.Random) -> Drawn:
    payment, periods = rng.randrange(200, 6001, 100), rng.randrange(12, 241, 6)
    rate, due = _number(rng, 10, 60, 2), rng.random() < 0.5
    ask, what = _what("annuity_future_value", rng)
    call = dict(payment=str(payment), rate_per_period=_fraction(rate), periods=periods)
    slots = dict(payment=payment, periods=periods, rate=rate, what=what)
    call, slots["when"] = (call | {"due": True}, "初") if due else (call, "末")
    return call | ask, slots


def _present_value(rng: random.Random) -> Drawn:
    wan, years, rate = (
        rng.randint(2, 300),
        rng.randint(2, 20),
        _number(rng, 100, 600, 2),
    )
    call = dict(future=f"{wan}0000", annual_rate=_fraction(rate), years=str(years))
    return call, dict(wan=wan, years=years, rate=rate)


def _fund_subscription(rng: random.Random) -> Drawn:
    amount, nav = rng.randrange(1000, 200_001, 500), _number(rng, 7001, 29_999, 4)
    fee, (ask, what) = _number(rng, 6, 15, 1), _what("fund_subscription", rng)
    call = dict(amount=str(amount), fee_rate=_fraction(fee), nav=str(nav))
    return call | ask, dict(amount=amount, fee=fee, nav=nav, what=what)


def _bond_current_yield(rng: random.Random) -> Drawn:
    coupon, price = _number(rng, 150, 560, 2), _number(rng, 8801, 11_300, 2)
    call = dict(face="100", coupon_rate=_fraction(coupon), price=str(price))
    return call, dict(coupon=coupon, price=price)


def _holding_return(rng: random.Random) -> Drawn:
    buy = rng.randrange(2000, 90_001, 100)
    sell, income = buy * rng.randint(70, 140) // 100, buy * rng.randint(1, 5) // 100
    values = dict(buy=buy, sell=sell, income=income)
    return {name: str(value) for name, value in values.items()}, values


def _vat_split(rng: random.Random) -> Drawn:
    gross, rate = _number(rng, 10_000, 9_000_000, 2), rng.choice((3, 6, 9, 13))
    ask, what = _what("vat_split", rng)
    call = dict(gross=str(gross), rate=_fraction(Decimal(rate))) | ask
    return call, dict(gross=gross, rate=rate, what=what)


def _fx_rate(rng: random.Random) -> Drawn:
    day = dt.date(2012, 1, 4) + dt.timedelta(days=rng.randrange(4500))
    (base, first), (quote, second) = rng.sample(list(CURRENCIES.items()), 2)
    said = f"{day.year}年{day.month}月{day.day}日"
    call = dict(base=base, quote=quote, date=day.isoformat())
    return call, dict(base=first, quote=second, day=said)


def _fx_convert(rng: random.Random) -> Drawn:
    call, slots = _fx_rate(rng)
    amount = rng.randrange(100, 50_001, 100)
    return call | {"amount": str(amount)}, slots | {"amount": amount}


def _calculate_growth(rng: random.Random) -> Drawn:
    a, b = _number(rng, 300, 9000, 2), _number(rng, 300, 9000, 2)
    return dict(expression=f"({b} - {a}) / {a}", unit="%"), dict(a=a, b=b)


def _calculate_fee(rng: random.Random) -> Drawn:
    money, months = rng.randrange(1000, 60_001, 100), rng.choice((3, 6, 12, 18, 24))
    fee = _number(rng, 20, 90, 2)
    call = dict(expression=f"{money} * {fee}% * {months}", unit="元")
    return call, dict(money=money, months=months, fee=fee)


def _calculate_sum(rng: random.Random) -> Drawn:
    a, b, c = (_number(rng, 1000, 900_000, 2) for _ in range(3))
    return dict(expression=f"{a} + {b} + {c}", unit="元"), dict(a=a, b=b, c=c)


def _law_article(article: Source) -> Drawn:
    law, _, number = article.label.rpartition("第")
    numbers = {f"{chinese_number(i)}条": i for i in range(1, 1300)}
    call = dict(law=law, article=numbers[number])
    return call, dict(law=law, number=f"第{number}")


_DRAWS = {
    draw.__name__.removeprefix("_"): draw
    for draw in (
        *(_loan_equal_payment, _loan_equal_principal, _simple_interest),
        *(_compound_interest, _annuity_future_value, _present_value),
        *(_fund_subscription, _bond_current_yield, _holding_return, _vat_split),
        *(_fx_rate, _fx_convert, _calculate_growth, _calculate_fee, _calculate_sum),
    )
}


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _system(tool: str, tools: Mapping[str, Any], rng: random.Random) -> str:
    """What the system turn says: the tool and a few others, in any order."""
    uses = {c.tool: c.use for c in _CASES.values() if c.tool in tools}
    others = sorted(uses.keys() - {tool})
    shown = [tool, *rng.sample(others, min(OTHER_TOOLS, len(others)))]
    rng.shuffle(shown)
    lines = []
    for name in shown:
        fields = tools[name].schema.model_fields.items()
        names = [n if field.is_required() else f"{n}?" for n, field in fields]
        lines.append(f"- {name}({', '.join(names)})：{uses[name]}")
    return fill(SYSTEMS, rng, tools="\n".join(lines))


def _called(
    tool: str, call: dict, tools: Mapping[str, Any], rng: random.Random
) -> list[tuple[str, str]]:
    """The call, the tool's result and the answer, as (role, content)."""
    found = tools[tool].run(tools[tool].schema.model_validate(call))
    result = {"text": found.text, "source": found.source}
    if found.value is not None:
        result |= {"value": str(found.value), "unit": found.unit}
    text = found.text.rstrip("。")
    return [
        ("assistant", _compact({"tool": tool, "arguments": call})),
        ("tool", _compact(result)),
        ("assistant", fill(ANSWERS, rng, text=text, source=found.source)),
    ]


def tool_call(
    texts: FinanceTexts, rng: random.Random, tools: Mapping[str, Any]
) -> Task:
    """A question -> a call, its result, the answer; or a question back, then the rest.

    Args: tools by name as the hub has them (``schema``, ``run``); cases of others are
    left out, and articles of law come from ``texts``.
    Raises: ValueError if no known tool is among them.
    """
    articles = [a for a in texts.articles if len(a.text) <= texts.max_answer_chars]
    names = [n for n, c in _CASES.items() if c.tool in tools]
    names = [n for n in names if n != "law_article" or articles]
    if not names:
        raise ValueError(f"tools={sorted(tools)}: none known; pass calculator_tools()")
    for number, name in enumerate(cycle(names)):
        case = _CASES[name]
        call, slots = (
            _law_article(rng.choice(articles))
            if name == "law_article"
            else _DRAWS[name](rng)
        )
        slots = {slot: str(value) for slot, value in slots.items()}
        turns = [("system", _system(case.tool, tools, rng))]
        if case.gaps and rng.random() < ASK_BACK_SHARE:
            label, question, reply = rng.choice(case.gaps)
            turns.append(("user", fill((question,), rng, **slots)))
            turns.append(("assistant", fill(ASK_BACKS, rng, label=label)))
            if rng.random() < 0.5:
                turns.append(("user", fill((reply,), rng, **slots)))
                turns += _called(case.tool, call, tools, rng)
        else:
            turns.append(("user", fill(case.wordings, rng, **slots)))
            turns += _called(case.tool, call, tools, rng)
        source = f"computed-{name}-{number}"
        yield Instruction(
            id=f"tool_call/{source}",
            messages=tuple(ChatTurn(role=role, content=text) for role, text in turns),
            task="tool_call",
            domain="finance",
            source=source,
        )


def require_known_tools(item: Instruction, tools: Mapping[str, Any]) -> None:
    """Raises ValueError naming the item unless every call in it would be accepted.

    A call is an assistant turn that is a JSON object with "tool", or begins like one.
    """
    for number, turn in enumerate(item.messages, 1):
        text, where = turn.content.strip(), f"{item.id}, message {number}"
        if turn.role != "assistant" or not text.startswith("{"):
            continue
        try:
            call = json.loads(text)
        except json.JSONDecodeError as error:
            if text[1:].lstrip().startswith('"tool"'):
                raise ValueError(
                    f"{where}: a broken call ({error}); {text:.80}"
                ) from error
            continue
        if not isinstance(call, dict) or "tool" not in call:
            continue
        if call["tool"] not in tools:
            known = ", ".join(sorted(tools))
            raise ValueError(f"{where}: unknown tool {call['tool']!r}; known: {known}")
        try:
            tools[call["tool"]].schema.model_validate(call.get("arguments"))
        except ValueError as error:
            raise ValueError(
                f"{where}: {call['tool']} refuses the arguments: {error}"
            ) from error
