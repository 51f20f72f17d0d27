"""Packed token files: one ``.bin`` of token ids and one ``.idx`` of document starts.

Documents are ``<s> text </s>``, laid end to end in a pseudo-random order and cut into
rows of equal length; position ids restart at each document, which is what keeps
documents from seeing each other (model code must pass no attention mask).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from finllm_utils.files import atomic_file, write_json


def write_bin(
    folder: Path, name: str, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase
) -> int:
    """Tokenises texts into ``folder/name.bin`` and ``.idx``; the number of tokens.

    Raises: ValueError when there is no text.
    """
    texts = list(texts)
    if not texts:
        raise ValueError(
            f"no text for domain {name!r}: check data.sources and 01's funnel"
        )
    dtype = np.uint16 if len(tokenizer) < 2**16 else np.uint32
    pieces, lengths = [], []
    for start in range(0, len(texts), 1_000):
        batch = tokenizer(texts[start : start + 1_000])["input_ids"]
        for ids in batch:
            pieces.append(np.array([*ids, tokenizer.eos_token_id], dtype=dtype))
            lengths.append(len(ids) + 1)
    tokens = np.concatenate(pieces)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    with atomic_file(folder / f"{name}.bin", "wb") as handle:
        handle.write(tokens.tobytes())
    with atomic_file(folder / f"{name}.idx", "wb") as handle:
        handle.write(starts.tobytes())
    meta = {
        "dtype": np.dtype(dtype).name,
        "tokens": len(tokens),
        "documents": len(texts),
    }
    write_json(folder / f"{name}.json", meta)
    return len(tokens)


class PackedBin:
    """Rows of one domain, in a pseudo-random document order that ``seed`` fixes."""

    def __init__(self, folder: Path, name: str, seq_len: int, seed: int) -> None:
        """Opens the memory map.

        Raises: ValueError when the bin holds less than one row.
        """
        path = Path(folder) / f"{name}.bin"
        starts = np.fromfile(path.with_suffix(".idx"), dtype=np.int64)
        size = path.stat().st_size // int(starts[-1])
        self._tokens = np.memmap(
            path, dtype={2: np.uint16, 4: np.uint32}[size], mode="r"
        )
        self.seq_len = seq_len
        self.num_rows = int(starts[-1]) // seq_len
        if self.num_rows == 0:
            raise ValueError(
                f"{path}: {int(starts[-1])} tokens are less than one row of {seq_len}; "
                "give more text for this domain or lower seq_len"
            )
        order = np.random.default_rng(seed).permutation(len(starts) - 1)
        lengths = np.diff(starts)[order]
        self._starts = starts[:-1][order]
        self._ends = np.cumsum(lengths)  # end of the k-th document in packed order

    def row(self, index: int) -> np.ndarray:
        """Token ids of one row, (seq_len,) int64; indices wrap around at the end."""
        begin = (index % self.num_rows) * self.seq_len
        out = np.empty(self.seq_len, dtype=np.int64)
        filled = 0
        document = int(np.searchsorted(self._ends, begin, side="right"))
        while filled < self.seq_len:
            before = int(self._ends[document - 1]) if document else 0
            skip = begin + filled - before
            take = min(int(self._ends[document]) - before - skip, self.seq_len - filled)
            start = int(self._starts[document]) + skip
            out[filled : filled + take] = self._tokens[start : start + take]
            filled += take
            document += 1
        return out


def position_ids(rows_BT: torch.Tensor, bos_id: int) -> torch.Tensor:
    """Positions that restart at every BOS, (B, T) int64.

    A row may begin inside a document; that part counts from 0 too.
    """
    steps = torch.arange(rows_BT.shape[1]).expand_as(rows_BT)
    starts = torch.where(rows_BT == bos_id, steps, 0)
    return steps - torch.cummax(starts, dim=1).values


def labels_of(rows_BT: torch.Tensor, bos_id: int) -> torch.Tensor:
    """Next-token labels, (B, T): -100 where the next token is a BOS or the row ends.

    A document's first token cannot be predicted from the document before it.
    """
    labels = torch.full_like(rows_BT, -100)
    labels[:, :-1] = rows_BT[:, 1:]
    labels[labels == bos_id] = -100
    return labels
