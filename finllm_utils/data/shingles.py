"""Folded text and hashed character windows, as numpy arrays over whole batches.

Here: what counts as the same text (``fold``) and how its windows are hashed. Dedup and
decontamination both build on it; nothing here decides what to drop.
"""

import functools
import unicodedata
from collections.abc import Sequence

import numpy as np

LATIN_FACTOR = 3  # one Han character says about as much as three Latin letters
_PRIME = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplication loses nothing


@functools.cache
def _fold_table() -> np.ndarray:
    """For every code point of the basic plane: its folded code, 0 when dropped."""
    table = np.zeros(0x10000, dtype=np.uint32)
    for code in range(0x10000):
        char = chr(code)
        if unicodedata.category(char)[0] in "LN":
            table[code] = ord(char.lower()[0])
    return table


def fold(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Letters and digits of ``texts`` in lower case, without spaces and punctuation.

    Returns: codes (uint32, all texts joined); bounds (int64, one more than texts: text
    ``i`` is ``codes[bounds[i]:bounds[i + 1]]``); positions (int64, where each code
    stood in the joined texts).
    """
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    raw = np.frombuffer(joined, dtype=np.uint32)
    codes = np.where(raw > 0xFFFF, raw, _fold_table()[np.minimum(raw, 0xFFFF)])
    positions = np.flatnonzero(codes)
    ends = np.cumsum([0, *map(len, texts)])
    return codes[positions], np.searchsorted(positions, ends), positions


def fold_texts(texts: Sequence[str]) -> list[str]:
    """Folded strings: ``fold_texts(["保本，High!"])`` is ``["保本high"]``."""
    codes, bounds, _ = fold(texts)
    joined = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    ends = bounds.tolist()
    return [joined[a:b] for a, b in zip(ends, ends[1:], strict=False)]


def is_latin(codes: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """For each folded text: True when under a fifth of it is Han characters."""
    han = np.concatenate([[0], np.cumsum((codes >= 0x3400) & (codes <= 0x9FFF))])
    return np.diff(han[bounds]) < 0.2 * np.maximum(np.diff(bounds), 1)


def window_hashes(codes: np.ndarray, num: int) -> np.ndarray:
    """A 64-bit hash of every ``num`` neighbouring codes: len(codes) - num + 1 of them.

    A polynomial hash built by doubling, then mixed so that every bit is usable.
    """
    if len(codes) < num:
        return np.zeros(0, dtype=np.uint64)
    block, size = codes.astype(np.uint64), 1
    total, done = None, 0
    while True:
        if num & size:
            total = block if total is None else _join(total, block, done, size)
            done += size
        if done == num:
            return mix(total)
        block, size = _join(block, block, size, size), 2 * size


def _join(left: np.ndarray, right: np.ndarray, skip: int, size: int) -> np.ndarray:
    """Hashes of left windows of ``skip`` codes continued by right ones of ``size``."""
    length = min(len(left), len(right) - skip)
    factor = np.uint64(pow(int(_PRIME), size, 2**64))
    return left[:length] * factor + right[skip : skip + length]


def mix(values: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser: spreads nearby values over all 64 bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def shingle_set(text: str, ngram: int) -> np.ndarray:
    """The sorted set of hashed shingles of one text.

    A shingle is ``ngram`` Han characters, or ``LATIN_FACTOR`` times as many letters; a
    shorter text is one shingle.
    """
    codes, bounds, _ = fold([text])
    num = ngram * (LATIN_FACTOR if is_latin(codes, bounds)[0] else 1)
    return sorted_set(window_hashes(codes, max(1, min(num, len(codes)))))


def sorted_set(values: np.ndarray) -> np.ndarray:
    """The different values, sorted; faster than ``np.unique`` on hashes."""
    values = np.sort(values)
    return values[np.concatenate(([True], values[1:] != values[:-1]))[: len(values)]]


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Shared over all elements of two sorted sets; 0 for two empty ones."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - shared
    return shared / union if union else 0.0


def spans(lengths: np.ndarray, limit: int) -> list[slice]:
    """Consecutive slices whose lengths add up to at most ``limit`` (or one item)."""
    slices, start, total = [], 0, 0
    for index, length in enumerate(lengths.tolist()):
        if index > start and total + length > limit:
            slices.append(slice(start, index))
            start, total = index, 0
        total += length
    if start < len(lengths):
        slices.append(slice(start, len(lengths)))
    return slices
