"""The calculations: every result worked out anew, answers read by hand, nothing taught."""

import random
import re
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction as F
from itertools import cycle, islice
from pathlib import Path

import pytest

from finllm_utils.data.figures import figures
from finllm_utils.data.tasks_formulas import FORMULAS, formulas
from finllm_utils.evals.models.prompts import Failure
from finllm_utils.evals.suites import numeric_suite as num
from tests.data.risk_answers import AGAIN as RISK
from tests.data.test_tasks_formulas import AGAIN as OLDER

SAMPLES = Path(__file__).resolve().parents[2] / "data_samples"
NUM_TRAINED = 600  # of each stream; the small profile draws 240 in stage 1
AGAIN = OLDER | RISK


def cents(value: F) -> Decimal:
    exact = Decimal(value.numerator) / value.denominator
    return exact.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)


def own_results(kind: str, key: dict[str, str]) -> Decimal:
    of = {name: F(value) for name, value in key.items()}
    if kind == "deposit_days":
        return cents(of["money"] * of["rate"] / 100 * of["days"] / 360)
    if kind == "kth_payment":
        part = of["money"] / of["months"]
        left = of["money"] - part * (of["k"] - 1)
        return cents(part + left * of["rate"] / 1200)
    if kind == "vat_inside":
        return Decimal(key["gross"]) - cents(of["gross"] / (1 + of["percent"] / 100))
    if kind == "fund_shares":
        return cents(F(cents(of["paid"] / (1 + of["percent"] / 100))) / of["nav"])
    return cents((of["sell"] + of["income"] - of["buy"]) / of["buy"] * 100)


@pytest.mark.parametrize("kind", num.MAKERS)
def test_every_result_is_worked_out_again(kind):
    for number in range(num.PER_KIND):
        key, item = num.drawn(kind, number)
        again = AGAIN[kind](key)["result"] if kind in AGAIN else own_results(kind, key)
        assert item.value == Decimal(again) > 0
        assert -item.value.as_tuple().exponent == item.places
        assert item.mark(f"先算利率，再算。答案：{item.value}").credit == 1
        assert item.mark(f"所以是{item.value:,}{item.unit}。").credit == 1


def test_the_exam_is_whole_and_always_the_same():
    items = num.numeric_items()
    assert len(items) == len({item.question for item in items}) == 125
    assert items == num.numeric_items()
    assert len({item.kind for item in num.numeric_items(25)}) == 25
    for item in items:
        assert "{" not in item.question and item.unit in num.UNITS
        assert item.value not in {figure.value for figure in figures(item.question)}
    assert num.baseline_shares(items) == {"last_number": 0, "largest_number": 0}


def trained() -> tuple[set, set[str]]:
    """Numbers by kind, and questions, of the streams of 05 at seeds 0 to 2."""
    keys, questions = set(), set()
    for seed in range(3):
        for stream in ("formula", "stage2/formula", "heldout/formula"):
            rng = random.Random(f"{seed}/{stream}")
            for name, make in islice(cycle(FORMULAS.items()), NUM_TRAINED):
                question, _, key = make(rng)
                keys.add((name, frozenset(key.items())))
                questions.add(question)
    return keys, questions


def test_no_question_and_no_numbers_are_trained_on():
    keys, questions = trained()
    same = next(formulas(None, random.Random("0/formula"))).messages[0].content
    assert same in questions  # the streams are those of 05
    for kind in num.MAKERS:
        for number in range(num.PER_KIND):
            key, item = num.drawn(kind, number)
            assert (kind, frozenset(key.items())) not in keys
            assert item.question not in questions


def test_no_wording_stands_among_the_instructions():
    texts = [p.read_text("utf-8") for p in (SAMPLES / "instructions").rglob("*.jsonl")]
    assert len(texts) > 3
    whole = "\n".join(texts)
    for item in num.numeric_items():
        assert item.question[:30] not in whole


@pytest.mark.parametrize(
    ("answer", "unit", "value"),
    [
        ("利息是1,234.50元。", "元", "1234.50"),
        ("约1.2万元", "元", "12000"),
        ("共3亿，答案：2.5亿元", "元", "250000000"),
        ("答案：12，验算：11", "元", "12"),
        ("答案：1。不对，答案：2", "元", "2"),
        ("答案：利率3%，利息45元", "元", "45"),
        ("1200份，净值1.05元", "份", "1.05"),
        ("占4.21％，按365天", "%", "4.21"),
        ("高35个基点", "%", "0.35"),
        ("答案：4.21", "%", "4.21"),
        ("年化３.5%", "%", "3.5"),
        ("有3%", "元", None),
        ("大约五千元", "元", None),
        ("12345，答案：", "元", None),
        ("", "元", None),
    ],
)
def test_a_free_answer_is_read(answer, unit, value):
    assert num.read_value(answer, unit) == (None if value is None else Decimal(value))


ITEM = num.NumericItem(
    id="n/1", kind="k", question="存2万元3年？", value=Decimal("1234.56"), unit="元",
    places=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "credit", "detail"),
    [
        ("1234.56", 1, ""),
        ("1234.5649元", 1, ""),
        ("1234.57", 0, "read as 1234.57元"),
        ("1234.6", 0, "read as 1234.6元"),
        ("0.123456万元", 1, ""),
        ("不知道", 0, "no figure that can be 元"),
    ],
)
def test_credit_by_hand(answer, credit, detail):
    mark = ITEM.mark(answer)
    assert (mark.credit, mark.given, mark.detail) == (credit, answer, detail)


def test_the_baselines_by_hand():
    assert num.last_number(ITEM.question) == "3"
    assert num.largest_number(ITEM.question) == "20000"


def test_the_suite_marks_and_keeps_failures_apart():
    suite = num.numeric_suite(25, 48)
    right = {item.id: item.expected for item in num.numeric_items(25)}

    class Answers:
        name = "m"

        def answers(self, prompts, max_new_tokens):
            assert max_new_tokens == 48
            said = [right[prompt.id] for prompt in prompts]
            return [Failure("time-out"), "不知道", *said[2:]]

    first, second, *rest = suite.run(Answers())
    assert (first.status, first.detail) == ("failed", "time-out")
    assert (second.status, second.credit) == ("scored", 0)
    assert re.search("no figure", second.detail)
    assert all(one.credit == 1 and one.group for one in rest)
    assert suite.baseline == 0 and set(suite.questions) == set(right)
