"""Table questions answered again from their text alone: another parser, Fractions."""

import itertools
import math
import random
import re
from collections import Counter
from fractions import Fraction as F

import pytest

from finllm_utils.data import tasks_tables as tt
from finllm_utils.data.instruction_formats import require_conversation

TASKS = {
    "table_read": tt.read_table,
    "table_compare": tt.compare_table,
    "table_compute": tt.compute_table,
}
RATIOS = {
    "净利率": ("净利润", "营业收入"),
    "存贷比": ("贷款余额", "存款余额"),
    "赔付率": ("赔付支出", "保费收入"),
    "逾期率": ("逾期余额", "应收余额"),
}
FIGURE = re.compile(r"\d+(?:\.\d+)?")


def items(task, number, seed=0):
    return list(itertools.islice(TASKS[task](None, random.Random(seed)), number))


def half_up(value, places):
    text = str(math.floor(abs(value) * 10**places + F(1, 2))).rjust(places + 1, "0")
    return text[:-places] + "." + text[-places:] if places else text


class Parsed:
    """A question split into its table and the sentence that asks."""

    def __init__(self, question):
        lines = question.split("\n")
        grid = [
            [cell.strip() for cell in line[1:-1].split("|")]
            for line in lines
            if line.startswith("|")
        ]
        assert set(grid[1]) == {"---"} and len({len(row) for row in grid}) == 1
        heads = [re.fullmatch("(.+)（(.+)）", head).groups() for head in grid[0][1:]]
        self.units = dict(heads)
        self.columns = [name for name, _ in heads]
        self.rows = [row[0] for row in grid[2:]]
        self.text = {
            row[0]: dict(zip(self.columns, row[1:], strict=True)) for row in grid[2:]
        }
        rest = [x for x in lines if not x.startswith("|") and not x.endswith("：")]
        assert len(rest) == 1
        ask = re.sub("^下表是[^。]*。|^根据表格回答：", "", rest[0])
        self.asked_columns, ask = self.take(ask, self.columns)
        self.asked_rows, ask = self.take(ask, self.rows)
        self.ask = ask

    @staticmethod
    def take(text, names):
        """Names that stand in the text, in its order, and the text without them."""
        pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        return re.findall(pattern, text), re.sub(pattern, "_", text)

    def value(self, row, column):
        return F(self.text[row][column])

    def column(self, name=None):
        name = name or self.asked_columns[0]
        return {row: self.value(row, name) for row in self.rows}

    def places(self, name=None):
        cell = self.text[self.rows[0]][name or self.asked_columns[0]]
        return len(cell.partition(".")[2])

    def unit(self, name=None, gap=False):
        unit = self.units[name or self.asked_columns[0]]
        if unit == "%":
            return " 个百分点" if gap else "%"
        return f" {unit}"


def read_again(p):
    """What the answer must hold, word for word."""
    if not p.asked_columns:
        return absent(p)
    column = p.asked_columns[0]
    if number := re.search(f"([\\d.]+){p.units[column]}", p.ask):
        rows = [row for row in p.rows if p.text[row][column] == number[1]]
        assert len(rows) == 1
        return f"是{rows[0]}，它的{column}是 {number[1]}{p.unit()}。"
    if not p.asked_rows:
        return absent(p)
    (row,) = p.asked_rows
    shown = [f"{c}是 {p.text[row][c]}{p.unit(c)}" for c in p.asked_columns]
    return f"{row}的{'，'.join(shown)}。"


def absent(p):
    """The words after 表中没有 must name what was asked and what there is."""
    return ("absent", p.columns if p.asked_rows or not p.asked_columns else p.rows)


