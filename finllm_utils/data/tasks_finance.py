"""Finance instruction tasks: insurance answers, statutes, exact calculations and terms.

Same shape as ``tasks_general``: (texts, rng) -> Instructions. Figures come from the
calculators of ``finllm_utils.finance``, never from a model.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from finllm_utils.data.wordings import (
    Source,
    endless,
    ends_well,
    fill,
    first_sentences,
    one_turn,
)
from finllm_utils.finance.funds import fund_subscription
from finllm_utils.finance.interest import compound_interest, simple_interest
from finllm_utils.finance.loans import loan_equal_principal
from finllm_utils.finance.tax import vat_split
from finllm_utils.records import Instruction

Task = Iterator[Instruction]
INSURANCE_KINDS = {
    "annuities": "年金保险",
    "auto-insurance": "汽车保险",
    "critical-illness-insurance": "重大疾病保险",
    "disability-insurance": "失能保险",
    "health-insurance": "健康保险",
    "home-insurance": "房屋保险",
    "life-insurance": "人寿保险",
    "long-term-care-insurance": "长期护理保险",
    "medicare-insurance": "联邦医疗保险",
    "other-insurance": "其他保险",
    "renters-insurance": "租房保险",
    "retirement-plans": "退休计划",
}
"""insuranceqa's twelve domains in Chinese."""
_DEFINITION = re.compile(r"本法所称的?([^，。、（]{2,12})，?是指([^。]{6,90}。)")


@dataclass(frozen=True, slots=True)
class QA:
    """One insurance question with one of its right answers, in both languages."""

    id: str
    kind: str
    zh: str
    en: str
    answer: str


@dataclass(frozen=True, slots=True)
class FinanceTexts:
    """Text of finance tasks.

    An article's label is its law's short name and number, such as 保险法第二条; the
    text of a term is its definition.
    """

    questions: tuple[QA, ...]
    articles: tuple[Source, ...]
    terms: tuple[Source, ...]
    max_answer_chars: int = 100
    plain_questions: bool = False  # ask insurance questions as customers do, bare


def short_answer(qa: QA, high: int) -> str:
    """The answer's first sentences within ``high`` characters; empty if unfit.

    Unfit: no whole sentence fits, under 12 characters, or a fifth of it is Latin
    (machine translation left it in English). A question repeated first is cut off.
    """
    answer = first_sentences(qa.answer.removeprefix(qa.zh).strip(), high)
    latin = sum(c.isascii() and c.isalpha() for c in answer)
    return "" if len(answer) < 12 or latin > len(answer) / 5 else answer


def insurance_qa(texts: FinanceTexts, rng: random.Random) -> Task:
    """A customer's question -> the first sentences of a right answer.

    Half of the questions stand alone: that is how prompts look in 08 and 09.
    """
    wordings = ("{text}",)
    if not texts.plain_questions:
        wordings = wordings * 3 + (
            "客户问：{text}请简要回答。",
            "请回答下面的保险问题：{text}",
            "作为保险顾问，请回答：{text}",
        )
    for qa in rng.sample(texts.questions, len(texts.questions)):
        if answer := short_answer(qa, texts.max_answer_chars):
            question = fill(wordings, rng, text=qa.zh)
            yield one_turn("insurance_qa", "finance", qa.id, question, answer)


def insurance_kind(texts: FinanceTexts, rng: random.Random) -> Task:
    """A question -> the kind of insurance it is about."""
    wordings = (
        "这个问题属于哪一类保险？{text}",
        "请给客户的问题分类：{text}",
        "下面的问题应转给哪个险种的客服？\n{text}",
    )
    for qa in rng.sample(texts.questions, len(texts.questions)):
        question = fill(wordings, rng, text=qa.zh)
        answer = f"{INSURANCE_KINDS[qa.kind]}。"
        yield one_turn("insurance_kind", "finance", qa.id, question, answer)


