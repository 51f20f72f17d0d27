"""Atomic writes, digests, locks and their faults."""

import errno
import os
import subprocess
import sys
import time

import pytest

from finllm_utils import files
from finllm_utils.dependencies import REPOSITORY


def test_atomic_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with pytest.raises(KeyError), files.atomic_file(path) as handle:
        handle.write("half")
        raise KeyError
    assert list(path.parent.iterdir()) == []
    with files.atomic_file(path) as handle:
        handle.write("贷款")
    assert path.read_bytes() == "贷款".encode()
    with pytest.raises(KeyError), files.atomic_file(path) as handle:
        handle.write("new")
        raise KeyError
    assert path.read_text(encoding="utf-8") == "贷款", "the old file stays"


def test_atomic_folder_is_whole_or_absent(tmp_path):
    path = tmp_path / "model"
    with files.atomic_folder(path) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(KeyError), files.atomic_folder(path) as folder:
        (folder / "b").write_text("2")
        raise KeyError
    assert [p.name for p in path.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_full_disk_names_the_remedy_and_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full while writing .*a.json.*--run-dir"):
        files.write_json(path, {"new": 2})
    monkeypatch.undo()
    assert files.read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 64 KiB, where this machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip("mounting a tiny file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(tiny_disk):
    files.write_json(tiny_disk / "a.json", {"old": 1})
    with pytest.raises(OSError, match="disk full while writing"):
        files.write_json(tiny_disk / "a.json", {"new": "x" * 200_000})
    assert files.read_json(tiny_disk / "a.json") == {"old": 1}
    with pytest.raises(OSError, match="disk full"):
        with files.atomic_folder(tiny_disk / "model") as folder:
            (folder / "weights").write_bytes(b"x" * 200_000)
    assert [p.name for p in tiny_disk.iterdir()] == ["a.json"]


def test_read_json_names_file_and_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1,\n "b": }')
    with pytest.raises(ValueError, match=r"a\.json, line 2: not valid JSON"):
        files.read_json(path)


def test_require_finite_names_the_key():
    files.require_finite({"a": 1.0, "b": "text", "c": 3}, "x")
    with pytest.raises(ValueError, match="metrics: loss, kl is not a finite number"):
        files.require_finite({"loss": float("nan"), "kl": float("inf")}, "metrics")


def test_tree_digest_sees_names_and_contents(tmp_path):
    (tmp_path / "t" / "sub").mkdir(parents=True)
    (tmp_path / "t" / "a").write_text("1")
    (tmp_path / "t" / "sub" / "b").write_text("2")
    first = files.tree_digest(tmp_path / "t")
    (tmp_path / "t" / "a").write_text("1")
    assert files.tree_digest(tmp_path / "t") == first
    (tmp_path / "t" / "a").rename(tmp_path / "t" / "c")
    assert files.tree_digest(tmp_path / "t") != first
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "abc").write_text("abc")
    assert files.tree_digest(tmp_path / "abc") == known  # FIPS 180-2, appendix B.1


def test_lock_is_held_by_one_process_and_ends_with_it(tmp_path):
    path = tmp_path / ".lock"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\n"
            "from pathlib import Path\n"
            "from finllm_utils.files import hold_lock\n"
            "hold_lock(Path(sys.argv[1]), 'x', 'y')\n"
            "print('held', flush=True)\n"
            "time.sleep(60)",
            str(path),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(
        RuntimeError, match=f"the run is in use by process {holder.pid}"
    ):
        files.hold_lock(path, "the run", "wait", patience_s=0.1)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    started = time.monotonic()
    files.hold_lock(path, "the run", "wait")
    files.hold_lock(path, "the run", "wait")  # again in the same process: nothing
    assert time.monotonic() - started < 5
    files.release_lock(path)
    files.release_lock(path)
