"""A sum told in Chinese words as a written expression for the ``calculate`` tool.

80 万加 35 万再除以 4 -> (800000 + 350000) / 4; 1.2 亿的千分之三 -> 120000000 * 0.003.
Whatever cannot be read as one expression gives None: the hub then asks.
"""

import re
from decimal import Decimal

from finllm_utils.finance.conventions import exact
from finllm_utils.hub.amounts import Quantity
from finllm_utils.hub.context import Question

_OPERATORS: tuple[tuple[str, str], ...] = (
    (r"\*\*|\^|的(?=\S{0,4}次方)", "**"),
    (r"乘以|乘上|乘|×|\*|x(?=\d)|X(?=\d)", "*"),
    (r"除以|÷|/|平均?分给|分给|平分给|平摊到|摊到|分摊到|均分给|分成|平均分成", "/"),
    (r"加上|再加|加|\+|上浮|上调|增加|上涨|提高|涨了?|多", "+"),
    (
        r"减去|减掉|再减|减|扣除|扣掉|扣去|扣|去掉|−|－|-|下调|下浮|降低|下降|"
        r"下跌|跌了?|降了?|少",
        "-",
    ),
    (r"\(", "("),
    (r"\)", ")"),
)
_OPERATOR = re.compile(
    "|".join(f"(?P<o{i}>{p})" for i, (p, _) in enumerate(_OPERATORS))
)
_SYMBOLIC = re.compile(r"[+*/×÷^]|\*\*|(?<=[\d%)])\s*-\s*(?=[\d(])")
_SUM = re.compile(
    r"之和|的和|总和|加起来|加在一起|合计|一共|总共|总计|共计|相加|加总|合起来"
)
_MEAN = re.compile(r"平均数|平均值|均值|平均(?:是|为)?多少|的平均|平均(?!每|分|摊|到)")
_RATIO = re.compile(
    r"占.*(?:百分之几|百分之多少|百分比|比例|比重|几成|多少%|%)|"
    r"是.*的(?:百分之几|百分之多少)|占比|比率|不良率|负债率|利润率|毛利率|净利率|"
    r"收益率"
)
_GROWTH = re.compile(
    r"(?:涨幅|跌幅|增幅|降幅|增长率|增长了?百分|涨了?百分|跌了?百分|下降了?百分|"
    r"增长了?多少|同比|环比|变化率|涨跌幅|百分之几|百分之多少)"
)
_TIMES = re.compile(r"(?:是|为|有).*?(?:的)?(?:多少|几)倍")
_POWER = re.compile(r"的?(平方|立方)(?!米)")
_DIFFERENCE = re.compile(
    r"之差|的差|相差|差多少|差额|差价|差了?多少|多多少|少多少|比.*多|比.*少"
)


def to_expression(question: Question) -> str | None:
    """The expression that the question tells, or None when it is not clear."""
    numbers = [
        q
        for q in question.quantities
        if q.kind in ("amount", "number", "rate", "duration")
    ]
    numbers = [q for q in numbers if not _is_decoration(question, q)]
    if not numbers:
        return None
    for rule in (
        _rate_change,
        _growth_of_parts,
        _comparison,
        _collection,
        _sentence,
        _product,
    ):
        expression = rule(question, numbers)
        if expression is not None:
            return expression
    return None


_COUNTERS = ("个", "笔", "次", "只", "张", "位", "名", "条")


def _is_decoration(question: Question, quantity: Quantity) -> bool:
    """Counts of things that are listed anyway (三笔), 每一期, the 5 年期 of a rate."""
    after = question.text[quantity.end : quantity.end + 8]
    if quantity.kind == "duration" and re.match(
        "期?(?:以上)?的?(?:LPR|贷款市场)", after
    ):
        return True
    if (
        quantity.kind == "duration"
        and quantity.value == 1
        and re.match("[交缴付存投]", after)
    ):
        return True  # 一年交 6800 元, 交 20 年
    if quantity.value == 1 and question.left(quantity).endswith("每"):
        return True
    listed = quantity.kind == "number" and quantity.unit in _COUNTERS
    return listed and question.has(_SUM.pattern) and quantity.value <= 12


