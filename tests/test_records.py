"""Records in and out, and every kind of broken file."""

import json

import pytest

from finllm_utils.records import (
    ChatTurn,
    Document,
    ExamItem,
    Instruction,
    PreferencePair,
    read_lines,
    read_records,
    write_records,
)

DOCUMENTS = [
    Document(
        id="1", text="利率\u2028上调", source="s", domain="finance_zh", meta={"n": 1}
    ),
    Document(id="2", text='a "b"\n', source="s", domain="english"),
]
OTHERS = [
    [
        Instruction(
            id="1",
            messages=(
                ChatTurn(role="user", content="什么是利率？"),
                ChatTurn(role="assistant", content="借钱的价格。"),
            ),
            task="qa",
            domain="finance",
            source="s",
        )
    ],
    [PreferencePair(id="1", prompt="p", chosen="c", rejected="r", source="s")],
    [
        ExamItem(
            id="1", subject="law", type="single", question="q", choices=("a", "b"),
            answer="A", proof="p",
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "records", [DOCUMENTS, *OTHERS], ids=lambda r: type(r[0]).__name__
)
def test_round_trip(tmp_path, suffix, records):
    path = tmp_path / f"a{suffix}"
    assert write_records(path, records) == len(records)
    assert read_records(path, type(records[0])) == records


def test_generators_can_be_written(tmp_path):
    assert write_records(tmp_path / "a.jsonl", (d for d in DOCUMENTS)) == 2
    assert read_records(tmp_path / "a.jsonl", Document) == DOCUMENTS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.jsonl: empty file \(0 bytes\)"),
        (b'{"id": 1}\n{"id": \n', r"a\.jsonl, line 2: broken JSON"),
        (b'{}\n\n{"id": "\xb4\xfb"}\n', r"line 3: not UTF-8 at byte 8; .*GB18030"),
        (b"[1]\n", r"line 1: expected an object"),
    ],
)
def test_broken_lines_are_named(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_lines(path))


def test_a_50_mb_line_is_refused_without_being_read(tmp_path):
    path = tmp_path / "a.jsonl"
    with open(path, "wb") as handle:
        handle.write(b'{"id": "1"}\n')
        for _ in range(50):
            handle.write(b"x" * 2**20)
    with pytest.raises(
        ValueError, match="line 2: longer than 16,777,216 bytes.*max_line"
    ):
        list(read_lines(path))


def test_a_blank_line_is_no_record_and_a_long_limit_is_exact(tmp_path):
    path = tmp_path / "a.jsonl"
    line = json.dumps({"a": 1}) + "\n"
    path.write_text(line + "\n" + line)
    assert list(read_lines(path, max_line_bytes=len(line))) == [{"a": 1}] * 2
    with pytest.raises(ValueError, match="line 1: longer than"):
        list(read_lines(path, max_line_bytes=len(line) - 1))


def test_wrong_fields_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "texts": "x", "source": "s", "domain": "d"}\n')
    with pytest.raises(ValueError, match="line 1: unknown field 'texts'; Document has"):
        read_records(path, Document)
    path.write_text('\n{"id": "1", "source": "s", "domain": "d"}\n')
    with pytest.raises(ValueError, match="line 2: .*text"):
        read_records(path, Document)


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="unknown suffix '.txt'"):
        read_records(tmp_path / "a.txt", Document)
    with pytest.raises(ValueError, match="no such file"):
        read_records(tmp_path / "a.jsonl", Document)
    (tmp_path / "a.parquet").write_bytes(b"PAR")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_records(tmp_path / "a.parquet", Document)


def test_a_failing_generator_leaves_nothing(tmp_path):
    def broken():
        yield DOCUMENTS[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_records(tmp_path / "a.jsonl", broken())
    assert list(tmp_path.iterdir()) == []
