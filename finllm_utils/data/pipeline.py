"""The whole cleaning chain on datatrove's local executor, and its funnel.

Three runs: every shard through extraction, filters, masking and signing; each domain
through dedup; all domains through dedup. The result does not depend on the number of
processes. On a cluster the same steps go to datatrove's SlurmPipelineExecutor.
Differs at scale: the dedup tasks hold one class's rows in memory.
"""

import contextlib
import io
import json
from collections.abc import Iterable
from pathlib import Path

import multiprocess
from datatrove.executor.local import LocalPipelineExecutor
from loguru import logger

from finllm_utils.config import DataConfig
from finllm_utils.data.decontaminate import HeldoutIndex
from finllm_utils.data.dedup_steps import DedupDomain, DedupGlobal
from finllm_utils.data.sources import DOMAINS, Item, SourceFile
from finllm_utils.data.steps import (
    CHECKS,
    Decontaminate,
    Extract,
    Filter,
    MaskPii,
    Normalize,
    ReadShard,
    ScoreQuality,
    WriteSigned,
)

DEDUP_STEPS = (
    "dedup_class_exact", "dedup_class_near", "dedup_class_template", "dedup_class_rank",
    "dedup_global_exact", "dedup_global_near",
)  # fmt: skip
STEPS = (
    "extract",
    "normalize",
    *CHECKS,
    "pii",
    "decontaminate",
    "quality",
    *DEDUP_STEPS,
)
_SHARDS_PER_WORKER = 4  # so that one slow shard does not leave the others waiting


class QuietExecutor(LocalPipelineExecutor):
    """A local executor that logs to its folder only; errors are still raised."""

    def run(self) -> object:
        """Runs every task."""
        multiprocess.set_forkserver_preload([__name__])  # import once, not per worker
        logger.remove()
        with contextlib.redirect_stderr(io.StringIO()):
            return super().run()

    def _run_for_rank(self, *args: object, **kwargs: object) -> object:
        with contextlib.redirect_stderr(io.StringIO()):
            return super()._run_for_rank(*args, **kwargs)


def clean_corpus(
    items: Iterable[Item],
    config: DataConfig,
    *,
    heldout: Iterable[str],
    output: Path,
    work_dir: Path,
    num_workers: int,
    models: Path | None = None,
) -> tuple[list[dict], list[dict]]:
    """Cleans ``items`` into ``<output>/<domain>.jsonl``; returns (rejected, funnel).

    Args: heldout are texts that must not remain; work_dir is an empty folder on a disk
    with twice the size of the text; num_workers processes share the work; models is a
    folder of trained text classifiers (``quality.TextScores``), None goes without.
    Raises: ValueError naming every unreadable file of the user's and its remedy; files
    of data_samples/raw (source "raw") are rejected instead: their faults are known.
    """
    work_dir, output = Path(work_dir), Path(output)
    for name in ("shards", "rejected", "counts", "signed", "deduped"):
        (work_dir / name).mkdir(parents=True, exist_ok=True)
    num_shards = num_workers * _SHARDS_PER_WORKER
    read = write_shards(items, work_dir, num_shards)
    index_path = work_dir / "heldout.npz"
    HeldoutIndex.build(heldout, config.decontamination_ngram).save(index_path)
    chain = [ReadShard(work_dir), Extract(work_dir), Normalize(work_dir)]
    chain += [Filter(work_dir, name, config) for name in CHECKS]
    chain += [MaskPii(work_dir), Decontaminate(work_dir, index_path)]
    chain += [ScoreQuality(work_dir, models, config), WriteSigned(work_dir, config)]
    _execute(chain, work_dir / "logs_chain", num_shards, num_workers)
    require_readable(read_rejected(work_dir))
    _execute(
        [DedupDomain(work_dir, config)],
        work_dir / "logs_class",
        len(DOMAINS),
        num_workers,
    )
    _execute([DedupGlobal(work_dir, output, config)], work_dir / "logs_global", 1, 1)
    return read_rejected(work_dir), read_funnel(work_dir, read)


def _execute(steps: list, logs: Path, tasks: int, workers: int) -> None:
    QuietExecutor(
        pipeline=steps,
        tasks=tasks,
        workers=min(workers, tasks),
        logging_dir=str(logs),
        start_method="forkserver",
    ).run()


def write_shards(
    items: Iterable[Item], work_dir: Path, num_shards: int
) -> dict[str, dict]:
    """Deals ``items`` round to ``<work_dir>/shards``; what was read, by domain.

    Raises: ValueError when there is nothing to read.
    """
    read = {domain: {"docs": 0, "chars": 0} for domain in DOMAINS}
    paths = [work_dir / "shards" / f"{i:05d}.jsonl" for i in range(num_shards)]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(p, "w", encoding="utf-8")) for p in paths]
        for order, item in enumerate(items):
            row = {
                "id": item.id,
                "source": item.source,
                "domain": item.domain,
                "order": order,
            }
            if isinstance(item, SourceFile):
                row |= {"path": item.path, "text": "", "meta": {}}
            else:
                row |= {"text": item.text, "meta": item.meta}
            files[order % num_shards].write(json.dumps(row) + "\n")
            read[item.domain]["docs"] += 1
            read[item.domain]["chars"] += len(row["text"])
    if not any(counts["docs"] for counts in read.values()):
        raise ValueError(
            "nothing to clean: data.sources and data_samples/raw are empty"
        )
    return read


def require_readable(rejected: list[dict]) -> None:
    """Raises ValueError naming the user's files that could not be read, all at once."""
    errors = [
        row["reason"]
        for row in rejected
        if row["step"] == "extract" and row["source"] != "raw"
    ]
    if errors:
        more = f"\n... and {len(errors) - 20} more" if len(errors) > 20 else ""
        raise ValueError(
            f"{len(errors)} of your files cannot be read; nothing was written:\n"
            + "\n".join(errors[:20])
            + more
        )


def read_rejected(work_dir: Path) -> list[dict]:
    """Every dropped document: in step order, then document order."""
    rows = []
    for path in sorted((work_dir / "rejected").glob("*.jsonl")):
        with open(path, encoding="utf-8") as handle:
            rows += [json.loads(line) for line in handle]
    return sorted(rows, key=lambda row: (STEPS.index(row["step"]), row["order"]))


def read_funnel(work_dir: Path, read: dict[str, dict]) -> list[dict]:
    """A row for each step and domain: documents and characters that are left after it.

    The row ``extract`` is the start of the natural mix: before it, files have no text.
    """
    funnel = [{"step": "read", "domain": d, **read[d]} for d in DOMAINS]
    for step in STEPS:
        totals = {d: {"docs": 0, "chars": 0} for d in DOMAINS}
        for path in sorted((work_dir / "counts").glob(f"{step}_0*.json")):
            for domain, what, value in json.loads(path.read_text(encoding="utf-8")):
                totals[domain][what] += value
        funnel += [{"step": step, "domain": d, **totals[d]} for d in DOMAINS]
    return funnel