def translate(texts: FinanceTexts, rng: random.Random) -> Task:
    """A question in Chinese -> in English, and the other way round."""
    wordings = (
        "翻译成{to}：{text}",
        "请把这句话译成{to}。\n{text}",
        "用{to}怎么说：{text}",
    )
    for qa in rng.sample(texts.questions, len(texts.questions)):
        if rng.random() < 0.5:
            to, text, answer = "英文", qa.zh, qa.en
        else:
            to, text, answer = "中文", qa.en, qa.zh
        question = fill(wordings, rng, to=to, text=text)
        yield one_turn("translate", "finance", qa.id, question, answer)


def statute(texts: FinanceTexts, rng: random.Random) -> Task:
    """A law and an article's number -> the article, word for word."""
    wordings = (
        "《{law}》{number}是怎么规定的？",
        "请给出《{law}》{number}的原文。",
        "《{law}》{number}的内容是什么？",
    )
    for source in rng.sample(texts.articles, len(texts.articles)):
        law, number = source.label.rsplit("第", 1)
        if 15 <= len(source.text) <= texts.max_answer_chars and ends_well(source.text):
            question = fill(wordings, rng, law=law, number=f"第{number}")
            yield one_turn("statute", "finance", source.id, question, source.text)


def statute_source(texts: FinanceTexts, rng: random.Random) -> Task:
    """An article -> the law and number it comes from."""
    wordings = (
        "这条规定出自哪里？{text}",
        "“{text}”是哪部法律第几条？",
        "请写出下面条文的出处。\n{text}",
    )
    for source in rng.sample(texts.articles, len(texts.articles)):
        law, number = source.label.rsplit("第", 1)
        if 15 <= len(source.text) <= 70:
            question = fill(wordings, rng, text=source.text)
            answer = f"《{law}》第{number}。"
            yield one_turn("statute_source", "finance", source.id, question, answer)


def definition(texts: FinanceTexts, rng: random.Random) -> Task:
    """A term -> its definition, from our own list or from a law's 本法所称."""
    wordings = (
        "什么是{text}？",
        "请解释“{text}”。",
        "{text}是什么意思？",
        "名词解释：{text}",
    )
    pool = [(s.id, s.label, s.text) for s in texts.terms]
    for source in texts.articles:
        if found := _DEFINITION.search(source.text):
            law = source.label.rsplit("第", 1)[0]
            text = f"《{law}》所称{found[1]}，是指{found[2]}"
            if len(text) <= texts.max_answer_chars:
                pool.append((source.id, found[1], text))
    for key, term, text in rng.sample(pool, len(pool)):
        question = fill(wordings, rng, text=term)
        yield one_turn("definition", "finance", key, question, text)


def _money(rng: random.Random) -> Decimal:
    return Decimal(rng.choice((1, 2, 3, 5, 8, 10, 12, 15, 20, 50))) * 1000


def _percent(rng: random.Random, low: int, high: int, step: str = "0.1") -> Decimal:
    return Decimal(rng.randint(low, high)) * Decimal(step)


def _calc_simple(rng: random.Random) -> tuple[str, str]:
    money, percent, months = (
        _money(rng),
        _percent(rng, 10, 60),
        rng.choice((3, 6, 12, 24)),
    )
    got = simple_interest(money, percent / 100, Decimal(months), "months")
    question = f"存款{money}元，年利率{percent}%，单利，存{months}个月，利息多少？"
    work = f"{money} × {percent}% × {months} ÷ 12 = {got.interest}"
    return question, f"{work}，利息为 {got.interest} 元。"


def _calc_compound(rng: random.Random) -> tuple[str, str]:
    money, percent, years = _money(rng), Decimal(rng.randint(1, 8)), rng.randint(2, 4)
    got = compound_interest(money, percent / 100, Decimal(years))
    question = f"本金{money}元，年利率{percent}%，每年复利，{years}年后本息共多少？"
    work = f"{money} × (1 + {percent}%)^{years} = {got.total}"
    return question, f"{work}，本息共 {got.total} 元。"


