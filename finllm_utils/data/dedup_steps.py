"""Deduplication as datatrove steps: first each domain by itself, then all together.

Within a domain exact, then near duplicates, then template sentences go; across domains
exact and near duplicates. Of equals the best copy stays (``quality_order``).
"""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from datatrove.data import Document as TroveDocument
from datatrove.pipeline.base import PipelineStep

from finllm_utils.config import DataConfig
from finllm_utils.data.char_stats import char_stats
from finllm_utils.data.dedup import exact_duplicates, near_duplicates
from finllm_utils.data.filters import check_length
from finllm_utils.data.sources import DOMAINS, ENGLISH_DOMAINS
from finllm_utils.data.steps import rejected_line, write_counts, write_signed
from finllm_utils.data.templates import cut_templates, template_windows
from finllm_utils.files import atomic_file
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
        reasons = {i: duplicate_reason(rows[k], 1.0) for i, k in exact.items()}
        self._record("exact", rank, rows, reasons)
        order = [i for i in order if i not in exact]
        near = near_duplicates(
            keys,
            order,
            lambda i: rows[i]["text"],
            ngram=self.config.minhash_ngram,
            threshold=self.config.jaccard_threshold,
            groups=groups,
        )
        reasons = {i: duplicate_reason(rows[k], s) for i, (k, s) in near.items()}
        self._record("near", rank, rows, reasons, gone=set(exact))
        return [i for i in range(len(rows)) if i not in exact and i not in near]

    def _record(
        self,
        what: str,
        rank: int,
        rows: list[dict],
        reasons: dict[int, str],
        gone: Collection[int] = (),
    ) -> None:
        """Writes what this pass drops and what is left; ``gone`` fell before it."""
        step = f"{self.name}_{what}"
        lines = []
        for i, reason in sorted(reasons.items()):
            row = rows[i]
            document = TroveDocument(text=row["text"], id=row["id"], metadata=row)
            lines.append(rejected_line(document, step, reason))
        path = Path(self.folder, "rejected", f"{step}_{rank:05d}.jsonl")
        with atomic_file(path) as handle:
            handle.writelines(lines)
        counts: Counter = Counter()
        for i, row in enumerate(rows):
            if i not in reasons and i not in gone:
                counts[row["domain"], "docs"] += 1
                counts[row["domain"], "chars"] += len(row["text"])
        write_counts(Path(self.folder, "counts", f"{step}_{rank:05d}.json"), counts)


def duplicate_reason(kept: dict, similarity: float) -> str:
    """Names the row that stays in place of a dropped one."""
    return f"duplicate_of:{kept['id']}:{similarity:.2f}"


def quality_order(row: dict) -> tuple:
    """Sort key, best copy first: noise, quality, length, earliest date, first read.

    Lengths and qualities within a tenth are equal: a line more of page furniture is no
    merit. A copy that is dated before another is nearer to the original; an undated one
    comes last.
    """
    length = round(10 * math.log(max(len("".join(row["text"].split())), 1)))
    date = row["meta"].get("date") or "9999"
    return row["noise"], -round(10 * quality(row)), -length, date, row["order"]


def quality(row: dict) -> float:
    """Probability of being clean times that of being knowledge; 1 where unscored."""
    return row["meta"].get("clean", 1.0) * row["meta"].get("knowledge", 1.0)


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
            kept = self.cut_templates(rows, kept, rank)
            kept = self.keep_best(rows, kept, rank)
        stem = Path(self.folder, "deduped", DOMAINS[rank])
        lines = [json.dumps(rows[i], ensure_ascii=False) + "\n" for i in kept]
        write_signed(stem, lines, keys[kept])
        yield from ()

    def cut_templates(self, rows: list[dict], kept: list[int], rank: int) -> list[int]:
        """Cuts shared sentences from ``rows`` in place; the rows still long enough."""
        ngram, min_docs = self.config.template_ngram, self.config.template_min_docs
        verbatim = self.config.verbatim_sources
        open_to = [i for i in kept if rows[i]["source"] not in verbatim]
        reasons: dict[int, str] = {}
        if min_docs and DOMAINS[rank] not in ENGLISH_DOMAINS and open_to:
            texts = [rows[i]["text"] for i in open_to]
            order = sorted(
                range(len(texts)), key=lambda i: quality_order(rows[open_to[i]])
            )
            windows = template_windows(texts, ngram=ngram, min_docs=min_docs)
            shorter = cut_templates(texts, order, windows, ngram=ngram)
            for place, text in shorter.items():
                row = rows[open_to[place]]
                share = 1 - len(text) / len(row["text"])
                if check_length(char_stats(text), self.config.min_chars)[0]:
                    row["text"] = text
                    row["meta"] = {**row["meta"], "template_cut": f"{share:.2f}"}
                else:
                    reasons[open_to[place]] = f"template:{share:.2f}"
        gone = set(range(len(rows))) - set(kept)
        self._record("template", rank, rows, reasons, gone=gone)
        return [i for i in kept if i not in reasons]

    def keep_best(self, rows: list[dict], kept: list[int], rank: int) -> list[int]:
        """The rows of the highest quality that hold ``keep_top_share`` of the text."""
        reasons: dict[int, str] = {}
        if self.config.keep_top_share < 1 and DOMAINS[rank] not in ENGLISH_DOMAINS:
            left = self.config.keep_top_share * sum(len(rows[i]["text"]) for i in kept)
            for i in sorted(kept, key=lambda i: (-quality(rows[i]), rows[i]["order"])):
                if left <= 0:
                    reasons[i] = f"low_rank:{quality(rows[i]):.2f}"
                left -= len(rows[i]["text"])
        self._record(
            "rank", rank, rows, reasons, gone=set(range(len(rows))) - set(kept)
        )
        return [i for i in kept if i not in reasons]


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
