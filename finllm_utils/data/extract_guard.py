"""Extraction in a process of its own, so that a hostile file costs that file only.

A parser may hang, crash or eat the memory on a file made for that; here it has limits,
and ``GuardedReader`` turns each into a reason. Optional: ``extract.read_file`` is the
same without. Run as a module, this file is the child: JSON lines in, JSON lines out.
"""

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from finllm_utils.data.extract import LIMITS, Limits, read_file

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class GuardedReader:
    """``read_file`` with limits on time and memory; use it in a ``with`` block.

    The process is started at the first file and again after each that it died on.
    Args: timeout_s is per file; max_memory_bytes is the address space of the process.
    """

    def __init__(
        self,
        limits: Limits = LIMITS,
        *,
        timeout_s: float = 600.0,
        max_memory_bytes: int = 4 * 2**30,
    ) -> None:
        self._limits = limits
        self._timeout_s = timeout_s
        self._max_memory_bytes = max_memory_bytes
        self._child: subprocess.Popen | None = None

    def __enter__(self) -> "GuardedReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def read_file(
        self, path: Path, *, root: Path | None = None, offset: int = -1
    ) -> tuple[str, dict]:
        """As ``extract.read_file``; also a file over the limits is a ValueError."""
        child = self._start()
        request = {
            "path": str(path),
            "root": None if root is None else str(root),
            "offset": offset,
            "limits": asdict(self._limits),
        }
        with contextlib.suppress(BrokenPipeError):  # it has died; the answer says so
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        if not select.select([child.stdout], [], [], self._timeout_s)[0]:
            self.close()
            raise ValueError(
                f"{path}: not read within {self._timeout_s:g} seconds; split it, or "
                "remove it"
            )
        answer = child.stdout.readline()
        if not answer.endswith(b"\n"):
            status = child.wait()
            self.close()
            raise ValueError(
                f"{path}: the parser crashed on it (exit status {status}); save it "
                "again or remove it"
            )
        answer = json.loads(answer)
        if "reason" in answer:
            raise ValueError(answer["reason"])
        return answer["text"], answer["meta"]

    def _start(self) -> subprocess.Popen:
        if self._child is None:
            paths = [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
            self._child = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._max_memory_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        return self._child


def _answer(request: dict) -> dict:
    root = request["root"] and Path(request["root"])
    limits = Limits(**request["limits"])
    try:
        text, meta = read_file(
            Path(request["path"]), limits, root=root, offset=request["offset"]
        )
    except ValueError as error:
        return {"reason": str(error)}
    return {"text": text, "meta": meta}


def main() -> None:
    """Answers requests until standard input ends."""
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a parser that prints must not spoil the answers
    for line in sys.stdin.buffer:
        out.write(json.dumps(_answer(json.loads(line))).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
