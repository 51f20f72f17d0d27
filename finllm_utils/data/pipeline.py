"""The whole cleaning chain, and its funnel.

Four phases: held-out text is indexed; every shard goes through extraction, filters,
masking and signing; each domain through dedup; all domains through dedup.
``data.executor`` says where their tasks run; the result depends neither on it nor on
the number of processes.
Differs at scale: one task dedups a class; it holds columns of 300 bytes a document in
memory, not texts.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from finllm_utils.config import DataConfig
from finllm_utils.data.dedup_steps import DedupDomain, DedupGlobal
from finllm_utils.data.executors import Phase, run_phases
from finllm_utils.data.heldout_steps import BuildHeldout, Decontaminate
from finllm_utils.data.own_filters import OwnFilter, filter_sources
from finllm_utils.data.rejected import RejectedRows
from finllm_utils.data.sign_step import WriteSigned
from finllm_utils.data.sources import DOMAINS, Item
from finllm_utils.data.steps import (
    CHECKS,
    Extract,
    Filter,
    MaskPii,
    Normalize,
    OwnFilters,
    ReadShard,
    ScoreQuality,
)
from finllm_utils.data.work import INPUTS, OWN, open_work
from finllm_utils.files import read_json

DEDUP_STEPS = (
    "dedup_class_exact", "dedup_class_near", "dedup_class_paragraph",
    "dedup_class_template", "dedup_class_rank",
    "dedup_global_exact", "dedup_global_near",
)  # fmt: skip
STEPS = (
    "extract",
    "normalize",
    *CHECKS,
    "own",
    "pii",
    "decontaminate",
    "quality",
    *DEDUP_STEPS,
)
_SHARDS_PER_WORKER = 4  # so that one slow shard does not leave the others waiting


def clean_corpus(
    items: Iterable[Item],
    config: DataConfig,
    *,
    heldout: Iterable[str],
    output: Path,
    work_dir: Path,
    num_workers: int,
    models: Path | None = None,
    filters: Sequence[OwnFilter] = (),
) -> tuple[RejectedRows, list[dict]]:
    """Cleans ``items`` into ``<output>/<domain>.jsonl``; returns (rejected, funnel).

    Args: heldout are texts that must not remain; work_dir is a folder on a disk with
    five times the size of the text, where the same call goes on after a kill; call
    ``work.remove_work`` on it in the end; num_workers tasks run at a time; models is a
    folder of trained text classifiers (``quality.TextScores``), None goes without;
    filters are functions (text, meta) -> (keep, reason) beside those of
    ``config.filters``, see ``own_filters``.
    A file that cannot be read is rejected with its reason and remedy.
    Raises: ValueError naming every unreadable file of the user's when
    ``config.stop_on_unreadable``; those of data_samples/raw are never among them.
    """
    output.mkdir(parents=True, exist_ok=True)
    work = open_work(
        work_dir, items, config, heldout=heldout, models=models,
        num_shards=num_workers * _SHARDS_PER_WORKER,
        filters=filter_sources(filters, config.filters),
    )  # fmt: skip
    inputs = read_json(work / INPUTS)
    chain = [ReadShard(work), Extract(work, config), Normalize(work)]
    chain += [Filter(work, name, config) for name in CHECKS]
    chain += [OwnFilters(work, work / OWN)]
    chain += [MaskPii(work), Decontaminate(work, config)]
    chain += [ScoreQuality(work, models, config), WriteSigned(work, config)]
    index = BuildHeldout(work, config.decontamination_ngram)
    phases = (
        Phase("heldout", [index], inputs["num_heldout"]),
        Phase("chain", chain, inputs["num_shards"]),
        Phase("class", [DedupDomain(work, config)], len(DOMAINS)),
        Phase("global", [DedupGlobal(work, work / "corpus", config)], 1),
    )
    for phase in run_phases(phases, work / "logs", config, num_workers):
        if phase.name == "chain" and config.stop_on_unreadable:
            require_readable(RejectedRows(work, STEPS))
    for domain in DOMAINS:
        shutil.copyfile(work / "corpus" / f"{domain}.jsonl", output / f"{domain}.jsonl")
    return RejectedRows(work, STEPS), read_funnel(work, inputs["read"])


def require_readable(rejected: Iterable[dict]) -> None:
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
