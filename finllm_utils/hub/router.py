"""Which tool a question needs, and the call with its arguments.

Rules in order: the first whose words (and quantities) are there wins. The router never
computes; it proposes a call that the tool's schema then checks. A language model may
propose instead (``session.Hub(propose=...)``) and passes the same check.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from finllm_utils.hub import extract, extract_market
from finllm_utils.hub.arithmetic import result_unit, to_expression
from finllm_utils.hub.context import Question
from finllm_utils.hub.currencies import find_currencies
from finllm_utils.hub.statutes import LawBook, article_number


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A proposed tool call. ``missing`` names what the question leaves open."""

    tool: str
    arguments: dict
    missing: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A tool with the words that call for it and the words that forbid it."""

    tool: str
    words: str
    extract: Callable[[Question], dict]
    unless: str = "(?!)"
    kinds: tuple[str, ...] = field(default=())


_LOAN = "贷款|房贷|车贷|按揭|借款|公积金|商贷|月供|还款|消费贷|经营贷|贷了?|借了?"
_EVERY = r"每(?:一)?个?(?:半年|季度|季|月|年|周|期)(?:初|末|底|头)?"
_SAVE = "存|投|缴|攒|拿出|交|定投|转入|放"
_NOT_COMPOUND = "(?:不|没有?|非|无|别)[^，。？]{0,4}(?:复利|利滚利|复息|滚存)"
RULES: tuple[Rule, ...] = (
    Rule(
        tool="vat_split",
        words="含税|价税|增值税|税额|税点|征收率|开(?:专|普)?票|发票|去税|除税",
        extract=extract_market.vat_split,
        unless="个人所得税|工资|利息税",
    ),
    Rule(
        tool="bond_current_yield",
        words="当期收益率|当前收益率|本期收益率|即期收益率|现行收益率|当期收益",
        extract=extract_market.bond_current_yield,
    ),
    Rule(
        tool="bond_current_yield",
        words="票面利率|票息率?.*(?:市价|现价|价格)",
        extract=extract_market.bond_current_yield,
        unless="持有期|卖出|卖掉|到期收益率|本金|存",
    ),
    Rule(
        tool="holding_return",
        words=(
            "持有期|持有收益率|(?:买|购|成本|入手|建仓|投).*(?:卖|抛|出手|赎回|转让|"
            "清仓|兑付).*(?:收益率|回报率|百分之|%|赚了?几|回报)|"
            "(?:卖|抛|出手|赎回).*(?:买|购|成本).*(?:收益率|回报率|百分之|%|回报)"
        ),
        extract=extract_market.holding_return,
    ),
    Rule(
        tool="fund_subscription",
        words="申购|认购|(?:基金|净值).*(?:费率|手续费|份额|多少份)|外扣",
        extract=extract_market.fund_subscription,
    ),
    Rule(
        tool="loan_equal_principal",
        words=(
            r"等额本金|等本|(?:每个?月|每期)[^，。]{0,6}本金[^，。]{0,4}(?:相同|一样|"
            r"相等|固定|不变)|逐月递减|月供递减|本金(?:均摊|平均)"
        ),
        extract=extract.loan_equal_principal,
        unless="等额本息",
    ),
    Rule(
        tool="loan_equal_payment",
        words=(
            r"等额本息|等额还款|月均还款|等本等息|(?:每个?月|每期|"
            r"月供)[^，。]{0,8}(?:相同|一样|相等|固定|不变|等额)|月供|"
            rf"(?:{_LOAN}).*(?:每个?月|每期|一个月|月月)[^，。]{{0,6}}(?:还|供|付|交|"
            rf"掏)|(?:每个?月|每期|一个月)[^，。]{{0,6}}(?:还|供).*(?:{_LOAN})"
        ),
        extract=extract.loan_equal_payment,
    ),
    Rule(
        tool="annuity_future_value",
        words=(
            rf"定投|零存整取|年金(?:终值|.*终值)|{_EVERY}(?:(?!计息|复利|结息|"
            rf"付息)[^。？]){{0,12}}(?:{_SAVE})|(?:月|年|按月|按年|按季)(?:存|投|缴)|"
            rf"年金"
        ),
        extract=extract.annuity_future_value,
        unless="现值|贴现|折现|年金险|养老年金保险|什么是",
    ),
    Rule(
        tool="present_value",
        words=r"现值|折现|贴现|折到(?:现在|今天)|相当于(?:现在|今天|如今)|"
        r"(?:现在|今天|如今|眼下|一次性)[^。？]{0,10}(?:要|需|得|应|该|必须|至少|"
        r"存|投|放|准备|拿出)[^。？]{0,8}多少|值(?:现在|今天)",
        extract=extract.present_value,
    ),
    Rule(
        tool="compound_interest",
        words=(
            "复利|利滚利|复息|滚存|息滚息|复合增长|复合年|利上加利|(?:每|按)(?:半年|"
            "季度|季|月|个月|年|日|天|[36三六]个月)(?:计|结|"
            "付)(?:算)?(?:一次)?(?:利)?息|一年[计结]息?.次|转存|滚入本金|计入本金"
        ),
        extract=extract.compound_interest,
        unless="单利|" + _NOT_COMPOUND,
    ),
    Rule(
        tool="simple_interest",
        words=(
            "单利|定期|定存|存款|存单|存|国债|活期|利息|本息|利率|年化|年息|月息|"
            "日息|理财|逆回购|拆借|欠款|借"
        ),
        extract=extract.simple_interest,
        kinds=("rate", "duration"),
    ),
    Rule(
        tool="simple_interest",
        words="(?:利息|本息).*(?:多少|几)|(?:多少|几).*利息",
        extract=extract.simple_interest,
        unless="百分点|基点|个税|利息税",
    ),
)
_HOUSE = re.compile("房贷|按揭|公积金|车贷|商贷|住房贷款|买房")
_RISKY = re.compile(
    r"预测|会涨|会跌|涨不涨|跌不跌|走势|升值吗|贬值吗|会不会(?:涨|跌|升|贬)|"
    r"未来.*汇率|推荐|买哪|哪只|该不该买|抄底|牛股|"
    r"值得买|能不能买|保证赚|内幕消息|稳赚"
)
_UNSUPPORTED = re.compile(
    r"剩余本金|剩余贷款|提前还|还剩多少(?:本金|贷款)|内部收益率|IRR|到期收益率"
)
_CONTRAST = re.compile(
    r"(?:等额本息.*等额本金|等额本金.*等额本息|单利.*复利|"
    r"(?<!不计)(?<!不算)复利.*单利).*"
    r"(?:相差|差多少|差额|比|哪个|哪种|多多少|省|划算|多还|少还)"
)
_CLOCK = re.compile(
    r"明天|后天|下周|下个?月|明年|昨天|前天|上周|去年|上个?月|今早|昨晚|刚才"
)
_FX = re.compile(
    r"汇率|兑|换|折合|折算|折成|等于|合(?:多少|人民币)|值|中间价|牌价|结汇|购汇|"
    r"是多少|能有多少|多少|/|几块|几元"
)
_LAW = re.compile(
    r"《|法律|法规|法条|条文|哪一条|第几条|哪部法|(?:法|条例).{0,12}(?:规定|第)"
)
_INSURANCE = re.compile(
    r"保险(?!箱|柜|丝|杠|起见)|保单|保费|投保|理赔|受益人|年金|承保|索赔|医保|"
    r"寿险|车险|免赔|退休|伤残|残疾|长期护理|医疗补助|"
    r"补充计划|健康险|现金价值|(?<!风|危|冒|保|凶)险(?!箱|些|情|恶|峻)"
)


def propose_call(question: str, laws: LawBook) -> Call | None:
    """The call that the rules find, or None when the question is out of scope."""
    parsed = Question.parse(question)
    if _RISKY.search(parsed.text):
        return None
    return (
        _law_call(parsed, laws)
        or _fx_call(parsed)
        or _rule_call(parsed)
        or _arithmetic_call(parsed)
        or _knowledge_call(parsed, question)
    )


def _law_call(question: Question, laws: LawBook) -> Call | None:
    law = laws.find_law(question.text)
    number = article_number(question.text)
    if law is None and not _LAW.search(question.text):
        return None
    if law is None and (quoted := re.search(r"《([^》]+)》", question.text)):
        return Call(tool="law_article", arguments={"law": quoted[0], "article": number})
    if law is None and number is not None:
        return Call(tool="law_article", arguments={"article": number}, missing=("law",))
    if law is None and question.of("amount", "rate"):
        return None
    name = law.name if law else None
    if number is not None:
        return Call(tool="law_article", arguments={"law": name, "article": number})
    return Call(
        tool="law_article", arguments={"law": name, "keywords": question.text[:400]}
    )


def _fx_call(question: Question) -> Call | None:
    codes = {code for _, _, code in find_currencies(question.text)}
    foreign = codes - {"CNY"}
    if not foreign or not _FX.search(question.text):
        return None
    if question.has("利率|利息|年化|复利|单利") or (
        len(codes) == 1
        and not question.has("汇率|兑|换|折|人民币|值|等于|牌价|中间价|块|元钱")
    ):
        return None
    arguments = extract_market.fx(question)
    missing = []
    if "date" not in arguments and (
        question.of("month") or _CLOCK.search(question.text)
    ):
        missing.append("date")
    number = arguments.get("amount")
    rate_only = number is None or (number == 1 and not question.has("元$|换成|兑换"))
    if rate_only or (question.has("汇率|中间价|牌价") and number == 1):
        arguments.pop("amount", None)
    tool = "fx_convert" if "amount" in arguments else "fx_rate"
    if (
        tool == "fx_rate"
        and question.has("换成|兑换成|能换|换多少")
        and not question.has("汇率|1|一")
    ):
        missing.append("amount")
    return Call(tool=tool, arguments=arguments, missing=tuple(missing))


def _rule_call(question: Question) -> Call | None:
    text = question.text
    if _UNSUPPORTED.search(text):
        return None
    if _CONTRAST.search(text):
        return Call(tool="calculate", arguments={}, missing=("single",))
    for rule in RULES:
        if not re.search(rule.words, text) or re.search(rule.unless, text):
            continue
        if rule.kinds and not set(rule.kinds) <= {q.kind for q in question.quantities}:
            continue
        if rule.tool == "simple_interest" and _rates_only(question):
            continue
        if rule.tool == "simple_interest" and _HOUSE.search(text):
            return _loan_without_method(question)
        if rule.tool == "vat_split" and _net_given(question):
            continue
        if not question.of("amount", "number", "rate", "duration") and not _asks_figure(
            text
        ):
            continue
        return Call(tool=rule.tool, arguments=rule.extract(question))
    if _rates_only(question):
        return None
    if re.search("房贷|按揭|贷款", text) and question.of(
        "rate", "duration", "amount", "number"
    ):
        return _loan_without_method(question)
    return None


def _rates_only(question: Question) -> bool:
    """Rates and no sum of money: a question about the rate itself."""
    return bool(question.of("rate")) and not question.of("amount", "number")


def _loan_without_method(question: Question) -> Call | None:
    if question.has("利息|还"):
        found = extract.loan_equal_payment(question)
        return Call(tool="loan_equal_payment", arguments=found, missing=("method",))
    return None


def _net_given(question: Question) -> bool:
    """The price before tax is given, not asked: tax is then a plain product."""
    return any(
        re.search(r"不含税[^，。？]{0,6}$|税前[^，。？]{0,4}$", question.left(q))
        for q in question.of("amount", "number")
    )


def _asks_figure(text: str) -> bool:
    return bool(re.search("多少|算|几", text))


def _arithmetic_call(question: Question) -> Call | None:
    if _CLOCK.search(question.text) and not question.of("amount", "number", "rate"):
        return None
    if not re.search(
        r"多少|几|算|求|等于|=|结果|[乘除加减]|次方|[-+*/×÷]", question.text
    ):
        return None
    expression = to_expression(question)
    if expression is None:
        return None
    if not re.search(r"[-+*/]", expression) and not _converts(question):
        return None
    unit = result_unit(question, expression)
    return Call(tool="calculate", arguments={"expression": expression, "unit": unit})


def _converts(question: Question) -> bool:
    """A single number in another unit: 25 个基点是百分之几, 1.5 亿是多少万."""
    return question.has(
        r"百分之几|百分之多少|多少%|几个百分点|小数|百分数|(?:多少|几)个?(?:万|"
        r"亿|基点|bp|BP)|一半|平均每|多少个百分点"
    )


def _knowledge_call(question: Question, original: str) -> Call | None:
    if not _INSURANCE.search(question.text):
        return None
    return Call(tool="insurance_search", arguments={"question": original[:400]})
