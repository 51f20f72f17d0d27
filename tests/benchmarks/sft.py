"""Benchmark ``sft``: what instruction tuning gains, forgets, makes up, and costs.

``python -m tests.benchmarks.sft`` needs a finished toy course (``make course``) and
measures on its stage 2 model and its instructions: useful tokens a second against trl's
trainer as it comes (``speed``), the three methods (``methods``), tuning with and
without pre-training text over three seeds (``forget``), and one tuned model against one
TF-IDF model a task (``labels``). It writes ``results/sft.json``; ``--quick`` tries
everything on a slice and writes nothing; ``--parts`` chooses.

Runs are processes of their own. What ``forget`` and ``labels`` have finished is kept
under ``runs/sft-bench``; the same command goes on where it was stopped.
"""

import os
import sys
from pathlib import Path
from statistics import mean, median, stdev

from finllm_utils.dependencies import REPOSITORY
from finllm_utils.train.adapters import METHODS
from finllm_utils.train.identity import weights_digest
from tests.benchmarks.harness import (
    alternate,
    call_in,
    kept_row,
    print_table,
    timing,
)
from tests.benchmarks.runner import Found, course_options, publish, run_parts
from tests.benchmarks.sft_arms import start_of

PARTS = ("speed", "methods", "forget", "labels")
SEEDS = (0, 1, 2)
GOALS = {
    "ratio_to_trl_default": ">= 1.5", "qlora_merge_max_diff": "<= 0.001",
    "forgetting_saved_low": "> 0", "choice_sft2_over_sft1": "> 0",
    "choice_sft1_over_pretrained": "> 0",
}  # fmt: skip


