"""Exact and near duplicates: MinHash, LSH bands, exact Jaccard on candidates.

Signatures are computed a batch at a time with numpy and can be made anywhere; finding
duplicates holds the band keys of one class (160 bytes a document) in memory.
Source: Broder 1997; bands and rows as in Leskovec et al., Mining of Massive Datasets,
ch. 3. Differs: candidates are checked exactly, so a pair below the threshold never
merges, and a document is dropped only for one that is kept, never through a chain.
"""

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from finllm_utils.data.shingles import (
    LATIN_FACTOR,
    fold,
    fold_texts,
    is_latin,
    jaccard,
    mix,
    shingle_set,
    spans,
    window_hashes,
)

_CHUNK = 1 << 15  # shingles hashed at once: 128 KB of uint32 stays in the L2 cache
_CACHED = 1 << 23  # shingles of candidates kept in memory: 64 MB


def permutations(num: int) -> tuple[np.ndarray, np.ndarray]:
    """Odd multipliers and xor masks (uint32) of ``num`` fixed hash functions."""
    generator = np.random.default_rng(1997)
    multipliers = generator.integers(0, 2**32, num, dtype=np.uint32) | np.uint32(1)
    return multipliers, generator.integers(0, 2**32, num, dtype=np.uint32)


def signatures(texts: Sequence[str], *, num_hashes: int, ngram: int) -> np.ndarray:
    """MinHash signatures, (texts, num_hashes) uint32.

    The share of equal entries in two rows estimates the Jaccard similarity of the two
    shingle sets.
    """
    codes, bounds, _ = fold(texts)
    latin = is_latin(codes, bounds)
    result = np.empty((len(texts), num_hashes), dtype=np.uint32)
    for group, num in ((~latin, ngram), (latin, ngram * LATIN_FACTOR)):
        rows = np.flatnonzero(group)
        if len(rows):
            hashes, starts = _group_hashes(codes, bounds, rows, num)
            result[rows] = _minimums(hashes, starts, num_hashes)
    return result


def _group_hashes(
    codes: np.ndarray, bounds: np.ndarray, rows: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shingle hashes of the chosen texts, joined, and where each text's begin."""
    every = (window_hashes(codes, num) >> np.uint64(32)).astype(np.uint32)
    parts = []
    for row in rows.tolist():
        start, end = bounds[row], bounds[row + 1]
        if end - start >= num:
            parts.append(every[start : end - num + 1])
        else:  # a text shorter than one shingle is one shingle
            whole = window_hashes(codes[start:end], max(1, int(end - start)))
            short = (whole >> np.uint64(32)).astype(np.uint32)
            parts.append(short if len(short) else np.zeros(1, np.uint32))
    starts = np.cumsum([0, *map(len, parts)])
    return np.concatenate(parts), starts


def _minimums(hashes: np.ndarray, starts: np.ndarray, num_hashes: int) -> np.ndarray:
    multipliers, masks = permutations(num_hashes)
    result = np.empty((len(starts) - 1, num_hashes), dtype=np.uint32)
    for part in spans(np.diff(starts), _CHUNK):
        first = starts[part.start]
        chunk = hashes[first : starts[part.stop]]
        offsets = starts[part] - first
        buffer = np.empty_like(chunk)
        for k in range(num_hashes):
            np.bitwise_xor(chunk, masks[k], out=buffer)
            np.multiply(buffer, multipliers[k], out=buffer)
            result[part, k] = np.minimum.reduceat(buffer, offsets)
    return result


def band_keys(signature: np.ndarray, *, bands: int, rows: int) -> np.ndarray:
    """One 64-bit key a band, (texts, bands): equal keys mean a candidate pair."""
    grouped = signature.reshape(len(signature), bands, rows).astype(np.uint64)
    keys = np.zeros(grouped.shape[:2], dtype=np.uint64)
    for row in range(rows):
        keys = mix(keys ^ grouped[:, :, row] + np.uint64(row + 1))
    return keys


def exact_keys(texts: Sequence[str]) -> list[str]:
    """Digests of the folded texts: equal where only spaces, case and marks differ."""
    return [
        hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
        for text in fold_texts(texts)
    ]


def exact_duplicates(keys: Sequence, order: Sequence[int]) -> dict[int, int]:
    """``{dropped: kept}`` of equal keys; the first in ``order`` (best first) stays."""
    chosen = np.asarray(order, dtype=np.int64)
    _, first, inverse = np.unique(
        np.asarray(keys)[chosen], return_index=True, return_inverse=True
    )
    kept = chosen[first[inverse]]
    gone = np.flatnonzero(kept != chosen)
    return dict(zip(chosen[gone].tolist(), kept[gone].tolist(), strict=True))


def near_duplicates(
    keys: np.ndarray,
    order: Sequence[int],
    text_of: Callable[[int], str],
    *,
    ngram: int,
    threshold: float,
    groups: Sequence[str] | None = None,
) -> dict[int, tuple[int, float]]:
    """``{dropped: (kept, similarity)}``, walking ``order`` (best first).

    Every dropped document has Jaccard similarity >= threshold with the kept one; no two
    kept candidates reach it. With ``groups``, pairs of one group are taken as compared.
    """
    shared = _shared_keys(keys, order)
    alike = shared.any(axis=1)
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    shingles = _ShingleSets(text_of, ngram)
    dropped: dict[int, tuple[int, float]] = {}
    for index in (i for i in order if alike[i]):
        bands = np.flatnonzero(shared[index]).tolist()
        places = [(band, int(keys[index, band])) for band in bands]
        candidates = sorted({c for place in places for c in buckets.get(place, ())})
        for candidate in candidates:
            if groups is not None and groups[candidate] == groups[index]:
                continue
            ours, theirs = shingles[index], shingles[candidate]
            if not _can_reach(ours, theirs, threshold):
                continue
            similarity = jaccard(ours, theirs)
            if similarity >= threshold:
                dropped[index] = (candidate, similarity)
                break
        else:
            for place in places:
                buckets[place].append(index)
    return dropped


class _ShingleSets:
    """Shingle sets by document; the ones used last stay in memory."""

    def __init__(self, text_of: Callable[[int], str], ngram: int) -> None:
        self._text_of, self._ngram, self._size = text_of, ngram, 0
        self._sets: OrderedDict[int, np.ndarray] = OrderedDict()

    def __getitem__(self, index: int) -> np.ndarray:
        if index in self._sets:
            self._sets.move_to_end(index)
            return self._sets[index]
        found = shingle_set(self._text_of(index), self._ngram)
        self._sets[index] = found
        self._size += len(found)
        while self._size > _CACHED and len(self._sets) > 1:
            self._size -= len(self._sets.popitem(last=False)[1])
        return found


def _can_reach(first: np.ndarray, second: np.ndarray, threshold: float) -> bool:
    """Sets whose sizes differ by more than the threshold allows need no comparing."""
    small, large = sorted((len(first), len(second)))
    return small >= threshold * large


def _shared_keys(keys: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """True where another document of ``order`` has the same key in the same band."""
    shared = np.zeros(keys.shape, dtype=bool)
    chosen = np.asarray(order, dtype=np.int64)
    for band in range(keys.shape[1]):
        column = keys[chosen, band]
        column.sort()
        twice = np.unique(column[1:][column[1:] == column[:-1]])
        if len(twice):
            column = keys[chosen, band]
            place = np.minimum(np.searchsorted(twice, column), len(twice) - 1)
            shared[chosen, band] = twice[place] == column
    return shared