def compare_again(p):
    if not p.asked_columns:
        return absent(p)
    if "变动最大" in p.ask or "变化最大" in p.ask:
        return moved_again(p)
    name, values = p.asked_columns[0], p.column()
    if limit := re.search("(?:超过|大于|高于)([\\d.]+)", p.ask):
        rows = [row for row in p.rows if values[row] > F(limit[1])]
        return f"有 {len(rows)} 个：{'、'.join(rows)}。" if rows else "一个也没有。"
    if "排" in p.ask:
        rows = sorted(p.rows, key=values.get, reverse=True)
        shown = [f"{row}（{p.text[row][name]}{p.unit()}）" for row in rows]
        return "、".join(shown) + "。"
    if len(p.asked_rows) == 2:
        low, high = sorted(p.asked_rows, key=values.get)
        gap = half_up(values[high] - values[low], p.places())
        work = f"{p.text[high][name]} - {p.text[low][name]} = {gap}"
        word = {"客户数": "多", "持股数": "多", "期限": "长", "募集规模": "大"}
        return (
            f"{high}的{name}更{word.get(name, '高')}：{work}，"
            f"相差 {gap}{p.unit(gap=True)}。"
        )
    word = re.search("最([高低多少长短大小])", p.ask)[1]
    best = max(values.values()) if word in "高多长大" else min(values.values())
    (row,) = [row for row in p.rows if values[row] == best]
    return f"{row}的{name}最{word}，为 {p.text[row][name]}{p.unit()}。"


def moved_again(p):
    if len(p.asked_columns) == 2:
        a, b = p.asked_columns
        steps = {row: (p.text[row][a], p.text[row][b]) for row in p.rows}
    else:
        name = p.asked_columns[0]
        cells = [p.text[row][name] for row in p.rows]
        steps = {row: (cells[i], cells[i + 1]) for i, row in enumerate(p.rows[1:])}
    size = {row: abs(F(y) - F(x)) for row, (x, y) in steps.items()}
    (row,) = [row for row in size if size[row] == max(size.values())]
    x, y = steps[row]
    gap = half_up(size[row], p.places())
    word = "增加" if F(y) > F(x) else "减少"
    return f"{row}变动最大，由 {x} 变为 {y}，{word} {gap}{p.unit(gap=True)}。"


def percent(value):
    return ("-" if value < 0 else "") + half_up(value * 100, 2) + "%"


def compute_again(p):
    """The end of the answer: what the worked step comes to."""
    named = [n for n in (*RATIOS, "市值", "不良贷款率") if n in p.ask]
    if named and (named[0] != "不良贷款率" or "次级类" in p.rows):
        return named_again(p, named[0])
    if not p.asked_columns:
        return absent(p)
    values, name = p.column(), p.asked_columns[0]
    if len(p.asked_columns) == 2 and "年初余额" not in p.columns:
        (row,) = p.asked_rows
        a, b = (p.value(row, c) for c in p.asked_columns)
        return f"相差 {half_up(abs(a - b), p.places())}{p.unit(gap=True)}。"
    if len(p.asked_columns) == 2 and re.search("相差|减去|的差", p.ask):
        (row,) = p.asked_rows
        a, b = (p.value(row, c) for c in p.asked_columns)
        assert a > b
        return f"相差 {half_up(a - b, p.places())}{p.unit(gap=True)}。"
    if re.search("变动|增长率|环比", p.ask):
        if len(p.asked_columns) == 2:
            before, after = (
                p.value(p.asked_rows[0], c) for c in ("年初余额", "年末余额")
            )
        else:
            first, second = sorted(p.asked_rows, key=p.rows.index)
            assert p.rows.index(second) == p.rows.index(first) + 1
            before, after = values[first], values[second]
        change = percent((after - before) / before)
        word = "下降" if after < before else "增长"
        return f" = {change}，{word} {change.strip('-')}。"
    if "占" in p.ask:
        (row,) = p.asked_rows
        return f"，{row}占 {percent(values[row] / sum(values.values()))}。"
    if "平均" in p.ask:
        mean = sum(values.values()) / len(values)
        return f"，平均 {half_up(mean, max(2, p.places()))}{p.unit()}。"
    assert re.search("合计|加起来|总和", p.ask), p.ask
    assert name in p.columns
    return f"，合计 {half_up(sum(values.values()), p.places())}{p.unit()}。"


def named_again(p, name):
    if name == "市值":
        (row,) = p.asked_rows
        value = p.value(row, "持股数") * p.value(row, "现价")
        return f"，{row}的市值是 {half_up(value, 2)} 元。"
    if name == "不良贷款率":
        values = p.column()
        bad = sum(values[row] for row in ("次级类", "可疑类", "损失类"))
        assert len(values) == 5
        return f"，不良贷款率是 {percent(bad / sum(values.values()))}。"
    (row,) = p.asked_rows
    top, bottom = (p.value(row, c) for c in RATIOS[name])
    return f"，{row}的{name}是 {percent(top / bottom)}。"


