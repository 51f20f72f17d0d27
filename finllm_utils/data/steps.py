"""The cleaning functions as datatrove steps: thin, importable by worker processes.

A step takes a batch of datatrove documents, edits them and says which stay. Dropped
ones go to ``<folder>/rejected/<step>_<rank>.jsonl``, counts to ``<folder>/counts``.
Nothing here decides anything: the rules are in filters, pii, dedup, decontaminate.
"""

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
from datatrove.data import Document as TroveDocument
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.batching import batched

from finllm_utils.config import DataConfig
from finllm_utils.data.char_stats import CharStats, char_stats
from finllm_utils.data.extract import Limits, read_file
from finllm_utils.data.extract_warc import is_warc, record_offsets
from finllm_utils.data.filters import (
    KEEP,
    Verdict,
    check_boilerplate,
    check_chinese_share,
    check_garbage,
    check_harm,
    check_length,
    check_repetitions,
    strip_boilerplate,
)
from finllm_utils.data.language import drop_foreign
from finllm_utils.data.normalize import normalize
from finllm_utils.data.own_filters import OwnFilter, judge, read_filters
from finllm_utils.data.pii import mask_pii
from finllm_utils.data.sources import ENGLISH_DOMAINS, settle_class
from finllm_utils.files import atomic_file

BATCH = 256
EXCERPT_CHARS = 600
"""Characters of a dropped document that the audit trail shows a reader."""


class CleaningStep(PipelineStep):
    """Base of all steps: batches, statistics, rejected documents."""

    type = "cleaning"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = str(folder)

    @abstractmethod
    def process(self, batch: list[TroveDocument]) -> list[Verdict]:
        """Edits the documents of ``batch`` in place; (keep, reason) for each."""

    def run(
        self, data: Iterator[TroveDocument], rank: int = 0, world_size: int = 1
    ) -> Iterator[TroveDocument]:
        """Called by datatrove: documents in, the kept ones out."""
        counts: Counter = Counter()
        path = Path(self.folder, "rejected", f"{self.name}_{rank:05d}.jsonl")
        with atomic_file(path) as rejected:
            for batch in batched(data, BATCH):
                with self.track_time("batch"):
                    verdicts = self.process(batch)
                kept = []
                for document, (keep, reason) in zip(batch, verdicts, strict=True):
                    if keep:
                        counts[document.metadata["domain"], "docs"] += 1
                        counts[document.metadata["domain"], "chars"] += len(
                            document.text
                        )
                        kept.append(document)
                    else:
                        rejected.write(rejected_line(document, self.name, reason))
                self.stat_update("forwarded", value=len(kept), unit="batch")
                self.stat_update("dropped", value=len(batch) - len(kept), unit="batch")
                yield from kept
        write_counts(
            Path(self.folder, "counts", f"{self.name}_{rank:05d}.json"), counts
        )


