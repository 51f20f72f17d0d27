"""Questions on a small Markdown table: read a cell, compare rows, compute from cells.

The tables are drawn: plausible figures, made-up names, no real company. About one
question in eight asks for what the table lacks, and the answer says what it has.
"""

import random
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from finllm_utils.data.tasks_finance import FinanceTexts, Task
from finllm_utils.data.wordings import endless, fill, one_turn
from finllm_utils.finance.conventions import exact, round_half_up

ABSENT_SHARE = 0.125
"""Share of questions that the table cannot answer."""
TOPICS = """
# 人民币定期存款年利率 银行 哪家银行
rows 甲银行 乙银行 丙银行 丁银行 戊银行 己银行
col 3个月利率 % 高低 65 104 2 6个月利率 % 高低 105 125 2 1年期利率 % 高低 126 155 2
col 2年期利率 % 高低 156 180 2 3年期利率 % 高低 181 220 2
none 5年期利率 活期利率 大额存单利率 起存金额
# 开放式基金净值 基金 哪只基金
rows 甲基金 乙基金 丙基金 丁基金 戊基金 己基金
col 单位净值 元 高低 8200 16500 4 累计净值 元 高低 17000 31000 4
col 管理费率 % 高低 30 120 2 申购费率 % 高低 60 150 2
none 最大回撤 近一月涨幅 基金规模 夏普比率
# 某公司分季度业绩 季度 哪个季度 ordered
rows 一季度 二季度 三季度 四季度
col 营业收入 亿元 高低+ 5000 7000 2 营业成本 亿元 高低+ 2500 4000 2
col 净利润 亿元 高低+ 400 900 2
ratio 净利率 净利润 营业收入
none 经营现金流 资产总额 研发费用 每股收益
# 贷款五级分类情况 分类 哪一类贷款 whole
rows 正常类*400 关注类*12 次级类*4 可疑类*3 损失类*1
col 年初余额 亿元 高低+ 240 300 1 年末余额 亿元 高低+ 245 330 1
pair 年初余额 年末余额
group 不良贷款率 次级类 可疑类 损失类
none 拨备余额 核销金额 加权利率 户数
# 信用卡收费标准 卡种 哪种卡
rows 普卡*1 金卡*3 白金卡*12 钻石卡*36
col 年费 元 高低 50 100 0 取现手续费率 % 高低 50 250 2 外汇兑换费率 % 高低 80 180 2
none 信用额度 积分倍数 违约金比例 分期费率
# 美元现汇牌价（每100美元） 日期 哪一天 ordered
rows 周一 周二 周三 周四 周五
col 现汇买入价 元 高低 70600 71100 2 中间价 元 高低 71120 71320 2
col 现汇卖出价 元 高低 71350 71850 2
none 现钞买入价 成交量 远期汇率 离岸汇率
# 各分行存贷款情况 机构 哪家分行
rows 东区分行 西区分行 南区分行 北区分行 中心分行 新区分行
col 存款余额 亿元 高低+ 2200 4800 1 贷款余额 亿元 高低+ 1200 2150 1
col 客户数 万户 多少+ 80 460 1
ratio 存贷比 贷款余额 存款余额
none 不良贷款率 员工人数 中间业务收入 网点数
# 分险种保费与赔付情况 险种 哪个险种
rows 寿险*6 健康险*3 意外险*1 车险*5 家财险*1 责任险*2
col 保费收入 万元 高低+ 900 1500 0 赔付支出 万元 高低+ 250 850 0
ratio 赔付率 赔付支出 保费收入
none 退保金 保单件数 佣金支出 投资收益
# 股票持仓明细 股票 哪只股票
rows 股票甲 股票乙 股票丙 股票丁 股票戊 股票己
col 持股数 股 多少 3 98 -2 现价 元 高低 500 5200 2 成本价 元 高低 500 4800 2
product 市值 元 持股数 现价
none 市净率 股息率 市盈率 换手率
# 在售理财产品 产品 哪款产品
rows 甲款 乙款 丙款 丁款 戊款 己款
col 期限 天 长短 30 720 0 业绩比较基准 % 高低 180 360 2 募集规模 亿元 大小+ 20 300 1
none 托管费率 管理费率 起购金额 历史收益率
# 信用卡应收与逾期情况 月份 哪个月 ordered
rows 7月 8月 9月 10月 11月 12月
col 应收余额 万元 高低 68000 82000 1 逾期余额 万元 高低 1100 2300 1
ratio 逾期率 逾期余额 应收余额
none 核销金额 回收金额 授信总额 活跃卡量
"""
"""A kind of table a block: title, first column, how to ask for a row.

``col``: name, unit, words for most and least (+ if rows may be added up), lowest and
highest in units of the last decimal, decimals. A row ``name*n`` has n times as much
(but for percentages). ``none``: what the table never has. In the heading, ``ordered``
says that the rows are periods, ``whole`` that none is left out.
"""
ASKS = """
cell {row}的{col}是多少？ / 查一下{row}的{col}。 / 表里{row}那一行，{col}写的是多少？
cell 我只想知道一个数：{row}的{col}。 / {col}这一列，{row}对应的数值是多少？
cells {row}的{a}和{b}各是多少？ / 请读出{row}的{a}、{b}。 / {row}：{a}多少，{b}多少？
reverse {which}的{col}是{value}？ / 哪行的{col}等于{value}？ / {col}为{value}的是哪个？
extreme {which}的{col}最{word}？ / 按{col}看，最{word}的是哪一个，数值多少？
extreme 找出{col}最{word}的一行。 / {col}最{word}的那一行是什么，有多少？
order 按{col}从{more}到{less}排序。 / {col}由{more}到{less}怎么排？ / 给{col}排名。
over {col}超过{value}的有几个，分别是哪些？ / 筛选出{col}大于{value}的行。
over 把{col}高于{value}的都列出来，并说明个数。
rows {a}和{b}比，哪个的{col}更{more}，{more}多少？ / {a}与{b}的{col}相差多少？
rows {a}的{col}比{b}{more}还是{less}，差多少？
moved_period {which}的{col}较上一期变动最大？ / 哪期的{col}环比变动最大（按数值）？
moved_period 逐期看{col}，变化最大的一期是哪个，由多少变为多少？
moved_pair {which}从{a}到{b}变动最大（按数值）？ / 比较{a}与{b}，哪行变化最大？
growth_period {b}的{col}比{a}变动了百分之几？ / {col}从{a}到{b}的增长率是多少？
growth_period 计算{b}{col}的环比增幅（与{a}相比）。
growth_pair {row}从{a}到{b}变动了百分之几？ / {row}的{b}较{a}的增长率是多少？
total {col}合计是多少？ / 把表中各项{col}加起来，一共多少？ / 求{col}的总和。
gap {row}的{a}与{b}相差多少？ / {row}的{a}减去{b}是多少？ / 算一下{row}{a}和{b}的差。
share {row}的{col}占合计的百分之几？ / {col}里{row}占比多少？ / {row}的{col}占比？
mean 各项{col}的简单平均数是多少？ / {col}平均下来是多少？ / 求{col}的算术平均值。
ratio {row}的{name}是多少（{a}÷{b}）？ / 用{a}除以{b}算{row}的{name}。 / 求{row}{name}。
product {row}的{name}是多少？ / {row}按{b}算{name}多少？ / 求{row}的{name}（{a}×{b}）。
group {name}是多少（按{col}）？ / 按{col}计算{name}，不良包括{parts}。
"""
"""Wordings by kind of question."""
_PLAIN = ("{table}\n{ask}", "{ask}\n{table}", "根据表格回答：{ask}\n{table}")
LAYOUTS = (*_PLAIN, "{title}：\n{table}\n{ask}", "下表是{title}。{ask}\n{table}")