AGAIN = {
    "table_read": read_again,
    "table_compare": compare_again,
    "table_compute": compute_again,
}


@pytest.mark.parametrize("task", TASKS)
def test_answers_follow_from_the_table(task):
    for item in items(task, 600):
        question, answer = (turn.content for turn in item.messages)
        p = Parsed(question)
        expected = AGAIN[task](p)
        if isinstance(expected, tuple):
            names = re.fullmatch(
                "表中没有(.+?)，只(?:列出了|有)(.+)，无法回答。", answer
            )
            assert names[1] in question and names[1] not in p.columns + p.rows
            assert names[2].split("、") == expected[1]
        elif task == "table_compute":
            assert answer.endswith(expected), (question, answer, expected)
        else:
            assert answer == expected, (question, answer, expected)


def test_worked_steps_hold():
    """Both sides of every equation, worked out by a small evaluator of our own."""
    checked = 0
    for item in items("table_compute", 400) + items("table_compare", 200):
        question, answer = (turn.content for turn in item.messages)
        if " = " not in answer:
            continue
        left, right = re.search(
            "((?:[\\d(][^=：，]*)) = (-?[\\d.]+%?)", answer
        ).groups()
        cells = {
            cell for row in Parsed(question).text.values() for cell in row.values()
        }
        count = {str(len(Parsed(question).rows))} if "平均" in answer else set()
        assert set(FIGURE.findall(left)) <= cells | count
        value = evaluate(left) * (100 if right.endswith("%") else 1)
        digits = len(right.strip("%").partition(".")[2])
        sign = "-" if value < 0 else ""
        assert sign + half_up(value, digits) == right.strip("%")
        checked += 1
    assert checked > 350


def evaluate(text):
    """Sums and one quotient or product of sums in brackets."""
    for sign in (" ÷ ", " × "):
        if sign in text:
            left, right = (evaluate(part) for part in text.split(sign))
            return left / right if sign == " ÷ " else left * right
    signed = re.findall(r"(^|[+-]) ?([\d.]+)", text.strip("()"))
    return sum(F(number) * (-1 if sign == "-" else 1) for sign, number in signed)


def test_evaluator_by_hand():
    assert evaluate("(6.77 - 5.28) ÷ 5.28") == F(149, 528)
    assert evaluate("1 + 2.5 + 3") == F(13, 2)
    assert evaluate("100 × 2.5") == 250


@pytest.mark.parametrize("task", TASKS)
def test_one_question_in_eight_has_no_answer_there(task):
    found = items(task, 1200)
    absent_share = sum("表中没有" in i.messages[1].content for i in found) / len(found)
    assert 0.09 < absent_share < 0.16


@pytest.mark.parametrize("task", TASKS)
def test_shape_and_variety(task):
    found = items(task, 300)
    questions = [i.messages[0].content for i in found]
    assert len(set(questions)) >= 0.95 * 300
    assert len({i.id for i in found}) == 300
    corners = Counter(re.search(r"^\| (\S+) \|", q, re.M)[1] for q in questions)
    assert len(corners) >= 9 and max(corners.values()) < 150
    asks = {Parsed(q).ask for q in questions}
    assert len(asks) >= 10, "wordings"
    for item in found:
        require_conversation(item.messages, item.id)
        assert (item.task, item.domain) == (task, "finance")
        p = Parsed(item.messages[0].content)
        assert 3 <= len(p.rows) <= 6 and 2 <= len(p.columns) <= 5
        for column in p.columns:
            cells = [p.text[row][column] for row in p.rows]
            assert len({len(c.partition(".")[2]) for c in cells}) == 1
    assert sum(len(i.messages[1].content) <= 120 for i in found) >= 0.9 * 300


def test_same_seed_same_items():
    for task in TASKS:
        assert items(task, 60) == items(task, 60)
        assert items(task, 60) != items(task, 60, seed=1)


def test_every_kind_of_question_has_wordings_with_its_slots():
    assert len(tt._ASKS["cell"]) == 5 and len(tt._ASKS) >= 15
    for kind, wordings in tt._ASKS.items():
        assert len(set(wordings)) == len(wordings) >= 2, kind
        for wording in wordings:
            assert re.search(r"\{(col|a|name)\}", wording), wording
