"""The audit trail of dropped documents, as a sequence that stays on disk."""

import os
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson


class RejectedRows(Sequence):
    """Every dropped document as a dict: in step order, then document order.

    Rows are read when asked for, also after the work folder is gone; memory is 40 bytes
    a row, since a corpus of copies drops more than it keeps.
    """

    def __init__(self, work_dir: Path, steps: Sequence[str]) -> None:
        self._file = tempfile.TemporaryFile(dir=work_dir)
        places = array("q")
        for path in sorted((work_dir / "rejected").glob("*.jsonl")):
            step = steps.index(path.stem.rpartition("_")[0])
            with open(path, "rb") as handle:
                for line in handle:
                    order = orjson.loads(line)["order"]
                    places.extend((step, order, self._file.tell(), len(line)))
                    self._file.write(line)
        self._file.flush()
        table = np.frombuffer(places, np.int64).reshape(-1, 4)
        self._places = table[np.lexsort((table[:, 1], table[:, 0])), 2:]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int | slice) -> "dict | list[dict]":
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, size = self._places[index].tolist()
        return orjson.loads(os.pread(self._file.fileno(), size, start))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None

    def __repr__(self) -> str:
        return f"<{len(self)} dropped documents>"
