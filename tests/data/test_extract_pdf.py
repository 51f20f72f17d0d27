"""PDF: reading order, tables, heads and feet, scans, broken files."""

import zlib

import pytest

from finllm_utils.data.extract import Limits, read_file
from finllm_utils.data.extract_layout import (
    Piece,
    join_lines,
    reading_order,
    running_lines,
)

from .files import _assemble, pdf_file

LEFT = (
    "利率上升的时候债券价格就会下降，久期越",
    "长的债券下降得越多，这是最要紧的一条。",
    "投资者可以用久期估计组合在利率变动一个",
    "百分点的时候大约亏损多少，再作出决定。",
    "需要记住的是久期只是一阶的近似，利率变",
)
RIGHT = (
    "动很大的时候还要把凸性一并考虑进来才行",
    "，否则估计的亏损会偏大而估计的收益偏小。",
    "信用利差的变动同样影响价格，评级较低的",
    "债券在市场紧张的时候利差往往扩大得更多",
    "，分散持有可以减轻单个发行人的冲击。",
)
TABLE = (("项目", "上年末", "本年末"), ("总资产", "11350", "12480"), ("总负债", "6130", "6864"))  # fmt: skip


def draw(pages, rules=(), image=None, info=""):
    """A PDF of (x, y, text, font size or nothing) in points, y from the bottom.

    ``rules`` are lines (x0, y0, x1, y1) of every page, ``image`` a picture's width and
    height in points.
    """
    font = (
        "<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding "
        "/UniGB-UCS2-H /DescendantFonts [<< /Type /Font /Subtype /CIDFontType0 "
        "/BaseFont /STSong-Light /DW 1000 /W [1 95 500] /CIDSystemInfo << /Registry "
        "(Adobe) /Ordering (GB1) /Supplement 2 >> >>] >>"
    )
    picture = (
        "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray "
        "/BitsPerComponent 8 /Length 1 >>\nstream\n0\nendstream"
    )
    objects, kids = ["<< /Type /Catalog /Pages 2 0 R >>", "", font, picture], []
    for page in pages:
        content = "".join(
            f"BT /F1 {size[0] if size else 10} Tf {x} {y} Td "
            f"<{text.encode('utf-16-be').hex()}> Tj ET\n"
            for x, y, text, *size in page
        )
        content += "".join(f"{a} {b} m {c} {d} l S\n" for a, b, c, d in rules)
        if image:
            content += f"q {image[0]} 0 0 {image[1]} 20 20 cm /I Do Q\n"
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources << /Font "
            "<< /F1 3 0 R >> /XObject << /I 4 0 R >> >> "
            f"/Contents {len(objects)} 0 R >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    extra = ""
    if info:
        objects.append(info)
        extra = f" /Info {len(objects)} 0 R"
    return _assemble(objects, extra)


def column(x, lines, top=700):
    return [(x, top - 20 * i, line) for i, line in enumerate(lines)]


def read(tmp_path, data, limits=None):
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    return read_file(path, limits or Limits())


def test_two_columns_are_read_one_after_the_other_between_full_lines(tmp_path):
    title = (200, 760, "久期与凸性的关系")
    foot = (60, 500, "以上内容仅供参考，不构成任何投资建议，市场有风险，投资需谨慎，请读者自行判断后决定。")  # fmt: skip
    page = [title, *column(60, LEFT), *column(320, RIGHT), foot]
    text, _ = read(tmp_path, draw([page]))
    assert text.split("\n") == [
        "久期与凸性的关系",
        "利率上升的时候债券价格就会下降，久期越长的债券下降得越多，这是最要紧的一条。",
        "投资者可以用久期估计组合在利率变动一个百分点的时候大约亏损多少，再作出决定。",
        "需要记住的是久期只是一阶的近似，利率变动很大的时候还要把凸性一并考虑进来才行，否则估计的亏损会偏大而估计的收益偏小。",
        "信用利差的变动同样影响价格，评级较低的债券在市场紧张的时候利差往往扩大得更多，分散持有可以减轻单个发行人的冲击。",
        foot[2],
    ]


