"""The cleaned corpus as a dataset for others: Parquet shards, a manifest and a card.

``datasets.load_dataset(folder, "finance_zh")`` reads it. The manifest says for every
shard its digest and counts, for every source its licence, for every step what it
dropped; the card (README.md) is written from the manifest and from nothing else.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from finllm_utils.corpora.licences import licence_of
from finllm_utils.data.sources import DOMAINS, ENGLISH_DOMAINS
from finllm_utils.files import atomic_file, file_digest, read_json, write_json
from finllm_utils.records import Document, read_lines


def write_dataset(
    corpus: Path, folder: Path, *, rejected: Iterable[dict], docs_per_shard: int
) -> dict:
    """Writes ``<corpus>/<domain>.jsonl`` as a dataset into ``folder``; its manifest.

    Args: rejected are the rows of the cleaning chain's audit trail (step, reason).
    A domain without documents has no shard and no configuration.
    """
    shards, sources = [], {}
    for domain in DOMAINS:
        path = corpus / f"{domain}.jsonl"
        documents = read_lines(path) if path.stat().st_size else iter(())
        for number, part in enumerate(_chunks(documents, docs_per_shard)):
            name = f"data/{domain}-{number:05d}.parquet"
            _write_shard(folder / name, part)
            chars = sum(len(row["text"]) for row in part)
            shards.append(
                {"path": name, "domain": domain, "docs": len(part), "chars": chars,
                 "sha256": file_digest(folder / name)}
            )  # fmt: skip
            for row in part:
                entry = sources.setdefault(row["source"], {"docs": 0, "chars": 0})
                entry["docs"] += 1
                entry["chars"] += len(row["text"])
    for source, entry in sources.items():
        entry["licence"] = licence_of(source).name
    dropped = Counter((row["step"], row["reason"].split(":")[0]) for row in rejected)
    manifest = {
        "shards": shards,
        "sources": dict(sorted(sources.items())),
        "dropped": [[*key, count] for key, count in sorted(dropped.items())],
    }
    write_json(folder / "manifest.json", manifest)
    with atomic_file(folder / "README.md") as handle:
        handle.write(dataset_card(manifest))
    return manifest


def _chunks(rows: Iterator[dict], size: int) -> Iterator[list[dict]]:
    while chunk := list(islice(rows, size)):
        yield chunk


def _write_shard(path: Path, rows: list[dict]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [
        {**row, "licence": licence_of(row["source"]).name,
         "meta": json.dumps(row["meta"], ensure_ascii=False, sort_keys=True)}
        for row in rows
    ]  # fmt: skip
    with atomic_file(path, "wb") as handle:
        parquet.write_table(pa.Table.from_pylist(columns), handle, compression="zstd")


def verify_dataset(folder: Path) -> None:
    """Compares every shard with the manifest.

    Raises: ValueError naming each shard that is missing, changed or short of a column.
    """
    import pyarrow.parquet as parquet

    faults = []
    for shard in read_json(folder / "manifest.json")["shards"]:
        path = folder / shard["path"]
        if not path.is_file():
            faults.append(f"{path}: missing")
        elif file_digest(path) != shard["sha256"]:
            faults.append(f"{path}: not the file that the manifest lists")
        elif lost := set(Document.__dataclass_fields__) - set(
            parquet.read_schema(path).names
        ):
            faults.append(f"{path}: no column {', '.join(sorted(lost))}")
    if faults:
        raise ValueError("\n".join([*faults, "run 01 again to write them anew"]))


def dataset_card(manifest: dict) -> str:
    """README.md of a dataset: the header that ``datasets`` reads, then tables."""
    domains = [d for d in DOMAINS if any(s["domain"] == d for s in manifest["shards"])]
    languages = {"en" if d in ENGLISH_DOMAINS else "zh" for d in domains}
    header = ["---", "language:", *(f"- {name}" for name in sorted(languages))]
    header += ["license: other", "configs:"]
    for domain in domains:
        header += [f"- config_name: {domain}", f"  data_files: data/{domain}-*.parquet"]
    lines = [*header, "---", "# Cleaned corpus", ""]
    lines += ["| domain | shards | documents | characters |", "|---|---|---|---|"]
    for domain in domains:
        own = [s for s in manifest["shards"] if s["domain"] == domain]
        docs, chars = (sum(s[k] for s in own) for k in ("docs", "chars"))
        lines.append(f"| {domain} | {len(own)} | {docs:,} | {chars:,} |")
    lines += [
        "",
        "## Sources and licences",
        "",
        "The strictest licence of a part binds",
    ]
    lines += ["whoever passes the part on.", ""]
    lines += ["| source | documents | characters | licence |", "|---|---|---|---|"]
    for source, entry in manifest["sources"].items():
        counts = f"{entry['docs']:,} | {entry['chars']:,}"
        lines.append(f"| {source} | {counts} | {entry['licence']} |")
    lines += ["", "## Dropped", "", "| step | reason | documents |", "|---|---|---|"]
    lines += [f"| {step} | {why} | {n:,} |" for step, why, n in manifest["dropped"]]
    return "\n".join(lines) + "\n"
