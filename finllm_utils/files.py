"""Files that are whole or absent: atomic writes, digests and locks.

Every artifact of the course is written under a temporary name, flushed to disk and
renamed, so a killed process leaves the old file or the new one, never half of one.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_held_locks: dict[Path, int] = {}


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator:
    """Yields an open file that replaces ``path`` only when the block succeeds.

    Raises: OSError with the path and the remedy when the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    encoding = None if "b" in mode else "utf-8"
    try:
        with open(temporary, mode, encoding=encoding) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder that replaces ``path`` when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _explain(error: OSError, path: Path) -> OSError:
    if error.errno == 28:  # ENOSPC
        free = shutil.disk_usage(path.parent).free // 2**20
        return OSError(
            28,
            f"disk full while writing {path} ({free} MiB free): nothing was changed; "
            "free some space or pass another --run-dir, then run the same command",
        )
    return error


def write_json(path: Path, value: object) -> None:
    """Writes ``value`` as UTF-8 JSON, atomically."""
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)
    with atomic_file(path) as handle:
        handle.write(text + "\n")


def read_json(path: Path) -> object:
    """Returns the JSON value in ``path``.

    Raises: ValueError naming the file and the line when it is not JSON.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); "
            "delete the file and rerun the stage that writes it"
        ) from error


def require_finite(values: dict[str, float], where: Path | str) -> None:
    """Raises ValueError naming every value in ``values`` that is NaN or infinite."""
    floats = {k: v for k, v in values.items() if isinstance(v, float)}
    bad = [k for k, v in floats.items() if not math.isfinite(v)]
    if bad:
        raise ValueError(
            f"{where}: {', '.join(bad)} is not a finite number; look for a "
            "diverged loss in the stage that wrote it (lower its learning_rate) and "
            "rerun that stage"
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, as hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def tree_digest(path: Path, digest_file: Callable[[Path], str] = file_digest) -> str:
    """SHA-256 over the names and contents of a file or of all files in a folder.

    Args: digest_file gives one file's digest; pass a cached one for large trees.
    """
    path = Path(path)
    if path.is_file():
        return digest_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path)}\0{digest_file(file)}\n".encode())
    return digest.hexdigest()


def hold_lock(path: Path, what: str, remedy: str, patience_s: float = 10.0) -> None:
    """Takes an exclusive lock on ``path`` that lasts until this process ends.

    Args: patience_s covers a killed run's kernel that needs a moment to die.
    Raises: RuntimeError saying which process holds it and the remedy.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path in _held_locks:
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                owner = os.pread(handle, 32, 0).decode().strip() or "unknown"
                os.close(handle)
                raise RuntimeError(
                    f"{what} is in use by process {owner}: {remedy}"
                ) from None
            time.sleep(0.2)
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    _held_locks[path] = handle


def release_lock(path: Path) -> None:
    """Gives back a lock taken by ``hold_lock``; does nothing when it is not held."""
    handle = _held_locks.pop(Path(path), None)
    if handle is not None:
        os.close(handle)
