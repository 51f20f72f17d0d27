"""Benchmark ``pretrain_cpu``: the pre-training loop on the processor of this machine.

``python -m tests.benchmarks.pretrain_cpu`` measures tokens a second against the Hugging
Face Trainer (as it comes, and tuned by hand), the share of the best measured matmul
rate, what a second process brings, and whether a killed pass ends in the same bits. It
writes ``results/pretrain_cpu.json``; ``--quick`` tries everything at a tiny size and
writes nothing; ``--parts`` chooses.

Contenders run in processes of their own, in turn, three rounds; rates are medians. All
train the same random start on the same rows with the same number of rows a step.
"""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from finllm_utils.corpora.laws import laws
from finllm_utils.tokenizer.base import load_base_tokenizer
from finllm_utils.tokenizer.expand import as_pretrained
from finllm_utils.train.bins import write_bin
from tests.benchmarks.harness import alternate, call_in, print_table, say, timing
from tests.benchmarks.pretrain_rivals import SHAPES
from tests.benchmarks.runner import (
    Found,
    dated_parts,
    parts_parser,
    publish,
    scratch_folder,
)

PARTS = ("speed_10m", "speed_135m", "mfu_135m", "two_processes", "resume", "precision")
GOALS = {
    "ratio_to_trainer_default_10m": ">= 2", "ratio_to_trainer_tuned_10m": ">= 1.05",
    "ratio_to_trainer_default_135m": ">= 2", "ratio_to_trainer_tuned_135m": ">= 1.05",
    "mfu_135m": ">= 0.22", "two_process_efficiency": ">= 0.85",
    "resume_identical": ">= 1", "precision_gap": "<= 0.01",
}  # fmt: skip


