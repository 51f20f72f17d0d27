"""Benchmark ``ppo_gpu``: the parts of ``ppo_cpu`` at the small profile, on one GPU.

``python -m tests.benchmarks.ppo_gpu`` needs a finished course of that profile (``make
course PROFILE=small``, or ``--run`` and ``--profile``). All contenders run in bfloat16;
memory is the allocator's peak. Where trl 1.12's environment cannot be made, ours is
measured alone and the notes say so. ``baselines``, which trains on the processor, runs
when ``--parts`` names it. It writes ``results/ppo_gpu.json``; without an accelerator it
says so and ends; ``--quick`` tries everything on a slice of the toy course, on a
processor too, and writes nothing.
"""

import sys

from finllm_utils.runtime import resolve_device
from tests.benchmarks.ppo_cpu import PARTS, Bench, measure_parts, options


def main() -> None:
    """Measures on the accelerator, in bfloat16."""
    device = resolve_device("auto")
    quick = "--quick" in sys.argv
    if device == "cpu" and not quick:
        print("no accelerator here: ppo_gpu was not run (--quick tries the code)")
        return
    name = "toy" if quick else "small"
    asked = options(name, name, [part for part in PARTS if part != "baselines"])
    bench = Bench(
        "ppo_gpu", asked.run, asked.profile, device=device, dtype="bfloat16",
        quick=asked.quick, num_seeds=asked.seeds,
    )  # fmt: skip
    measure_parts(bench, asked.parts, "ppo_gpu")


if __name__ == "__main__":
    main()
