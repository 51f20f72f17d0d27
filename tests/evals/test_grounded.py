"""Made-up articles and figures are found; what exists or was given is not."""

import pytest

from finllm_utils.corpora.laws import laws
from finllm_utils.evals.grounded import (
    ArticleBook,
    Citation,
    citations,
    figures,
    made_up,
    unsupported_figures,
)


@pytest.fixture(scope="module")
def book():
    return ArticleBook(laws())


def test_citations_in_the_ways_they_are_written():
    text = (
        "依《保险法》第十六条和《中华人民共和国民法典》第 5 条，另见《合同法》的规定。"
    )
    assert citations(text) == [
        Citation("保险法", "第十六条"),
        Citation("中华人民共和国民法典", "第5条"),
    ]
    assert citations("保险法第十六条") == [], "without 《》 the name has no clear end"


def test_articles_that_exist_and_that_do_not(book):
    assert book.knows("保险法") and not book.knows("基金宪法")
    assert book.invented("《保险法》第十六条、《保险法》第16条") == []
    assert book.invented("《保险法》第九百条") == [Citation("保险法", "第九百条")]
    assert book.invented("《基金宪法》第一条") == [Citation("基金宪法", "第一条")]


def test_every_article_of_every_law_is_known(book):
    plain = [law for law in laws() if "《" not in law.name]  # names quoting another
    assert len(plain) > 300
    for law in plain:
        numbered = [a for a in law.articles if a.number_zh.startswith("第")]
        text = "".join(f"《{law.name}》{a.number_zh}" for a in numbered)
        assert len(citations(text)) == len(numbered)
        assert book.invented(text) == []


def test_figures_by_hand():
    assert figures("1. 本金３,000.50元，利率4.20%\n2、共12期") == [
        "3000.5",
        "4.2",
        "12",
    ]
    assert figures("没有数字，三万元") == []
    assert unsupported_figures("利息是400元，共10,400元", ["本金10400元"]) == ["400"]
    assert unsupported_figures("利率4.0%", ["年利率4%"]) == []


def test_shares_over_answers(book):
    answers = ["《保险法》第九百条规定赔5元", "按年利率3%计算", "不知道"]
    found = made_up(answers, [["赔5元"], ["利率多少"], []], book)
    assert found.invented_articles == pytest.approx(1 / 3)
    assert found.unsupported == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="1 answers and 0 lists"):
        made_up(["a"], [], book)
