"""Files that are gone, locked, endless, links, or in doubtful encodings."""

import os
import resource
import threading

import pytest

from finllm_utils.data import extract_files
from finllm_utils.data.encoding import decode
from finllm_utils.data.extract import Limits, read_file
from finllm_utils.data.extract_dates import stated_date
from finllm_utils.data.extract_guard import GuardedReader

from .files import ARTICLE

TEXT = "银行应当按照规定向客户说明利率、费用和风险，客户有权要求解释。\n"
TRADITIONAL = "銀行應當按照規定向客戶說明利率、費用和風險，客戶有權要求解釋。\n"
KOREAN = "은행은 규정에 따라 고객에게 금리를 설명해야 한다.\n"


def test_a_deleted_file_is_a_reason(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.txt: no longer there; .*run again"):
        read_file(tmp_path / "gone.txt")


@pytest.mark.parametrize("size", [5, 50])
def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch, size):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 20)
    before, seen = os.fstat, []

    def fstat(handle):
        seen.append(before(handle))
        if len(seen) == 2:  # the size is known, nothing is read yet
            os.truncate(path, size)
        return seen[-1]

    monkeypatch.setattr(extract_files.os, "fstat", fstat)
    with pytest.raises(ValueError, match="changed while it was read"):
        read_file(path)


def test_a_file_deleted_after_it_was_opened_is_still_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text(TEXT, "utf-8")
    before = os.fstat

    def fstat(handle):
        path.unlink(missing_ok=True)
        return before(handle)

    monkeypatch.setattr(extract_files.os, "fstat", fstat)
    assert read_file(path)[0] == TEXT


def test_no_permission_is_a_reason(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text(TEXT, "utf-8")
    path.chmod(0)
    if os.geteuid() == 0:  # root may read everything: take its place at the door

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(extract_files.os, "open", refuse)
    with pytest.raises(ValueError, match=r"a\.txt: no permission .*chmod \+r"):
        read_file(path)


def test_links_out_of_the_folder_are_refused(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text(TEXT, "utf-8")
    (inside / "a.txt").write_text(TEXT, "utf-8")
    (inside / "ok.txt").symlink_to("a.txt")
    (inside / "bad.txt").symlink_to(outside / "secret.txt")
    (inside / "folder").symlink_to(outside)
    (inside / "loop.txt").symlink_to("loop.txt")
    assert read_file(inside / "ok.txt", root=inside)[0] == TEXT
    for name in ("bad.txt", "folder/secret.txt", "folder"):
        with pytest.raises(ValueError, match="symbolic link out of its folder"):
            read_file(inside / name, root=inside)
    with pytest.raises(ValueError, match=r"loop\.txt: cannot be opened"):
        read_file(inside / "loop.txt", root=inside)


def test_folders_pipes_and_empty_files_are_reasons(tmp_path):
    (tmp_path / "a.txt").mkdir()
    os.mkfifo(tmp_path / "b.txt")
    (tmp_path / "c.pdf").touch()
    for name, reason in (
        ("a.txt", "not a regular file"),
        ("b.txt", "not a regular file"),
        ("c.pdf", "empty file"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_file(tmp_path / name)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "a.txt"
    with open(path, "wb") as file:
        file.truncate(2**30)  # sparse: no disk, no memory
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="1,073,741,824 bytes, more than 67,108,864"):
        read_file(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_an_endless_line_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "a.txt"
    with open(path, "wb") as file:
        file.write(b"first\n")
        for _ in range(60):
            file.write(b"x" * 2**20)
    with pytest.raises(ValueError, match="line 2: longer than 16,777,216 bytes"):
        read_file(path)
    path.write_bytes(b"ab\n" + b"c" * 9 + b"\nde\n")
    assert read_file(path, Limits(max_line_bytes=9))[0] == "ab\nccccccccc\nde\n"
    with pytest.raises(ValueError, match="line 2"):
        read_file(path, Limits(max_line_bytes=8))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((("utf-8", 3), ("gb18030", 2)), "utf-8 up to line 3 and gb18030 from line 4"),
        ((("utf-8", 900), ("gb18030", 1), ("utf-8", 9)), "gb18030 from line 901"),
        ((("utf-8-sig", 1), ("gb18030", 1)), "utf-8 up to line 1 and gb18030 from"),
        (
            (("gb18030", 30), ("utf-8", 1)),
            "gb18030 up to line 30 and utf-8 from line 31",
        ),
        ((("big5", 5), ("utf-8", 5)), "big5 up to line 5 and utf-8 from line 6"),
        ((("gb18030", 30), ("big5", 1)), "gb18030 up to line 30 and big5 from line 31"),
    ],
)
def test_mixed_encodings_name_the_line(parts, reason):
    data = b"".join(
        ((TRADITIONAL if "big5" in e else TEXT) * n).encode(e) for e, n in parts
    )
    with pytest.raises(ValueError, match=f"a.txt: mixed encodings, .*{reason}"):
        decode(data, "a.txt")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"abc\0def", r"NUL byte at 3\)"),
        (TEXT.encode("utf-16-le"), "UTF-16 without its byte-order mark"),
        (TEXT.encode("utf-16")[:-1], "marked as UTF-16 but broken at line 1"),
        ((TEXT * 2).encode("utf-16") + b"x", "marked as UTF-16 but broken at line 3"),
        (bytes(range(1, 32)) * 4, "binary data, not text"),
        (b"\x89PNG\r\n", "a PNG image, not text"),
        (b"PK\x03\x04abc", "a ZIP or Office file, not text"),
        ("模募".encode("gb18030"), "UTF-8 or GB18030, .*not tell which"),
        ("利率".encode("gb18030"), "GB18030 or EUC-KR, .*not tell which"),
        ((KOREAN * 3).encode("euc_kr"), "GB18030 or EUC-KR, .*not tell which"),
        ("银行".encode("gb18030"), "GB18030 or BIG5, .*not tell which"),
        ("He said “it’s good”—résumé".encode("cp1252"), "not readable as UTF-8"),
        ("銀行は規定に従って説明する。".encode("shift_jis"), "not readable as UTF-8"),
    ],
)
def test_doubtful_bytes_are_refused_not_guessed(data, reason):
    with pytest.raises(ValueError, match=f"a.txt: .*{reason}"):
        decode(data, "a.txt")


