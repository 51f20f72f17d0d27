"""Deduplication as datatrove steps: first each domain by itself, then all together."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datatrove.data import Document as TroveDocument
from datatrove.pipeline.base import PipelineStep

from finllm_utils.config import DataConfig
from finllm_utils.data.dedup import exact_duplicates, near_duplicates
from finllm_utils.data.sources import DOMAINS
from finllm_utils.data.steps import rejected_line, write_counts
from finllm_utils.records import Document, write_records


class Dedup(PipelineStep):
    """Drops exact, then near duplicates among rows of ``<folder>/<source>``."""

    type = "cleaning"

    def __init__(self, folder: Path, config: DataConfig) -> None:
        super().__init__()
        self.folder, self.config = str(folder), config

    def drop_duplicates(
        self, rows: list[dict], keys: np.ndarray, rank: int, groups: list[str] | None
    ) -> list[int]:
        """Indices of the rows that stay, in document order; the others are recorded."""
        order = sorted(range(len(rows)), key=lambda i: quality_order(rows[i]))
        exact = exact_duplicates([row["exact"] for row in rows], order)
        self._record(
            f"{self.name}_exact", rank, rows, {i: (k, 1.0) for i, k in exact.items()}
        )
        order = [i for i in order if i not in exact]
        near = near_duplicates(
            keys,
            order,
            lambda i: rows[i]["text"],
            ngram=self.config.minhash_ngram,
            threshold=self.config.jaccard_threshold,
            groups=groups,
        )
        self._record(f"{self.name}_near", rank, rows, near, exact)
        return [i for i in range(len(rows)) if i not in exact and i not in near]

    def _record(
        self,
        step: str,
        rank: int,
        rows: list[dict],
        dropped: dict,
        before: dict | None = None,
    ) -> None:
        lines = []
        for i, (kept, similarity) in sorted(dropped.items()):
            row = rows[i]
            document = TroveDocument(text=row["text"], id=row["id"], metadata=row)
            reason = f"duplicate_of:{rows[kept]['id']}:{similarity:.2f}"
            lines.append(rejected_line(document, step, reason))
        path = Path(self.folder, "rejected", f"{step}_{rank:05d}.jsonl")
        path.write_text("".join(lines), encoding="utf-8")
        counts: Counter = Counter()
        for i, row in enumerate(rows):
            if i not in dropped and i not in (before or {}):
                counts[row["domain"], "docs"] += 1
                counts[row["domain"], "chars"] += len(row["text"])
        write_counts(Path(self.folder, "counts", f"{step}_{rank:05d}.json"), counts)


def quality_order(row: dict) -> tuple:
    """Sort key, best copy first: least noise, then longest, then first."""
    return row["noise"], -len("".join(row["text"].split())), row["order"]


class DedupDomain(Dedup):
    """Task ``rank`` works on ``DOMAINS[rank]``: signed rows in, kept rows out."""

    name = "dedup_class"

    def run(
        self, data: object = None, rank: int = 0, world_size: int = 1
    ) -> Iterator[TroveDocument]:
        """Writes ``<folder>/deduped/<domain>.jsonl`` and ``.npy``."""
        rows, keys = load_signed(
            Path(self.folder, "signed"), f"{DOMAINS[rank]}_*", self.config
        )
        with self.track_time():
            kept = self.drop_duplicates(rows, keys, rank, None)
        stem = Path(self.folder, "deduped", DOMAINS[rank])
        lines = [json.dumps(rows[i], ensure_ascii=False) + "\n" for i in kept]
        stem.with_suffix(".jsonl").write_text("".join(lines), encoding="utf-8")
        np.save(stem.with_suffix(".npy"), keys[kept])
        yield from ()


class DedupGlobal(Dedup):
    """One task: duplicates across domains; writes the corpus, one file a domain."""

    name = "dedup_global"

    def __init__(self, folder: Path, output: Path, config: DataConfig) -> None:
        super().__init__(folder, config)
        self.output = str(output)

    def run(
        self, data: object = None, rank: int = 0, world_size: int = 1
    ) -> Iterator[TroveDocument]:
        """Writes ``<output>/<domain>.jsonl`` in document order."""
        rows, keys = load_signed(Path(self.folder, "deduped"), "*", self.config)
        groups = [row["domain"] for row in rows]
        with self.track_time():
            kept = self.drop_duplicates(rows, keys, rank, groups)
        for domain in DOMAINS:
            chosen = (to_document(rows[i]) for i in kept if rows[i]["domain"] == domain)
            write_records(Path(self.output, f"{domain}.jsonl"), chosen)
        yield from ()


def to_document(row: dict) -> Document:
    """The record of a finished row."""
    names = ("id", "text", "source", "domain", "meta")
    return Document(**{name: row[name] for name in names})


def load_signed(
    folder: Path, pattern: str, config: DataConfig
) -> tuple[list[dict], np.ndarray]:
    """Rows and band keys of all files that match, in document order."""
    rows, keys = [], [np.zeros((0, config.minhash_bands), dtype=np.uint64)]
    for path in sorted(folder.glob(f"{pattern}.jsonl")):
        with open(path, encoding="utf-8") as handle:
            rows += [json.loads(line) for line in handle]
        keys.append(np.load(path.with_suffix(".npy")))
    order = sorted(range(len(rows)), key=lambda i: rows[i]["order"])
    return [rows[i] for i in order], np.concatenate(keys)[order]
