"""Packed token files: one ``.bin`` of token ids and one ``.idx`` of document starts.

Documents are ``<s> text </s>``, laid end to end in an order that a seed fixes and cut
into rows of equal length; position ids restart at each document, which is what keeps
documents from seeing each other (model code must pass no attention mask).
``bin_writer`` writes the files.
"""

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from finllm_utils.files import file_digest, read_json
from finllm_utils.train.bin_writer import BinMeta, tokenizer_fingerprint, write_bin

__all__ = [
    "BinMeta",
    "PackedBin",
    "check_bins",
    "labels_of",
    "open_tokens",
    "read_meta",
    "token_counts",
    "write_bin",
]

RICHNESS_NOISE = 0.2
"""How far, as a share of the corpus, knowledge_first moves a document at random."""
_SCAN = 2**24  # ids looked at in one go


def read_meta(folder: Path, name: str) -> BinMeta:
    """What ``folder/name.json`` says, after a look at the sizes of the bin's files.

    Raises: ValueError when the bin is unfinished, truncated or of another format.
    """
    path = Path(folder) / f"{name}.json"
    again = f"delete {name}.* there and write the bin again"
    if not path.exists():
        raise ValueError(f"{path} is missing, so the bin is not finished: {again}")
    value = read_json(path)
    names = {f.name for f in fields(BinMeta)}
    if not isinstance(value, dict) or set(value) != names:
        raise ValueError(f"{path} is not of this version: {again}")
    meta = BinMeta(**value)
    sizes = {
        ".bin": meta.tokens * np.dtype(meta.dtype).itemsize,
        ".idx": (meta.documents + 1) * 8,
        ".score": meta.documents * 4,
    }
    for suffix in meta.sha256:
        file = path.with_suffix(suffix)
        size = file.stat().st_size if file.exists() else 0
        if size != sizes[suffix]:
            raise ValueError(
                f"{file}: {size:,} bytes where {path.name} says {sizes[suffix]:,}, so "
                f"it is truncated or of another bin: {again}"
            )
    return meta


def open_tokens(folder: Path, name: str) -> np.ndarray:
    """All token ids of a bin in the order of the corpus, memory-mapped, read-only."""
    meta = read_meta(folder, name)
    mapped = np.memmap(Path(folder) / f"{name}.bin", dtype=meta.dtype, mode="r")
    return np.asarray(mapped)  # a plain array slices several times faster


def document_starts(folder: Path, name: str) -> np.ndarray:
    """Where documents start in a bin, and its end, (documents + 1,) int64.

    Raises: ValueError when the index is damaged.
    """
    meta, path = read_meta(folder, name), Path(folder) / f"{name}.idx"
    starts = np.fromfile(path, dtype=np.int64)
    if starts[0] != 0 or starts[-1] != meta.tokens or (np.diff(starts) <= 0).any():
        raise ValueError(
            f"{path} is damaged: starts must rise from 0 to {meta.tokens}; delete "
            f"{name}.* there and write the bin again"
        )
    return starts


def token_counts(folder: Path) -> dict[str, int]:
    """Tokens of each bin in a folder, by domain."""
    names = sorted(path.stem for path in Path(folder).glob("*.json"))
    return {name: read_meta(folder, name).tokens for name in names}


def check_bins(
    folder: Path, tokenizer: PreTrainedTokenizerBase, *, read_all: bool = False
) -> dict[str, BinMeta]:
    """The meta of every bin in a folder, if all of them are of this tokenizer.

    Args: read_all also compares digests and looks at every id; else only sizes, index
    and meta are looked at, which is quick at any size.
    Raises: ValueError for no bin, another tokenizer, or a damaged bin.
    """
    folder = Path(folder)
    metas = {name: read_meta(folder, name) for name in token_counts(folder)}
    if not metas:
        raise ValueError(f"{folder} holds no bin: write it with write_bin first")
    wanted = tokenizer_fingerprint(tokenizer)
    for name, meta in metas.items():
        if meta.tokenizer != wanted:
            raise ValueError(
                f"{folder / name}.bin was written by another tokenizer "
                f"({meta.vocab_size} tokens, this one has {len(tokenizer)}): write the "
                "bins again with this tokenizer, or load the one that wrote them"
            )
        starts = document_starts(folder, name)
        if read_all:
            _check_content(folder, name, meta, starts)
    return metas