class Column(NamedTuple):
    """A column of figures; ``words`` as 高低: most and least."""

    name: str
    unit: str
    words: str
    low: int
    high: int
    places: int

    def show(self, value: Decimal, gap: bool = False) -> str:
        """With its unit: 1.50%, 3.2 亿元; a gap of percentages is 0.1 个百分点."""
        if self.unit == "%":
            return f"{value} 个百分点" if gap else f"{value}%"
        return f"{value} {self.unit}"


class Topic(NamedTuple):
    """What a kind of table may hold; ``rules`` are its lines but ``col``, by kind."""

    title: str
    corner: str
    which: str
    columns: list[Column]
    rules: dict[str, list[str]]


class Sheet(NamedTuple):
    """A drawn table: ``cells[row][column]``."""

    topic: Topic
    columns: list[Column]
    cells: dict[str, dict[str, Decimal]]

    def pick(self, rng: random.Random, adds: bool = False) -> tuple:
        """A column, its figures by row, and a row. Raises LookupError if none adds."""
        c = rng.choice([c for c in self.columns if "+" in c.words or not adds])
        values = {row: cells[c.name] for row, cells in self.cells.items()}
        return c, values, rng.choice(list(values))

    def markdown(self) -> str:
        """The table, units in the heading."""
        lines = [[self.topic.corner, *(f"{c.name}（{c.unit}）" for c in self.columns)]]
        lines.append(["---"] * len(lines[0]))
        lines += [[row, *map(str, cells.values())] for row, cells in self.cells.items()]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _topic(block: str) -> Topic:
    head, *lines = block.strip().split("\n")
    title, corner, which, *flags = head.split()
    columns, rules = [], {flag: [] for flag in flags}
    for kind, *rest in map(str.split, lines):
        rules.setdefault(kind, []).extend(rest)
    while found := rules["col"][:6]:
        columns.append(Column(*found[:3], *map(int, found[3:])))
        del rules["col"][:6]
    return Topic(title, corner, which, columns, rules)