def test_drawing_order_does_not_matter(tmp_path):
    page = [*column(320, RIGHT), *column(60, LEFT)]
    swapped = read(tmp_path, draw([page]))[0]
    assert swapped == read(tmp_path, draw([sorted(page)]))[0]
    assert swapped.index(LEFT[-1]) < swapped.index(RIGHT[0])


def test_a_ruled_table_is_markdown_in_its_place(tmp_path):
    grid = [(60, y, 420, y) for y in (600, 620, 640, 660)]
    grid += [(x, 600, x, 660) for x in (60, 180, 300, 420)]
    cells = [
        (70 + 120 * c, 645 - 20 * r, value)
        for r, row in enumerate(TABLE)
        for c, value in enumerate(row)
    ]
    page = [(60, 700, "下表单位为万元。"), *cells, (60, 560, "表后的一句话。")]
    text, meta = read(tmp_path, draw([page], grid))
    assert text.split("\n") == [
        "下表单位为万元。",
        "| 项目 | 上年末 | 本年末 |",
        "| --- | --- | --- |",
        "| 总资产 | 11350 | 12480 |",
        "| 总负债 | 6130 | 6864 |",
        "表后的一句话。",
    ]
    assert meta["tables"] == 1


def test_a_table_without_rules_is_found_by_its_columns(tmp_path):
    cells = [
        (60 + 120 * c, 645 - 20 * r, value)
        for r, row in enumerate(TABLE)
        for c, value in enumerate(row)
    ]
    text, _ = read(tmp_path, draw([[(60, 700, "下表单位为万元。"), *cells]]))
    assert "| 总资产 | 11350 | 12480 |\n| 总负债 | 6130 | 6864 |" in text


def test_a_table_that_every_page_repeats_is_no_running_head(tmp_path):
    grid = [(60, y, 420, y) for y in (600, 620, 640, 660)]
    grid += [(x, 600, x, 660) for x in (60, 180, 300, 420)]
    pages = [
        [
            (70 + 120 * c, 645 - 20 * r, value)
            for r, row in enumerate(TABLE)
            for c, value in enumerate(row)
        ]
        + [(290, 30, str(number))]
        for number in (1, 2, 3)
    ]
    text, _ = read(tmp_path, draw(pages, grid))
    assert text.count("| 总资产 |") == 3
    assert not {"1", "2", "3"} & set(text.split("\n"))


def test_heads_and_feet_beside_two_columns_are_removed(tmp_path):
    pages = [
        [(60, 770, "某某证券研究报告"), (480, 770, f"2024年第{n}期"), (60, 40, f"{n}")]
        + column(60, [line.replace("，", sign) for line in LEFT])
        + column(320, [line.replace("，", sign) for line in RIGHT])
        for n, sign in zip((1, 2, 3), "、；！", strict=True)
    ]
    text, _ = read(tmp_path, draw(pages))
    assert "研究报告" not in text and "年第" not in text
    assert all(f"就会下降{sign}久期越" in text for sign in "、；！")
    assert not {"1", "2", "3"} & set(text.split("\n"))


def test_running_lines_leave_tables_alone():
    pages = [
        ["| a | b |\n| --- | --- |", "正文一"],
        ["| a | b |\n| --- | --- |", "正文二"],
    ]
    assert running_lines(pages) == [set(), set()]


def test_number_columns_are_not_read_as_text_columns():
    pieces = [
        Piece(text=text, left=x, right=x + 60, top=20 * i, bottom=20 * i + 10)
        for i in range(6)
        for x, text in ((0, f"名称{i}"), (200, f"1{i}0.00"), (400, f"2{i}0.00"))
    ]
    ((table, _),) = reading_order(pieces)
    assert table.text.split("\n")[2] == "| 名称1 | 110.00 | 210.00 |"


