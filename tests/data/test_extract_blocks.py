"""Blocks of a page, layout tables, and what the article finder left out."""

import time

from lxml import html

from finllm_utils.data.extract_blocks import (
    open_layout,
    page_blocks,
    page_text,
    restore,
)
from finllm_utils.data.extract_html import read_html

from .files import ARTICLE

VALUES = (
    "<table><tr><td>项目</td><td>利率</td></tr><tr><td>一年</td><td>1.5%</td></tr>"
    "<tr><td>三年</td><td>2.6%</td></tr></table>"
)
MARKDOWN = "| 项目 | 利率 |\n| --- | --- |\n| 一年 | 1.5% |\n| 三年 | 2.6% |"
CLOSING = "以上数据仅为说明之用，实际利率以银行公布的为准。"
RULES = (
    "免赔额通常一年扣一次，当年第二次住院不再重复扣减。",
    "医保报销的部分不能用来抵扣免赔额。",
)


def blocks_of(body):
    return page_blocks(html.fromstring(f"<html><body>{body}</body></html>"))


def lines_of(body):
    return page_text(blocks_of(body))[0].split("\n")


def read(body):
    page = f"<html><head><title>久期</title></head><body>{body}</body></html>"
    return read_html(page.encode(), "a.html")


def test_text_of_a_block_around_other_blocks_is_kept():
    body = "<div>甲<div>乙<b>丙</b>丁</div>戊<p>己<br>庚</p></div>辛"
    assert lines_of(body) == ["甲", "乙丙丁", "戊", "己", "庚", "辛"]


def test_links_forms_and_hidden_text_are_left_out():
    body = (
        "<p>正文在此，<a>链接</a>之后。</p><div><a>首页</a> <a>基金</a></div>"
        "<nav>菜单</nav><form>甲<p>乙</p></form>丙<button>丁</button>"
        '<div style="display: none">戊</div><p>己</p>'
    )
    assert lines_of(body) == ["正文在此，链接之后。", "丙", "己"]


def test_a_table_of_values_is_one_block_and_sentences_are_counted():
    blocks = blocks_of(f"<p>甲</p>{VALUES}<p>乙，丙。</p>")
    assert [len(block.lines) for block in blocks] == [1, 4, 1]
    text, prose = page_text(blocks)
    assert text == f"甲\n{MARKDOWN}\n乙，丙。"
    assert prose == len(MARKDOWN) + 1 + 4 + 1


def test_tables_that_lay_out_a_page_become_blocks_and_values_stay_a_table():
    root = html.fromstring(
        f"<div><table><tr><td>左</td><td>{VALUES}</td></tr></table>"
        "<table><tr><td><p>甲</p><p>乙</p></td></tr></table><section>丙<b>丁</b></section>"
        "<section><section>戊</section></section></div>"
    )
    open_layout(root)
    assert len(root.findall(".//table")) == 1
    assert page_text(page_blocks(root))[0] == f"左\n{MARKDOWN}\n甲\n乙\n丙丁\n戊"
    assert [p.text_content() for p in root.iter("p")] == ["甲", "乙", "丙丁", "戊"]


def test_a_page_of_nested_layout_tables_keeps_text_and_values():
    menu = "<table><tr><td><a href=/>首页</a></td><td><a href=/f>基金</a></td></tr></table>"
    for text in ("".join(f"<p>{p}</p>" for p in ARTICLE * 2), "<br>".join(ARTICLE * 2)):
        found, _ = read(
            f"<table><tr><td colspan=2>{menu}</td></tr><tr><td>{menu}</td><td><table><tr>"
            f"<td><b>久期入门</b></td></tr><tr><td>{text}<br>{VALUES}<p>{CLOSING}</p></td>"
            "</tr></table></td></tr></table>"
        )
        assert found.endswith(f"{ARTICLE[2]}\n{MARKDOWN}\n{CLOSING}")
        assert "首页" not in found


CONTAINER = (
    '<div class="bar"><p>本网站使用必要的功能来保证运行，请您同意。</p></div><div>'
    "<p>{}</p><h3>三条规则</h3><p>{}</p><p>{}</p><h3>最后</h3><ul><li>{}</li><li>{}"
    '</li></ul><h3>相关阅读</h3><ul><li>新闻一则</li></ul><div class="post-comment">'
    "<p>写得很好，我都收藏了，谢谢楼主分享。</p></div></div><p>某某网版权所有，转载必须注明出处。</p>"
).format(*ARTICLE, *RULES)


def test_a_closing_list_and_the_headings_come_back_and_furniture_does_not():
    text, added = restore("\n".join(ARTICLE), blocks_of(CONTAINER))
    assert text.split("\n") == [
        ARTICLE[0], "三条规则", *ARTICLE[1:], "最后", *(f"- {rule}" for rule in RULES),
    ]  # fmt: skip
    assert added == 4
    assert restore(text, blocks_of(CONTAINER)) == (text, 0)


def test_under_the_body_only_gaps_are_filled():
    body = "".join(f"<p>{p}</p>" for p in (*ARTICLE, *RULES))
    assert restore("\n".join(ARTICLE), blocks_of(body)) == ("\n".join(ARTICLE), 0)
    ends = f"{ARTICLE[0]}\n{RULES[1]}"
    assert restore(ends, blocks_of(body))[0].split("\n") == [*ARTICLE, *RULES]


def test_a_paragraph_that_lost_a_link_is_not_added_again():
    article = f"{ARTICLE[0]}详见，{ARTICLE[1]}\n{ARTICLE[2]}"
    body = f"<div><p>{ARTICLE[0]}详见<a>某办法</a>，{ARTICLE[1]}</p><p>{ARTICLE[2]}</p></div>"
    assert restore(article, blocks_of(body)) == (article, 0)


def test_an_article_that_is_not_in_the_page_or_empty_gets_nothing():
    blocks = blocks_of(CONTAINER)
    assert restore("别处的文字。", blocks) == ("别处的文字。", 0)
    assert restore("", blocks) == ("", 0)


def test_large_pages_and_huge_attributes_are_read_in_a_moment():
    items = "".join(f"<li>第{i}项，{RULES[0]}{i}。</li>" for i in range(5_000))
    text = "".join(f"<p>{p}</p>" for p in ARTICLE * 3)
    started = time.monotonic()
    assert "第4999项" in read(f"<div>{text}<ul>{items}</ul></div>")[0]
    attribute = "nav " * 10**6
    page = f'<div class="{attribute}" style="{attribute}">{text}</div>'
    try:
        read(page)
    except ValueError as error:  # libxml2 drops such a tag: a reason, not a hang
        assert "no text in the page" in str(error)
    assert time.monotonic() - started < 10
