"""Hashed windows and short items of the texts that training must not contain.

Held-out texts are brought into the form that training text has when it is compared:
normalised, and once more with personal data masked. Which overlap is too much, and what
then goes, is ``decontaminate.py``.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from finllm_utils.data.normalize import normalize
from finllm_utils.data.pii import mask_pii
from finllm_utils.data.shingles import (
    LATIN_FACTOR,
    fold,
    fold_texts,
    is_latin,
    sorted_set,
    window_hashes,
)

ARTICLE_RUN = 50  # characters that a statute's article may not share with an item
ARTICLE_GRAM = 13  # characters; half of an article's may not be held-out ones
_MIN_ITEM = 8  # shorter items, such as 什么是保险, are ordinary language
_FILTER_BITS = 25  # 32 MB; a seventh full with five million windows
_SENTENCE_END = re.compile(r"(?<=[。？！?!：:；;\n])")
_EMPTY = np.zeros(0, np.uint64)


class HeldoutIndex:
    """The hashed windows of held-out texts, and short items as folded sentences.

    ``windows`` are of ``ngram`` characters, three times as many in Latin text; ``runs``
    of ``ARTICLE_RUN`` and ``grams`` of ``ARTICLE_GRAM`` are of Chinese texts alone;
    ``items`` maps a short item's folded text to the first of its sentences.
    """

    def __init__(
        self,
        ngram: int,
        windows: np.ndarray,
        items: dict[str, str],
        runs: np.ndarray = _EMPTY,
        grams: np.ndarray = _EMPTY,
    ) -> None:
        self.ngram, self.windows, self.items = ngram, windows, items
        self.runs, self.grams = runs, grams
        self._heads = frozenset(items.values())
        self._longest = max(map(len, items), default=0)
        self._seen = np.zeros(1 << _FILTER_BITS, dtype=bool)
        for hashes in (windows, runs, grams):
            self._seen[_slot(hashes)] = True

    @classmethod
    def build(cls, texts: Iterable[str], ngram: int) -> "HeldoutIndex":
        """The index of ``texts``; one shorter than a window matches as a sentence."""
        texts = list(dict.fromkeys(form for t in texts for form in _forms(t)))
        codes, bounds, _ = fold(texts)
        latin, lengths = is_latin(codes, bounds), np.diff(bounds)

        def windows(group: np.ndarray, num: int) -> np.ndarray:
            hashes, owner = windows_inside(codes, bounds, num)
            return hashes[(owner >= 0) & group[owner]]

        both = [windows(~latin, ngram), windows(latin, ngram * LATIN_FACTOR)]
        limit = np.where(latin, ngram * LATIN_FACTOR, max(ngram, ARTICLE_RUN))
        short = np.flatnonzero((lengths < limit) & (lengths >= _MIN_ITEM)).tolist()
        items = {}
        for item, text in zip(
            fold_texts([texts[i] for i in short]),
            (texts[i] for i in short),
            strict=True,
        ):
            pieces = fold_texts(_SENTENCE_END.split(text))
            items[item] = next(piece for piece in pieces if piece)
        return cls(
            ngram,
            sorted_set(np.concatenate(both)),
            items,
            sorted_set(windows(~latin, ARTICLE_RUN)),
            sorted_set(windows(~latin, ARTICLE_GRAM)),
        )

    def save(self, path: Path | BinaryIO) -> None:
        """Writes the index as ``.npz`` for worker processes."""
        items = np.array(
            [list(pair) for pair in sorted(self.items.items())] or [[""] * 2]
        )
        np.savez(
            path, ngram=self.ngram, windows=self.windows, items=items, runs=self.runs,
            grams=self.grams,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "HeldoutIndex":
        """Reads what ``save`` wrote."""
        with np.load(path) as data:
            items = {item: head for item, head in data["items"].tolist() if item}
            arrays = (data[name] for name in ("runs", "grams"))
            return cls(int(data["ngram"]), data["windows"], items, *arrays)

    def overlaps(self, texts: Sequence[str]) -> dict[int, list[tuple[int, int]]]:
        """Where held-out text stands: ``{text number: [(start, end), ...]}``."""
        codes, bounds, positions = fold(texts)
        latin = is_latin(codes, bounds)
        offsets = np.cumsum([0, *map(len, texts)])
        found: dict[int, list[tuple[int, int]]] = {}
        for group, num in ((~latin, self.ngram), (latin, self.ngram * LATIN_FACTOR)):
            if not group.any() or not len(self.windows):
                continue
            for place in self.places(self.windows, window_hashes(codes, num)).tolist():
                row = int(np.searchsorted(bounds, place, side="right")) - 1
                if group[row] and place + num <= bounds[row + 1]:
                    start = int(positions[place] - offsets[row])
                    end = int(positions[place + num - 1] + 1 - offsets[row])
                    _extend(found.setdefault(row, []), start, end)
        for row, start, end in self.item_places(texts):
            found.setdefault(row, []).append((start, end))
        return found

    def places(self, known: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        """Where ``hashes`` are in ``known`` (windows, runs or grams of this index)."""
        if not len(known):
            return np.zeros(0, dtype=np.int64)
        likely = np.flatnonzero(self._seen[_slot(hashes)])  # quick; then the truth
        found = np.searchsorted(known, hashes[likely])
        found = np.minimum(found, len(known) - 1)
        return likely[known[found] == hashes[likely]]

    def item_places(self, texts: Sequence[str]) -> list[tuple[int, int, int]]:
        """(text number, start, end) of consecutive sentences that are a short item."""
        if not self.items:
            return []
        pieces = [_SENTENCE_END.split(text) for text in texts]
        folded = iter(fold_texts([piece for row in pieces for piece in row]))
        places = []
        for row, sentences in enumerate(pieces):
            names, start = list(islice(folded, len(sentences))), 0
            for number, sentence in enumerate(sentences):
                if names[number] in self._heads:
                    stop = self._item_end(names, number)
                    found = "".join(sentences[number:stop]).rstrip("\n")
                    if found:
                        places.append((row, start, start + len(found)))
                start += len(sentence)
        return places

    def _item_end(self, names: list[str], start: int) -> int:
        """Behind the last sentence of the item that starts there; ``start`` if none."""
        joined, stop = "", start
        for number in range(start, len(names)):
            joined += names[number]
            if len(joined) > self._longest:
                break
            if joined in self.items:
                stop = number + 1
        return stop


def windows_inside(
    codes: np.ndarray, bounds: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all windows, and the text each lies in; -1 where it crosses two."""
    hashes = window_hashes(codes, num)
    owner = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    first, last = owner[: len(hashes)], owner[len(owner) - len(hashes) :]
    return hashes, np.where(first == last, first, -1)


def _forms(text: str) -> tuple[str, ...]:
    """``text`` as the chain would spell it, and with its personal data masked."""
    text = normalize(text, {})[0]
    masked, counts = (text, {}) if text.isascii() else mask_pii(text)
    return (text, masked) if counts else (text,)


def _extend(places: list[tuple[int, int]], start: int, end: int) -> None:
    """Adds an interval, joined with the last one where they overlap."""
    if places and places[-1][0] <= start <= places[-1][1]:
        start, end = places[-1][0], max(end, places.pop()[1])
    places.append((start, end))


def _slot(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)
