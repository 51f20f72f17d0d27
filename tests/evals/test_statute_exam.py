"""The generated statute exam: every key follows from the article it names."""

import random
import re
from collections import Counter
from fractions import Fraction

import pytest

from finllm_utils.corpora.laws import laws
from finllm_utils.corpora.sources import training_laws
from finllm_utils.corpora.splits import load_splits
from finllm_utils.data.shingles import fold_texts
from finllm_utils.evals.exam.overlap import own_training_texts
from finllm_utils.evals.exam.statute_exam import (
    BLANK,
    FORMS,
    KINDS,
    LETTERS,
    TRUE_FALSE,
    exam_laws,
    statute_exam,
)
from finllm_utils.evals.exam.statute_numbers import QuantityPool, quantities
from finllm_utils.evals.exam.statute_terms import TermPool, opening_term
from finllm_utils.records import Document, ExamItem

PROOF = re.compile("《(?P<law>.+)》(?P<number>第.+条.*)")


@pytest.fixture(scope="module")
def exams() -> dict[str, list[ExamItem]]:
    return {form: statute_exam(form, seed=0, per_kind=400) for form in FORMS}


@pytest.fixture(scope="module")
def base() -> dict[tuple[str, str], str]:
    """{(law, number): wording}."""
    return {(law.name, a.number_zh): a.text for law in laws() for a in law.articles}


def kind_of(item: ExamItem) -> str:
    return item.id.split("/")[2]


def quote_of(item: ExamItem) -> str:
    return re.search("“(.+)”", item.question)[1]


def test_quantities_by_hand():
    found = quantities("自收到之日起三十日内，处违法所得一倍以上五倍以下罚款")
    assert [(q.text, q.unit) for q in found] == [
        ("三十日", "日"),
        ("一倍以上五倍以下", "倍-倍"),
    ]
    assert found[1].values == (1, 5)
    (share,) = quantities("按日加收百分之零点五的滞纳金")
    assert share.values == (Fraction(5, 1000),)
    assert quantities("处二千元以上二万元以下罚款")[0].values == (2000, 2)


@pytest.mark.parametrize(
    "text",
    ["依照本法第三十条规定", "自一九九三年起", "十二月三十一日", "第一百二十条之一"]
    + ["一人有限责任公司", "按年度计算", "一年级"],
)
def test_dates_and_numbers_of_articles_are_no_quantities(text):
    assert not quantities(text)


def test_wrong_numbers_are_near_and_stand_nowhere_in_the_article():
    pool = QuantityPool(["三日", "五日", "七日", "十日", "六十日", "十五日", "十年"])
    article = "应当在五日内答复，最长不超过七日。"
    true = quantities(article)[0]
    drawn = {
        text
        for seed in range(20)
        for text in pool.others(true, article, 2, random.Random(seed))
    }
    assert drawn == {"三日", "十日", "十五日"}  # 七日 stands there, 六十日 is far
    assert pool.others(true, article, 4, random.Random(0)) == []


def test_a_number_of_the_same_value_is_never_wrong():
    pool = QuantityPool(["两年", "二年", "三年", "一年", "四年"])
    true = quantities("期限为二年。")[0]
    for seed in range(20):
        assert "两年" not in pool.others(true, "期限为二年。", 3, random.Random(seed))


def test_subjects_and_defined_terms():
    assert opening_term("投保人应当如实告知。").text == "投保人"
    assert opening_term("本法所称货币，是指人民币。").kind == "defined"
    assert opening_term("有前款情形的应当如实告知。") is None
    assert opening_term("投保人应当告知投保人的情况。") is None, "stands there twice"


def test_wrong_terms_are_of_the_kind_and_no_variant():
    names = ["投保人", "受益人", "被投保人", "承运人", "保险公司"]
    pool = TermPool(("甲法", f"{n}应当告知情况{i}。") for n in names for i in range(3))
    true = opening_term("投保人应当如实告知。")
    others = [pool.others(true, "乙法", "", 2, random.Random(s)) for s in range(9)]
    assert {t for one in others for t in one} == {"受益人", "承运人"}