_TOPICS = [_topic(block) for block in TOPICS.split("\n# ")[1:]]
_ASKS: dict[str, tuple[str, ...]] = {}
for _kind, *_words in (line.split() for line in ASKS.strip().split("\n")):
    _ASKS[_kind] = _ASKS.get(_kind, ()) + tuple(w for w in _words if w != "/")


def _sheet(rng: random.Random) -> Sheet:
    """A table of 3 to 6 rows and 2 to 5 columns; no figure twice in a column."""
    topic = rng.choice(_TOPICS)
    rows, columns = topic.rules["rows"], topic.columns
    if "whole" not in topic.rules:
        number = rng.randint(3, len(rows))
        start = rng.randint(0, len(rows) - number)
        if "ordered" not in topic.rules:  # periods must follow each other
            rows, start = sorted(rng.sample(rows, number), key=rows.index), 0
        rows = rows[start : start + number]
        first = rng.randint(0, len(columns) - 2)
        columns = columns[first : rng.randint(first + 2, len(columns))]
    cells: dict[str, dict[str, Decimal]] = {row.split("*")[0]: {} for row in rows}
    for c in columns:
        drawn = rng.sample(range(c.low, c.high + 1), len(rows))
        for row, value in zip(rows, drawn, strict=True):
            name, _, times = row.partition("*")
            value *= int(times or 1) if c.unit != "%" else 1
            cells[name][c.name] = value * Decimal(10) ** -c.places
        if len({row[c.name] for row in cells.values()}) < len(cells):
            return _sheet(rng)  # 4 times 240 is 3 times 320
    return Sheet(topic, columns, cells)


def _ask(kind: str, rng: random.Random, c: Column | None = None, **slots: str) -> str:
    if c is not None:
        slots |= dict(col=c.name, more=c.words[0], less=c.words[1])
    return fill(_ASKS[kind], rng, **slots)


def _quotient(top: list[Decimal], bottom: list[Decimal]) -> tuple[str, str]:
    """The worked step, and its value in percent."""
    with exact():
        value = f"{round_half_up(sum(top) / sum(bottom) * 100)}%"
    left, right = (" + ".join(map(str, part)) for part in (top, bottom))
    left = f"({left})" if len(top) > 1 else left
    return f"{left} ÷ {f'({right})' if len(bottom) > 1 else right} = {value}", value


