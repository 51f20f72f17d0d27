"""Web archives: one record a delivered page; damage is named and the rest is read."""

import gzip
import io

import pytest

from finllm_utils.data.extract import Limits, read_file
from finllm_utils.data.extract_warc import record_offsets

from .files import ARTICLE, html_page, pdf_file

PAGES = (
    ("200 OK", "text/html; charset=gbk", html_page(charset="gb18030"), ""),
    ("404 Not Found", "text/html", html_page(), ""),
    ("200 OK", "image/png", b"\x89PNG", ""),
    ("200 OK", "text/plain", ARTICLE[0].encode(), ""),
    ("200 OK", "text/html", gzip.compress(html_page()), "gzip"),
    ("200 OK", "application/pdf", pdf_file([["A bond and its yield."]]), ""),
)


def archive(path, pages=PAGES):
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with open(path, "wb") as file:
        writer = WARCWriter(file, gzip=path.suffix == ".gz")
        writer.write_record(writer.create_warcinfo_record("a", {"software": "test"}))
        for number, (status, kind, body, encoding) in enumerate(pages, 1):
            headers = [("Content-Type", kind)]
            headers += [("Content-Encoding", encoding)] if encoding else []
            record = writer.create_warc_record(
                f"https://example.org/{number}",
                "response",
                payload=io.BytesIO(body),
                http_headers=StatusAndHeaders(status, headers, protocol="HTTP/1.0"),
                warc_headers_dict={"WARC-Date": f"2024-05-0{number}T00:00:00Z"},
            )
            writer.write_record(record)
    return path


def read_all(path, limits=None):
    """(url or reason) and text of each record."""
    found = []
    for offset in record_offsets(path):
        try:
            text, meta = read_file(path, limits or Limits(), offset=offset)
        except ValueError as error:
            found.append((str(error), ""))
        else:
            found.append((meta["url"], text))
    return found


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_one_record_a_delivered_page(tmp_path, name):
    path = archive(tmp_path / name)
    records = read_all(path)
    assert [url[-1] for url, _ in records] == ["1", "4", "5", "6"]
    assert ARTICLE[0] in records[0][1] and ARTICLE[0] in records[2][1]
    assert records[1][1] == ARTICLE[0]
    first = next(record_offsets(path))
    meta = read_file(path, offset=first)[1]
    assert meta["fetched"] == "2024-05-01T00:00:00Z"
    assert (meta["format"], meta["payload"], meta["encoding"]) == (
        "warc", "html", "gb18030",
    )  # fmt: skip
    assert meta["title"] == "久期入门"
    assert "charset" not in meta


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_a_cut_archive_keeps_what_is_whole(tmp_path, name):
    path = archive(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-100])
    records = read_all(path)
    assert len(records) == 4 and ARTICLE[0] in records[2][1]
    assert "cut off" in records[3][0] and "fetch the archive again" in records[3][0]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_damage_in_the_middle_is_named(tmp_path, name):
    path = archive(tmp_path / name)
    data, middle = path.read_bytes(), list(record_offsets(path))[1]
    path.write_bytes(data[:middle] + b"\0" * 40 + data[middle + 40 :])
    records = read_all(path)
    assert ARTICLE[0] in records[0][1]
    assert "record at byte" in records[-1][0] and "broken" in records[-1][0]


def test_one_gzip_stream_names_the_remedy(tmp_path):
    path = archive(tmp_path / "a.warc")
    whole = tmp_path / "b.warc.gz"
    whole.write_bytes(gzip.compress(path.read_bytes()))
    assert any("warcio recompress" in reason for reason, _ in read_all(whole))


def test_a_page_that_unpacks_too_far_is_refused_in_little_memory(tmp_path):
    body = gzip.compress(b"<p>x</p>" * 4_000_000)
    path = archive(tmp_path / "a.warc", [("200 OK", "text/html", body, "gzip")])
    assert (
        "more than 1,000,000 bytes"
        in read_all(path, Limits(max_file_bytes=10**6))[0][0]
    )


def test_an_archive_without_its_record(tmp_path):
    one = archive(tmp_path / "a.warc", PAGES[:1])
    assert ARTICLE[0] in read_file(one)[0]
    with pytest.raises(ValueError, match="holds more than one page"):
        read_file(archive(tmp_path / "b.warc"))
    with pytest.raises(ValueError, match="holds no page"):
        read_file(archive(tmp_path / "c.warc", PAGES[1:3]))
    with pytest.raises(ValueError, match="no page starts there"):
        read_file(one, offset=0)
    (tmp_path / "d.warc").write_bytes(b"hello\n" * 9)
    with pytest.raises(ValueError, match="Unknown archive format"):
        read_file(tmp_path / "d.warc")