class Bench:
    """The parts; each returns figures and how they came about."""

    def __init__(self, folder: Path, profile: str, quick: bool) -> None:
        self.folder, self.profile, self.quick = folder, profile, quick
        self.kept = REPOSITORY / "runs" / ("sft-bench-quick" if quick else "sft-bench")
        self.kept.mkdir(parents=True, exist_ok=True)

    def call(self, function: str, *args: object) -> dict:
        """One arm in a process of its own, with all cores."""
        cores = str(os.cpu_count())
        return call_in(
            sys.executable, f"tests.benchmarks.sft_arms:{function}",
            self.folder, self.profile, *args,
            OMP_NUM_THREADS=cores, MKL_NUM_THREADS=cores,
        )  # fmt: skip

    def once(self, function: str, *args: object) -> dict:
        """``call``, or what an earlier, broken-off benchmark found."""
        data = self.folder / "05_sft_data" / "instructions" / "stage1.jsonl"
        asked = [function, *map(str, args), data.stat().st_size, self._model()]
        return kept_row(self.kept, asked, lambda: self.call(function, *args))

    def _model(self) -> str:
        from finllm_utils.model.load import load_model

        if not hasattr(self, "_digest"):
            self._digest = weights_digest(load_model(start_of(self.folder)))
        return self._digest

    def speed(self) -> Found:
        """The same conversations once, ours and trl's defaults in turn."""
        number, rounds = (16, 1) if self.quick else (240, 5)
        rows = alternate(
            {
                name: lambda name=name: self.call("speed", name, number)
                for name in ("ours", "trl_default")
            },
            rounds,
        )
        rates = {name: timing(found, "tokens_per_s") for name, found in rows.items()}
        figures = {f"tokens_per_s_{n}": rate.median for n, rate in rates.items()}
        ratio = rates["ours"].median / rates["trl_default"].median
        notes = {name: [round(v) for v in t.values] for name, t in rates.items()}
        return figures | {"ratio_to_trl_default": ratio}, notes | {
            "instructions": number, "rounds": rounds, "counted": "without padding",
        }  # fmt: skip

    def methods(self) -> Found:
        """Memory, speed in turn over the rounds, and how exact merging is."""
        number, rounds = (8, 1) if self.quick else (120, 5)
        rows = alternate(
            {m: lambda m=m: self.call("method", m, number) for m in METHODS}, rounds
        )
        figures = {
            f"{method}_{key}": median(row[key] for row in found)
            for method, found in rows.items()
            for key in found[0]
        }
        return figures, {"instructions": number, "rounds": rounds}

    def forget(self) -> Found:
        """Three seeds with the text, three without; the same instructions."""
        seeds = SEEDS[:1] if self.quick else SEEDS
        rows: dict[bool, list[dict]] = {True: [], False: []}
        for seed in seeds:
            for mixed in (True, False):
                row = self.once("forget", seed, mixed, self.quick, str(self.kept))
                rows[mixed].append(row)
        before = rows[True][0]
        domains = [k for k in before if k[:4] == "bpb." and k.endswith(".pretrained")]
        lost = {
            mixed: [
                mean(r[d.replace("pretrained", "sft1")] - before[d] for d in domains)
                for r in found
            ]
            for mixed, found in rows.items()
        }
        saved = [b - a for a, b in zip(lost[True], lost[False], strict=True)]
        figures = {
            "forgetting_mixed": mean(lost[True]),
            "forgetting_unmixed": mean(lost[False]),
            "forgetting_saved_low": mean(saved) - 4.303 * _error(saved),
            "hallucination_mixed": _mean(rows[True], "hallucination.sft1"),
            "hallucination_unmixed": _mean(rows[False], "hallucination.sft1"),
            "choice_pretrained": before["choice.pretrained"],
            "choice_sft1": _mean(rows[True], "choice.sft1"),
            "choice_sft2": _mean(rows[True], "choice.sft2"),
            "choice_shortest": before["choice_shortest.pretrained"],
            "multiturn_sft1": _mean(rows[True], "multiturn.sft1"),
            "multiturn_sft2": _mean(rows[True], "multiturn.sft2"),
            "following_sft1": _mean(rows[True], "following.sft1"),
            "following_sft2": _mean(rows[True], "following.sft2"),
            "heldout_nats_pretrained": before["heldout_nats.pretrained"],
            "heldout_nats_sft1": _mean(rows[True], "heldout_nats.sft1"),
            "heldout_nats_sft2": _mean(rows[True], "heldout_nats.sft2"),
        }
        for name, first, then in (
            ("choice_sft1_over_pretrained", "choice_pretrained", "choice_sft1"),
            ("choice_sft2_over_sft1", "choice_sft1", "choice_sft2"),
        ):
            figures[name] = figures[then] - figures[first]
        notes = {"mixed": rows[True], "unmixed": rows[False], "seeds": list(seeds)}
        return figures, notes | {"interval": "95%, Student's t, two degrees of freedom"}

    def labels(self) -> Found:
        """Accuracy by number of labels a task; mean of the seeds."""
        sizes, number = ((10,), 8) if self.quick else ((10, 100, 1_000), 200)
        seeds = SEEDS[:1] if self.quick else SEEDS
        figures, notes = {}, {"tests a task": number, "seeds": list(seeds)}
        for size in sizes:
            rows = [self.once("labels", size, seed, number) for seed in seeds]
            for key in (k for k in rows[0] if k != "seconds"):
                figures[f"label.{key}.{size}"] = _mean(rows, key)
            notes[str(size)] = rows
        return figures, notes


def _mean(rows: list[dict], key: str) -> float:
    return mean(row[key] for row in rows)


def _error(values: list[float]) -> float:
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def main() -> None:
    """Runs the parts and writes the result file."""
    asked = course_options(__doc__, PARTS, "05_sft_data/instructions")
    bench = Bench(asked.run, asked.profile, asked.quick)
    figures, runs = run_parts(bench, asked.parts)
    print_table(figures, GOALS)
    if not asked.quick:
        packages = ("torch", "transformers", "trl", "peft", "bitsandbytes")
        publish("sft", (figures, runs), packages, beside=True)


if __name__ == "__main__":
    main()
