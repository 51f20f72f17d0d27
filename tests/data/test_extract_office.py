"""DOCX and XLSX: order, tables, and files that are not what they seem."""

import datetime
import io
import zipfile

import pytest

from finllm_utils.data.extract import Limits, read_file
from finllm_utils.data.extract_tables import table_text

from .files import ARTICLE

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def word_file(path, body, **parts):
    """A DOCX of a hand-written body; further parts by name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "word/document.xml",
            f"<w:document {W}><w:body>{body}</w:body></w:document>",
        )
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/").replace("_xml", ".xml"), content)
    return path


def paragraph(text, extra=""):
    return f"<w:p>{extra}<w:r><w:t>{text}</w:t></w:r></w:p>"


def excel_file(path, *sheets):
    """A workbook of (title, rows) sheets."""
    import openpyxl

    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for title, rows in sheets:
        sheet = workbook.create_sheet(title)
        for row in rows:
            sheet.append(row)
    workbook.properties.created = datetime.datetime(2024, 3, 5, 8)
    workbook.properties.title = "季度数据"
    workbook.save(path)
    return path


def rewrite(path, change):
    """Passes every part of a ZIP file through ``change(name, content)``."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, change(name, content))
    return path


def test_table_text_by_hand():
    assert table_text([["a", "b"], ["1|2"], [], ["", "3\n4"]]) == (
        "| a | b |\n| --- | --- |\n| 1\\|2 |  |\n|  | 3 4 |"
    )
    assert table_text([["只有一列"], ["第二行"]]) == "只有一列\n第二行"
    assert table_text([["长" * 400, "短"]]) == "长" * 400 + "\n短"
    assert table_text([["", ""], []]) == ""


def test_word_has_title_and_day_and_no_template_date(tmp_path):
    import docx

    document = docx.Document()
    document.add_paragraph(ARTICLE[0])
    document.core_properties.title = "久期入门"
    document.save(tmp_path / "a.docx")
    meta = read_file(tmp_path / "a.docx")[1]
    assert (meta["title"], meta["created"], meta["date"]) == ("久期入门", "", "")
    document.core_properties.author = "研究部"
    document.core_properties.created = datetime.datetime(2024, 3, 5)
    document.add_paragraph("二〇二四年三月六日")
    document.save(tmp_path / "a.docx")
    meta = read_file(tmp_path / "a.docx")[1]
    assert (meta["created"], meta["date"]) == ("2024-03-05", "2024-03-06")


def test_word_changes_boxes_and_contents(tmp_path):
    box = f"<w:txbxContent>{paragraph('框中')}</w:txbxContent>"
    body = (
        '<w:sdt><w:sdtPr><w:docPartObj><w:docPartGallery w:val="Table of Contents"/>'
        f"</w:docPartObj></w:sdtPr><w:sdtContent>{paragraph('第一章 3')}</w:sdtContent>"
        f"</w:sdt><w:sdt><w:sdtContent>{paragraph('控件中')}</w:sdtContent></w:sdt>"
        + paragraph("第二章 7", '<w:pPr><w:pStyle w:val="TOC2"/></w:pPr>')
        + "<w:p><w:ins><w:r><w:t>加的</w:t></w:r></w:ins><w:del><w:r><w:delText>删的"
        "</w:delText></w:r></w:del><w:r><w:tab/><w:t>原有</w:t></w:r></w:p>"
        + '<w:p><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/'
        f'markup-compatibility/2006"><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}'
        "</mc:Fallback></mc:AlternateContent></w:p>"
    )
    text, _ = read_file(word_file(tmp_path / "a.docx", body))
    assert text == "控件中\n加的 原有\n框中"


def test_word_merged_cells_and_a_table_in_a_cell(tmp_path):
    inner = f"<w:tbl><w:tr><w:tc>{paragraph('内')}</w:tc></w:tr></w:tbl>"
    cell = "<w:tc><w:tcPr>{}</w:tcPr>{}</w:tc>".format
    wide = '<w:gridSpan w:val="2"/>'
    restart, goes_on = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    body = (
        f"<w:tbl><w:tr>{cell(wide, paragraph('年份'))}"
        f"{cell('', paragraph('利率'))}</w:tr>"
        f"<w:tr>{cell(restart, paragraph('2024'))}{cell('', paragraph('上'))}"
        f"{cell('', paragraph('3%'))}</w:tr>"
        f"<w:tr>{cell(goes_on, paragraph(''))}{cell('', paragraph('下'))}"
        f"{cell('', paragraph('4%') + inner)}</w:tr></w:tbl>"
    )
    text, _ = read_file(word_file(tmp_path / "a.docx", body))
    assert text.split("\n") == [
        "| 年份 |  | 利率 |", "| --- | --- | --- |", "| 2024 | 上 | 3% |",
        "|  | 下 | 4% 内 |",
    ]  # fmt: skip


