"""The work folder of a cleaning run: what survives when the run is killed.

``<work_dir>/<key>/`` holds shards, finished tasks and their results. The key is a
digest of everything that decides the result, so the same call finds its own work again
and another one never does. Differs: files count as unchanged by size and date.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from finllm_utils.config import DataConfig
from finllm_utils.data.own_filters import Source, write_filters
from finllm_utils.data.sources import DOMAINS, Item, SourceFile
from finllm_utils.data.steps import write_row
from finllm_utils.files import file_digest, tree_digest, write_json

INPUTS, OWN = "inputs.json", "filters"
FOLDERS = ("heldout", "rejected", "counts", "signed", "deduped", "corpus")
_WHERE = (
    "executor", "slurm_partition", "slurm_time", "ray_address", "task_memory_gb",
    "rater",
    "filters",  # their sources count, not where they lie
)  # fmt: skip
_HELDOUT_TEXTS = 2_000  # a task; an index of fewer is made at once
_LIBRARIES = (
    "charset-normalizer", "datatrove", "lxml", "numpy", "OpenCC", "openpyxl",
    "pdfplumber", "pypdfium2", "scikit-learn", "trafilatura", "warcio",
)  # fmt: skip


def open_work(
    work_dir: Path,
    items: Iterable[Item],
    config: DataConfig,
    *,
    heldout: Iterable[str],
    models: Path | None,
    num_shards: int,
    filters: Sequence[Source] = (),
) -> Path:
    """The folder of this very run: one that a killed run left, or a new one.

    ``inputs.json`` there says what was read and in how many shards; an earlier run's
    number of shards stays. Where the tasks run, and how many at a time, may change.
    """
    fresh = Path(work_dir) / ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    for name in ("shards", *FOLDERS):
        (fresh / name).mkdir(parents=True)
    heldout = list(heldout)
    digest = hashlib.sha256(_settings(config, models, heldout, filters).encode())
    try:
        read = write_shards(items, fresh, num_shards, digest)
        write_json(fresh / "heldout.json", heldout)
        write_filters(filters, fresh / OWN)
        parts = max(1, min(num_shards, len(heldout) // _HELDOUT_TEXTS))
        tasks = {"num_shards": num_shards, "num_heldout": parts}
        write_json(fresh / INPUTS, tasks | {"read": read})
        folder = Path(work_dir) / digest.hexdigest()[:16]
        if not folder.exists():
            os.replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def remove_work(work_dir: Path) -> None:
    """Deletes the work folder: call it when the results are where they belong.

    It is renamed first, so that a kill in between leaves nothing that looks finished.
    """
    gone = Path(work_dir).with_name(f".{Path(work_dir).name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        os.replace(work_dir, gone)
        shutil.rmtree(gone)


def _settings(
    config: DataConfig,
    models: Path | None,
    heldout: list[str],
    filters: Sequence[Source],
) -> str:
    """What decides the result beside the documents, as one text."""
    package = Path(__file__).parent
    code = [p for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    code += [package.parent / name for name in ("files.py", "records.py")]
    return json.dumps(
        {
            "code": [file_digest(path) for path in sorted(code)],
            "libraries": [version(name) for name in _LIBRARIES],
            "config": {k: v for k, v in asdict(config).items() if k not in _WHERE},
            "models": tree_digest(models) if models else "",
            "heldout": heldout,
            "filters": filters,
        },
        sort_keys=True,
    )


def write_shards(
    items: Iterable[Item], folder: Path, num_shards: int, digest: "hashlib._Hash"
) -> dict[str, dict]:
    """Deals ``items`` round to ``<folder>/shards``; what was read, by domain.

    Adds every item to ``digest``. Raises: ValueError when there is nothing to read.
    """
    read = {domain: {"docs": 0, "chars": 0} for domain in DOMAINS}
    paths = [folder / "shards" / f"{i:05d}.jsonl" for i in range(num_shards)]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(p, "wb")) for p in paths]
        for order, item in enumerate(items):
            row = _row(item) | {"order": order}
            line = write_row(row)
            files[order % num_shards].write(line)
            digest.update(line)
            if isinstance(item, SourceFile):
                digest.update(_state(Path(item.path)).encode())
            read[item.domain]["docs"] += 1
            read[item.domain]["chars"] += len(row["text"])
    if not any(counts["docs"] for counts in read.values()):
        raise ValueError(
            "nothing to clean: data.sources and data_samples/raw are empty"
        )
    return read


def _row(item: Item) -> dict:
    row = {"id": item.id, "source": item.source, "domain": item.domain}
    if isinstance(item, SourceFile):
        return row | {
            "path": item.path,
            "root": item.root,
            "text": "",
            "meta": item.meta,
        }
    return row | {"text": item.text, "meta": item.meta}


def _state(path: Path) -> str:
    """Size and date of a file; the task that reads it says why it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"
