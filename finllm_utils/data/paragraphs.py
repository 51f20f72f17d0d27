"""Exact paragraph dedup: a long paragraph that stood in a better document is cut.

MinHash compares whole documents and templates need several; this finds a passage that
two documents share, or that one has twice. A paragraph is a line; two are equal
when their letters and digits are.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from finllm_utils.data.shingles import fold_texts


def paragraph_hashes(texts: Sequence[str], min_chars: int) -> list[np.ndarray]:
    """For each text the hashes (uint64) of its paragraphs of ``min_chars`` or more.

    Characters are counted without spaces and marks; 0 gives no hashes.
    """
    if not min_chars:
        return [np.zeros(0, np.uint64)] * len(texts)
    lines = [[x for x in t.split("\n") if len(x) >= min_chars] for t in texts]
    folded = iter(fold_texts([line for row in lines for line in row]))
    result = []
    for row in lines:
        keys = [_key(f) for f in (next(folded) for _ in row) if len(f) >= min_chars]
        result.append(np.array(keys, dtype=np.uint64))
    return result


def _key(folded: str) -> int:
    digest = hashlib.blake2b(folded.encode("utf-8", "replace"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


class ParagraphCutter:
    """Cuts long paragraphs that a text before, or the same text, had already."""

    def __init__(self, min_chars: int) -> None:
        self.min_chars = min_chars
        self._seen: set[int] = set()

    def cut(self, text: str) -> str:
        """``text`` without its long paragraphs that were kept before."""
        own: set[int] = set()
        kept = []
        for line in text.split("\n"):
            keys = paragraph_hashes([line], self.min_chars)[0].tolist()
            if not keys or (keys[0] not in self._seen and keys[0] not in own):
                kept.append(line)
            own.update(keys)
        return "\n".join(kept).strip()

    def keep(self, text: str) -> None:
        """From now on the long paragraphs of ``text`` are cut from others."""
        self._seen.update(paragraph_hashes([text], self.min_chars)[0].tolist())
