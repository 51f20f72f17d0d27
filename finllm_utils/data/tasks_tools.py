"""Dialogues with tools: system, question, a call in JSON, the tool's result, an answer.

The tools are the hub's: a name, a pydantic schema and code, handed in by the caller
(``hub.calculators.calculator_tools()``), since the data layer stands below the hub.
Every call passes its schema and every result comes from really running the tool.
"""

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
OTHER_TOOLS = 2
"""Tools that the system turn lists beside the right one."""
TEXTS = """
# loan_equal_payment 等额本息的月供、利息总额、还款总额
V wan 20 400 0 years 5 30 0 rate 250 620 2
A principal={wan}0000; annual_rate=%{rate}; months=#{months}
C what 每月还多少 利息一共多少|ask=total_interest 本息共还多少|ask=total_repaid
Q 贷款{wan}万元，年利率{rate}%，等额本息{years}年，{what}？
Q 我打算按揭{wan}万元，分{months}期等额本息还，利率{rate}%。{what}？
Q 客户问：借{wan}万元，{years}年等额本息，年利率{rate}%，{what}？
G 年利率 | 贷款{wan}万元，等额本息{years}年还清，{what}？ | 年利率{rate}%。
G 贷款期限 | 想借{wan}万元，等额本息，年利率{rate}%，{what}？ | 分{months}个月还。
G 贷款金额 | 利率{rate}%，{years}年等额本息，{what}？ | 贷{wan}万元。
# loan_equal_principal 等额本金的首月、末月、第几个月还款和利息总额
V wan 20 400 0 years 5 30 0 rate 250 620 2 k 2 24 0
A principal={wan}0000; annual_rate=%{rate}; months=#{months}
C what 第一个月还多少 最后一个月还多少|ask=last_payment 利息总额多少|ask=total_interest
C what 第{k}个月还多少|k=#{k},ask=kth_payment 月供每月递减多少|ask=monthly_decrease
Q 等额本金贷{wan}万元，{months}个月，年利率{rate}%，{what}？
Q 如果选等额本金，{wan}万元、年利率{rate}%、{years}年，{what}？
Q 帮我算等额本金：本金{wan}万元，期限{years}年，年利率{rate}%，{what}？
G 年利率 | 等额本金贷{wan}万元，{months}个月还清，{what}？ | 按年利率{rate}%算。
G 贷款期限 | 等额本金，{wan}万元，利率{rate}%，{what}？ | {years}年。
# simple_interest 单利或定期存款的利息、本息
V wan 1 90 0 rate 50 480 2
A principal={wan}0000; annual_rate=%{rate}
C term 3个月|term=3,unit=months 6个月|term=6,unit=months 1年|term=1,unit=years
C term 2年|term=2,unit=years 3年|term=3,unit=years 5年|term=5,unit=years
C term 90天|term=90,unit=days 45天|term=45,unit=days 200天|term=200,unit=days
C what 利息是多少 本息一共多少|ask=total
Q {wan}万元存{term}，年利率{rate}%，单利，到期{what}？
Q 借出{wan}万元，约定年利率{rate}%、单利、{term}后还，{what}？
Q 存单：本金{wan}万元，{term}定期，年利率{rate}%。到期{what}？
G 年利率 | {wan}万元存{term}定期，到期{what}？ | 年利率{rate}%，单利。
G 存期 | {wan}万元存定期，年利率{rate}%，到期{what}？ | 存{term}。
# compound_interest 复利的利息、本息
V wan 1 90 0 years 2 12 0 rate 120 600 2
A principal={wan}0000; annual_rate=%{rate}; years={years}
C per 每年 每半年|periods_per_year=#2 每季度|periods_per_year=#4
C per 每月|periods_per_year=#12
C what 本息共多少 利息有多少|ask=interest
Q {wan}万元，年利率{rate}%，{per}复利一次，{years}年后{what}？
Q 收益滚存的产品：本金{wan}万元，年化{rate}%，{per}计复利，放{years}年，{what}？
Q 请按复利算：{wan}万元投{years}年，年利率{rate}%，{per}结息，{what}？
G 年利率 | {wan}万元{per}复利，{years}年后{what}？ | 年利率{rate}%。
G 年数 | {wan}万元，年利率{rate}%，{per}复利，到期{what}？ | 放{years}年。
# annuity_future_value 每期存一笔，到期共多少（年金终值）
V payment 2 60 -2 periods 12 240 0 rate 10 60 2
A payment={payment}; rate_per_period=%{rate}; periods=#{periods}
C when 末 初|due=!
C what 本息共多少 收益有多少|ask=interest
Q 每月{when}存{payment}元，月利率{rate}%，连存{periods}个月，{what}？
Q 零存计划：{periods}期，每期{when}{payment}元，每期利率{rate}%，到期{what}？
Q 坚持{periods}个月、每月{when}投{payment}元，按月利率{rate}%计，{what}？
G 月利率 | 每月{when}存{payment}元，存{periods}个月，{what}？ | 月利率{rate}%。
G 期数 | 每月{when}存{payment}元，月利率{rate}%，{what}？ | 存{periods}个月。
# present_value 未来一笔钱今天值多少（现值）
V wan 2 300 0 years 2 20 0 rate 100 600 2
A future={wan}0000; annual_rate=%{rate}; years={years}
Q {years}年后的{wan}万元，按年折现率{rate}%，现在值多少？
Q 想在{years}年后拿到{wan}万元，年收益率{rate}%，今天要投多少？
Q 求现值：{years}年后收到{wan}万元，折现率{rate}%。
G 折现率 | {years}年后的{wan}万元，现在值多少？ | 折现率{rate}%。
G 年数 | 以后能收到{wan}万元，折现率{rate}%，现值多少？ | {years}年后收到。
# fund_subscription 外扣法申购基金的份额、手续费、净申购金额
V amount 10 2000 -2 fee 6 15 1 nav 7001 29999 4
A amount={amount}; fee_rate=%{fee}; nav={nav}
C what 能确认多少份 手续费多少|ask=fee 净申购金额多少|ask=net_amount
Q {amount}元申购基金，申购费率{fee}%，净值{nav}元，外扣法，{what}？
Q 我投{amount}元买一只净值{nav}元的基金，申购费率{fee}%，{what}？
Q 申购确认怎么算：金额{amount}元，费率{fee}%，单位净值{nav}元，{what}？
G 申购费率 | {amount}元申购净值{nav}元的基金，{what}？ | 费率{fee}%。
G 申购金额 | 基金净值{nav}元，申购费率{fee}%，{what}？ | 申购{amount}元。
# bond_current_yield 债券当期收益率
V coupon 150 560 2 price 8801 11300 2
A face=100; coupon_rate=%{coupon}; price={price}
Q 面值100元、票面利率{coupon}%的债券，市价{price}元，当期收益率多少？
Q 债券每100元面值报{price}元，票息{coupon}%，当期收益率怎么样？
Q 请算当期收益率：面值100元，票面利率{coupon}%，买入价{price}元。
G 市价 | 面值100元、票面利率{coupon}%的债券，当期收益率多少？ | 现在{price}元。
G 票面利率 | 面值100元的债券卖{price}元，当期收益率多少？ | 票面利率{coupon}%。
# holding_return 持有期收益率
V buy 5000 9000 0 sell 4200 11000 0 income 50 400 0
A buy={buy}; sell={sell}; income={income}
Q {buy}元买入、{sell}元卖出，期间分红{income}元，持有期收益率多少？
Q 我的股票成本{buy}元，卖了{sell}元，还拿到股息{income}元，收益率是百分之几？
Q 持有期收益率：买入{buy}元，卖出{sell}元，利息收入{income}元。
G 卖出价 | 我{buy}元买的，分红{income}元，持有期收益率多少？ | 卖了{sell}元。
G 买入价 | 卖了{sell}元，分红{income}元，收益率是多少？ | 买入花了{buy}元。
# vat_split 含税价拆成不含税金额和税额
V gross 10000 9000000 2
A gross={gross}; rate=%{rate}
C rate 3 6 9 13
C what 不含税金额多少 税额多少|ask=tax
Q 发票价税合计{gross}元，税率{rate}%，{what}？
Q 含税收入{gross}元，增值税税率{rate}%，价税分离后{what}？
Q 报销单含税{gross}元，按{rate}%拆分，{what}？
G 税率 | 发票价税合计{gross}元，{what}？ | 税率{rate}%。
# fx_rate 某一天两种货币的汇率
V y 2012 2024 0 m 1 12 0 d 1 28 0
A date={iso}
C base 美元|base=USD 欧元|base=EUR 英镑|base=GBP 澳元|base=AUD 加元|base=CAD
C quote 人民币|quote=CNY 港元|quote=HKD 日元|quote=JPY 瑞士法郎|quote=CHF
Q {y}年{m}月{d}日，1{base}兑多少{quote}？
Q 查{y}年{m}月{d}日{base}对{quote}的汇率。
Q {y}年{m}月{d}日那天，{base}换{quote}是什么价？
G 目标币种 | {y}年{m}月{d}日，1{base}能兑多少？ | 兑{quote}。
# fx_convert 按某一天的汇率换算金额
V y 2012 2024 0 m 1 12 0 d 1 28 0 amount 1 500 -2
A amount={amount}; date={iso}
C base 美元|base=USD 欧元|base=EUR 英镑|base=GBP 澳元|base=AUD 加元|base=CAD
C quote 人民币|quote=CNY 港元|quote=HKD 日元|quote=JPY 瑞士法郎|quote=CHF
Q {amount}{base}按{y}年{m}月{d}日的汇率能换多少{quote}？
Q {y}年{m}月{d}日收到{amount}{base}，折合{quote}是多少？
Q 请把{amount}{base}折算成{quote}，用{y}年{m}月{d}日的汇率。
G 目标币种 | {y}年{m}月{d}日的{amount}{base}能换多少？ | 换成{quote}。
G 金额 | 按{y}年{m}月{d}日的汇率，我的{base}能换多少{quote}？ | 有{amount}{base}。
# law_article 按法律名称和条号查原文
A law={law}; article=#{article}
Q 查一下《{law}》{number}的原文。
Q 《{law}》{number}规定了什么？
Q 我要引用《{law}》{number}，请给出条文。
G 条号 | 查一下《{law}》的条文原文。 | {number}。
# calculate_growth 算式的精确结果
V a 300 9000 2 b 300 9000 2
A expression=({b} - {a}) / {a}; unit=%
Q 营业收入从{a}亿元变为{b}亿元，变动百分之几？
Q 上期{a}亿元，本期{b}亿元，环比变动率是多少？
Q 不良余额由{a}亿元到{b}亿元，变化幅度是多少？
G 上期金额 | 本期收入{b}亿元，比上期变动百分之几？ | 上期{a}亿元。
# calculate_fee 算式的精确结果
V money 10 600 -2 fee 20 90 2
A expression={money} * {fee}% * {months}; unit=元
C months 3 6 12 18 24
Q 账单{money}元分{months}期，每期手续费率{fee}%，手续费一共多少？
Q 分期{months}个月，本金{money}元，每期收{fee}%，总共要付多少手续费？
Q 手续费按每期{fee}%收，{money}元分{months}期，合计多少？
G 每期费率 | 账单{money}元分{months}期，手续费一共多少？ | 每期{fee}%。
# calculate_sum 算式的精确结果
V a 1000 900000 2 b 1000 900000 2 c 1000 900000 2
A expression={a} + {b} + {c}; unit=元
Q 这几笔加起来多少：{a}元、{b}元、{c}元？
Q 三张发票分别是{a}元、{b}元和{c}元，合计多少？
Q 本月有三笔支出：{a}元、{b}元、{c}元，总数是多少？
"""
"""A case a block: its tool (``calculate_x`` is ``calculate``) and what that is for.

V: numbers to draw: name, lowest and highest in units of the last decimal, decimals.
A: arguments of the call; % makes a fraction of a percentage, # a whole number, ! true;
all others are text, since a float is not exact. C: a choice of words, some with
arguments. Q: questions. G: what is missing, the question, the user's reply.
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
    "还缺少{label}，请补充，我不会猜。",
    "要回答这个问题还需要{label}，请告诉我。",
    "您没有说明{label}，请补充。",
)
ANSWERS = (
    "{text}。来源：{source}。",
    "{text}。依据：{source}。",
    "{text}，来源是 {source}。",
)


class Case(NamedTuple):
    """A block of ``TEXTS``; ``lines`` by their letter."""

    tool: str
    use: str
    lines: dict[str, list[str]]


def _case(block: str) -> tuple[str, Case]:
    head, *lines = block.strip().split("\n")
    name, use = head.split()
    kinds = {kind: [x[2:] for x in lines if x[0] == kind] for kind in "VACQG"}
    return name, Case("calculate" if "calculate_" in name else name, use, kinds)


_CASES = dict(_case(block) for block in TEXTS.split("\n# ")[1:])
_ARTICLES = {f"{chinese_number(i)}条": i for i in range(1, 1300)}


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")


def _slots(case: Case, rng: random.Random, article: Source | None) -> dict[str, str]:
    """The numbers of a case, and what follows from them."""
    slots = {}
    for line in case.lines["V"]:
        words = line.split()
        for i in range(0, len(words), 4):
            low, high, places = map(int, words[i + 1 : i + 4])
            slots[words[i]] = _plain(Decimal(rng.randint(low, high)).scaleb(-places))
    if "years" in slots:
        slots["months"] = str(12 * int(slots["years"]))
    if "y" in slots:
        slots["iso"] = f"{slots['y']}-{slots['m']:0>2}-{slots['d']:0>2}"
    if article is not None:
        law, _, number = article.label.rpartition("第")
        slots |= dict(law=law, number=f"第{number}", article=str(_ARTICLES[number]))
    return slots


def _draw(
    case: Case, rng: random.Random, article: Source | None
) -> tuple[dict[str, object], dict[str, str]]:
    """The arguments of a call, and the slots of its question."""
    slots = _slots(case, rng, article)
    arguments = [part for line in case.lines["A"] for part in line.split("; ")]
    choices: dict[str, list[str]] = {}
    for line in case.lines["C"]:
        name, *options = line.split()
        choices[name] = choices.get(name, []) + options
    for name, options in choices.items():
        word, _, extra = rng.choice(options).partition("|")
        slots[name] = fill((word,), rng, **slots)
        arguments += extra.split(",") if extra else []
    call: dict[str, object] = {}
    for part in arguments:
        name, _, text = fill((part,), rng, **slots).partition("=")
        if len(text) > 1 and text[0] == "%":
            call[name] = _plain(Decimal(text[1:]) / 100)
        else:
            call[name] = int(text[1:]) if text[0] == "#" else text == "!" or text
    return call, slots


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
    answer = fill(ANSWERS, rng, text=found.text.rstrip("。"), source=found.source)
    asked = _compact({"tool": tool, "arguments": call})
    return [("assistant", asked), ("tool", _compact(result)), ("assistant", answer)]


def _turns(
    case: Case, article: Source | None, tools: Mapping[str, Any], rng: random.Random
) -> list[tuple[str, str]]:
    call, slots = _draw(case, rng, article)
    turns = [("system", _system(case.tool, tools, rng))]
    if not case.lines["G"] or rng.random() >= ASK_BACK_SHARE:
        turns.append(("user", fill(tuple(case.lines["Q"]), rng, **slots)))
        return turns + _called(case.tool, call, tools, rng)
    label, question, reply = rng.choice(case.lines["G"]).split(" | ")
    turns.append(("user", fill((question,), rng, **slots)))
    turns.append(("assistant", fill(ASK_BACKS, rng, label=label)))
    if rng.random() < 0.5:
        return turns
    turns.append(("user", fill((reply,), rng, **slots)))
    return turns + _called(case.tool, call, tools, rng)


def tool_call(
    texts: FinanceTexts, rng: random.Random, tools: Mapping[str, Any]
) -> Task:
    """A question -> a call, its result, the answer; or a question back, then the rest.

    Args: tools by name as the hub has them (``schema``, ``run``); cases of others are
    left out. Articles of law come from ``texts``.
    Raises: ValueError if no known tool is among them.
    """
    articles = [
        article
        for article in texts.articles
        if len(article.text) <= texts.max_answer_chars
        and article.label.rpartition("第")[2] in _ARTICLES  # 第五条之一 has no number
    ]
    names = [n for n, c in _CASES.items() if c.tool in tools]
    names = [n for n in names if n != "law_article" or articles]
    if not names:
        raise ValueError(f"tools={sorted(tools)}: none known; pass calculator_tools()")
    for number, name in enumerate(cycle(names)):
        article = rng.choice(articles) if name == "law_article" else None
        turns = _turns(_CASES[name], article, tools, rng)
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
                raise ValueError(f"{where}: a call in broken JSON: {error}") from error
            continue
        if not isinstance(call, dict) or "tool" not in call:
            continue
        name, known = call["tool"], ", ".join(sorted(tools))
        if not isinstance(name, str) or name not in tools:
            raise ValueError(f"{where}: unknown tool {name!r}; known tools: {known}")
        try:
            tools[name].schema.model_validate(call.get("arguments"))
        except ValueError as error:
            refused = f"{name} refuses its arguments; known tools: {known}"
            raise ValueError(f"{where}: {refused}; {error}") from error