def test_a_declared_encoding_settles_a_tie_and_nothing_else():
    data = "利率".encode("gb18030")
    assert decode(data, "a", "gb2312") == ("利率", "gb18030")
    assert decode(TEXT.encode("gb18030"), "a", "big5") == (TEXT, "gb18030")


def test_frames_full_width_and_a_broken_byte_are_read():
    frame = "┌──┬──┐\n│项目│金额│\n└──┴──┘\n２０２４年％★■①ＡＢＣ\n"
    assert decode(frame.encode("gb18030"), "a") == (frame, "gb18030")
    text, encoding = decode((TEXT * 50).encode("gb18030")[:-2], "a")
    assert (encoding, text.count("\ufffd")) == ("gb18030", 1)
    assert decode(TEXT.encode("utf-32"), "a") == (TEXT, "utf-32")


@pytest.mark.parametrize("encoding", ["gb18030", "big5"])
def test_no_short_text_is_read_wrongly(encoding):
    text = (TRADITIONAL if encoding == "big5" else "".join(ARTICLE) + TEXT).strip()
    read = 0
    for length in (2, 4, 8, 16):
        for start in range(len(text) - length):
            part = text[start : start + length]
            try:
                found, _ = decode(part.encode(encoding), "a")
            except ValueError:
                continue
            assert found == part
            read += length == 16
    assert read > 0.95 * (len(text) - 16)


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("发布时间：2024-03-05 10:20 来源：某网", "2024-03-05"),
        ("某行公告\n正文。\n二〇二四年十二月三十一日", "2024-12-31"),
        ("（2024年3月5日）", "2024-03-05"),
        ("2024-02-30\n二○二○年十月十日", "2020-10-10"),
        ("2024年3月5日，某行发布公告。", ""),
        ("编号2024-03-051", ""),
    ],
)
def test_stated_dates(text, date):
    assert stated_date(text) == date


def test_the_guard_turns_a_hang_a_crash_and_hunger_into_reasons(tmp_path):
    good, pipe = tmp_path / "a.txt", tmp_path / "b.txt"
    good.write_text(TEXT, "utf-8")
    pipe.write_bytes(b"x" * 40 * 2**20)
    with GuardedReader(max_memory_bytes=300 * 2**20) as guard:
        assert guard.read_file(good) == read_file(good)
        with pytest.raises(ValueError, match=r"c\.txt: no longer there"):
            guard.read_file(tmp_path / "c.txt")
        child = guard._child
        threading.Timer(0.2, child.kill).start()
        child.wait()
        with pytest.raises(ValueError, match=r"a\.txt: the parser crashed on it"):
            guard.read_file(good)
        assert guard.read_file(good)[0] == TEXT  # a new process
        with pytest.raises(ValueError, match="longer than|too much memory"):
            guard.read_file(pipe)
    with GuardedReader(timeout_s=0.001) as guard:
        with pytest.raises(ValueError, match=r"a\.txt: not read within 0.001 seconds"):
            guard.read_file(good)
