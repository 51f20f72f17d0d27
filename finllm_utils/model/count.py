"""Add-one character count models: what a table of counts already achieves.

A unigram knows how often each character occurs, a bigram also which one came before.
They are the baselines beside every bits-per-byte figure. Source: add-one (Laplace)
smoothing, Jurafsky and Martin, Speech and Language Processing, chapter 3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

_NUM_CODE_POINTS = 0x110000


@dataclass(frozen=True, kw_only=True, slots=True)
class CharCountModel:
    """Character counts of a training text; make one with ``fit``.

    Unseen characters share one class that holds the add-one mass of a single character,
    which flatters the counts: which unseen character it is costs nothing. The start of
    a document is a context of the bigram; the end of a document is not scored.
    """

    order: int
    """1 for unigram, 2 for bigram."""
    ids: np.ndarray
    """(0x110000,) int32: code point to class; 0 is the unknown class."""
    num_classes: int
    """Seen characters and the unknown class: V."""
    keys: np.ndarray
    """Sorted int64 event codes that occur: context * V + character."""
    counts: np.ndarray
    """How often each of ``keys`` occurs."""
    context_counts: np.ndarray
    """(V + 1,): occurrences as a context; the last one is the document start."""

    @classmethod
    def fit(cls, texts: Iterable[str], *, order: int) -> Self:
        """Counts the characters of ``texts`` (order 1) or their pairs (order 2).

        Raises: ValueError for another order or no text at all.
        """
        if order not in (1, 2):
            raise ValueError(f"order={order}: use 1 (unigram) or 2 (bigram)")
        codes, starts = _code_points(list(texts))
        if len(codes) == 0:
            raise ValueError("no text to count: the training documents are empty")
        seen = np.flatnonzero(np.bincount(codes, minlength=1))
        ids = np.zeros(_NUM_CODE_POINTS, dtype=np.int32)
        ids[seen] = np.arange(1, len(seen) + 1)
        num_classes = len(seen) + 1
        characters, contexts = _events(ids[codes], starts, order, num_classes)
        events = contexts * num_classes + characters
        keys, counts = np.unique(events, return_counts=True)
        return cls(
            order=order,
            ids=ids,
            num_classes=num_classes,
            keys=keys,
            counts=counts,
            context_counts=np.bincount(contexts, minlength=num_classes + 1),
        )

    def nats(self, texts: Sequence[str]) -> np.ndarray:
        """Total nats of each text, float64."""
        codes, starts = _code_points(texts)
        if len(codes) == 0:
            return np.zeros(len(texts))
        characters, contexts = _events(
            self.ids[codes], starts, self.order, self.num_classes
        )
        wanted = contexts * self.num_classes + characters
        place = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
        count = np.where(self.keys[place] == wanted, self.counts[place], 0)
        total = self.context_counts[contexts] + self.num_classes
        nats = np.log(total) - np.log(count + 1)
        ends = np.append(starts[1:], len(codes))
        sums = np.concatenate([[0.0], np.cumsum(nats)])
        return sums[ends] - sums[starts]


def _code_points(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """All characters in one int64 array, and where each text starts in it."""
    joined = "".join(texts).encode("utf-32-le", errors="surrogatepass")
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    starts = np.concatenate([[0], np.cumsum(lengths)])[: len(texts)]
    return np.frombuffer(joined, dtype="<u4").astype(np.int64), starts.astype(np.int64)


def _events(
    classes: np.ndarray, starts: np.ndarray, order: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """(character, context) of each position; the unigram has one context for all."""
    characters = classes.astype(np.int64)
    if order == 1:
        return characters, np.zeros(len(characters), dtype=np.int64)
    contexts = np.empty_like(characters)
    contexts[1:] = characters[:-1]
    contexts[starts[starts < len(characters)]] = num_classes  # document start
    return characters, contexts
