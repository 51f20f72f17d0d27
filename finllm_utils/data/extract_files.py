"""Opening files that may be gone, locked, too large or no files at all.

Every fault is a ValueError with the file's name and the remedy.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO


def require_inside(path: Path, root: Path) -> None:
    """Raises ValueError when ``path``, links followed, leaves the folder ``root``."""
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(root)):
        raise ValueError(
            f"{path}: symbolic link out of its folder; copy the file in or remove "
            "the link"
        )


def open_regular(path: Path) -> BinaryIO:
    """``path`` opened for reading bytes; the caller closes it.

    Raises: ValueError naming the file: gone, not allowed, not a regular file, empty.
    """
    try:
        # O_NONBLOCK: opening a pipe without a writer would wait for ever
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: no longer there; it was deleted or moved after it was listed, "
            "restore it or run again"
        ) from error
    except PermissionError as error:
        raise ValueError(
            f"{path}: no permission to read it; give it with chmod +r, or remove it"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be opened ({error.strerror}); copy it again or remove it"
        ) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise ValueError(f"{path}: not a regular file; remove it")
    if status.st_size == 0:
        os.close(handle)
        raise ValueError(f"{path}: empty file (0 bytes); export it again or remove it")
    return open(handle, "rb")


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most ``max_bytes``.

    Raises: as ``open_regular``; also when it is too large or changes meanwhile.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(
                f"{path}: {size:,} bytes, more than {max_bytes:,}; split it, or raise "
                "data.max_file_bytes"
            )
        try:
            data = file.read(size + 1)
        except OSError as error:
            raise ValueError(
                f"{path}: cannot be read to its end ({error.strerror}); copy it again"
            ) from error
    if len(data) != size:
        raise ValueError(
            f"{path}: changed while it was read ({size:,} bytes at first, then "
            f"{len(data):,}); run again when it is complete"
        )
    return data
