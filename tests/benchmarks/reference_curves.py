"""Benchmark ``reference_curves``: how much the loss of a profile differs by seed.

``python -m tests.benchmarks.reference_curves`` runs notebooks 03 and 04 with three
seeds on what 01 and 02 of ``runs/<profile>`` wrote, and writes the curves with their
bands to ``data_samples/reference_runs``, for ``compare_run``, and the mean and spread
of every figure in bits per byte to ``results/reference_curves.json``. On a processor
as many seeds run at once as there are cores, one thread each.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from finllm_utils.files import read_json, write_json
from finllm_utils.metrics import METRICS_FILE, Row, new_rows, rows_under
from finllm_utils.model.load import load_tokenizer
from finllm_utils.profiles import Profile, load_profile
from finllm_utils.reference_runs import make_reference, reference_path, settings_of
from finllm_utils.train.bin_writer import tokenizer_fingerprint
from tests.benchmarks.harness import (
    ONE_THREAD,
    REPOSITORY,
    print_table,
    say,
    today,
    versions,
    write_result,
)

COMMAND = "make bench ONLY=reference_curves"
SEEDS = (0, 1, 2)
MODELS = ("base", "expanded", "stage1", "stage2")
PASSES = {
    "stage1": ("03_pretrain_stage1", "stage1"),
    "stage2": ("04_pretrain_stage2", ""),
}


def run_folder(profile: str, seed: int) -> Path:
    """Where a seed's stages lie; 01 and 02 are links to the profile's own run."""
    folder = REPOSITORY / "runs" / f"reference-{profile}-{seed}"
    source = REPOSITORY / "runs" / profile
    for stage in ("00_overview", "01_data_cleaning", "02_vocab_expansion"):
        if not (source / stage).exists():
            raise FileNotFoundError(
                f"{source / stage} is missing: run finllm run -p {profile} --to 02 first"
            )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for part in source.iterdir():
        if part.name[:2] in ("00", "01", "02"):
            (folder / part.name).symlink_to(part)
    return folder


def train(profile: str, seed: int) -> Path:
    """Runs 03 and 04 with a seed. Raises: RuntimeError with the end of what it said."""
    folder = run_folder(profile, seed)
    settings = {**os.environ}
    if not torch.cuda.is_available():
        settings |= ONE_THREAD
    found = subprocess.run(
        [sys.executable, "-m", "finllm_utils.cli", "run", "--profile", profile,
         "--run-dir", str(folder), "--seed", str(seed), "--only", "03", "--only", "04"],
        cwd=REPOSITORY, env=settings, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if found.returncode:
        raise RuntimeError(f"seed {seed} failed:\n{found.stdout[-3000:]}")
    say(f"seed {seed} is done")
    return folder


def bits_of(folder: Path) -> dict[str, float]:
    """Every ``bpb.model.domain`` that a seed's run reported."""
    reports = [
        read_json(folder / stage / "report.json") for stage, _ in PASSES.values()
    ]
    merged = {k: v for report in reports for k, v in report.items()}
    return {
        key: value
        for key, value in merged.items()
        if key.startswith("bpb.")
        and key.split(".")[1] in MODELS
        and key.count(".") == 2
    }


def rows_of(folder: Path, stage: str) -> list[Row]:
    """What a pass logged."""
    notebook, prefix = PASSES[stage]
    rows, _ = new_rows(folder / notebook / METRICS_FILE, 0)
    return rows_under(rows, prefix)


def settings_for(profile: Profile, stage: str, folder: Path) -> dict[str, object]:
    """Those that the notebooks give to ``compare_run``."""
    tokenizer = load_tokenizer(folder / "02_vocab_expansion" / "tokenizer")
    common = {
        "base": profile.base,
        "model": profile.model,
        "data": profile.data,
        "dtype": profile.runtime.dtype,
        "tokenizer": tokenizer_fingerprint(tokenizer)[:12],
    }
    if stage == "stage1":
        return settings_of(profile.pretrain1, **common)
    return settings_of(profile.pretrain2, stage1=profile.pretrain1, **common)


def main() -> None:
    """Trains the seeds, writes the references and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="toy")
    name = parser.parse_args().profile
    began, profile = time.monotonic(), load_profile(name)
    at_once = 1 if torch.cuda.is_available() else min(len(SEEDS), os.cpu_count() or 1)
    with ThreadPoolExecutor(at_once) as pool:
        folders = list(pool.map(lambda seed: train(name, seed), SEEDS))
    for stage in PASSES:
        reference = make_reference(
            [rows_of(folder, stage) for folder in folders],
            profile=name, stage=stage, seeds=SEEDS, command=COMMAND,
            settings=settings_for(profile, stage, folders[0]),
            date=today(),
        )  # fmt: skip
        write_json(reference_path(name, stage), reference)
    found = [bits_of(folder) for folder in folders]
    figures = {}
    for key in found[0]:
        values = [row[key] for row in found]
        figures[f"{key}.mean"] = statistics.mean(values)
        figures[f"{key}.std"] = statistics.stdev(values)
    print_table(figures, {})
    notes = {
        "profile": name, "seeds": list(SEEDS), "each": found,
        "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    known = versions("torch", "transformers")
    print(write_result("reference_curves", COMMAND, figures, notes, known))


if __name__ == "__main__":
    main()