def _check_content(folder: Path, name: str, meta: BinMeta, starts: np.ndarray) -> None:
    tokens = open_tokens(folder, name)
    for begin in range(0, meta.tokens, _SCAN):
        part = tokens[begin : begin + _SCAN]
        if part.max() >= meta.vocab_size:
            place = begin + int(part.argmax())
            document = int(np.searchsorted(starts, place, side="right")) - 1
            raise ValueError(
                f"{folder / name}.bin, document {document}: token id {tokens[place]} "
                f"is beyond the vocabulary of {meta.vocab_size}; write the bin again"
            )
    for suffix, digest in meta.sha256.items():
        if file_digest(folder / f"{name}{suffix}") != digest:
            raise ValueError(
                f"{folder / name}{suffix} changed after it was written: its SHA-256 is "
                f"not that in {name}.json; write the bin again"
            )


def document_order(
    folder: Path, name: str, num_documents: int, order: str, seed: int
) -> np.ndarray:
    """Numbers of the documents in the order that rows are packed, (documents,) int64.

    Args: order is "shuffled", or "knowledge_first": by falling score, each document
    moved at random by up to ``RICHNESS_NOISE`` of the corpus, so that early rows are
    the richer ones without being all alike.
    Raises: ValueError when there are no scores, or for another order.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(num_documents)
    if order == "shuffled":
        return shuffled
    if order != "knowledge_first":
        raise ValueError(f"document_order={order!r}: use shuffled or knowledge_first")
    if ".score" not in read_meta(folder, name).sha256:
        raise ValueError(
            f"{Path(folder) / name}.bin has no scores, which document_order="
            "'knowledge_first' needs: give write_bin(scores=...) one quality score a "
            "document, or use document_order='shuffled'"
        )
    scores = np.fromfile(Path(folder) / f"{name}.score", dtype=np.float32)[shuffled]
    place = np.empty(num_documents)
    place[np.argsort(-scores, kind="stable")] = np.arange(num_documents)
    place += RICHNESS_NOISE * num_documents * rng.random(num_documents)
    return shuffled[np.argsort(place, kind="stable")]


class PackedBin:
    """Rows of one domain, in a document order that ``seed`` fixes.

    Holds 16 bytes a document in memory; token ids stay on disk.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        seq_len: int,
        seed: int,
        order: str = "shuffled",
    ) -> None:
        """Opens the memory map.

        Raises: ValueError when the bin is damaged or holds less than one row.
        """
        starts = document_starts(folder, name)
        self._tokens = open_tokens(folder, name)
        self.seq_len = seq_len
        self.num_tokens = int(starts[-1])
        self.num_rows = self.num_tokens // seq_len
        if self.num_rows == 0:
            raise ValueError(
                f"{Path(folder) / name}.bin: {self.num_tokens} tokens are less than "
                f"one row of {seq_len}; give more text for this domain or lower seq_len"
            )
        packed = document_order(folder, name, len(starts) - 1, order, seed)
        self._starts = starts[:-1][packed]
        self._ends = np.cumsum(np.diff(starts)[packed])  # in packed order

    def row(self, index: int) -> np.ndarray:
        """Token ids of one row, (seq_len,) int64; indices wrap around at the end."""
        out = np.empty(self.seq_len, dtype=np.int64)
        self.read_into(out, index)
        return out

    def read_into(self, out_T: np.ndarray, index: int) -> None:
        """Writes one row into ``out_T``, (seq_len,) of an integer type."""
        begin = (index % self.num_rows) * self.seq_len
        document = int(self._ends.searchsorted(begin, side="right"))
        before = int(self._ends[document - 1]) if document else 0
        start = int(self._starts[document]) + begin - before
        filled = 0
        while True:
            left = int(self._ends[document]) - begin - filled
            take = min(left, self.seq_len - filled)
            out_T[filled : filled + take] = self._tokens[start : start + take]
            filled += take
            if filled == self.seq_len:
                return
            document += 1
            start = int(self._starts[document])


def labels_of(rows_BT: torch.Tensor, bos_id: int) -> torch.Tensor:
    """Next-token labels, (B, T): -100 where the next token is a BOS or the row ends.

    A document's first token cannot be predicted from the document before it.
    """
    labels = torch.full_like(rows_BT, -100)
    labels[:, :-1] = rows_BT[:, 1:]
    labels[labels == bos_id] = -100
    return labels
