"""Ours beside trl's at equal KL: the part ``equal_kl`` of ``ppo_cpu`` and ``ppo_gpu``."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from finllm_utils.files import file_digest
from tests.benchmarks.ppo_rivals import (
    CONTENDERS,
    close_enough,
    next_coef,
    next_updates,
)
from tests.benchmarks.runner import Found

if TYPE_CHECKING:
    from tests.benchmarks.ppo_cpu import Bench

KL_TRIES = 2
KNOBS: dict[str, tuple[str, Callable]] = {
    "num_updates": ("at_equal_kl", next_updates),
    "kl_coef": ("at_equal_kl_by_price", next_coef),
}
"""What of ours is turned until the KL is trl's -> end of the keys, what to try next."""
NO_RIVAL = "left out: its environment cannot be made here"
NO_PTX = {"ppo.ptx_coef": 0.0}
"""trl's trainers have no pre-training text, so ours goes without beside them."""


def equal_kl(bench: "Bench", pythons: Mapping[str, Path | str]) -> Found:
    """Gains of both, and of ours once its KL is trl's, on questions of ``valid``.

    KL grows with the updates and falls with its price: each is tuned alone, on the
    first seed. Ours is the one tuned because it takes less time.
    Args: pythons are the interpreters of the contenders that can run.
    """
    names = [name for name in CONTENDERS[:2] if name in pythons]
    how = {"num_updates": bench.rival_updates}
    seconds = {
        name: [
            bench.contend(pythons[name], name, seed, True, **how)["wall_s"]
            for seed in bench.numbers
        ]
        for name in names
    }
    notes = {"seeds": list(bench.numbers), "split": "valid", **how, **NO_PTX}
    if "trl" not in names:
        return _gained(bench, "ours"), notes | {"trl": NO_RIVAL}
    figures = _gained(bench, "ours") | _gained(bench, "trl")
    figures |= {f"seconds_{name}": median(found) for name, found in seconds.items()}
    gains = {name: _gains(bench, name) for name in names}
    for knob, (ending, _) in KNOBS.items():
        name, tried, spent = _matched(bench, knob, how)
        found, gains[name] = _gained(bench, name), _gains(bench, name)
        figures |= {
            f"gain_ours_{ending}": found[f"gain_{name}"],
            f"kl_ours_{ending}": found[f"kl_{name}"],
            f"seconds_ours_{ending}": spent,
            f"gain_over_trl_{ending}": found[f"gain_{name}"] - figures["gain_trl"],
        }
        notes[f"{knob}_tried"] = tried
    return figures, notes | {"gains": gains}


def _matched(
    bench: "Bench", knob: str, how: Mapping[str, int]
) -> tuple[str, dict[float, float], float]:
    """The contender whose KL is nearest to trl's, KL by what was tried, its seconds."""
    seed, value = bench.numbers[0], getattr(bench.cfg.ppo, knob)
    value = how.get(knob, value)
    wanted, names = _gain(bench, "trl", seed)["kl_nats"], {value: "ours"}
    tried = {value: _gain(bench, "ours", seed)["kl_nats"]}
    while not close_enough(tried[value], wanted) and len(tried) <= KL_TRIES:
        value = KNOBS[knob][1](value, tried[value], wanted)
        if value in tried:
            break
        names[value] = f"ours_{knob}_{value:.4g}"
        bench.contend(sys.executable, names[value], seed, True, **{**how, knob: value})
        tried[value] = _gain(bench, names[value], seed)["kl_nats"]
    best = min(tried, key=lambda one: abs(tried[one] - wanted))
    rows = [
        bench.contend(sys.executable, names[best], seed, True, **{**how, knob: best})
        for seed in bench.numbers
    ]
    return names[best], tried, median(row["wall_s"] for row in rows)


def _gain(bench: "Bench", name: str, seed: int) -> dict[str, float]:
    """What a contender's policy gains."""
    policy = bench.policy_of(name, seed)
    return bench.once(
        "policy_gain", policy, "valid", seed,
        also=file_digest(policy / "model.safetensors"),
        **{"runtime.dtype": bench.dtype},
    )  # fmt: skip


def _gains(bench: "Bench", name: str) -> list[dict[str, float]]:
    return [_gain(bench, name, seed) for seed in bench.numbers]


def _gained(bench: "Bench", name: str) -> dict[str, float]:
    """Medians over the seeds; ``name`` ends every key."""
    rows = _gains(bench, name)
    figures = {
        f"{short}_{name}": median(row[key] for row in rows)
        for short, key in (
            ("gain", "reward_gain_std"),
            ("gain_length_adjusted", "reward_gain_length_adjusted"),
            ("heldout_gain", "heldout_rm_gain"),
            ("kl", "kl_nats"),
            ("length", "length_after"),
        )
    }
    per_nat = median(row["reward_gain_std"] / row["kl_nats"] for row in rows)
    return figures | {f"gain_per_nat_{name}": per_nat}
