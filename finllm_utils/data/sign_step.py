"""The last step of the chain: survivors signed with what dedup compares."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datatrove.data import Document as TroveDocument
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.batching import batched

from finllm_utils.config import DataConfig
from finllm_utils.data.dedup import band_keys, exact_keys, signatures
from finllm_utils.data.filters import noise
from finllm_utils.data.paragraphs import paragraph_hashes
from finllm_utils.data.signed import (
    PARAGRAPHS,
    WINDOWS,
    SignedWriter,
    columns_type,
    length_class,
    quality,
    record_line,
)
from finllm_utils.data.sources import ENGLISH_DOMAINS
from finllm_utils.data.steps import BATCH
from finllm_utils.data.templates import document_windows

_PAGES = ("html", "warc")
Hashes = dict[str, list[np.ndarray]]


class WriteSigned(PipelineStep):
    """Writes the survivors by domain, with what dedup compares."""

    type, name = "cleaning", "sign"

    def __init__(self, folder: Path, config: DataConfig) -> None:
        super().__init__()
        self.folder, self.config = str(folder), config

    def run(
        self, data: Iterator[TroveDocument], rank: int = 0, world_size: int = 1
    ) -> Iterator[TroveDocument]:
        """Ends the chain: ``<folder>/signed/<domain>_<rank>``, a signed file."""
        with contextlib.ExitStack() as stack:
            files: dict[str, SignedWriter] = {}
            for batch in batched(data, BATCH):
                with self.track_time("batch"):
                    columns, hashes = self._sign(batch)
                names = np.array([document.metadata["domain"] for document in batch])
                for domain in sorted(set(names.tolist())):
                    if domain not in files:
                        stem = Path(self.folder, "signed", f"{domain}_{rank:05d}")
                        files[domain] = stack.enter_context(SignedWriter(stem))
                    ours = np.flatnonzero(names == domain).tolist()
                    lines = [record_line(_record(batch[i])) for i in ours]
                    found = {k: [v[i] for i in ours] for k, v in hashes.items()}
                    files[domain].add(lines, columns[ours], found)
        yield from ()

    def _sign(self, batch: list[TroveDocument]) -> tuple[np.ndarray, Hashes]:
        config = self.config
        texts = [document.text for document in batch]
        bands, rows = config.minhash_bands, config.minhash_rows
        signed = signatures(texts, num_hashes=bands * rows, ngram=config.minhash_ngram)
        columns = np.zeros(len(batch), columns_type(bands))
        columns["keys"] = band_keys(signed, bands=bands, rows=rows)
        columns["exact"] = [bytes.fromhex(key) for key in exact_keys(texts)]
        for row, document in zip(columns, batch, strict=True):
            meta, text = document.metadata["meta"], document.text
            row["order"], row["chars"] = document.metadata["order"], len(text)
            row["quality"], row["noise"] = quality(meta), noise(text)
            row["length"] = length_class(text)
            row["date"] = str(meta.get("date") or "").encode()
            row["page"] = meta.get("format") in _PAGES
        hashes = {
            WINDOWS: document_windows(texts, config.template_ngram),
            PARAGRAPHS: paragraph_hashes(texts, config.paragraph_min_chars),
        }
        for i, document in enumerate(batch):
            if self._is_whole(document):
                for found in hashes.values():
                    found[i] = np.zeros(0, np.uint64)
        for name, found in hashes.items():
            columns[name] = [len(row) for row in found]
        return columns, hashes

    def _is_whole(self, document: TroveDocument) -> bool:
        """Nothing is cut from this document, nor elsewhere for its sake."""
        row = document.metadata
        verbatim = self.config.verbatim_sources
        return row["domain"] in ENGLISH_DOMAINS or row["source"] in verbatim


def _record(document: TroveDocument) -> dict:
    row = document.metadata
    return {
        "id": document.id,
        "text": document.text,
        "source": row["source"],
        "domain": row["domain"],
        "meta": row["meta"],
    }
