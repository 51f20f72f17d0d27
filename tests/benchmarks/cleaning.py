"""Benchmark ``cleaning``: speed beside two rivals, memory, and what the chain finds.

``python -m tests.benchmarks.cleaning`` measures everything and writes
``results/cleaning.json``; ``--quick`` tries every part on a slice and writes nothing;
``--full`` repeats the text to 1 GB for the memory test; ``--parts`` measures some of
speed scaling minhash memory duplicates pii gold and leaves the others as they were. Speed per core is text over CPU seconds, of
all processes together, so that a busy machine or a helper thread changes nothing.
"""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from finllm_utils.config import DataConfig
from finllm_utils.data.dedup import band_keys, signatures
from finllm_utils.data.heldout import heldout_texts
from finllm_utils.data.pipeline import STEPS, clean_corpus
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document
from tests.benchmarks import cleaning_checks as checks
from tests.benchmarks import cleaning_rivals as rivals
from tests.benchmarks.harness import (
    ENVIRONMENTS,
    RESULTS,
    alternate,
    call_in,
    measured,
    print_table,
    report_back,
    rival_python,
    say,
    timing,
    watched_memory,
)
from tests.benchmarks.runner import dated_parts, parts_parser, publish, scratch_folder

PARTS = ("duplicates", "pii", "gold", "minhash", "speed", "scaling", "memory")
GOALS = {
    "ratio_to_datajuicer": ">= 3", "ratio_to_datatrove": ">= 3",
    "minhash_mb_per_s_core": ">= 5", "speedup_2_processes": ">= 1.8",
    "peak_worker_mb": "<= 2000", "dedup_recall": ">= 0.99",
    "dedup_false_merges": "<= 0.005", "natural_duplicates_found": ">= 1",
    "pii_recall": ">= 0.99", "pii_precision": ">= 0.98", "clean_kept": ">= 0.95",
    "dirty_dropped": ">= 0.9", "fresh_clean_kept": ">= 0.95",
    "fresh_dirty_dropped": ">= 0.9",
}  # fmt: skip
WARM_UP = 20
PACKAGES = (
    "numpy", "datatrove", "scikit-learn", "xxhash", *rivals.DATAJUICER[:1],
    "jieba==0.42.1", "spacy==3.8.18",
)  # fmt: skip


def ours(sample: str, repeat: int, folder: str, workers: int, models: str) -> None:
    """Runs in a process of its own: the whole chain on a sample, from JSONL to JSONL.

    ``start_cpu_s`` is what ``WARM_UP`` documents cost once everything is loaded.
    """
    config = load_profile("toy").data
    heldout = json.loads(Path(sample).with_name("heldout.json").read_text("utf-8"))

    def run(name: str, limit: int, copies: int) -> list[dict]:
        work = Path(folder, name)
        shutil.rmtree(work, ignore_errors=True)
        (work / "output").mkdir(parents=True)
        _, funnel = clean_corpus(
            read_sample(Path(sample), limit, copies), config, heldout=heldout,
            output=work / "output", work_dir=work / "work", num_workers=workers,
            models=Path(models),
        )  # fmt: skip
        shutil.rmtree(work)
        return funnel

    run("warm", WARM_UP, 1)
    with measured() as start:
        run("warm", WARM_UP, 1)
    watch = watched_memory if workers > 1 else contextlib.nullcontext
    with measured() as row, watch() as memory:
        funnel = run("main", sys.maxsize, repeat)
    row |= memory or {}
    for what in ("docs", "chars"):
        for name, step in (("in", "extract"), ("out", STEPS[-1])):
            row[f"{what}_{name}"] = sum(r[what] for r in funnel if r["step"] == step)
    report_back(row | {"start_cpu_s": start["cpu_s"], "start_wall_s": start["wall_s"]})


def read_sample(path: Path, limit: int, copies: int) -> Iterator[Document]:
    """Up to ``limit`` documents of a sample, all of it ``copies`` times."""
    for copy in range(copies):
        with open(path, encoding="utf-8") as handle:
            for number, line in enumerate(handle):
                if number >= limit:
                    break
                row = json.loads(line)
                row["id"] += f"#{copy}" if copy else ""
                yield Document(**row)


