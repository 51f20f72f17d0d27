"""Template text: passages that many documents share, kept in one of them.

MinHash finds documents that are alike as a whole; a disclaimer or a legal notice under
a thousand different articles escapes it. Here every window of ``ngram`` folded
characters that occurs in at least ``min_docs`` documents marks a template, and the
sentences it covers are cut everywhere but in the first (best) document.
Source: exact substring deduplication, arXiv 2107.06499, section 4.1. Differs: windows
hashed and sampled, counted a slice at a time, instead of a suffix array in memory;
whole sentences are cut, so that what is left reads on.
"""

import re
from collections.abc import Sequence

import numpy as np

from finllm_utils.data.shingles import fold, sorted_set, window_hashes

_SAMPLE = np.uint64(4)  # one window in four: neighbouring samples still overlap
_COVERED = 0.5  # share of a sentence under a template from which it is cut
_SENTENCE = re.compile(r"[^。！？!?\n]*[。！？!?\n]+|[^。！？!?\n]+$")


def document_windows(texts: Sequence[str], ngram: int) -> list[np.ndarray]:
    """The sorted set of hashes (uint64) of each text's sampled windows."""
    hashes, owner = _sampled(texts, ngram)[:2]
    bounds = np.searchsorted(owner, np.arange(len(texts) + 1))
    return [
        sorted_set(hashes[start:end])
        for start, end in zip(bounds[:-1], bounds[1:], strict=True)
    ]


class TemplateCutter:
    """Cuts the sentences of known windows from all but the first text that has them.

    Args: windows are sorted hashes of templates.
    """

    def __init__(self, windows: np.ndarray, ngram: int) -> None:
        self.windows, self.ngram = windows, ngram
        self._seen: set[int] = set()

    def cut(self, text: str) -> str:
        """``text`` without the templates of texts kept before."""
        keys, starts, ends = self._templates(text)
        again = np.fromiter(
            (k in self._seen for k in keys), dtype=bool, count=len(keys)
        )
        if not again.any():
            return text
        return _without(text, zip(starts[again], ends[again], strict=True))

    def keep(self, text: str) -> None:
        """From now on the templates of ``text`` are cut from others."""
        self._seen.update(self._templates(text)[0])

    def _templates(self, text: str) -> tuple[list[int], np.ndarray, np.ndarray]:
        hashes, _, starts, ends = _sampled([text], self.ngram)
        known = np.zeros(len(hashes), dtype=bool)
        if len(self.windows):
            place = np.searchsorted(self.windows, hashes)
            place = np.minimum(place, len(self.windows) - 1)
            known = self.windows[place] == hashes
        return hashes[known].tolist(), starts[known], ends[known]


def _sampled(
    texts: Sequence[str], ngram: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Hash, text number, first and past-the-last character of every sampled window."""
    codes, bounds, positions = fold(texts)
    hashes = window_hashes(codes, ngram)
    owner = np.repeat(np.arange(len(texts)), np.diff(bounds))
    inside = owner[: len(hashes)] == owner[len(owner) - len(hashes) :]
    chosen = np.flatnonzero(inside & (hashes % _SAMPLE == 0))
    offsets = np.cumsum([0, *map(len, texts)])[owner[chosen]]
    starts = positions[chosen] - offsets
    ends = positions[chosen + ngram - 1] + 1 - offsets
    return hashes[chosen], owner[chosen], starts, ends


def _without(text: str, spans: zip) -> str:
    covered = np.zeros(len(text), dtype=bool)
    for start, end in spans:
        covered[start:end] = True
    pieces = [
        match.group()
        for match in _SENTENCE.finditer(text)
        if covered[match.start() : match.end()].mean() < _COVERED
    ]
    return "".join(pieces).strip()
