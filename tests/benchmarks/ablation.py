"""Benchmark ``ablation``: what do two stages, expansion and replay each bring?

``python -m tests.benchmarks.ablation`` trains the arms below from the same English base
on the same cleaned text, three seeds each, and measures bits per byte of held-out text.
Every arm gets the same number of trials of its learning rate, on documents split off
the training text. Results stand at equal tokens and at equal FLOPs. It writes
``results/ablation.json``; ``--quick`` tries everything on a slice and writes nothing;
``--small`` starts from SmolLM2-135M and is for a GPU.

Every run is a process of its own, on a processor as many at once as there are cores.
What is finished is kept under ``runs/ablation-...``, whose name is made from the
settings and the engine's code: the same command goes on where it was stopped.

| arm | vocabulary | passes |
|---|---|---|
| two_stage | characters | a quarter embeddings only on stage 2's mix, the rest all |
| stage2_only | characters | all parameters from the start |
| two_stage_base_mix | characters | as two_stage, stage 1 on a mix near the base's own |
| lora_embeddings | characters | adapters and embeddings |
| no_expansion | the base's | all parameters |
| words | characters and words | all parameters |
| english_0, english_50 | characters | all parameters, no English or half of it |
"""

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev

import torch

from finllm_utils.profiles import load_profile
from tests.benchmarks.ablation_arms import (
    ARMS,
    REFERENCE,
    SIZES,
    TRIAL_SEED,
    Ablation,
    Settings,
)
from tests.benchmarks.data_ablation_checks import t_interval
from tests.benchmarks.harness import (
    REPOSITORY,
    call_in,
    print_table,
    say,
)
from tests.benchmarks.runner import publish, size_option


class Runs:
    """Runs in processes of their own, and a file of those that are finished."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder, self.size = folder, size
        self.path = folder / "runs.jsonl"
        self.done: dict[tuple, dict] = {}
        if self.path.exists():
            for line in self.path.read_text("utf-8").splitlines():
                key, row = json.loads(line)
                self.done[tuple(key)] = row
        self.at_once = 1 if torch.cuda.is_available() else os.cpu_count() or 1
        self._lock = threading.Lock()

    def all(self, runs: Sequence[tuple]) -> list[dict[str, float]]:
        """Bits per byte of every (arm, seed, factor, tokens, documents)."""
        with ThreadPoolExecutor(self.at_once) as pool:
            return [row["bpb"] for row in pool.map(self._one, runs)]

    def _one(self, run: tuple) -> dict:
        if run not in self.done:
            module = "tests.benchmarks.ablation_arms:one_run"
            row = call_in(sys.executable, module, self.folder, self.size, *run)
            with self._lock:
                self.done[run] = row
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([run, row]) + "\n")
            shown = ", ".join(f"{d} {v:.4f}" for d, v in row["bpb"].items())
            name, seed, factor, tokens, _ = run
            say(
                f"{name}, seed {seed}, rates times {factor}, {tokens:,} tokens: {shown}"
            )
        return self.done[run]


def figures_of(
    found: dict[str, list[dict[str, float]]], mark: str = ""
) -> dict[str, float]:
    """Mean, deviation and paired difference to the reference arm, by arm and domain."""
    figures: dict[str, float] = {}
    for arm, rows in found.items():
        for domain in rows[0]:
            key, values = f"{arm}.{mark}{domain}", [row[domain] for row in rows]
            figures[f"{key}.bpb_mean"] = mean(values)
            figures[f"{key}.bpb_std"] = stdev(values)
            if arm != REFERENCE and REFERENCE in found:
                others = [row[domain] for row in found[REFERENCE]]
                pairs = zip(values, others, strict=True)
                middle, low, high = t_interval([a - b for a, b in pairs])
                figures[f"{key}.vs_{REFERENCE}"] = middle
                figures[f"{key}.vs_{REFERENCE}_low"] = low
                figures[f"{key}.vs_{REFERENCE}_high"] = high
    return figures


def measure(folder: Path, size: str) -> tuple[dict, dict]:
    """All figures, and the notes of the result file."""
    settings = SIZES[size]
    ablation, runs = Ablation(folder, settings), Runs(folder, size)
    ablation.prepare()
    factors = chosen_factors(settings, runs)
    budgets = {name: ablation.equal_flops(name) for name in settings.arms}
    for name, tokens in budgets.items():
        if abs(tokens / settings.tokens - 1) <= 0.01:
            budgets[name] = settings.tokens
    scores = []
    for tokens in (dict.fromkeys(settings.arms, settings.tokens), budgets):
        wanted = [
            (name, seed, factors[name], tokens[name], "heldout")
            for name in settings.arms
            for seed in settings.seeds
        ]
        found = iter(runs.all(wanted))
        scores.append(
            {name: [next(found) for _ in settings.seeds] for name in settings.arms}
        )
    _, validation = ablation.parts()
    notes = {
        "arms": {
            name: {
                "rate_factor": factors[name],
                "passes": [[share, dict(change)] for share, change in arm.passes],
                "vocabulary": arm.strategy,
                "rows": len(ablation.tokenizer(arm.strategy)),
                "tokens_at_equal_flops": budgets[name],
            }
            for name, arm in ARMS.items()
            if name in settings.arms
        },
        "seeds": list(settings.seeds),
        "tokens_a_run": settings.tokens,
        "interval": "95%, Student's t over paired seeds",
        "trials": f"rates times {settings.factors}, seed {TRIAL_SEED}, on validation",
        "validation_documents": {d: len(v) for d, v in validation.items()},
        "heldout_documents": {
            d: len(v) for d, v in ablation.documents("heldout").items()
        },
        "profile": settings.profile,
        "runs": [[*run, row] for run, row in sorted(runs.done.items())],
    }
    return figures_of(scores[0]) | figures_of(scores[1], "equal_flops."), notes


def chosen_factors(settings: Settings, runs: Runs) -> dict[str, float]:
    """For every arm the factor with the lowest mean over the validation domains."""
    if len(settings.factors) == 1:
        return dict.fromkeys(settings.arms, settings.factors[0])
    trials = [
        (name, TRIAL_SEED, factor, settings.tokens, "validation")
        for name in settings.arms
        for factor in settings.factors
    ]
    found = dict(zip(trials, runs.all(trials), strict=True))
    return {
        name: min(
            settings.factors,
            key=lambda f: mean(
                found[name, TRIAL_SEED, f, settings.tokens, "validation"].values()
            ),
        )
        for name in settings.arms
    }


def kept_folder(size: str) -> Path:
    """Where finished runs lie: another one for other settings or other code."""
    digest = hashlib.sha256(repr((SIZES[size], ARMS)).encode())
    digest.update(repr(load_profile(SIZES[size].profile)).encode())
    package = REPOSITORY / "finllm_utils"
    for part in ("train", "model", "tokenizer"):
        for path in sorted((package / part).glob("*.py")):
            digest.update(path.read_bytes())
    folder = REPOSITORY / "runs" / f"ablation-{size}-{digest.hexdigest()[:10]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    """Trains every arm, prints the figures, writes the result of a whole run."""
    size, began = size_option(__doc__), time.monotonic()
    figures, notes = measure(kept_folder(size), size)
    notes |= {"size": size, "seconds": round(time.monotonic() - began)}
    print()
    print_table(figures, {})
    packages = ("torch", "transformers", "tokenizers", "peft")
    publish("ablation", (figures, notes), packages, quick=size == "quick")


if __name__ == "__main__":
    main()
