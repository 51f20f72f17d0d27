"""Signed documents on disk: their lines as bytes, what dedup compares as columns.

A signed file is four: ``<stem>.jsonl`` holds finished records, a line each;
``<stem>.npy`` a row of ``columns`` each; ``<stem>.windows`` and ``<stem>.paragraphs``
the hashes that template and paragraph dedup count. Dedup reads columns; a text is read
from its place in the file when two documents must be compared or one is changed, so
memory grows with the number of documents (about 300 bytes each), not with their text.
"""

import contextlib
import json
import math
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson

from finllm_utils.files import atomic_file

_OPEN_FILES = 64
_SLICE = 1 << 22  # hashes sorted at once: 32 MB
WINDOWS, PARAGRAPHS = "windows", "paragraphs"
HASHES = (WINDOWS, PARAGRAPHS)


def columns_type(bands: int) -> np.dtype:
    """What is known of a document beside its line."""
    return np.dtype(
        [
            ("order", np.int64),  # place in the input
            ("start", np.int64),  # of its line in the file
            ("size", np.int64),  # of its line. Unit: bytes
            ("chars", np.int64),
            (WINDOWS, np.int64),  # how many hashes are its own
            (PARAGRAPHS, np.int64),
            ("quality", np.float64),
            ("noise", np.int32),
            ("length", np.int32),  # see ``length_class``
            ("date", "S24"),  # ISO, or empty
            ("page", np.bool),  # from the web
            ("exact", "S16"),  # digest of the folded text
            ("keys", np.uint64, (bands,)),
        ]
    )


def length_class(text: str) -> int:
    """Lengths within a fifth are equal: a line more of page furniture is no merit."""
    return round(5 * math.log(max(len("".join(text.split())), 1)))


def quality(meta: dict) -> float:
    """Probability of being clean times that of being knowledge; 1 where unscored."""
    return meta.get("clean", 1.0) * meta.get("knowledge", 1.0)


