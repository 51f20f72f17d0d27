"""Template text: passages that many documents share, kept in one of them.

MinHash finds documents that are alike as a whole; a disclaimer or a legal notice under
a thousand different articles escapes it. Here every window of ``ngram`` folded
characters that occurs in at least ``min_docs`` documents marks a template, and the
sentences it covers are cut everywhere but in the first (best) document.
Source: exact substring deduplication, arXiv 2107.06499, section 4.1. Differs: windows
hashed and sampled instead of a suffix array, so that memory is 4 bytes a character of
one class; whole sentences are cut, so that what is left reads on.
"""

import re
from collections.abc import Sequence

import numpy as np

from finllm_utils.data.shingles import fold, window_hashes

_SAMPLE = np.uint64(4)  # one window in four: neighbouring samples still overlap
_COVERED = 0.5  # share of a sentence under a template from which it is cut
_SENTENCE = re.compile(r"[^。！？!?\n]*[。！？!?\n]+|[^。！？!?\n]+$")


def template_windows(texts: Sequence[str], *, ngram: int, min_docs: int) -> np.ndarray:
    """Sorted hashes (uint64) of sampled windows that stand in ``min_docs`` texts."""
    hashes, owner = _sampled(texts, ngram)[:2]
    order = np.lexsort((owner, hashes))
    hashes, owner = hashes[order], owner[order]
    first = np.ones(len(hashes), dtype=bool)  # one entry a document
    first[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    found, counts = np.unique(hashes[first], return_counts=True)
    return found[counts >= min_docs]


def cut_templates(
    texts: Sequence[str], order: Sequence[int], windows: np.ndarray, *, ngram: int
) -> dict[int, str]:
    """``{index: text without template sentences}`` of the texts that lose any.

    Args: order lists indices best first: the first text with a template keeps it.
    """
    if not len(windows):
        return {}
    hashes, owner, starts, ends = _sampled(texts, ngram)
    place = np.minimum(np.searchsorted(windows, hashes), len(windows) - 1)
    known = windows[place] == hashes
    hashes, owner = hashes[known], owner[known]
    starts, ends = starts[known], ends[known]
    bounds = np.searchsorted(owner, np.arange(len(texts) + 1))
    seen: set[int] = set()
    result = {}
    for index in order:
        part = slice(bounds[index], bounds[index + 1])
        keys = hashes[part].tolist()
        again = np.fromiter((key in seen for key in keys), dtype=bool, count=len(keys))
        if again.any():
            spans = zip(starts[part][again], ends[part][again], strict=True)
            shorter = _without(texts[index], spans)
            if shorter != texts[index]:
                result[index] = shorter
        seen.update(keys)
    return result


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