def test_the_right_choice_makes_the_sentence_of_the_law_and_no_other_does(exams, base):
    for item in (i for own in exams.values() for i in own):
        if kind_of(item) not in ("number", "term"):
            continue
        found = PROOF.fullmatch(item.proof)
        article = base[found["law"], found["number"]]
        for letter, choice in zip(LETTERS, item.choices, strict=True):
            whole = quote_of(item).replace(BLANK, choice)
            assert (whole in article) == (letter == item.answer), item


def test_only_the_named_article_has_the_sentence(exams, base):
    for item in (i for own in exams.values() for i in own):
        if kind_of(item) == "article":
            law = PROOF.fullmatch(item.proof)["law"]
            has = [quote_of(item) in base[law, number] for number in item.choices]
            assert has == [letter == item.answer for letter in LETTERS], item


def test_a_changed_quote_is_not_the_law(exams, base):
    for item in (i for own in exams.values() for i in own if i.type == "true_false"):
        assert item.choices == TRUE_FALSE
        found = PROOF.fullmatch(item.proof)
        stands = quote_of(item) in base[found["law"], found["number"]]
        assert stands == (item.answer == "A"), item
        assert len(quantities(quote_of(item))) == 1


def test_letters_and_choices_are_even(exams):
    for own in exams.values():
        assert len({i.id for i in own}) == len({i.question for i in own}) == len(own)
        for kind in KINDS:
            counts = Counter(i.answer for i in own if kind_of(i) == kind)
            assert max(counts.values()) - min(counts.values()) <= 1
        for item in own:
            assert len(set(item.choices)) == len(item.choices)


def test_there_are_thousands_and_each_form_keeps_to_its_laws(exams):
    assert len(exams["open"]) == 1_600
    assert len(exams["unseen"]) > 600
    trained = {law.name for law in training_laws()}
    held = {*load_splits()["laws_finance_zh"], *load_splits()["laws_general_zh"]}
    for form, allowed in (("open", trained), ("unseen", held)):
        named = {PROOF.fullmatch(i.proof)["law"] for i in exams[form]}
        assert named <= allowed and named <= {law.name for law in exam_laws(form)}
    with pytest.raises(ValueError, match="open or unseen"):
        exam_laws("closed")


def test_a_seed_fixes_the_items(exams):
    again = statute_exam("unseen", seed=0, per_kind=400)
    assert again == exams["unseen"]
    other = statute_exam("unseen", seed=1, per_kind=20)
    assert {i.id for i in other} != {i.id for i in again[:20]}


def test_what_a_run_did_not_read_is_not_asked_as_open():
    law = next(one for one in training_laws() if one.short_name == "保险法")
    text = "\n".join(f"{a.number_zh} {a.text}" for a in law.articles[:40])
    document = Document(
        id=f"laws/{law.name}/0", text=text, source="laws", domain="finance_zh"
    )
    items = statute_exam("open", seed=0, trained_on=[document], finance_only=True)
    named = {PROOF.fullmatch(item.proof).groups() for item in items}
    assert items and named <= {(law.name, a.number_zh) for a in law.articles[:40]}
    with pytest.raises(ValueError, match="trained_on"):
        statute_exam("open", seed=0, trained_on=[])


def test_no_training_text_has_the_wording_of_the_questions():
    pieces = [
        piece
        for _, wording in KINDS.values()
        for piece in fold_texts(re.split("[{}“”》]", wording))
        if len(piece) >= 6 and piece.isalpha() and not piece.isascii()
    ]
    assert len(pieces) >= len(KINDS)
    texts = "\n".join(fold_texts([*own_training_texts(), *(w.text for w in laws())]))
    assert not [piece for piece in pieces if piece in texts]
