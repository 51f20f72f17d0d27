"""Small HTML, PDF and DOCX files made by hand, for the tests of extraction."""

from pathlib import Path

ARTICLE = (
    "久期衡量债券价格对利率变化的敏感程度，利率上升时债券价格下降，久期越长下降得越多。",
    "投资者可以用久期来估计组合在利率变动一个百分点时大约亏损多少，并决定是否缩短期限。",
    "需要记住的是，久期只是一阶的近似，利率变动很大的时候还要把凸性一并考虑进来才行。",
)


def html_page(paragraphs: tuple[str, ...] = ARTICLE, charset: str = "utf-8") -> bytes:
    """A page with menu, links and foot around the paragraphs."""
    body = "".join(f"<p>{p}</p>" for p in paragraphs)
    links = "".join(f'<li><a href="/{i}">热门文章{i}</a></li>' for i in range(9))
    page = (
        f'<html><head><meta charset="{charset}"><title>久期</title></head><body>'
        f"<nav><a href='/'>首页</a> <a href='/f'>基金</a></nav><ul>{links}</ul>"
        f"<article><h1>久期入门</h1>{body}</article>"
        "<footer>版权所有 某某网 京ICP备00000000号</footer></body></html>"
    )
    return page.encode(charset, "xmlcharrefreplace")


def pdf_file(pages: list[list[str]], *, encrypted: bool = False) -> bytes:
    """A PDF of Latin text lines, 20 points apart; encrypted ones open with no password."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>")
    kids = []
    for lines in pages:
        text = "".join(
            f"BT /F1 10 Tf 40 {780 - 20 * i} Td ({line}) Tj ET\n"
            for i, line in enumerate(lines)
        )
        objects.append(f"<< /Length {len(text)} >>\nstream\n{text}\nendstream")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources "
            f"<< /Font << /F1 3 0 R >> >> /Contents {len(objects)} 0 R >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    extra = ""
    if encrypted:
        key = "<" + "41" * 32 + ">"
        objects.append(
            f"<< /Filter /Standard /V 1 /R 2 /Length 40 /P -4 /O {key} /U {key} >>"
        )
        extra = f" /Encrypt {len(objects)} 0 R /ID [<00> <00>]"
    return _assemble(objects, extra)


def _assemble(objects: list[str], extra: str) -> bytes:
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    tail = (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}"
        f"trailer << /Size {size} /Root 1 0 R{extra} >>\nstartxref\n{len(data)}\n%%EOF"
    )
    return data + tail.encode("latin-1")


def docx_file(path: Path) -> None:
    """Two paragraphs with a table between them; its first row is one merged cell."""
    import docx

    document = docx.Document()
    document.add_paragraph(ARTICLE[0])
    table = document.add_table(rows=2, cols=2)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "合计"
    table.cell(1, 0).text, table.cell(1, 1).text = "利率", "3.85%"
    document.add_paragraph(ARTICLE[1])
    document.save(str(path))
