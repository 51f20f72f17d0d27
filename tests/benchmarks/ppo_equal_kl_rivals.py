"""Ours beside trl's at equal KL: the part ``equal_kl`` of ``ppo_cpu`` and ``ppo_gpu``."""

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from finllm_utils.files import file_digest
from tests.benchmarks.ppo_rivals import CONTENDERS, close_enough, next_coef
from tests.benchmarks.runner import Found

if TYPE_CHECKING:
    from tests.benchmarks.ppo_cpu import Bench

SEEDS = (0,)  # a run of trl takes minutes
KL_TRIES = 2
NO_RIVAL = "left out: its environment cannot be made here"
NO_PTX = {"ppo.ptx_coef": 0.0}
"""trl's trainers have no pre-training text, so ours goes without beside them."""


def equal_kl(bench: "Bench", pythons: Mapping[str, Path | str]) -> Found:
    """Gains of both, and of ours once its KL is trl's, on questions of ``valid``.

    The price of KL is tuned on the first seed; ours is the one tuned because it takes
    less time.
    Args: pythons are the interpreters of the contenders that can run.
    """
    names = [name for name in CONTENDERS[:2] if name in pythons]
    how = {"num_updates": bench.rival_updates}
    for seed in SEEDS:
        for name in names:
            bench.contend(pythons[name], name, seed, True, **how)
    notes = {"seeds": list(SEEDS), "split": "valid", **how, **NO_PTX}
    if "trl" not in names:
        return _gained(bench, "ours"), notes | {"trl": NO_RIVAL}
    figures = _gained(bench, "ours") | _gained(bench, "trl")
    tried = _tried(bench, how)
    first, wanted = bench.cfg.ppo.kl_coef, _gain(bench, "trl", SEEDS[0])["kl_nats"]
    coef = min(tried, key=lambda c: abs(tried[c] - wanted))
    name = "ours" if coef == first else f"ours_{coef:.4g}"
    for seed in SEEDS[1:] if name != "ours" else ():
        bench.contend(sys.executable, name, seed, True, kl_coef=coef, **how)
    matched = _gained(bench, name)
    figures |= {
        "gain_ours_at_equal_kl": matched[f"gain_{name}"],
        "kl_ours_at_equal_kl": matched[f"kl_{name}"],
        "gain_over_trl_at_equal_kl": matched[f"gain_{name}"] - figures["gain_trl"],
    }
    gains = {n: [_gain(bench, n, s) for s in SEEDS] for n in ("ours", "trl", name)}
    notes |= {"kl_coef_tried": tried, "kl_coef_at_equal_kl": coef, "gains": gains}
    return figures, notes


def _tried(bench: "Bench", how: Mapping[str, int]) -> dict[float, float]:
    """Our KL by its price, from the profile's on until it is trl's."""
    seed, coef = SEEDS[0], bench.cfg.ppo.kl_coef
    wanted = _gain(bench, "trl", seed)["kl_nats"]
    tried = {coef: _gain(bench, "ours", seed)["kl_nats"]}
    while not close_enough(tried[coef], wanted) and len(tried) <= KL_TRIES:
        coef = next_coef(coef, tried[coef], wanted)
        name = f"ours_{coef:.4g}"
        bench.contend(sys.executable, name, seed, True, kl_coef=coef, **how)
        tried[coef] = _gain(bench, name, seed)["kl_nats"]
    return tried


def _gain(bench: "Bench", name: str, seed: int) -> dict[str, float]:
    """What a contender's policy gains."""
    policy = bench.policy_of(name, seed)
    return bench.once(
        "policy_gain", policy, "valid", seed,
        also=file_digest(policy / "model.safetensors"),
        **{"runtime.dtype": bench.dtype},
    )  # fmt: skip


def _gained(bench: "Bench", name: str) -> dict[str, float]:
    """Medians over the seeds; ``name`` ends every key."""
    rows = [_gain(bench, name, seed) for seed in SEEDS]
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
