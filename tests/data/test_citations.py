"""Articles are read in every form, and those that no law has are told from the rest."""

from datetime import date

import pytest

from finllm_utils.corpora.laws import Article, Law, laws
from finllm_utils.data.citations import (
    ARTICLE,
    ArticleBook,
    Citation,
    number_of,
    short_name,
)


@pytest.fixture(scope="module")
def book():
    return ArticleBook(laws())


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("第十六条", "第十六条"),
        ("第 16 条", "第十六条"),
        ("第16条", "第十六条"),
        ("第１１０条", "第一百一十条"),
        ("第一百〇二条", "第一百零二条"),
        ("第两百条", "第二百条"),
        ("第120条之一", "第一百二十条之一"),
        ("第一百二十条之十一", "第一百二十条之十一"),
        ("第9999条", "第九千九百九十九条"),
        ("第10000条", "第10000条"),
        ("第一万条", "第一万条"),
    ],
)
def test_a_number_has_one_form(written, number):
    assert number_of(ARTICLE.search(f"按照{written}的规定")) == number


def test_what_is_no_article_is_not_read():
    for text in ("第几条", "第条", "第三款", "三条", "第三章"):
        assert not ARTICLE.search(text)


def test_a_name_is_short_and_in_half_width():
    assert short_name("中华人民共和国刑法修正案（七）") == "刑法修正案(七)"
    assert short_name("保险法") == "保险法"


def test_citations_in_every_form(book):
    text = (
        "依照《保险法》第十六条第二款、第二十三条，《中华人民共和国商业银行法》（2015年修正）"
        "第40条，社会保险法第五十八条，该法第六十二条，储蓄管理条例第二十条；合同第三条。"
    )
    assert [(*c.citation, c.chained) for c in book.cited(text)] == [
        ("保险法", "第十六条", False),
        ("保险法", "第二十三条", True),
        ("商业银行法", "第四十条", False),
        ("社会保险法", "第五十八条", False),
        ("社会保险法", "第六十二条", True),
        ("储蓄管理条例", "第二十条", False),
    ]
    assert text[: book.cited(text)[0].end].endswith("第十六条")
    assert book.cited("见第三条，《保险法》的规定另见附件。") == []


def test_articles_that_exist_and_that_do_not(book):
    assert book.knows("保险法") and book.knows("中华人民共和国保险法")
    assert not book.knows("基金宪法")
    assert Citation("保险法", "第十六条") in book
    assert Citation("保险法", "第九百条") not in book
    assert book.text(Citation("基金宪法", "第一条")) == ""
    assert book.invented("《保险法》第十六条、《保险法》第16条、第一百〇二条") == []
    assert book.invented("《保险法》第九百条") == [Citation("保险法", "第九百条")]
    assert book.invented("《保险法》第12345条") == [Citation("保险法", "第12345条")]
    assert book.invented("《基金宪法》第一条") == [Citation("基金宪法", "第一条")]


def test_every_article_of_every_law_is_known(book):
    """In characters and in digits, with its own text; 条目三 is cited as 第三条."""
    plain = [law for law in laws() if "《" not in law.name]  # names quoting another
    assert len(plain) > 300
    for law in plain:
        numbered = [a for a in law.articles if a.number]
        text = "".join(f"《{law.name}》第{a.number}条" for a in numbered)
        found = [c.citation for c in book.cited(text)]
        assert [book.text(c) for c in found] == [a.text for a in numbered]
        text = "".join(f"《{law.short_name}》{a.number_zh}" for a in numbered)
        assert book.invented(text) == []


def test_the_longest_name_before_a_number_counts(book):
    assert book.law_before("参看社会保险法") == "社会保险法"
    assert book.law_before("参看中华人民共和国保险法") == "保险法"
    assert book.law_before("保险法规定") == book.law_before("") == ""
    assert ArticleBook([]).law_before("保险法") == ""


def test_numbers_of_inserted_articles_are_kept_apart():
    articles = (
        Article("第一条", 1, "", "甲"),
        Article("第一条之一", 1, "", "乙"),
        Article("条目二", 2, "", "丙"),
        Article("全文", 0, "", "丁"),
    )
    book = ArticleBook([Law("x", "丙法（试行）", date(2020, 1, 1), "", articles)])
    texts = [book.text(Citation("丙法(试行)", n)) for n in ("第一条", "第一条之一")]
    assert texts == ["甲", "乙"]
    assert book.text(Citation("丙法(试行)", "第二条")) == "丙"
    assert [c.number for c in book.invented("《丙法（试行）》第0条、第一条之二")] == [
        "第零条",
        "第一条之二",
    ]