def plain(value: Decimal) -> str:
    """A decimal without exponent: 1E+4 is written 10000."""
    with exact():
        text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _comparison(question: Question, numbers: list[Quantity]) -> str | None:
    values = [q for q in numbers if q.kind in ("amount", "number")]
    if len(values) != 2 or len(numbers) != 2:
        return None
    first, second = (plain(q.value) for q in values)
    text = question.text
    between = text[values[0].end : values[1].start]
    if re.search(
        r"(?:涨|增|升|降|跌|减|下滑|变|提高|扩大|缩)[^，]{0,4}(?:到|至|成|为)|从.*到",
        text,
    ) and _GROWTH.search(text):
        return f"({second} - {first}) / {first}"
    if _GROWTH.search(text) and re.search(
        "去年|上年|上月|上季|上期|原来|之前|以前", text[: values[1].start]
    ):
        early = re.search("去年|上年|上月|上季|上期|原来|之前|以前", text)
        if values[0].end <= early.start():  # 今年 120 万，去年 100 万
            first, second = second, first
        return f"({second} - {first}) / {first}"
    if _TIMES.search(text):
        return f"{first} / {second}"
    if re.search(r"占|是.*的百分之(?:几|多少)|率|比例", text) and _RATIO.search(text):
        stem = re.search(r"([^，。的是资]{2})率", text[values[1].end :])
        named = [stem is not None and stem[1] in question.left(q) for q in values]
        if named[0] != named[1]:  # 负债率: the amount called 负债 stands above the line
            return f"{first} / {second}" if named[0] else f"{second} / {first}"
        whole_first = re.search("其中|里面?|中[，有]?", between) or (
            re.search("总|全部|全体", question.left(values[0])[-6:])
            and "占" not in between
        )
        return f"{second} / {first}" if whole_first else f"{first} / {second}"
    if _DIFFERENCE.search(text) and not _OPERATOR.fullmatch(between.strip()):
        return (
            f"{first} - {second}"
            if values[0].value >= values[1].value
            else f"{second} - {first}"
        )
    return None


def _collection(question: Question, numbers: list[Quantity]) -> str | None:
    values = [plain(q.value) for q in numbers if q.kind in ("amount", "number", "rate")]
    gaps = [
        question.text[a.end : b.start]
        for a, b in zip(numbers, numbers[1:], strict=False)
    ]
    if len(values) < 2 or len(values) != len(numbers):
        return None
    if (
        any(_OPERATOR.search(gap) for gap in gaps)
        or len({q.kind for q in numbers} - {"number", "amount"}) > 1
    ):
        return None
    if any(q.kind == "rate" for q in numbers) and not all(
        q.kind == "rate" for q in numbers
    ):
        return None
    if _MEAN.search(question.text):
        return f"({' + '.join(values)}) / {len(values)}"
    listed = all(re.search(r"[、和与跟及，,；]", gap) for gap in gaps)
    if (
        _SUM.search(question.text)
        and listed
        and not question.has("每|单价|一(?:份|股|吨|台|件)")
    ):
        return " + ".join(values)
    return None


def _sentence(question: Question, numbers: list[Quantity]) -> str | None:
    """Numbers joined by operators; "再" or a comma closes what came before."""
    parts = [_bracketed(question, numbers[0])]
    for before, quantity in zip(numbers, numbers[1:], strict=False):
        gap = question.text[before.end : quantity.start]
        operator, closes, brackets = _operator(gap, quantity)
        if operator is None:
            return None
        if closes and not _SYMBOLIC.search(gap) and len(parts) > 1:
            parts = [f"({''.join(parts)})"]
        relative = (
            operator in "+-" and quantity.kind == "rate" and before.kind != "rate"
        )
        value = plain(quantity.value)
        if relative and not re.search(r"[-+−－]", gap):
            whole = "".join(parts)
            whole = f"({whole})" if len(parts) > 1 else whole
            parts = [f"{whole} * (1 {operator} {value})"]
            continue
        head, tail = brackets
        parts += [f"{head} {operator} {tail}", value]
    tail = question.text[numbers[-1].end :]
    closing = re.match(r"[元块\s]*(\)+)", tail)
    text = "".join(parts) + (closing[1] if closing else "")
    rest = tail[closing.end() :] if closing else tail
    text = _finish(text, rest, len(numbers))
    missing = text.count(")") - text.count("(")
    return "(" * missing + text if missing >= 0 else text + ")" * -missing


def _bracketed(question: Question, first: Quantity) -> str:
    opening = re.search(r"(\(+)\s*$", question.text[: first.start])
    return (opening[1] if opening else "") + plain(first.value)


def _operator(gap: str, quantity: Quantity) -> tuple[str | None, bool, tuple[str, str]]:
    closes = bool(
        re.search("再|然后|之后|以后|后|之和|的和|之差|的差|结果|合计|加起来|，", gap)
    )
    if quantity.unit == "次方":
        return "**", False, ("", "")
    found = [m for m in _OPERATOR.finditer(gap)]
    signs = [_OPERATORS[int(m.lastgroup[1:])][1] for m in found]
    head = "".join(s for s in signs if s == ")")
    tail = "".join(s for s in signs if s == "(")
    main = [s for s in signs if s not in "()"]
    if (
        not main
        and quantity.kind == "rate"
        and (quantity.unit in ("折", "成") or "的" in gap)
    ):
        main = ["*"]
    if not main and head and tail:
        main = ["*"]
    if (
        not main
        and re.search(r"平均|每个?月|平摊|均摊", gap)
        and quantity.kind == "duration"
    ):
        main = ["/"]
    return (main[0] if len(set(main)) == 1 else None), closes, (head, tail)


