"""An audit trail that shows any change: each line hashes the one before."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from finllm_utils.files import atomic_file
from finllm_utils.records import read_lines

START = "0" * 64


def seal(entry: dict, prev_hash: str) -> dict:
    """``entry`` with ``prev_hash`` and its own SHA-256 over both."""
    line = entry | {"prev_hash": prev_hash}
    return line | {"hash": _digest(line)}


def _digest(line: dict) -> str:
    body = {k: v for k, v in line.items() if k != "hash"}
    text = json.dumps(body, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def verify(lines: Iterable[dict]) -> int:
    """The number of lines when the chain holds.

    Raises: ValueError naming the first line that was changed, removed or moved.
    """
    prev_hash, number = START, 0
    for number, line in enumerate(lines, 1):
        if line.get("prev_hash") != prev_hash or line.get("hash") != _digest(line):
            raise ValueError(
                f"audit line {number}: the hash chain is broken here; the line was "
                "changed, or one before it was removed"
            )
        prev_hash = line["hash"]
    return number


def write_audit(path: Path, lines: Iterable[dict]) -> None:
    """Writes sealed lines as JSONL, atomically."""
    with atomic_file(Path(path)) as handle:
        for line in lines:
            handle.write(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n")


def verify_file(path: Path) -> int:
    """``verify`` for a JSONL file."""
    return verify(read_lines(Path(path)))
