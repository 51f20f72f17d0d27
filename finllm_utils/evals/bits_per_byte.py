"""Bits per byte on held-out documents: the figure that survives a change of tokenizer.

bpb = total nats / UTF-8 bytes of the normalised text / ln 2. Each document is cut into
non-overlapping windows, each begins with BOS, so every token is predicted once and only
from its own window; EOS is not scored. The interval is a bootstrap over documents.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.data.normalize import normalize
from finllm_utils.evals.statistics.bootstrap import (
    Change,
    bootstrap_ratio,
    paired_change,
)
from finllm_utils.model.count import CharCountModel
from finllm_utils.model.score import sequence_nats
from finllm_utils.records import Document

KEPT_OUT = "kept_out/"
"""Begins the id of a document of the corpus that no stage trains on."""
UNSEEN = ("heldout/", KEPT_OUT)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class BitsPerByte:
    """The figure, what it was measured on, and the parts that paired tests need."""

    value: float
    num_bytes: int
    num_documents: int
    interval: tuple[float, float]
    document_nats: tuple[float, ...] = field(repr=False)
    document_bytes: tuple[int, ...] = field(repr=False)


def bits_per_byte(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    *,
    window: int,
    batch_tokens: int,
    num_bootstrap: int,
    seed: int,
) -> BitsPerByte:
    """Bits per byte of a causal model on held-out documents.

    Args: window in tokens, BOS included; batch_tokens a forward pass.
    Raises: ValueError when a document is not from the held-out split.
    """
    texts = heldout_texts(documents)
    windows, owners = cut_windows(tokenizer, texts, window)
    nats = sequence_nats(
        model, windows, batch_tokens=batch_tokens, pad_id=tokenizer.pad_token_id or 0
    )
    per_document = np.zeros(len(texts))
    np.add.at(per_document, owners, [values.sum() for values in nats])
    return _summary(per_document, texts, num_bootstrap, seed)


def count_bits_per_byte(
    model: CharCountModel,
    documents: Sequence[Document],
    *,
    num_bootstrap: int,
    seed: int,
) -> BitsPerByte:
    """The same figure for a character count model."""
    texts = heldout_texts(documents)
    return _summary(model.nats(texts), texts, num_bootstrap, seed)


def change_in_bits_per_byte(
    before: BitsPerByte, after: BitsPerByte, *, num_bootstrap: int, seed: int
) -> Change:
    """Paired change of the figure between two models on the same documents."""
    if before.document_bytes != after.document_bytes:
        raise ValueError("the two figures are of different documents: score the same")
    weights = np.array(after.document_bytes) * math.log(2)
    return paired_change(
        before.document_nats,
        after.document_nats,
        weights,
        lower_is_better=True,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )


def require_heldout(documents: Iterable[Document]) -> None:
    """Raises ValueError naming the first document that a stage may have trained on."""
    for document in documents:
        if not document.id.startswith(UNSEEN):
            raise ValueError(
                f"document {document.id!r} is not from the held-out split: a model may "
                "have trained on it; use corpora.splits.heldout_documents(domain)"
            )


def spread_sample(items: Sequence[Item], num: int) -> list[Item]:
    """About ``num`` items at even distances, since the order is by source."""
    step = max(1, len(items) // max(1, num))
    return list(items[::step][:num])


def heldout_texts(documents: Sequence[Document]) -> list[str]:
    """The normalised texts of held-out documents, as they are tokenised and counted."""
    require_heldout(documents)
    texts = [normalize(document.text, {})[0] for document in documents]
    if not any(texts):
        raise ValueError("no held-out text to score: pass at least one document")
    return texts


def cut_windows(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], window: int
) -> tuple[list[list[int]], list[int]]:
    """Token windows that each begin with BOS, and the index of each window's text."""
    if window < 2:
        raise ValueError(f"window={window}: BOS and one token need at least 2")
    windows, owners = [], []
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    for index, ids in enumerate(encoded):
        for begin in range(0, len(ids), window - 1):
            windows.append([tokenizer.bos_token_id, *ids[begin : begin + window - 1]])
            owners.append(index)
    return windows, owners


def _summary(
    nats: np.ndarray, texts: Sequence[str], num_bootstrap: int, seed: int
) -> BitsPerByte:
    num_bytes = [len(text.encode("utf-8")) for text in texts]
    scale = np.array(num_bytes) * math.log(2)
    interval = bootstrap_ratio(nats, scale, num_bootstrap=num_bootstrap, seed=seed)
    return BitsPerByte(
        value=float(nats.sum() / scale.sum()),
        num_bytes=sum(num_bytes),
        num_documents=len(texts),
        interval=interval,
        document_nats=tuple(nats.tolist()),
        document_bytes=tuple(num_bytes),
    )