class Bench:
    """The parts; each returns figures and how they came about."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder, quick
        self.rounds = 1 if quick else 3
        self.bins = folder / "bins"
        self.bins.mkdir()
        text = [law.text for law in laws()][: 20 if quick else 348]
        tokenizer = as_pretrained(load_base_tokenizer("mistral-v1"), chat=False)
        self.tokens = write_bin(self.bins, "general_zh", text, tokenizer)

    def call(self, function: str, *args: object, threads: int = 2) -> dict:
        """One contender in a process of its own."""
        return call_in(
            sys.executable, f"tests.benchmarks.pretrain_rivals:{function}", *args,
            OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads),
        )  # fmt: skip

    def speed_10m(self) -> Found:
        """The toy profile's model."""
        return self._speed("10m", 40, 10, compiled=True)

    def speed_135m(self) -> Found:
        """SmolLM2's shape; compiling takes minutes more there, and was slower."""
        return self._speed("135m", 3, 1, compiled=False)

    def _speed(self, size: str, steps: int, skip: int, *, compiled: bool) -> Found:
        shape = "tiny" if self.quick else size
        contenders = {
            "ours": lambda: self.call(
                "ours", shape, self.bins, steps, skip, "bfloat16", {}
            ),
            "ours_compiled": lambda: self.call(
                "ours", shape, self.bins, steps, skip, "bfloat16",
                {"compile": "always"},
            ),
            "trainer": lambda: self.call(
                "trainer", shape, self.bins, steps, skip, False
            ),
            "trainer_tuned": lambda: self.call(
                "trainer", shape, self.bins, steps, skip, True
            ),
        }  # fmt: skip
        if not compiled:
            del contenders["ours_compiled"]
        rows = alternate(contenders, self.rounds)
        speed = {name: timing(found, "tokens_per_s") for name, found in rows.items()}
        rate = speed["ours"].median
        figures = {
            f"tokens_per_s_{size}": rate,
            f"ratio_to_trainer_default_{size}": rate / speed["trainer"].median,
            f"ratio_to_trainer_tuned_{size}": rate / speed["trainer_tuned"].median,
        }
        if "ours_compiled" in speed:
            figures[f"tokens_per_s_{size}_compiled"] = speed["ours_compiled"].median
        notes = {
            "shape": shape, "steps": steps, "skipped": skip, "rounds": self.rounds,
            "batch": list(SHAPES[shape][2:]), "threads": 2,
            "tokens_per_s": {k: [round(v) for v in t.values] for k, t in speed.items()},
            "mean_losses": {
                k: [round(row["mean_loss"], 4) for row in found]
                for k, found in rows.items()
            },
        }  # fmt: skip
        return figures, notes

    def mfu_135m(self) -> Found:
        """Share of the matmul rate, each round beside its own measurement of it."""
        shape, steps, rounds = ("tiny", 4, 1) if self.quick else ("135m", 5, 5)
        rows = [
            self.call("utilised", shape, self.bins, steps, 1) for _ in range(rounds)
        ]
        for row in rows:
            say(f"{row['mfu']:.3f} of {row['tflops']:.2f} TFLOP/s")
        return {
            "mfu_135m": median(row["mfu"] for row in rows),
            "mfu_135m_low": min(row["mfu"] for row in rows),
            "mfu_135m_high": max(row["mfu"] for row in rows),
            "matmul_peak_tflops": median(row["tflops"] for row in rows),
        }, {"shape": shape, "steps": steps, "skipped": 1, "rounds": rows}

    def two_processes(self) -> Found:
        """Two processes of one thread against one of two; 8 micro-batches a step."""
        shape, steps, skip = ("tiny", 4, 1) if self.quick else ("135m", 3, 1)
        micro = 1  # row; twice as many a step on two processes, eight rounds on each
        contenders = {
            "one": lambda: self.call(
                "accumulated", shape, self.bins, steps, skip, micro, 1, threads=2
            ),
            "two": lambda: self.call(
                "accumulated", shape, self.bins, steps, skip, micro, 2, threads=1
            ),
        }
        rows = alternate(contenders, self.rounds)
        one, two = (timing(rows[k], "tokens_per_s") for k in ("one", "two"))
        bytes_of = {k: rows[k][0]["optimizer_bytes"] for k in rows}
        figures = {
            "two_process_efficiency": two.median / one.median,
            "optimizer_share_of_one_process": bytes_of["two"] / bytes_of["one"],
        }
        notes = {
            "shape": shape, "rounds": len(one.values), "one": one.values,
            "two": two.values, "optimizer_bytes": bytes_of,
        }  # fmt: skip
        return figures, notes

    def resume(self) -> Found:
        """Kills a pass at ten random steps; the weights must end in the same bits."""
        steps, kills = (12, 2) if self.quick else (44, 10)
        rng, shape = random.Random(0), "tiny"
        whole = self.call(
            "resumable", shape, self.bins, steps, self.folder / "whole", "bfloat16"
        )
        points = sorted(rng.sample(range(1, steps - 1), kills))
        folder = self.folder / "killed"
        for point in points:
            self._run_until(point, shape, steps, folder)
        ended = self.call("resumable", shape, self.bins, steps, folder, "bfloat16")
        same = whole["weights"] == ended["weights"]
        notes = {"steps": steps, "killed_at": points, "weights": ended["weights"]}
        return {"resume_identical": float(same), "kills": kills}, notes

    def _run_until(self, point: int, shape: str, steps: int, folder: Path) -> None:
        """Runs the pass in a process and kills it once it has said ``step point``."""
        arguments = [shape, str(self.bins), steps, str(folder), "bfloat16"]
        code = (
            "import json, sys; from tests.benchmarks.pretrain_rivals import resumable;"
            "resumable(*json.loads(sys.argv[1]))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        for line in process.stdout:
            if line.startswith("step ") and int(line.split()[1]) >= point:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()

    def precision(self) -> Found:
        """Loss after a short pass in bfloat16 beside float32."""
        shape, steps = ("tiny", 20) if self.quick else ("10m", 80)
        losses = {
            dtype: self.call(
                "ours", shape, self.bins, steps, 1, dtype, {"compile": "never"}
            )["mean_loss"]
            for dtype in ("float32", "bfloat16")
        }
        gap = abs(losses["bfloat16"] / losses["float32"] - 1)
        return {"precision_gap": gap}, {"shape": shape, "steps": steps} | losses


def main() -> None:
    """Measures the chosen parts, prints a table, writes the result of a whole run."""
    asked, began = parts_parser(__doc__, PARTS).parse_args(), time.monotonic()
    with scratch_folder() as folder:
        bench = Bench(folder, asked.quick)
        figures, runs = dated_parts(bench, asked.parts, GOALS)
    runs["seconds"] = round(time.monotonic() - began)
    print()
    print_table(figures, GOALS)
    publish(
        "pretrain_cpu", (figures, runs),
        ("torch", "transformers", "accelerate", "numpy"),
        quick=asked.quick, beside=set(asked.parts) != set(PARTS),
    )  # fmt: skip


if __name__ == "__main__":
    main()
