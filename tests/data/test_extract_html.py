"""Web pages: tables, title, date, licence, and pages made to break a parser."""

import time

import pytest

from finllm_utils.data.extract import NOT_STATED, read_file

from .files import ARTICLE, html_page

TABLE = (
    "<table><tr><th>项目</th><th>期间</th><th>利率</th></tr>"
    '<tr><td rowspan="2">存款</td><td>一年</td><td>1.5%</td></tr>'
    "<tr><td>三年</td><td>a|b</td></tr>"
    '<tr><td colspan="2">合计</td><td></td></tr></table>'
)
MARKDOWN = [
    "| 项目 | 期间 | 利率 |",
    "| --- | --- | --- |",
    "| 存款 | 一年 | 1.5% |",
    "|  | 三年 | a\\|b |",
    "| 合计 |  |  |",
]


def article(inner, head=""):
    text = "".join(f"<p>{p}</p>" for p in ARTICLE * 3)
    return (
        f"<html><head>{head}</head><body><nav><a href='/'>首页</a></nav><article>"
        f"<h1>久期入门</h1>{text}{inner}</article><footer>版权所有</footer></body></html>"
    )


def read(tmp_path, page):
    path = tmp_path / "a.html"
    path.write_text(page, "utf-8")
    return read_file(path)


def test_merged_cells_keep_their_columns(tmp_path):
    text, meta = read(tmp_path, article(TABLE))
    assert meta["extractor"] == "trafilatura"
    assert text.split("\n")[-5:] == MARKDOWN


def test_the_fall_back_keeps_tables_too(tmp_path):
    page = html_page().decode().replace("</article>", TABLE + "</article>")
    text, meta = read(tmp_path, page)
    assert meta["extractor"] == "link_density"
    assert text.split("\n")[-5:] == MARKDOWN
    assert text.count(ARTICLE[0]) == 1


def test_a_table_of_links_is_a_menu(tmp_path):
    rows = "".join(
        f"<tr><td>{i}</td><td><a href='/{i}'>关于某事项的公告（{i}）</a></td></tr>"
        for i in range(9)
    )
    text, _ = read(tmp_path, article(TABLE + f"<table>{rows}</table>"))
    assert "某事项" not in text
    assert text.split("\n")[-5:] == MARKDOWN


def test_title_date_and_licence_are_the_marked_ones(tmp_path):
    head = (
        '<title>久期入门_某某网</title><meta property="article:published_time" '
        'content="2024-03-05T08:00:00+08:00"><meta property="og:title" content="久期入门">'
    )
    licence = (
        '<a rel="license" href="https://creativecommons.org/licenses/by/4.0/">CC BY</a>'
    )
    meta = read(tmp_path, article(licence, head))[1]
    assert (meta["title"], meta["date"]) == ("久期入门", "2024-03-05")
    assert meta["licence"] == "CC BY 4.0"
    bare = read(tmp_path, article(""))[1]
    assert (bare["date"], bare["licence"]) == ("", NOT_STATED)


def test_a_date_in_a_sentence_is_no_date_of_the_page(tmp_path):
    sentence = "<p>该行于2019年5月1日成立，2021年6月2日上市。</p>"
    assert read(tmp_path, article(sentence))[1]["date"] == ""
    stated = "<p>发布时间：2024-03-05 10:20 来源：某某网</p>"
    assert read(tmp_path, article(sentence + stated))[1]["date"] == "2024-03-05"


@pytest.mark.parametrize("tag", ["div", "font", "table><tr><td", "ul><li"])
@pytest.mark.parametrize("depth", [10_000, 300_000])
def test_deep_nesting_is_a_reason_at_once(tmp_path, tag, depth):
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"a\.html: tags nested 256 deep"):
        read(tmp_path, f"<html><body>{f'<{tag}>' * depth}深{ARTICLE[0]}")
    assert time.monotonic() - started < 5


def test_many_unclosed_paragraphs_are_not_deep(tmp_path):
    page = "<html><body>" + "".join(f"<p>{p}<br>" for p in ARTICLE * 400)
    assert ARTICLE[0] in read(tmp_path, page)[0]


def test_too_many_tags_are_a_reason(tmp_path):
    with pytest.raises(ValueError, match="more than 100,000 tags"):
        read(tmp_path, "<html><body>" + "<b>x</b>" * 100_001)


@pytest.mark.parametrize(
    "page", ["<html><body></body></html>", "<!-- only -->", "<?xml version='1.0'?>"]
)
def test_pages_without_text(tmp_path, page):
    with pytest.raises(ValueError, match="no text in the page"):
        read(tmp_path, page)


def test_entities_of_a_page_are_not_fetched(tmp_path):
    page = (
        '<!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/passwd">]><html><body>'
        f"<p>{ARTICLE[0]}&x;</p><p>{ARTICLE[1]}</p></body></html>"
    )
    assert "root" not in read(tmp_path, page)[0]