def _cell(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, values, row = s.pick(rng)
    return _ask("cell", rng, c, row=row), f"{row}的{c.name}是 {c.show(values[row])}。"


def _cells(s: Sheet, rng: random.Random) -> tuple[str, str]:
    (_, _, row), (a, b) = s.pick(rng), rng.sample(s.columns, 2)
    x, y = (c.show(s.cells[row][c.name]) for c in (a, b))
    ask = _ask("cells", rng, row=row, a=a.name, b=b.name)
    return ask, f"{row}的{a.name}是 {x}，{b.name}是 {y}。"


def _reverse(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, values, row = s.pick(rng)
    shown = c.show(values[row])
    ask = _ask("reverse", rng, c, which=s.topic.which, value=shown.replace(" ", ""))
    return ask, f"是{row}，它的{c.name}是 {shown}。"


def _extreme(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, values, _ = s.pick(rng)
    place, word = rng.choice(((max, c.words[0]), (min, c.words[1])))
    row = place(values, key=values.get)
    ask = _ask("extreme", rng, c, which=s.topic.which, word=word)
    return ask, f"{row}的{c.name}最{word}，为 {c.show(values[row])}。"


def _order(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, values, _ = s.pick(rng)
    ranked = sorted(values, key=values.get, reverse=True)
    shown = "、".join(f"{row}（{c.show(values[row])}）" for row in ranked)
    return _ask("order", rng, c), f"{shown}。"


def _over(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, values, _ = s.pick(rng)
    ranked, place = sorted(values.values()), rng.randint(1, len(values) - 1)
    limit = round_half_up(sum(ranked[place - 1 : place + 1]) / 2, max(0, c.places))
    found = [row for row, value in values.items() if value > limit]
    ask = _ask("over", rng, c, value=c.show(limit).replace(" ", ""))
    return ask, f"有 {len(found)} 个：{'、'.join(found)}。" if found else "一个也没有。"


def _rows(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, values, _ = s.pick(rng)
    a, b = rng.sample(list(values), 2)
    ask = _ask("rows", rng, c, a=a, b=b)
    a, b = sorted((a, b), key=values.get, reverse=True)
    gap = values[a] - values[b]
    work = f"{values[a]} - {values[b]} = {gap}，相差 {c.show(gap, gap=True)}"
    return ask, f"{a}的{c.name}更{c.words[0]}：{work}。"


def _steps(s: Sheet, rng: random.Random) -> tuple[Column, str, list[tuple]]:
    """(row, from, to, before, after) of every change, and what kind of change it is."""
    c, values, _ = s.pick(rng)
    if "pair" in s.topic.rules:
        a, b = s.topic.rules["pair"]
        return c, "pair", [(row, a, b, v[a], v[b]) for row, v in s.cells.items()]
    if "ordered" not in s.topic.rules:
        raise LookupError("the rows are no periods")
    steps = pairwise(values.items())
    return c, "period", [(b, a, b, x, y) for (a, x), (b, y) in steps]


def _moved(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, kind, steps = _steps(s, rng)
    sizes = sorted((abs(y - x) for *_, x, y in steps), reverse=True)
    if sizes[0] == sizes[1]:
        raise LookupError("two changes are the greatest")
    row, a, b, x, y = max(steps, key=lambda step: abs(step[4] - step[3]))
    ask = _ask(f"moved_{kind}", rng, c, which=s.topic.which, a=a, b=b)
    size = ("增加 " if y > x else "减少 ") + c.show(abs(y - x), gap=True)
    return ask, f"{row}变动最大，由 {x} 变为 {y}，{size}。"


def _total(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, values, _ = s.pick(rng, adds=True)
    total = sum(values.values())
    work = f"{' + '.join(map(str, values.values()))} = {total}"
    return _ask("total", rng, c), f"{work}，合计 {c.show(total)}。"


def _difference(s: Sheet, rng: random.Random) -> tuple[str, str]:
    (_, _, row), (a, b) = s.pick(rng), rng.sample(s.columns, 2)
    x, y = s.cells[row][a.name], s.cells[row][b.name]
    if a.unit != b.unit or x <= y:
        raise LookupError("two columns of one unit are needed")
    ask = _ask("gap", rng, row=row, a=a.name, b=b.name)
    return ask, f"{x} - {y} = {x - y}，相差 {a.show(x - y, gap=True)}。"


def _share(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, values, row = s.pick(rng, adds=True)
    work, part = _quotient([values[row]], list(values.values()))
    return _ask("share", rng, c, row=row), f"{work}，{row}占 {part}。"


def _growth(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, kind, steps = _steps(s, rng)
    steps = [step for step in steps if abs(step[4] - step[3]) > step[3] / 10_000]
    row, a, b, x, y = rng.choice(steps)
    change = round_half_up((y - x) / x * 100)
    word = "增长" if change > 0 else "下降"
    ask = _ask(f"growth_{kind}", rng, c, row=row, a=a, b=b)
    return ask, f"({y} - {x}) ÷ {x} = {change}%，{word} {abs(change)}%。"


def _mean(s: Sheet, rng: random.Random) -> tuple[str, str]:
    c, values, _ = s.pick(rng)
    figures = list(values.values())
    mean = round_half_up(sum(figures) / len(figures), max(2, c.places))
    work = f"({' + '.join(map(str, figures))}) ÷ {len(figures)} = {mean}"
    return _ask("mean", rng, c), f"{work}，平均 {c.show(mean)}。"


def _named(s: Sheet, rng: random.Random) -> tuple[str, str]:
    """A figure that the business has a name for: a ratio, a value, the bad loans."""
    c, values, row = s.pick(rng)
    kind = next((k for k in ("product", "group") if k in s.topic.rules), "ratio")
    name, *parts = s.topic.rules[kind]
    if kind == "group":
        work, got = _quotient([values[p] for p in parts], list(values.values()))
        ask = _ask(kind, rng, c, name=name, parts="、".join(parts))
        return ask, f"{work}，{name}是 {got}。"
    *unit, a, b = parts
    x, y = s.cells[row][a], s.cells[row][b]
    work, got = _quotient([x], [y])
    if kind == "product":
        work, got = f"{x} × {y} = {x * y}", f"{x * y} {unit[0]}"
    ask = _ask(kind, rng, row=row, name=name, a=a, b=b)
    return ask, f"{work}，{row}的{name}是 {got}。"


def _absent(s: Sheet, rng: random.Random, kind: str) -> tuple[str, str]:
    """A question of this kind about a column or a row that the table has not."""
    c, _, row = s.pick(rng)
    lacking = rng.choice(s.topic.rules["none"])
    has = f"只列出了{'、'.join(column.name for column in s.columns)}"
    others = {name.split("*")[0] for name in s.topic.rules["rows"]} - set(s.cells)
    if kind == "cell" and others and rng.random() < 0.4:
        lacking = rng.choice(sorted(others))
        ask, has = _ask(kind, rng, c, row=lacking), f"只有{'、'.join(s.cells)}"
    else:
        ask = _ask(kind, rng, row=row, col=lacking, which=s.topic.which, word="高")
    return ask, f"表中没有{lacking}，{has}，无法回答。"


def _stream(task: str, kind: str, makers: tuple, rng: random.Random) -> Task:
    for number, _ in endless(rng):
        lacking, make, made = rng.random() < ABSENT_SHARE, rng.choice(makers), None
        while made is None:
            sheet = _sheet(rng)
            try:
                made = _absent(sheet, rng, kind) if lacking else make(sheet, rng)
            except LookupError:
                continue
        slots = dict(title=sheet.topic.title, table=sheet.markdown(), ask=made[0])
        question = fill(LAYOUTS, rng, **slots)
        yield one_turn(task, "finance", f"computed-{number}", question, made[1])


def read_table(texts: FinanceTexts, rng: random.Random) -> Task:
    """A table and a question -> the cell, two cells, or the row that has a figure.

    ``texts`` is not used, here and below; the streams never end.
    """
    return _stream("table_read", "cell", (_cell, _cell, _cells, _reverse), rng)


def compare_table(texts: FinanceTexts, rng: random.Random) -> Task:
    """A table -> the row that is most or least, changed most, or the order of rows."""
    makers = (_extreme, _order, _over, _rows, _moved)
    return _stream("table_compare", "extreme", makers, rng)


def compute_table(texts: FinanceTexts, rng: random.Random) -> Task:
    """A table -> a sum, difference, share, growth, mean or ratio with its step."""
    makers = (_total, _difference, _share, _growth, _mean, _named)
    return _stream("table_compute", "mean", makers, rng)