def rejected_line(
    document: TroveDocument, step: str, reason: str, *, masked: bool = False
) -> str:
    """One JSON line about a dropped document, personal data in it masked.

    Args: masked says that it is masked already.
    """
    excerpt = document.text[:EXCERPT_CHARS]
    row = {
        "id": document.id,
        "order": document.metadata["order"],
        "domain": document.metadata["domain"],
        "source": document.metadata["source"],
        "step": step,
        "reason": reason,
        "chars": len(document.text),
        "excerpt": excerpt if masked else mask_pii(excerpt)[0],
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_counts(path: Path, counts: Counter) -> None:
    """Counts by (domain, what) as JSON."""
    rows = [[*key, value] for key, value in sorted(counts.items())]
    with atomic_file(path) as handle:
        handle.write(json.dumps(rows))


def write_row(row: dict) -> bytes:
    """One JSON line; the slower encoder is for halves of surrogate pairs only."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return (json.dumps(row) + "\n").encode()


def read_row(line: bytes) -> dict:
    """What ``write_row`` wrote."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)


class ReadShard(PipelineStep):
    """Reads ``<folder>/shards/<rank>.jsonl``, written by ``pipeline.write_shards``."""

    type, name = "cleaning", "read"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = str(folder)

    def run(
        self, data: object = None, rank: int = 0, world_size: int = 1
    ) -> Iterator[TroveDocument]:
        """Yields the documents of one shard."""
        path = Path(self.folder, "shards", f"{rank:05d}.jsonl")
        with open(path, "rb") as handle:
            for line in handle:
                row = read_row(line)
                text, key = row.pop("text"), row.pop("id")
                if is_warc(Path(row.get("path", ""))):
                    yield from self._pages(key, row)
                else:
                    yield TroveDocument(text=text, id=key, metadata=row)

    def _pages(self, key: str, row: dict) -> Iterator[TroveDocument]:
        """A document a page of a web archive, still to be read."""
        try:
            offsets = list(record_offsets(Path(row["path"]))) or [-1]
        except ValueError:  # reading it again will say why
            offsets = [-1]
        for number, offset in enumerate(offsets, 1):
            metadata = {**row, "meta": {**row["meta"]}, "offset": offset}
            yield TroveDocument(text="", id=f"{key}/{number}", metadata=metadata)


class Extract(CleaningStep):
    """Reads the files among the documents; drops one that cannot be read."""

    name = "extract"

    def __init__(self, folder: Path, config: DataConfig) -> None:
        super().__init__(folder)
        self.limits = Limits(
            max_file_bytes=config.max_file_bytes, max_line_bytes=config.max_line_bytes
        )

    def process(self, batch: list[TroveDocument]) -> list[Verdict]:
        """See ``extract.read_file``."""
        return [self._extract(document) for document in batch]

    def _extract(self, document: TroveDocument) -> Verdict:
        path, root = (document.metadata.pop(key, "") for key in ("path", "root"))
        offset = document.metadata.pop("offset", -1)
        inside = Path(root) if root else None
        if path:
            try:
                document.text, found = read_file(
                    Path(path), self.limits, root=inside, offset=offset
                )
            except ValueError as error:
                return False, str(error).replace(path, document.id)
            document.metadata["meta"] = {**document.metadata["meta"], **found}
        return KEEP


class Normalize(CleaningStep):
    """One spelling; menus, page feet and foreign blocks out of Chinese pages."""

    name = "normalize"

    def process(self, batch: list[TroveDocument]) -> list[Verdict]:
        """See ``normalize``, ``filters.strip_boilerplate``, ``language``."""
        for document in batch:
            meta = document.metadata["meta"]
            document.text, meta = normalize(document.text, meta)
            if document.metadata["domain"] not in ENGLISH_DOMAINS:
                document.text, lines = strip_boilerplate(document.text)
                meta = {**meta, "boilerplate_lines": lines} if lines else meta
                document.text, foreign = drop_foreign(document.text)
                meta = {**meta, "foreign_letters": foreign} if foreign else meta
            document.metadata["meta"] = meta
        return [KEEP] * len(batch)


Check = Callable[[list[str], list[CharStats], DataConfig], list[Verdict]]


def _length(
    texts: list[str], stats: list[CharStats], config: DataConfig
) -> list[Verdict]:
    return [check_length(s, config.min_chars) for s in stats]


def _language(
    texts: list[str], stats: list[CharStats], config: DataConfig
) -> list[Verdict]:
    return [check_chinese_share(s) for s in stats]


def _garbage(
    texts: list[str], stats: list[CharStats], config: DataConfig
) -> list[Verdict]:
    return [check_garbage(t, s) for t, s in zip(texts, stats, strict=True)]


def _repetition(
    texts: list[str], stats: list[CharStats], config: DataConfig
) -> list[Verdict]:
    return check_repetitions(texts)


def _boilerplate(
    texts: list[str], stats: list[CharStats], config: DataConfig
) -> list[Verdict]:
    return [check_boilerplate(t) for t in texts]


def _harm(
    texts: list[str], stats: list[CharStats], config: DataConfig
) -> list[Verdict]:
    return [check_harm(t) for t in texts]


CHECKS: dict[str, Check] = {
    "length": _length,
    "language": _language,
    "garbage": _garbage,
    "repetition": _repetition,
    "boilerplate": _boilerplate,
    "harm": _harm,
}
ENGLISH_CHECKS = ("length", "garbage")


class Filter(CleaningStep):
    """One named check of ``CHECKS``; English text passes those meant for Chinese."""

    def __init__(self, folder: Path, name: str, config: DataConfig) -> None:
        self.name = name
        super().__init__(folder)
        self.config = config

    def process(self, batch: list[TroveDocument]) -> list[Verdict]:
        """See ``filters.check_*``."""
        everywhere = self.name in ENGLISH_CHECKS
        checked = [
            d
            for d in batch
            if everywhere or d.metadata["domain"] not in ENGLISH_DOMAINS
        ]
        for document in checked:
            if "stats" not in document.metadata:
                document.metadata["stats"] = char_stats(document.text)
        verdicts = CHECKS[self.name](
            [d.text for d in checked],
            [d.metadata["stats"] for d in checked],
            self.config,
        )
        found = {id(d): v for d, v in zip(checked, verdicts, strict=True)}
        return [found.get(id(document), KEEP) for document in batch]


class OwnFilters(CleaningStep):
    """The user's functions on text of every domain."""

    name = "own"

    def __init__(self, folder: Path, sources: Path) -> None:
        super().__init__(folder)
        self.sources = str(sources)
        self._filters: dict[str, OwnFilter] | None = None

    def process(self, batch: list[TroveDocument]) -> list[Verdict]:
        """See ``own_filters.judge``; meta has id, domain and source as well."""
        if self._filters is None:  # loaded in the worker, not sent to it
            self._filters = read_filters(Path(self.sources))
        verdicts = []
        for document in batch:
            row = document.metadata
            about = {name: row[name] for name in ("domain", "source")}
            meta = {**row["meta"], **about, "id": document.id}
            verdicts.append(judge(self._filters, document.id, document.text, meta))
        return verdicts


class MaskPii(CleaningStep):
    """Typed placeholders for personal data in Chinese text."""

    name = "pii"

    def process(self, batch: list[TroveDocument]) -> list[Verdict]:
        """See ``pii.mask_pii``."""
        for document in batch:
            if document.metadata["domain"] in ENGLISH_DOMAINS:
                continue
            document.text, counts = mask_pii(document.text)
            if counts:
                document.metadata["meta"] = {**document.metadata["meta"], "pii": counts}
        return [KEEP] * len(batch)


class ScoreQuality(CleaningStep):
    """Scores Chinese text with the trained models; drops what is hardly clean."""

    name = "quality"

    def __init__(self, folder: Path, models: Path | None, config: DataConfig) -> None:
        super().__init__(folder)
        self.models, self.config = models and str(models), config
        self._scores: Callable[[list[str]], list[dict]] | None = None

    def process(self, batch: list[TroveDocument]) -> list[Verdict]:
        """See ``quality.TextScores``; without models everything stays."""
        chosen = [d for d in batch if d.metadata["domain"] not in ENGLISH_DOMAINS]
        if not self.models or not chosen:
            for document in chosen:
                settle_class(document.metadata)  # an open class needs a score
            return [KEEP] * len(batch)
        if self._scores is None:  # loaded in the worker, not sent to it
            from finllm_utils.data.quality import TextScores  # scikit-learn: seconds

            self._scores = TextScores(Path(self.models))
        for document, found in zip(
            chosen, self._scores([d.text for d in chosen]), strict=True
        ):
            document.metadata["meta"] = {**document.metadata["meta"], **found}
            settle_class(document.metadata)
        return [check_clean(d.metadata["meta"], self.config.min_clean) for d in batch]


def check_clean(meta: dict, min_clean: float) -> Verdict:
    """Drops a text whose probability of being clean is below ``min_clean``."""
    clean = meta.get("clean", 1.0)
    return KEEP if clean >= min_clean else (False, f"low_quality:{clean:.2f}")