def test_short_lines_of_a_column_do_not_run_on():
    lines = ["第一行写满了整个栏", "短行", "第三行也写满了整栏"]
    assert (
        join_lines(lines, [True, False, True])
        == "第一行写满了整个栏短行\n第三行也写满了整栏"
    )


def test_a_wide_heading_does_not_run_on_into_its_text(tmp_path):
    lines = [line.replace("。", "") for line in LEFT]
    page = [(60, 740, "久期越长的债券价格下降得越多", 12), *column(60, lines)]
    text, _ = read(tmp_path, draw([page]))
    assert text == "久期越长的债券价格下降得越多\n" + "".join(lines)


def test_letters_set_apart_are_one_word_and_blanks_stay(tmp_path):
    spread = [(60 + 13 * i, 700, c) for i, c in enumerate("风险提示")]
    latin = [(60, 680, "The"), (78, 680, "yield")]  # no blank between, only a gap
    page = [*spread, *latin, (60, 660, "第一条 宗旨。"), *[(60.3, 640, "加粗")] * 2]
    text, _ = read(tmp_path, draw([page]))
    assert text.split("\n") == ["风险提示", "The yield", "第一条 宗旨。", "加粗"]


def test_title_and_day_of_creation_come_from_the_information(tmp_path):
    info = "<< /Title (Microsoft Word - Annual Report.docx) /CreationDate (D:20240305101112+08'00') >>"
    text, meta = read(
        tmp_path, draw([[(60, 700, "发布日期：2024年3月6日")]], info=info)
    )
    assert meta["title"] == "Annual Report"
    assert (meta["date"], meta["created"]) == ("2024-03-06", "2024-03-05")


def test_scanned_pages_are_named_and_a_scan_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"scanned PDF \(pictures of 2 pages.*OCR"):
        read(tmp_path, draw([[], []], image=(560, 760)))
    text_page = column(60, LEFT)
    text, meta = read(tmp_path, draw([text_page, []], image=(560, 760)))
    assert meta["scanned_pages"] == [2]
    assert LEFT[0] in text
    with pytest.raises(ValueError, match="PDF without text"):
        read(tmp_path, draw([[]], image=(50, 50)))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_a_truncated_pdf_is_refused_wherever_it_ends(tmp_path, share):
    data = draw([column(60, LEFT)] * 3)
    with pytest.raises(ValueError, match=r"a\.pdf: .*truncated.*fetch it again"):
        read(tmp_path, data[: int(share * len(data))])


def test_bytes_after_the_end_mark_do_no_harm(tmp_path):
    data = draw([column(60, LEFT)])
    assert (
        LEFT[0]
        in read(tmp_path, data + b"\n<!-- served in 3 ms -->" + b"\0" * 9_000)[0]
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pdf_file([["text"]], encrypted=True), "encrypted PDF.*qpdf --decrypt"),
        (b"<html>not found</html>", "no %PDF mark"),
        (b"%PDF-1.4\n" + b"x" * 99 + b"\n%%EOF", "not a readable PDF|without text"),
        (pdf_file([[r"\(cid:12\)\(cid:345\)abc"]]), "fonts .*do not say which"),
    ],
)
def test_other_faults_have_their_reason(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, data)


def test_a_stream_that_unpacks_too_far_is_refused(tmp_path):
    packed = zlib.compress(b" " * 10_000_000)
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>",
        f"<< /Length {len(packed)} /Filter /FlateDecode >>\nstream\n"
        f"{packed.decode('latin-1')}\nendstream",
    ]
    with pytest.raises(ValueError, match="stream .*unpacks to more than 1,000,000"):
        read(tmp_path, _assemble(objects, ""), Limits(max_unpacked_bytes=10**6))
    with pytest.raises(ValueError, match="PDF without text"):
        read(tmp_path, _assemble(objects, ""))


def test_pages_are_limited(tmp_path):
    with pytest.raises(ValueError, match="3 pages, more than 2; split"):
        read(tmp_path, draw([column(60, LEFT)] * 3), Limits(max_pages=2))