def write_sample(documents: list[Document], path: Path) -> float:
    """Documents as JSONL that every contender reads; megabytes of text in UTF-8."""
    with open(path, "w", encoding="utf-8") as handle:
        for d in documents:
            row = {"id": d.id, "text": d.text, "source": d.source, "domain": d.domain}
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
    return sum(len(d.text.encode()) for d in documents) / 1e6


class Bench:
    """The shared inputs: all text, an even sample of it, held-out text, models."""

    def __init__(self, folder: Path, quick: bool, full: bool) -> None:
        self.folder, self.quick, self.full = folder, quick, full
        self.repeats = 1 if quick else 5
        say("reading all default Chinese text")
        self.documents = checks.default_chinese()
        if quick:
            self.documents = self.documents[::12]
        self.everything, self.sample = folder / "all.jsonl", folder / "sample.jsonl"
        self.all_mb = write_sample(self.documents, self.everything)
        step = max(1, round(self.all_mb / (0.5 if quick else 1.2)))
        self.sample_mb = write_sample(self.documents[::step], self.sample)
        (folder / "heldout.json").write_text(json.dumps(heldout_texts()), "utf-8")
        say(f"{self.all_mb:.1f} MB, sample {self.sample_mb:.1f} MB; training models")
        self.models = folder / "models"
        checks.train_models(self.models)

    def ours(self, sample: Path, workers: int, repeat: int = 1) -> dict:
        """One measurement of the chain in a fresh process."""
        target = "tests.benchmarks.cleaning:ours"
        work = self.folder / "ours"
        return call_in(
            sys.executable, target, sample, repeat, work, workers, self.models
        )

    def rival(self, name: str, python: Path) -> dict:
        """One measurement of a rival on the sample, offline."""
        target, work = f"tests.benchmarks.cleaning_rivals:{name}", self.folder / name
        return call_in(python, target, self.sample, work, HF_HUB_OFFLINE="1")

    def speed(self) -> checks.Found:
        """The chain and both rivals in turn on the same sample, one process each."""
        pythons = {
            "datajuicer": rival_python("datajuicer", rivals.DATAJUICER),
            "datatrove": rival_python("datatrove", rivals.DATATROVE),
        }
        contenders = {"ours": lambda: self.ours(self.sample, 1)}
        for name, python in pythons.items():
            contenders[name] = lambda name=name, python=python: self.rival(name, python)
        rows = alternate(contenders, self.repeats)
        rate, notes = {}, {}
        for name, found in rows.items():
            net = [{"s": row["cpu_s"] - row["start_cpu_s"]} for row in found]
            rate[name] = self.sample_mb / timing(net, "s").median
            notes[name] = {
                "cpu_s": timing(found, "cpu_s").median,
                "wall_s": timing(found, "wall_s").median,
                "start_cpu_s": timing(found, "start_cpu_s").median,
                "spread": round(timing(net, "s").spread, 3),
                "docs_out": found[0]["docs_out"],
            }
        figures = {f"sample_{k}_mb_per_s_core": v for k, v in rate.items()}
        for name in pythons:
            figures[f"ratio_to_{name}"] = rate["ours"] / rate[name]
        operators = {
            "ours": list(STEPS), "datajuicer": rivals.DATAJUICER_STEPS,
            "datatrove": rivals.DATATROVE_STEPS,
        }  # fmt: skip
        about = {
            "sample_mb": self.sample_mb, "repeats": self.repeats,
            "rate": "megabytes of UTF-8 text over CPU seconds, less those of "
            f"{WARM_UP} documents (start_cpu_s)",
        }  # fmt: skip
        return figures, about | notes | {"operators": operators}

    def scaling(self) -> checks.Found:
        """All text once with one process and with two, in turn."""
        contenders = {str(n): lambda n=n: self.ours(self.everything, n) for n in (1, 2)}
        rows = alternate(contenders, self.repeats)
        one, two = (timing(rows[n], "wall_s") for n in ("1", "2"))
        cpu, last = timing(rows["1"], "cpu_s"), rows["1"][-1]
        start = {n: timing(rows[n], "start_wall_s").median for n in rows}
        net = {"1": one.median - start["1"], "2": two.median - start["2"]}
        figures = {
            "chain_mb_per_s_core": self.all_mb / cpu.median,
            "chain_mb_per_s_wall": self.all_mb / one.median,
            "speedup_2_processes": net["1"] / net["2"],
            "speedup_2_processes_with_start": one.median / two.median,
            "retained_ratio": last["chars_out"] / last["chars_in"],
            "retained_documents": last["docs_out"] / last["docs_in"],
        }
        notes = {
            "all_mb": self.all_mb, "documents": last["docs_in"],
            "repeats": self.repeats, "wall_s_1": one.median, "wall_s_2": two.median,
            "spread_1": round(one.spread, 3), "spread_2": round(two.spread, 3),
            "start_wall_s_1": start["1"], "start_wall_s_2": start["2"],
            "speedup": "wall seconds less those of 20 documents (start_wall_s)",
            "peak_rss_mb_1": last["peak_rss_mb"],
        }  # fmt: skip
        return figures, notes

    def minhash(self) -> checks.Found:
        """Signatures and band keys of all text, nothing else, on one core."""
        config: DataConfig = load_profile("toy").data
        texts = [document.text for document in self.documents]
        bands, rows = config.minhash_bands, config.minhash_rows

        def sign() -> dict:
            with measured() as row:
                for i in range(0, len(texts), checks.BATCH):
                    signed = signatures(
                        texts[i : i + checks.BATCH],
                        num_hashes=bands * rows, ngram=config.minhash_ngram,
                    )  # fmt: skip
                    band_keys(signed, bands=bands, rows=rows)
            return row

        sign()
        cpu = timing(alternate({"minhash": sign}, self.repeats)["minhash"], "cpu_s")
        notes = {"mb": self.all_mb, "bands": bands, "rows": rows}
        notes |= {"repeats": self.repeats, "spread": round(cpu.spread, 3)}
        return {"minhash_mb_per_s_core": self.all_mb / cpu.median}, notes

    def memory(self) -> checks.Found:
        """The text repeated: the largest process, and how it grows with the text."""
        wanted = 10 if self.quick else 1_000 if self.full else 120
        repeat = max(2, round(wanted / self.all_mb))
        once = self.ours(self.everything, 2)
        many = self.ours(self.everything, 2, repeat)
        grown = many["peak_rss_mb"] - once["peak_rss_mb"]
        figures = {
            "peak_worker_mb": many["peak_rss_mb"],
            "peak_growth_mb_per_mb": grown / (self.all_mb * (repeat - 1)),
        }
        notes = {
            "text_mb": self.all_mb * repeat, "workers": 2,
            "peak_once_mb": once["peak_rss_mb"], "wall_s": many["wall_s"],
            "copies": f"{repeat}, equal; dedup holds columns of 300 bytes a document",
        }  # fmt: skip
        return figures, notes

    def duplicates(self) -> checks.Found:
        """Planted near duplicates and natural exact ones."""
        config = load_profile("toy").data
        pairs = 200 if self.quick else 2_000
        figures, notes = checks.planted_duplicates(self.documents, config, pairs)
        more, natural = checks.natural_duplicates(config)
        return figures | more, notes | natural

    def pii(self) -> checks.Found:
        """The generated passages; misses are listed beside the result."""
        kept = RESULTS if not self.quick else ENVIRONMENTS.parent / "bench"
        path = kept / "cleaning_pii_misses.jsonl"
        return checks.personal_data(300 if self.quick else 5_000, path)

    def gold(self) -> checks.Found:
        """The documents whose faults are known."""
        return checks.gold_documents(self.folder / "gold", self.models)


def main() -> None:
    """Measures the chosen parts, prints a table, writes the result of a whole run."""
    parser = parts_parser(__doc__, PARTS)
    parser.add_argument("--full", action="store_true")
    asked, began = parser.parse_args(), time.monotonic()
    with scratch_folder() as folder:
        bench = Bench(folder, asked.quick, asked.full)
        figures, runs = dated_parts(bench, asked.parts, GOALS)
    runs["seconds"] = round(time.monotonic() - began)
    print()
    print_table(figures, GOALS)
    publish(
        "cleaning", (figures, runs), PACKAGES,
        quick=asked.quick, beside=set(asked.parts) != set(PARTS),
    )  # fmt: skip


if __name__ == "__main__":
    main()
