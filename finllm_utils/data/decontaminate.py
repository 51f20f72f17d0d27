"""Removing training text that also stands in held-out sets and evaluation items.

A line that shares a window of ``ngram`` folded characters (three times as many letters
in a Latin text) with held-out text is cut; so is a sentence that equals a shorter
evaluation item. A document that loses half of itself is dropped.
Source: the 13-word windows of GPT-3, appendix C (arXiv 2005.14165).
Differs: characters, because Chinese has no spaces; whole lines instead of 200
characters either side.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from finllm_utils.data.shingles import (
    LATIN_FACTOR,
    fold,
    fold_texts,
    is_latin,
    sorted_set,
    window_hashes,
)

_MIN_ITEM = 8  # shorter items, such as 什么是保险, are ordinary language
_FILTER_BITS = 25  # 32 MB; a tenth full with three million windows
_SENTENCE_END = re.compile(r"(?<=[。？！?!\n])")


class HeldoutIndex:
    """The hashed windows of held-out texts, and short items as folded sentences."""

    def __init__(self, ngram: int, windows: np.ndarray, items: Iterable[str]) -> None:
        self.ngram = ngram
        self.windows, self.items = windows, frozenset(items)
        self._seen = np.zeros(1 << _FILTER_BITS, dtype=bool)
        self._seen[_slot(windows)] = True

    @classmethod
    def build(cls, texts: Iterable[str], ngram: int) -> "HeldoutIndex":
        """The index of ``texts``; one shorter than a window matches as a sentence."""
        texts = list(texts)
        codes, bounds, _ = fold(texts)
        latin = is_latin(codes, bounds)
        windows, items = [np.zeros(0, np.uint64)], []
        for group, num in ((~latin, ngram), (latin, ngram * LATIN_FACTOR)):
            inside = np.repeat(group, np.diff(bounds))  # windows within one text
            owner = np.repeat(np.arange(len(texts)), np.diff(bounds))
            hashes = window_hashes(codes, num)
            end = owner[len(owner) - len(hashes) :]
            whole = inside[: len(hashes)] & (owner[: len(hashes)] == end)
            windows.append(hashes[whole])
            short = group & (np.diff(bounds) < num) & (np.diff(bounds) >= _MIN_ITEM)
            items += fold_texts([texts[i] for i in np.flatnonzero(short)])
        return cls(ngram, sorted_set(np.concatenate(windows)), items)

    def save(self, path: Path) -> None:
        """Writes the index as ``.npz`` for worker processes."""
        items = np.array(sorted(self.items) or [""])
        np.savez(path, ngram=self.ngram, windows=self.windows, items=items)

    @classmethod
    def load(cls, path: Path) -> "HeldoutIndex":
        """Reads what ``save`` wrote."""
        with np.load(path) as data:
            items = [item for item in data["items"].tolist() if item]
            return cls(int(data["ngram"]), data["windows"], items)

    def overlaps(self, texts: Sequence[str]) -> dict[int, list[tuple[int, int]]]:
        """Where held-out text stands: ``{text number: [(start, end), ...]}``."""
        codes, bounds, positions = fold(texts)
        latin = is_latin(codes, bounds)
        offsets = np.cumsum([0, *map(len, texts)])
        found: dict[int, list[tuple[int, int]]] = {}
        for group, num in ((~latin, self.ngram), (latin, self.ngram * LATIN_FACTOR)):
            if not group.any() or not len(self.windows):
                continue
            for place in self._known(window_hashes(codes, num)).tolist():
                row = int(np.searchsorted(bounds, place, side="right")) - 1
                if group[row] and place + num <= bounds[row + 1]:
                    start = int(positions[place] - offsets[row])
                    end = int(positions[place + num - 1] + 1 - offsets[row])
                    _extend(found.setdefault(row, []), start, end)
        if self.items:
            for row, start, end in self._item_places(texts):
                found.setdefault(row, []).append((start, end))
        return found

    def _known(self, hashes: np.ndarray) -> np.ndarray:
        """Places of hashes that are held-out windows: a quick table, then the truth."""
        likely = np.flatnonzero(self._seen[_slot(hashes)])
        place = np.searchsorted(self.windows, hashes[likely])
        place = np.minimum(place, len(self.windows) - 1)
        return likely[self.windows[place] == hashes[likely]]

    def _item_places(self, texts: Sequence[str]) -> list[tuple[int, int, int]]:
        pieces = [_SENTENCE_END.split(text) for text in texts]
        folded = iter(fold_texts([piece for row in pieces for piece in row]))
        places = []
        for row, sentences in enumerate(pieces):
            start = 0
            for sentence in sentences:
                if next(folded) in self.items:
                    places.append((row, start, start + len(sentence.rstrip("\n"))))
                start += len(sentence)
        return places


def _extend(places: list[tuple[int, int]], start: int, end: int) -> None:
    """Adds an interval, joined with the last one where they overlap."""
    if places and places[-1][0] <= start <= places[-1][1]:
        start, end = places[-1][0], max(end, places.pop()[1])
    places.append((start, end))


def _slot(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)


def cut_lines(text: str, places: Iterable[tuple[int, int]]) -> str:
    """``text`` without the lines that any (start, end) of ``places`` touches."""
    places = sorted(places)
    kept, start, current = [], 0, 0
    for line in text.split("\n"):
        end = start + len(line)
        while current < len(places) and places[current][1] <= start:
            current += 1
        touched = any(s < end and e > start for s, e in places[current:])
        if not touched:
            kept.append(line)
        start = end + 1
    return "\n".join(kept).strip()


def remove_overlaps(
    texts: Sequence[str], index: HeldoutIndex
) -> list[tuple[bool, str, str]]:
    """For each text (keep, reason, text without held-out lines).

    Dropped when under half of it is left. A cut that brings two lines together could
    make a new shared window, so the result is checked again.
    """
    results = [(True, "", text) for text in texts]
    for row, places in index.overlaps(texts).items():
        text = cut_lines(texts[row], places)
        while text and (again := index.overlaps([text])):
            text = cut_lines(text, again[0])
        left = len(text) / max(len(texts[row]), 1)
        if left < 0.5:
            results[row] = (False, f"heldout_overlap:{1 - left:.2f}", texts[row])
        else:
            results[row] = (True, f"heldout_lines_cut:{1 - left:.2f}", text)
    return results
