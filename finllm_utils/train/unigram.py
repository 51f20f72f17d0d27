"""How far a corpus is from what a base model was trained on, by its token counts.

Stage 1 wants a mixture close to the base model's own; the distance between the token
unigram distributions of two bins says how close one is.
"""

from pathlib import Path

import numpy as np

from finllm_utils.train.bins import open_tokens, read_meta

_SCAN = 2**24  # ids counted in one go


def unigram_counts(folder: Path, name: str) -> np.ndarray:
    """How often each id occurs in a bin, (vocab_size,) int64."""
    tokens, size = open_tokens(folder, name), read_meta(folder, name).vocab_size
    counts = np.zeros(size, dtype=np.int64)
    for begin in range(0, len(tokens), _SCAN):
        counts += np.bincount(tokens[begin : begin + _SCAN], minlength=size)
    return counts


def mixed_unigram(
    counts: dict[str, np.ndarray], weights: dict[str, float]
) -> np.ndarray:
    """Token distribution of a mixture of domains, (vocab_size,), sum 1.

    Args: weights of the domains, in any unit; each domain's counts must not be all 0.
    """
    total = sum(weights.values())
    return sum(
        weight / total * counts[domain] / counts[domain].sum()
        for domain, weight in weights.items()
    )


def unigram_distance(
    counts_V: np.ndarray, base_V: np.ndarray, kind: str = "total_variation"
) -> float:
    """Distance of a token distribution from a base model's.

    Args:
        counts_V, base_V: counts or probabilities by id; the shorter is filled up with
            zeros, as the ids of a grown vocabulary begin with those of the base.
        kind: "total_variation", half the summed absolute difference, in [0, 1]; or
            "kl", D(counts || base) in nats a token, which needs counts: both get one
            more of each id, so that an id the base never saw costs a finite amount.

    Raises: ValueError for another kind or a distribution without tokens.
    """
    size = max(len(counts_V), len(base_V))
    p, q = (
        np.pad(np.asarray(v, float), (0, size - len(v))) for v in (counts_V, base_V)
    )
    if kind not in ("total_variation", "kl"):
        raise ValueError(f"kind={kind!r}: use total_variation or kl")
    if p.sum() <= 0 or q.sum() <= 0:
        raise ValueError("a distribution without tokens has no distance: check the bin")
    if kind == "kl":
        p, q = p + 1, q + 1
    p, q = p / p.sum(), q / q.sum()
    if kind == "kl":
        return float((p * np.log(p / q)).sum())
    return float(np.abs(p - q).sum() / 2)
