"""A folder with every kind of bad file through the whole chain: nothing stops it."""

import dataclasses
import re
import zipfile

import pytest

from finllm_utils.data.pipeline import clean_corpus
from finllm_utils.data.sources import iterate_sources
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document, read_records

from .files import ARTICLE, html_page, pdf_file
from .test_extract_office import OLE, paragraph, word_file
from .test_extract_warc import archive

CONFIG = load_profile("toy").data
TEXT = "银行应当按照规定向客户说明利率、费用和风险，客户有权要求解释。\n"
TOO_LONG = "line 1: longer than 16,777,216 bytes"
ENGLISH = (
    "The fund pays depositors of a failed bank up to a limit that the law fixes. " * 9
)
RUSSIAN = "Банк обязан разъяснить клиенту процентные ставки, комиссии и риски. " * 9

REASONS = {
    "absent.txt": "extract: .*no longer there; it was deleted or moved",
    "archive.warc/1": "extract: .*Unknown archive format",
    "bomb.docx": r"extract: .*unpacks to 69,000,\d+ bytes.*zip bomb",
    "cut.pdf": "extract: .*truncated, .*fetch it again",
    "deep.html": "extract: .*tags nested 256 deep or deeper",
    "deleted.txt": "extract: .*no longer there; it was deleted or moved",
    "huge.jsonl": f"extract: .*{TOO_LONG}",
    "huge.txt": "extract: .*1,073,741,824 bytes, more than 67,108,864",
    "line.txt": f"extract: .*{TOO_LONG}",
    "link.jsonl": "extract: .*symbolic link out of its folder",
    "link.txt": "extract: .*symbolic link out of its folder",
    "locked.docx": "extract: .*encrypted Word format",
    "locked.pdf": "extract: .*encrypted PDF",
    "mixed.txt": "extract: .*mixed encodings, .*gb18030 from line 3",
    "program.exe": "extract: .*unknown file type",
    "rows.jsonl": "extract: .*line 2: broken JSON.*; 1 others were read",
    "shard.parquet": "extract: .*no column 'text' among id, body",
    "foreign/a.txt": "language: (not_chinese|foreign_script)",
    "foreign/b.html": "language: (not_chinese|foreign_script)",
    "foreign/c.txt": "language: (not_chinese|foreign_script)",
}


def sparse(path, size):
    with open(path, "wb") as file:
        file.truncate(size)  # no disk, no memory


def fill(folder, outside):
    """One file of every kind in ``folder``."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    (folder / "foreign").mkdir(parents=True)
    (folder / "good.txt").write_text("".join(ARTICLE), "utf-8")
    archive(folder / "good.warc.gz")
    (folder / "archive.warc").write_bytes(b"hello\n" * 9)
    word_file(folder / "bomb.docx", paragraph("字" * 23_000_000))
    data = pdf_file([["A bond and its yield."] * 9])
    (folder / "cut.pdf").write_bytes(data[: len(data) // 2])
    (folder / "deep.html").write_text("<div>" * 10_000 + ARTICLE[0], "utf-8")
    (folder / "deleted.txt").write_text(TEXT, "utf-8")
    sparse(folder / "huge.jsonl", 2**30)
    sparse(folder / "huge.txt", 2**30)
    sparse(folder / "line.txt", 17 * 2**20)
    outside.mkdir()
    for name, text in (("x.txt", TEXT), ("x.jsonl", '{"text": "x"}')):
        (outside / name).write_text(text, "utf-8")
        (folder / f"link{name[1:]}").symlink_to(outside / name)
    (folder / "absent.txt").symlink_to("nowhere.txt")
    (folder / "locked.docx").write_bytes(OLE + "EncryptedPackage".encode("utf-16-le"))
    (folder / "locked.pdf").write_bytes(pdf_file([["x"]], encrypted=True))
    (folder / "mixed.txt").write_bytes((TEXT * 2).encode() + TEXT.encode("gb18030"))
    (folder / "program.exe").write_bytes(b"MZ")
    (folder / "rows.jsonl").write_text(f'{{"text": "{TEXT[:-1]}"}}\n{{"te', "utf-8")
    parquet.write_table(pa.table({"id": [1], "body": ["甲"]}), folder / "shard.parquet")
    (folder / "foreign" / "a.txt").write_text(ENGLISH, "utf-8")
    (folder / "foreign" / "b.html").write_bytes(html_page((ENGLISH, RUSSIAN)))
    (folder / "foreign" / "c.txt").write_text(RUSSIAN, "utf-8")


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    """What the chain made of the folder: items, kept documents, audit trail, funnel."""
    tmp_path = tmp_path_factory.mktemp("chain")
    folder = tmp_path / "mine"
    fill(folder, tmp_path / "outside")
    config = dataclasses.replace(CONFIG, min_chars=20)
    items = list(iterate_sources((f"finance_zh={folder}",), config.max_line_bytes))
    (folder / "deleted.txt").unlink()
    output = tmp_path / "out"
    output.mkdir()
    rejected, funnel = clean_corpus(
        items, config, heldout=[], output=output, work_dir=tmp_path / "work",
        num_workers=1,
    )  # fmt: skip
    kept = read_records(output / "finance_zh.jsonl", Document)
    return items, kept, rejected, funnel, tmp_path


@pytest.mark.parametrize("name", REASONS)
def test_every_bad_file_has_its_reason(cleaned, name):
    (row,) = [row for row in cleaned[2] if row["id"] == f"mine/{name}"]
    assert re.search(REASONS[name], f"{row['step']}: {row['reason']}")
    assert str(cleaned[4]) not in row["reason"], "the audit trail names no folder"


def test_the_rest_goes_on(cleaned):
    items, kept, rejected, funnel, _ = cleaned
    ids = {document.id for document in kept}
    assert {"mine/good.txt", "mine/rows.jsonl/1"} <= ids
    others = {row["id"] for row in rejected} - {f"mine/{name}" for name in REASONS}
    # Pages of the good archive: two are copies, one is English.
    assert all(key.startswith("mine/good.warc.gz/") for key in (ids | others) - {
        "mine/good.txt", "mine/rows.jsonl/1"
    })  # fmt: skip
    assert len(ids) + len(rejected) == len(items) + 3  # an archive has four pages
    read = sum(row["docs"] for row in funnel if row["step"] == "read")
    assert read == len(items)


def test_the_bomb_is_small_on_disk(cleaned):
    path = cleaned[4] / "mine" / "bomb.docx"
    assert path.stat().st_size < 100_000
    with zipfile.ZipFile(path) as bomb:
        assert sum(part.file_size for part in bomb.infolist()) > 2**26
