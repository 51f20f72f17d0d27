"""Decontamination as datatrove steps: the index of held-out text, and its use."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datatrove.data import Document as TroveDocument
from datatrove.pipeline.base import PipelineStep

from finllm_utils.config import DataConfig
from finllm_utils.data.decontaminate import remove_overlaps
from finllm_utils.data.filters import Verdict
from finllm_utils.data.heldout_index import HeldoutIndex
from finllm_utils.data.shingles import sorted_set
from finllm_utils.data.steps import CleaningStep
from finllm_utils.files import atomic_file, read_json


class BuildHeldout(PipelineStep):
    """Task ``rank`` indexes its part of ``<folder>/heldout.json``."""

    type, name = "cleaning", "heldout"

    def __init__(self, folder: Path, ngram: int) -> None:
        super().__init__()
        self.folder, self.ngram = str(folder), ngram

    def run(
        self, data: object = None, rank: int = 0, world_size: int = 1
    ) -> Iterator[TroveDocument]:
        """Writes ``<folder>/heldout/<rank>.npz``."""
        texts = read_json(Path(self.folder, "heldout.json"))
        start, end = (len(texts) * part // world_size for part in (rank, rank + 1))
        index = HeldoutIndex.build(texts[start:end], self.ngram)
        with atomic_file(Path(self.folder, "heldout", f"{rank:05d}.npz"), "wb") as file:
            index.save(file)
        yield from ()


@functools.lru_cache(maxsize=1)  # once for all tasks of a process
def load_heldout(folder: str) -> HeldoutIndex:
    """The parts that ``BuildHeldout`` wrote as one index."""
    paths = sorted(Path(folder, "heldout").glob("*.npz"))
    parts = [HeldoutIndex.load(path) for path in paths]
    if len(parts) == 1:
        return parts[0]
    items: dict[str, str] = {}
    for part in parts:
        items |= part.items
    windows, runs, grams = (
        sorted_set(np.concatenate([getattr(part, name) for part in parts]))
        for name in ("windows", "runs", "grams")
    )
    return HeldoutIndex(parts[0].ngram, windows, items, runs, grams)


class Decontaminate(CleaningStep):
    """Cuts lines that stand in held-out text; articles from verbatim sources."""

    name = "decontaminate"

    def __init__(self, folder: Path, config: DataConfig) -> None:
        super().__init__(folder)
        self.verbatim = config.verbatim_sources

    def process(self, batch: list[TroveDocument]) -> list[Verdict]:
        """See ``decontaminate.remove_overlaps``."""
        index = load_heldout(self.folder)
        texts = [document.text for document in batch]
        whole = [d.metadata["source"] in self.verbatim for d in batch]
        verdicts = []
        for document, result in zip(
            batch, remove_overlaps(texts, index, whole), strict=True
        ):
            keep, reason, document.text = result
            if keep and reason:
                document.metadata["meta"] = {**document.metadata["meta"], "cut": reason}
            verdicts.append((keep, reason))
        return verdicts