def test_sheets_are_markdown_tables_with_their_captions(tmp_path):
    rows = [
        ["表一 资产"], ["项目", "金额", "占比"], ["存款", 1234.5, 0.125], ["合计", 10, None],
        [], ["日期", "旗"], [datetime.date(2024, 3, 5), True],
    ]  # fmt: skip
    path = excel_file(tmp_path / "a.xlsx", ("余额", rows), ("空", []))
    import openpyxl

    workbook = openpyxl.load_workbook(path)
    workbook["余额"]["C3"].number_format = "0.00%"
    workbook.create_sheet("藏").sheet_state = "hidden"
    workbook["藏"].append(["不应出现", "x"])
    workbook.save(path)
    text, meta = read_file(path)
    assert text.split("\n") == [
        "余额", "", "表一 资产", "", "| 项目 | 金额 | 占比 |", "| --- | --- | --- |",
        "| 存款 | 1234.5 | 12.50% |", "| 合计 | 10 |  |", "", "| 日期 | 旗 |",
        "| --- | --- |", "| 2024-03-05 | TRUE |",
    ]  # fmt: skip
    assert (meta["sheets"], meta["hidden_sheets"]) == (2, 1)
    assert (meta["title"], meta["created"]) == ("季度数据", "2024-03-05")


def test_formulas_are_not_computed_but_counted(tmp_path):
    path = excel_file(tmp_path / "a.xlsx", ("表", [["甲", 1], ["乙", "=B1*2"]]))
    text, meta = read_file(path)
    assert "| 乙 |  |" in text and "=" not in text
    assert meta["formulas_without_value"] == 1


def test_a_sheet_that_claims_a_million_rows_is_read_at_once(tmp_path):
    path = excel_file(tmp_path / "a.xlsx", ("表", [["甲", 1], ["乙", 2]]))
    rewrite(path, lambda _, part: part.replace(b'ref="A1:B2"', b'ref="A1:XFD1048576"'))
    assert read_file(path)[0].endswith("| 甲 | 1 |\n| --- | --- |\n| 乙 | 2 |")


def test_a_sheet_with_cells_far_out_is_refused(tmp_path):
    rows = "".join(
        f'<row r="{i}"><c r="XFD{i}"><v>1</v></c></row>' for i in range(1, 400)
    )
    path = excel_file(tmp_path / "a.xlsx", ("表", [["甲", 1]]))
    rewrite(
        path,
        lambda name, part: (
            part.replace(b"</sheetData>", rows.encode() + b"</sheetData>")
            if "sheet1.xml" in name
            else part
        ),
    )
    with pytest.raises(ValueError, match=r"sheet '表' has more than 2,000,000 cells"):
        read_file(path)


@pytest.mark.parametrize("suffix", ["docx", "xlsx"])
def test_password_and_old_files_are_told_apart(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(OLE + "EncryptedPackage".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r": encrypted \w+ format; .*without password"):
        read_file(path)
    path.write_bytes(OLE)
    with pytest.raises(ValueError, match=r": encrypted or old \w+ format"):
        read_file(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = word_file(tmp_path / "a.docx", paragraph("字" * 3_000_000))
    assert path.stat().st_size < 20_000
    with pytest.raises(ValueError, match=r"unpacks to 9,000,\d+ bytes.*zip bomb"):
        read_file(path, Limits(max_unpacked_bytes=2**20))


def test_a_bomb_that_lies_about_its_size_stays_small(tmp_path):
    data = word_file(tmp_path / "a.docx", paragraph("字" * 3_000_000)).read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = archive.getinfo("word/document.xml").file_size
    (tmp_path / "a.docx").write_bytes(
        data.replace(size.to_bytes(4, "little"), (99).to_bytes(4, "little"))
    )
    with pytest.raises(ValueError, match=r"not a readable \.docx \(Bad CRC"):
        read_file(tmp_path / "a.docx", Limits(max_unpacked_bytes=2**20))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_entities_are_refused(tmp_path, encoding):
    bomb = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE d [<!ENTITY a "哈哈">'
        '<!ENTITY b "&a;&a;"><!ENTITY c SYSTEM "file:///etc/hostname">]>'
        f"<w:document {W}><w:body><w:p><w:r><w:t>&b;&c;</w:t></w:r></w:p></w:body>"
        "</w:document>"
    )
    path = tmp_path / "a.docx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", bomb.encode(encoding))
    with pytest.raises(ValueError, match="declares XML entities"):
        read_file(path)


@pytest.mark.parametrize(
    ("suffix", "change", "message"),
    [
        ("docx", lambda data: data[: len(data) // 2], r"not a readable \.docx"),
        ("xlsx", lambda data: data[: len(data) // 2], r"not a readable \.xlsx"),
        ("docx", lambda data: b"PK\x05\x06" + b"\0" * 18, "document.xml is missing"),
    ],
)
def test_broken_office_files(tmp_path, suffix, change, message):
    path = tmp_path / f"a.{suffix}"
    if suffix == "docx":
        word_file(path, paragraph("字"))
    else:
        excel_file(path, ("表", [["甲"]]))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        read_file(path)


def test_deep_word_xml_is_refused_not_a_crash(tmp_path):
    body = "<w:sdt><w:sdtContent>" * 10_000 + "</w:sdtContent></w:sdt>" * 10_000
    with pytest.raises(ValueError, match="document.xml is broken .*depth"):
        read_file(word_file(tmp_path / "a.docx", body))


def test_empty_files_say_so(tmp_path):
    with pytest.raises(ValueError, match="no text in the document"):
        read_file(word_file(tmp_path / "a.docx", ""))
    with pytest.raises(ValueError, match="no values in the workbook"):
        read_file(excel_file(tmp_path / "a.xlsx", ("表", [])))
