"""Extraction of every format, and clear errors for files that cannot be read."""

import json
from pathlib import Path

import pytest

from finllm_utils.data.extract import Limits, read_file
from finllm_utils.data.extract_layout import join_lines, running_lines
from finllm_utils.data.sources import SourceFile, iterate_sources, parse_source
from finllm_utils.records import Document

from .files import ARTICLE, docx_file, html_page, pdf_file

TRADITIONAL = (
    "久期衡量債券價格對利率變化的敏感程度，利率上升時債券價格下降，久期越長下降得越多。",
    "投資者可以用久期來估計組合在利率變動一個百分點時大約虧損多少，並決定是否縮短期限。",
)


@pytest.mark.parametrize("charset", ["utf-8", "gb18030", "big5"])
def test_html_keeps_the_article_and_drops_the_menu(tmp_path, charset):
    paragraphs = TRADITIONAL if charset == "big5" else ARTICLE
    path = tmp_path / "page.html"
    path.write_bytes(html_page(paragraphs, charset))
    text, meta = read_file(path)
    assert all(p in text for p in paragraphs)
    assert "热门文章" not in text
    assert "ICP" not in text
    assert meta["encoding"] == charset


def test_html_with_a_false_charset_is_read_all_the_same(tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(html_page().replace(b'"utf-8"', b'"big5"'))
    assert ARTICLE[0] in read_file(path)[0]


def test_html_falls_back_to_link_density_where_trafilatura_finds_little(tmp_path):
    cells = "".join(f"<tr><td><div>{p}</div></td></tr>" for p in ARTICLE)
    path = tmp_path / "page.html"
    path.write_text(f"<html><body><table>{cells}</table></body></html>", "utf-8")
    assert all(p in read_file(path)[0] for p in ARTICLE)


def test_pdf_loses_heads_feet_and_page_numbers_and_lines_are_rejoined(tmp_path):
    words = ("bonds", "rates", "funds")
    pages = [
        [f"ANNUAL REPORT 202{i}", f"The part on {word} has a first line that runs on to the",
         f"next one about {word}:", f"An item on {word} alone:", f"- {i} -"]
        for i, word in enumerate(words)
    ]  # fmt: skip
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_file(pages))
    text, meta = read_file(path)
    assert meta["pages"] == 3
    assert text.split("\n")[:2] == [
        "The part on bonds has a first line that runs on to the next one about bonds:",
        "An item on bonds alone:",
    ]
    assert "ANNUAL" not in text
    assert "- 2 -" not in text


def test_running_lines_by_hand():
    pages = [
        ["某公司年度报告", "正文一", "第1页 共2页"],
        ["某公司年度报告", "正文二", "第2页 共2页"],
    ]
    assert running_lines(pages) == [{0, 2}, {0, 2}]
    assert running_lines([["标题", "正文", "2024"]]) == [{2}]


def test_join_lines_starts_anew_at_headings():
    lines = [
        "利率上升时债券价格下降，久期越长下降得",
        "越多。",
        "第一条 投资者应当了解久期的含义及其用途",
        "（一）久期",
    ]
    assert join_lines(lines) == (
        "利率上升时债券价格下降，久期越长下降得越多。\n第一条 投资者应当了解久期的含义及其用途\n（一）久期"
    )


