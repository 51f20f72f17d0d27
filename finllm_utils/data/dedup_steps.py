"""Deduplication as datatrove steps: first each domain by itself, then all together.

Within a domain exact, then near duplicates, then paragraphs and template sentences go;
across domains exact and near duplicates. Of equals the best copy stays
(``best_first``). Only columns of the documents are in memory: see ``signed.py``.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from datatrove.data import Document as TroveDocument
from datatrove.pipeline.base import PipelineStep

from finllm_utils.config import DataConfig
from finllm_utils.data.char_stats import char_stats
from finllm_utils.data.dedup import exact_duplicates, near_duplicates
from finllm_utils.data.filters import check_length
from finllm_utils.data.paragraphs import ParagraphCutter
from finllm_utils.data.signed import (
    PARAGRAPHS,
    WINDOWS,
    SignedRows,
    SignedWriter,
    frequent,
    rows_with,
)
from finllm_utils.data.sources import DOMAINS, ENGLISH_DOMAINS
from finllm_utils.data.steps import rejected_line, write_counts
from finllm_utils.data.templates import TemplateCutter
from finllm_utils.files import atomic_file

_ROWS = 1_000  # lines copied at once


class Cutter(Protocol):
    """Cuts what texts kept before had already."""

    def cut(self, text: str) -> str:
        """What is left of ``text``."""

    def keep(self, text: str) -> None:
        """Remembers a text that stays."""


def best_first(columns: np.ndarray) -> np.ndarray:
    """Indices of rows, best copy first.

    A worse copy loses: noise, quality within a tenth, length within a fifth
    (``length_class``) decide first. Among equals the earliest stated date is nearest to
    the original, and an undated copy comes last: who reposts drops the date more often
    than he invents an earlier one. Then a document (PDF, DOCX, XLSX, text) comes before
    a web page, more often the repost, and then what was read first. Chosen on the gold
    half dev, where lengths within a tenth had split copies that differ by a line.
    """
    undated = columns["date"] == b""
    quality = np.round(10 * columns["quality"])
    keys = (columns["order"], columns["page"], columns["date"], undated)
    return np.lexsort((*keys, -columns["length"], -quality, columns["noise"]))


class Dedup(PipelineStep):
    """Drops exact, then near duplicates among rows of ``<folder>/<source>``."""

    type = "cleaning"

    def __init__(self, folder: Path, config: DataConfig) -> None:
        super().__init__()
        self.folder, self.config = str(folder), config

    def open(self, stems: Sequence[Path], rank: int) -> SignedRows:
        """The rows of ``stems``; what is changed in them is kept beside."""
        changed = Path(self.folder, "deduped", f".changed_{self.name}_{rank}")
        return SignedRows(stems, self.config.minhash_bands, changed)

    def drop_duplicates(
        self, rows: SignedRows, domains: Sequence[str], rank: int, *, across: bool
    ) -> np.ndarray:
        """True for the rows that stay; the others are recorded.

        Args: domains are those of the rows' files; with ``across`` near duplicates are
        sought only between files.
        """
        kept = np.ones(len(rows), dtype=bool)
        order = best_first(rows.columns)
        exact = exact_duplicates(rows.columns["exact"], order)
        reasons = {i: duplicate_reason(rows, k, 1.0) for i, k in exact.items()}
        self.record("exact", rank, rows, domains, kept, reasons)
        near = near_duplicates(
            rows.columns["keys"],
            order[kept[order]].tolist(),
            rows.text,
            ngram=self.config.minhash_ngram,
            threshold=self.config.jaccard_threshold,
            groups=rows.home.tolist() if across else None,
        )
        reasons = {i: duplicate_reason(rows, k, s) for i, (k, s) in near.items()}
        self.record("near", rank, rows, domains, kept, reasons)
        return kept

    def record(
        self,
        what: str,
        rank: int,
        rows: SignedRows,
        domains: Sequence[str],
        kept: np.ndarray,
        reasons: dict[int, str],
    ) -> None:
        """Writes what this pass drops and what is left; updates ``kept``."""
        step = f"{self.name}_{what}"
        path = Path(self.folder, "rejected", f"{step}_{rank:05d}.jsonl")
        with atomic_file(path) as handle:
            for i, reason in sorted(reasons.items()):
                kept[i] = False
                row = rows.record(i)
                place = {"order": int(rows.columns["order"][i])}
                document = TroveDocument(row["text"], row["id"], metadata=row | place)
                masked = row["domain"] not in ENGLISH_DOMAINS  # by MaskPii
                handle.write(rejected_line(document, step, reason, masked=masked))
        counts: Counter = Counter()
        for number, domain in enumerate(domains):
            ours = kept & (rows.home == number)
            if ours.any():
                counts[domain, "docs"] += int(ours.sum())
                counts[domain, "chars"] += int(rows.columns["chars"][ours].sum())
        write_counts(Path(self.folder, "counts", f"{step}_{rank:05d}.json"), counts)


def duplicate_reason(rows: SignedRows, kept: int, similarity: float) -> str:
    """Names the row that stays in place of a dropped one."""
    return f"duplicate_of:{rows.record(kept)['id']}:{similarity:.2f}"


class DedupDomain(Dedup):
    """Task ``rank`` works on ``DOMAINS[rank]``: signed rows in, kept rows out."""

    name = "dedup_class"

    def run(
        self, data: object = None, rank: int = 0, world_size: int = 1
    ) -> Iterator[TroveDocument]:
        """Writes ``<folder>/deduped/<domain>``, a signed file."""
        domain, config = DOMAINS[rank], self.config
        stems = sorted(Path(self.folder, "signed").glob(f"{domain}_*.npy"))
        with self.open(stems, rank) as rows, self.track_time():
            domains = [domain] * len(stems)
            kept = self.drop_duplicates(rows, domains, rank, across=False)
            paragraphs = ParagraphCutter(config.paragraph_min_chars)
            reasons = self.cut(rows, kept, PARAGRAPHS, 2, lambda shared: paragraphs)
            self.record("paragraph", rank, rows, domains, kept, reasons)
            least, ngram = config.template_min_docs, config.template_ngram
            reasons = self.cut(
                rows, kept, WINDOWS, least, lambda shared: TemplateCutter(shared, ngram)
            )
            self.record("template", rank, rows, domains, kept, reasons)
            reasons = self.low_rank(rows, kept, domain)
            self.record("rank", rank, rows, domains, kept, reasons)
            stay = np.flatnonzero(kept)
            stem = Path(self.folder, "deduped", domain)
            with SignedWriter(stem) as file:
                for part in np.array_split(stay, 1 + len(stay) // _ROWS):
                    file.add([rows.line(i) for i in part], rows.columns[part])
        yield from ()

    def cut(
        self,
        rows: SignedRows,
        kept: np.ndarray,
        name: str,
        least: int,
        cutter: Callable[[np.ndarray], Cutter],
    ) -> dict[int, str]:
        """Cuts from kept rows what ``least`` of them share; reasons of those too short.

        Args: name says which hashes are counted; 0 for ``least`` cuts nothing.
        """
        reasons: dict[int, str] = {}
        if not least:
            return reasons
        what = {PARAGRAPHS: "paragraph", WINDOWS: "template"}[name]
        shared = frequent(rows, name, kept, least)
        candidates = rows_with(rows, name, kept, shared)
        cutting = cutter(shared)
        for i in best_first(rows.columns):
            if not candidates[i]:
                continue
            text = rows.text(i)
            left = cutting.cut(text)
            share = 1 - len(left) / len(text)
            if not check_length(char_stats(left), self.config.min_chars)[0]:
                reasons[int(i)] = f"{what}:{share:.2f}"
                continue
            if left != text:
                rows.change(i, left, **{f"{what}_cut": f"{share:.2f}"})
            cutting.keep(left)
        return reasons

    def low_rank(
        self, rows: SignedRows, kept: np.ndarray, domain: str
    ) -> dict[int, str]:
        """Reasons of the rows beyond the best ``keep_top_share`` of the text."""
        reasons: dict[int, str] = {}
        if self.config.keep_top_share < 1 and domain not in ENGLISH_DOMAINS:
            chars, quality = rows.columns["chars"], rows.columns["quality"]
            left = self.config.keep_top_share * int(chars[kept].sum())
            for i in np.lexsort((rows.columns["order"], -quality)).tolist():
                if not kept[i]:
                    continue
                if left <= 0:
                    reasons[i] = f"low_rank:{quality[i]:.2f}"
                left -= chars[i]
        return reasons


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
        stems = [Path(self.folder, "deduped", domain) for domain in DOMAINS]
        with self.open(stems, rank) as rows, self.track_time():
            kept = self.drop_duplicates(rows, DOMAINS, rank, across=True)
            for number, domain in enumerate(DOMAINS):
                ours = np.flatnonzero(kept & (rows.home == number)).tolist()
                path = Path(self.output, f"{domain}.jsonl")
                with atomic_file(path, "wb") as handle:
                    handle.writelines(rows.lines(ours))
        yield from ()