def record_line(row: dict) -> bytes:
    """A record as one line of JSON, as ``records.write_records`` writes it."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


class SignedWriter:
    """Writes a signed file part by part, as a context: whole at its end, or absent."""

    def __init__(self, stem: Path) -> None:
        self.stem, self._columns, self._files = stem, [], {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "SignedWriter":
        for name in ("jsonl", *HASHES):
            path = self.stem.with_suffix(f".{name}")
            self._files[name] = self._stack.enter_context(atomic_file(path, "wb"))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)
        if error[0] is None:
            with atomic_file(self.stem.with_suffix(".npy"), "wb") as handle:
                np.save(handle, np.concatenate(self._columns))

    def add(
        self,
        lines: Sequence[bytes],
        columns: np.ndarray,
        hashes: dict[str, Iterable[np.ndarray]] | None = None,
    ) -> None:
        """Adds rows, and the hashes of each; ``start`` and ``size`` are set here."""
        columns = columns.copy()
        columns["size"] = [len(line) for line in lines]
        columns["start"] = self._files["jsonl"].tell()
        columns["start"][1:] += np.cumsum(columns["size"])[:-1]
        self._files["jsonl"].writelines(lines)
        for name, rows in (hashes or {}).items():
            for values in rows:
                self._files[name].write(values.tobytes())
        self._columns.append(columns)


class SignedRows:
    """The rows of several signed files in document order. Use it as a context.

    ``columns`` is theirs; ``home`` says for each row from which of ``stems`` it is.
    """

    def __init__(self, stems: Sequence[Path], bands: int, changed: Path) -> None:
        self.stems = [Path(stem) for stem in stems]
        parts = [np.zeros(0, columns_type(bands))]
        parts += [np.load(stem.with_suffix(".npy")) for stem in self.stems]
        self._counts = [len(part) for part in parts[1:]]
        columns = np.concatenate(parts)
        del parts
        self._sorted = np.argsort(columns["order"], kind="stable")
        self.columns = columns[self._sorted]
        group = np.repeat(np.arange(len(self.stems)), self._counts)
        self.home = group[self._sorted].astype(np.int32)
        self._place = self.home.copy()  # -1 for a row that was changed
        self._files: OrderedDict[int, int] = OrderedDict()
        self._changed_path, self._changed = changed, None

    def __enter__(self) -> "SignedRows":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._files.values():
            os.close(handle)
        if self._changed is not None:
            self._changed.close()
            self._changed_path.unlink()

    def __len__(self) -> int:
        return len(self.columns)

    def line(self, index: int) -> bytes:
        """The line of one row."""
        row = self.columns[index]
        return os.pread(self._file(self._place[index]), row["size"], row["start"])

    def record(self, index: int) -> dict:
        """One row as id, text, source, domain and meta."""
        return orjson.loads(self.line(index))

    def text(self, index: int) -> str:
        """The text of one row."""
        return self.record(index)["text"]

    def change(self, index: int, text: str, **meta: str) -> None:
        """Gives a row another text; it is kept on disk until the context ends."""
        record = self.record(index)
        record |= {"text": text, "meta": {**record["meta"], **meta}}
        if self._changed is None:
            self._changed_path.parent.mkdir(parents=True, exist_ok=True)
            self._changed = open(self._changed_path, "wb+", buffering=0)
            self._files[-1] = os.dup(self._changed.fileno())
        line, row = record_line(record), self.columns[index : index + 1]
        row["start"], row["size"] = self._changed.tell(), len(line)
        row["chars"], row["length"] = len(text), length_class(text)
        self._place[index] = -1
        self._changed.write(line)

    def lines(self, indices: Sequence[int]) -> Iterator[bytes]:
        """The lines of ``indices``, those that follow each other in a file at once."""
        start = end = group = -1
        for index in indices:
            row = self.columns[index]
            if (
                self._place[index] != group
                or row["start"] != end
                or end - start > 1 << 22
            ):
                if end > start:
                    yield os.pread(self._file(group), end - start, start)
                group, start = int(self._place[index]), int(row["start"])
            end = int(row["start"] + row["size"])
        if end > start:
            yield os.pread(self._file(group), end - start, start)

    def _file(self, group: int) -> int:
        group = int(group)
        if group in self._files:
            self._files.move_to_end(group)
            return self._files[group]
        while len(spare := [key for key in self._files if key != -1]) >= _OPEN_FILES:
            os.close(self._files.pop(spare[0]))
        path = self.stems[group].with_suffix(".jsonl")
        self._files[group] = os.open(path, os.O_RDONLY)
        return self._files[group]

    def hashes(self, name: str, wanted: np.ndarray) -> Iterator[tuple]:
        """For each file the hashes of ``wanted`` rows (bool), and whose each is.

        Yields (uint64 values, row numbers); file after file, so that one is in memory.
        """
        start = 0
        places = np.empty(len(self.columns), dtype=np.int64)
        places[self._sorted] = np.arange(len(self.columns))
        for stem, count in zip(self.stems, self._counts, strict=True):
            rows = places[start : start + count]
            start += count
            values = np.fromfile(stem.with_suffix(f".{name}"), dtype=np.uint64)
            owner = np.repeat(rows, self.columns[name][rows])
            chosen = wanted[owner]
            yield values[chosen], owner[chosen]


def frequent(rows: SignedRows, name: str, wanted: np.ndarray, least: int) -> np.ndarray:
    """Sorted hashes that occur ``least`` times among ``wanted`` rows.

    Counted a slice of all values at a time, so that memory stays bounded.
    """
    total = int(rows.columns[name][wanted].sum())
    num = max(1, -(-total // _SLICE))
    edges = [round(2**64 / num * i) for i in range(num)]
    found = [np.zeros(0, np.uint64)]
    for number, low in enumerate(edges):
        high = edges[number + 1] - 1 if number + 1 < num else 2**64 - 1
        parts = [np.zeros(0, np.uint64)]
        for values, _ in rows.hashes(name, wanted):
            inside = (values >= np.uint64(low)) & (values <= np.uint64(high))
            parts.append(values if num == 1 else values[inside])
        values = np.sort(np.concatenate(parts))
        if len(values):
            edge = np.concatenate(([True], values[1:] != values[:-1], [True]))
            edge = np.flatnonzero(edge)
            found.append(values[edge[:-1]][np.diff(edge) >= least])
    return np.concatenate(found)


def rows_with(
    rows: SignedRows, name: str, wanted: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """True for each of the ``wanted`` rows that has one of the sorted ``values``."""
    result = np.zeros(len(rows), dtype=bool)
    if len(values):
        for found, owner in rows.hashes(name, wanted):
            place = np.minimum(np.searchsorted(values, found), len(values) - 1)
            result[owner[values[place] == found]] = True
    return result