def _finish(text: str, rest: str, num_values: int) -> str:
    """Adds what follows the last number: squares, a mean per month, one part in n."""
    wrapped = f"({text})" if num_values > 1 else text
    if match := _POWER.search(rest):
        return f"{text} ** {2 if match[1] == '平方' else 3}"
    if (
        re.search(r"平均每个?月|每个?月平均|月均|一个?月(?:平均|多少|是多少|合)", rest)
        and num_values == 1
    ):
        return f"{wrapped} / 12"
    if re.search(r"平均每个?季|季均", rest):
        return f"{wrapped} / 4"
    if re.search(r"的?一半", rest):
        return f"{wrapped} / 2"
    return text


_EACH_PRICE = r"每|单价|[元块角毛]钱?一(?!共|起|次)|股价|均价|净值|市价|成交价"


def _product(question: Question, numbers: list[Quantity]) -> str | None:
    """An amount with its rate, a count with its unit price, a fee of every period.

    Three factors: a count, a unit price and a rate; or an amount, a rate and periods.
    """
    kinds = sorted(q.kind for q in numbers)
    money = [q for q in numbers if q.kind in ("amount", "number")]
    shares = [q for q in numbers if q.kind == "rate"]
    spans = [q for q in numbers if q.kind == "duration"]
    if len(numbers) not in (2, 3) or not money or len(shares) > 1 or len(spans) > 1:
        return None
    if len(money) == 2 and (spans or not question.has(_EACH_PRICE)):
        return None
    if spans and not question.has("每|平均|月均|一年[交缴付]|一个月[交缴付]"):
        return None
    factors = [plain(q.value) for q in money + shares]
    if not spans:
        return " * ".join(factors) if len(kinds) > 1 else None
    length = plain(_periods(question, spans[0]))
    if question.has(r"平均|摊|折合每") and not shares:
        return f"{factors[0]} / {length}"
    return " * ".join([*factors, length])


def _periods(question: Question, span: Quantity) -> Decimal:
    """A duration counted in what 每 names: 3 years of 每月 are 36."""
    monthly = question.has("每一?个?月|月均|平均每?个?月")
    if span.unit == "years" and monthly:
        return span.value * 12
    return span.value


def _rate_change(question: Question, numbers: list[Quantity]) -> str | None:
    """A rate with basis points added or taken off, in whatever order they are said."""
    if len(numbers) != 2 or any(q.kind != "rate" for q in numbers):
        return None
    points = [q for q in numbers if q.unit in ("bp", "pp")]
    bases = [q for q in numbers if q.unit == "%"]
    if len(points) != 1 or len(bases) != 1:
        return None
    words = question.left(points[0])[-4:]
    sign = "-" if re.search("减|降|下调|下浮|少|低|跌|-", words) else ""
    sign = sign or ("+" if re.search(r"加|升|上调|上浮|高|涨|增|\+", words) else "")
    if not sign:
        return None
    return f"{plain(bases[0].value)} {sign} {plain(points[0].value)}"


_NOW = "今年|本年|本期|本月|本季"
_THEN = "去年|上年|上期|上月|上季|前年|同期"


def _growth_of_parts(question: Question, numbers: list[Quantity]) -> str | None:
    """Growth of summed parts; an amount belongs to the year named before it."""
    text = question.text
    labels = [(m.end(), m[0]) for m in re.finditer(f"{_NOW}|{_THEN}", text)]
    if len(numbers) < 3 or not _GROWTH.search(text) or not labels:
        return None
    sums: dict[bool, list[str]] = {True: [], False: []}
    for quantity in numbers:
        said = [label for end, label in labels if end <= quantity.start]
        if quantity.kind not in ("amount", "number") or not said:
            return None
        sums[bool(re.fullmatch(_NOW, said[-1]))].append(plain(quantity.value))
    if not sums[True] or not sums[False]:
        return None
    now, then = (" + ".join(sums[key]) for key in (True, False))
    return f"(({now}) - ({then})) / ({then})"


def result_unit(question: Question, expression: str) -> str:
    """The unit asked for: 元, 万元, 亿元, % or "" for a bare number."""
    if match := re.search(r"(?:多少|几)个?(万|亿)元?", question.text):
        return match[1] + "元"
    if re.search(r"(?:多少|几)个?(?:基点|bp|BP)", question.text):
        return "bp"
    if re.search(r"小数", question.text):
        return ""
    kinds = [
        q.kind
        for q in question.of("amount", "number", "rate", "duration")
        if not _is_decoration(question, q)
    ]
    if re.search(
        r"百分之几|百分之多少|百分比|几个百分点|多少个百分点|多少%|百分数",
        question.text,
    ):
        return "%"
    if _GROWTH.search(question.text) and "/" in expression:
        return "%"
    if (
        _RATIO.search(question.text)
        and "/" in expression
        and "amount" in kinds + ["amount"]
    ):
        return "%"
    if kinds and all(k == "rate" for k in kinds):
        return "%"
    amounts = question.of("amount")
    if _TIMES.search(question.text):
        return "倍"
    if amounts and all(a.unit in ("", "CNY") for a in amounts):
        return "元"
    if question.has(
        "多少钱|元|块|费|税|金额|利息|保费|佣金|价|工资|奖金|收入|利润|货款|费用"
    ):
        return "元"
    return ""