def test_docx_in_document_order_with_merged_cells_once(tmp_path):
    docx_file(tmp_path / "a.docx")
    text, _ = read_file(tmp_path / "a.docx")
    assert text.split("\n") == [
        ARTICLE[0], "| 合计 |  |", "| --- | --- |", "| 利率 | 3.85% |", ARTICLE[1],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.pdf",
            pdf_file([["text"]], encrypted=True),
            "encrypted PDF.*qpdf --decrypt",
        ),
        ("a.pdf", pdf_file([[]]), "without text.*OCR"),
        ("a.pdf", b"%PDF-1.4 nothing", "not a readable PDF|without text"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + b"0" * 64, "encrypted or old Word"),
        ("a.docx", b"PK\x03\x04broken", "docx"),
        ("a.txt", b"", "empty file.*remove it"),
        ("a.html", b"<html><body></body></html>", "no text"),
        ("a.xls", b"x", "unknown file type '.xls'.*remove it"),
    ],
)
def test_unreadable_files_name_the_file_and_the_remedy(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_file(path)
    assert str(path) in str(caught.value)


def test_sources_yield_rows_and_files_in_order(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as parquet

    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.jsonl").write_text(
        '{"text": "甲"}\n\n{"id": 7, "text": "乙"}\n', "utf-8"
    )
    parquet.write_table(pa.table({"text": ["丙"]}), folder / "c.parquet")
    (folder / "sub" / "a.txt").write_text("丁", "utf-8")
    (folder / ".hidden").write_text("x")
    items = list(iterate_sources((f"finance_zh={folder}",), 1_000))
    assert [item.id for item in items] == [
        "mine/b.jsonl/1", "mine/b.jsonl/7", "mine/c.parquet/1", "mine/sub/a.txt",
    ]  # fmt: skip
    assert [i.text for i in items if isinstance(i, Document)] == ["甲", "乙", "丙"]
    assert isinstance(items[-1], SourceFile)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"text": "甲"}\n{"text": ',
            r"a\.jsonl, line 2: broken JSON.*repair or delete",
        ),
        ('{"body": "甲"}\n', r"a\.jsonl, line 1: no text field"),
        ("", r"a\.jsonl: empty file"),
        (
            json.dumps({"text": "长" * 2_000}),
            r"a\.jsonl, line 1: longer than 1,000 bytes",
        ),
    ],
)
def test_broken_lines_are_named(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_text(line, "utf-8")
    assert fault_of(path)[-1] == path
    with pytest.raises(ValueError, match=message):
        read_file(path, Limits(max_line_bytes=1_000))


def fault_of(path):
    """Texts of the good rows, then the path of the file when it has a fault."""
    items = iterate_sources((f"general_zh={path}",), 1_000)
    return [i.text if isinstance(i, Document) else Path(i.path) for i in items]


def test_a_line_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "利率"}'.encode("gb18030"))
    assert fault_of(path) == [path]
    with pytest.raises(ValueError, match=r"line 1: not UTF-8.*iconv"):
        read_file(path)


def test_good_rows_around_bad_ones_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [
        {"text": "甲"},
        {"text": 7},
        {"text": "长" * 2_000_000},
        {"id": "x", "text": "乙"},
    ]
    text = "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines)
    path.write_text(text + "[" * 900 + "\n" + '{"text": "丙"}', "utf-8")
    assert fault_of(path) == ["甲", "乙", "丙", path]
    reason = "line 2: no text field; .*; 2 more such lines; 3 others were read"
    with pytest.raises(ValueError, match=reason):
        read_file(path, Limits(max_line_bytes=1_000))
    with pytest.raises(ValueError, match="changed while it was read"):
        path.write_text('{"text": "甲"}', "utf-8")
        read_file(path)


def test_a_parquet_shard_without_its_column_or_with_empty_cells(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"id": [1], "body": ["甲"]}), path)
    assert fault_of(path) == [path]
    with pytest.raises(ValueError, match="no column 'text' among id, body; call"):
        read_file(path)
    parquet.write_table(pa.table({"text": ["甲", None, "乙"]}), path)
    assert fault_of(path) == ["甲", "乙", path]
    with pytest.raises(ValueError, match="line 2: no text field"):
        read_file(path)
    path.write_bytes(path.read_bytes()[:-9])
    assert fault_of(path) == [path]
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_file(path)


def test_wrong_source_settings(tmp_path):
    with pytest.raises(ValueError, match="domain=path"):
        parse_source("finance=x")
    with pytest.raises(ValueError, match="does not exist"):
        parse_source(f"finance_zh={tmp_path}/none")
    with pytest.raises(ValueError, match="empty folder"):
        list(iterate_sources((f"finance_zh={tmp_path}",), 1_000))