def _calc_loan(rng: random.Random) -> tuple[str, str]:
    months = rng.choice((12, 24, 60, 120))
    money, percent = (
        Decimal(months) * rng.choice((500, 1000, 2000)),
        _percent(rng, 12, 60),
    )
    got = loan_equal_principal(money, percent / 100, months)
    question = (
        f"贷款{money}元，年利率{percent}%，等额本金分{months}个月还，首月还多少？"
    )
    part = got.first_payment - got.monthly_principal
    work = (
        f"本金 {money} ÷ {months} = {got.monthly_principal}，利息 {money} × {percent}%"
    )
    return question, f"{work} ÷ 12 = {part}，首月还 {got.first_payment} 元。"


def _calc_vat(rng: random.Random) -> tuple[str, str]:
    gross, percent = _money(rng) + rng.randint(1, 999), rng.choice((3, 6, 9, 13))
    got = vat_split(gross, Decimal(percent) / 100)
    question = f"含税价{gross}元，增值税税率{percent}%，不含税价是多少？"
    work = f"{gross} ÷ (1 + {percent}%) = {got.net}"
    return question, f"{work}，不含税价 {got.net} 元，税额 {got.tax} 元。"


def _calc_fund(rng: random.Random) -> tuple[str, str]:
    paid, percent = _money(rng), rng.choice(("0.5", "0.8", "1", "1.2", "1.5"))
    got = fund_subscription(paid, Decimal(percent) / 100)
    question = f"申购基金{paid}元，费率{percent}%，外扣法，净申购金额是多少？"
    work = f"{paid} ÷ (1 + {percent}%) = {got.net_amount}"
    return question, f"{work}，净申购金额 {got.net_amount} 元，手续费 {got.fee} 元。"


def _calc_change(rng: random.Random) -> tuple[str, str]:
    before = Decimal(rng.choice((10, 20, 25, 40, 50, 80, 100)))
    after = before + rng.choice((-5, -4, -2, -1, 1, 2, 3, 5, 8))
    change = ((after - before) / before * 100).quantize(Decimal("0.01"))
    question = f"股价从{before}元变为{after}元，涨跌幅是多少？"
    word = "涨" if change > 0 else "跌"
    work = f"({after} - {before}) ÷ {before} = {change}%"
    return question, f"{work}，{word}了 {abs(change)}%。"


CALCULATIONS = (
    _calc_simple,
    _calc_compound,
    _calc_loan,
    _calc_vat,
    _calc_fund,
    _calc_change,
)


def calculation(texts: FinanceTexts, rng: random.Random) -> Task:
    """A money question -> the worked step and the exact figure."""
    wordings = ("{text}", "请计算：{text}", "{text}请写出算式。")
    for number, _ in endless(rng):
        question, answer = CALCULATIONS[number % len(CALCULATIONS)](rng)
        question = fill(wordings, rng, text=question)
        yield one_turn("calculation", "finance", f"computed-{number}", question, answer)


def insurance_dialogue(texts: FinanceTexts, rng: random.Random) -> Task:
    """Conversations of two turns: two questions on the same kind of insurance."""
    waiting: dict[str, QA] = {}
    high = texts.max_answer_chars
    for qa in rng.sample(texts.questions, len(texts.questions)):
        answer = short_answer(qa, high)
        if not answer:
            continue
        if (first := waiting.pop(qa.kind, None)) is None:
            waiting[qa.kind] = qa
            continue
        start = one_turn(
            "insurance_dialogue",
            "finance",
            f"{first.id}+{qa.id}",
            first.zh,
            short_answer(first, high),
        )
        rest = one_turn("insurance_dialogue", "finance", qa.id, qa.zh, answer)
        yield Instruction(
            id=start.id,
            messages=start.messages + rest.messages,
            task=start.task,
            domain=start.domain,
            source=start.source,
        )


FINANCE_TASKS: dict[
    str, tuple[Callable[[FinanceTexts, random.Random], Task], float]
] = {
    "insurance_qa": (insurance_qa, 0.5),
    "calculation": (calculation, 0.1),
    "statute": (statute, 0.1),
    "statute_source": (statute_source, 0.06),
    "definition": (definition, 0.08),
    "translate": (translate, 0.08),
    "insurance_kind": (insurance_kind, 0.08),
}
"""Every finance task with its share of the finance instructions."""
