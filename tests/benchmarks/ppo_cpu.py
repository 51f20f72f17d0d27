"""Benchmark ``ppo_cpu``: what PPO gains and costs, beside trl 1.12's PPOTrainer.

``python -m tests.benchmarks.ppo_cpu`` needs a finished toy course (``make course``).
``speed`` takes the same updates with ours and with trl in turn, five rounds, and
compares episodes a second and memory. ``equal_kl`` trains with both as long as 08 does
and compares the reward gained at the KL spent, on questions of the split ``valid``.
``seeds`` is 08 with three seeds, measured on ``test`` and by a reward model that did
not pay. ``reward_model`` is 07 with three seeds beside the rules that never read.
``disclosure`` is the task of learning to disclose risks. It writes
``results/ppo_cpu.json``; ``--quick`` tries everything on a slice and writes nothing;
``--parts`` chooses.

Runs are processes of their own. What is finished is kept under ``runs/ppo-bench``,
timed runs for the day and the machine only: the same command goes on where it was
stopped, and measures anew when the models, the profile or the code of
``finllm_utils/rlhf`` change, or when that folder is removed.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from statistics import median

from finllm_utils.dependencies import REPOSITORY
from finllm_utils.files import file_digest, tree_digest, write_json
from finllm_utils.profiles import load_profile
from tests.benchmarks.harness import (
    alternate,
    beside_earlier,
    call_in,
    kept_row,
    machine,
    print_table,
    rival_python,
    say,
    versions,
    write_result,
)
from tests.benchmarks.ppo_arms import agreement_across, chat_folder, reward_folder
from tests.benchmarks.ppo_contract_rivals import TRL_1_12
from tests.benchmarks.ppo_rivals import (
    CONTENDERS,
    close_enough,
    compared,
    new_task,
    next_coef,
)

PARTS = ("speed", "equal_kl", "seeds", "reward_model", "disclosure")
SEEDS = (0, 1, 2)
KINDS = ("hard", "random", "values")
KL_TRIES = 3
NO_RIVAL = "left out: its environment cannot be made here"
SPEED_UPDATES = 3  # of a timed round
NO_TRL = "trl, which trains reward models, is not installed here"
GOALS = {
    "ratio_to_trl": ">= 2", "memory_ratio_to_trl": "<= 1", "reward_gain_std": "> 0",
    "heldout_rm_gain": "> 0", "gain_over_trl_at_equal_kl": ">= 0",
}  # fmt: skip
QUICK = {
    "ppo.num_updates": 2, "ppo.rollout_batch_size": 4, "ppo.num_mini_batches": 2,
    "ppo.max_new_tokens": 8, "ppo.num_eval_prompts": 8, "evals.max_documents": 2,
    "reward.num_pairs": 32, "reward.num_eval_pairs": 16, "reward.value_passes": 0,
    "reward.batch_size": 16,
}  # fmt: skip
"""A slice of everything, of any profile."""
Found = tuple[dict[str, float], dict[str, object]]


class Bench:
    """The parts; each returns figures and how they came about.

    ``device`` and ``dtype`` are those of the contenders of ``speed``; the other parts
    run as the profile has it.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        profile: str,
        *,
        device: str,
        dtype: str,
        quick: bool,
        heldout: Path | None = None,
    ) -> None:
        self.folder, self.profile, self.quick = folder, profile, quick
        self.device, self.dtype = device, dtype
        self.overrides = QUICK if quick else {}
        self.cfg = load_profile(profile, self.overrides)
        self.numbers, self.rounds = (SEEDS[:1], 1) if quick else (SEEDS, 5)
        kept = f"ppo-bench-quick/{name}" if quick else f"ppo-bench/{name}"
        self.kept = REPOSITORY / "runs" / kept
        self.kept.mkdir(parents=True, exist_ok=True)
        chat_digest = file_digest(chat_folder(folder) / "model.safetensors")
        self.heldout = heldout or self.kept / f"heldout_rm_{chat_digest[:8]}"
        self.identity = [
            chat_digest,
            file_digest(reward_folder(folder) / "model.safetensors"),
            tree_digest(REPOSITORY / "finllm_utils" / "rlhf"),
            self.cfg.ppo,
            self.cfg.reward,
            self.cfg.evals,
        ]

    def process(self, python: Path | str, target: str, *args: object) -> dict:
        """One run in a process of its own, with all cores unless the user says less."""
        cores = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
        env = {"OMP_NUM_THREADS": cores, "MKL_NUM_THREADS": cores}
        if self.device == "cpu":
            env["CUDA_VISIBLE_DEVICES"] = ""
        return call_in(python, f"tests.benchmarks.{target}", *args, **env)

    def once(self, arm: str, *args: object, also: object = (), **changes) -> dict:
        """An arm's row, or what an earlier, broken-off benchmark found.

        Args: also are other things that the row depends on; changes are overrides.
        """
        overrides = self.overrides | changes
        return kept_row(
            self.kept,
            [arm, list(map(str, args)), also, overrides, *self.identity],
            lambda: self.process(
                sys.executable, f"ppo_arms:{arm}", self.folder, self.profile,
                overrides, *args,
            ),
        )  # fmt: skip

    def contend(
        self, python: Path | str, name: str, seed: int, keep: bool, **ppo: object
    ) -> dict:
        """One training run of a contender; ``keep`` leaves it in ``policy_of``.

        Names other than a contender's are ours with settings of their own in ``ppo``.
        """
        cfg = load_profile(
            self.profile, self.overrides | {f"ppo.{k}": v for k, v in ppo.items()}
        )
        task = new_task(
            self.folder, cfg, self.prompts, device=self.device, dtype=self.dtype,
            seed=seed, save_to=str(self.policy_of(name, seed)) if keep else "",
        )  # fmt: skip
        today = time.strftime("%Y-%m-%d", time.gmtime())
        target = "ours" if name not in CONTENDERS else name
        return kept_row(
            self.kept,
            [name, seed, machine(), today, task, *self.identity],
            lambda: self.process(python, f"ppo_rivals:{target}", task),
        )

    def policy_of(self, name: str, seed: int) -> Path:
        """Where a contender's policy lies."""
        return self.kept / "policies" / f"{name}_{seed}"

    @cached_property
    def prompts(self) -> Path:
        """Training prompts, the same for every contender."""
        path, ppo = self.kept / "prompts.json", self.cfg.ppo
        number = ppo.num_updates * ppo.rollout_batch_size
        write_json(path, self.once("write_prompts", "train", number)["prompts"])
        return path

    def speed(self) -> Found:
        """Contenders in turn on the same task, a seed a round.

        Ratios are medians over the rounds' own ratios.
        """
        pythons = self._pythons()
        seeds = {name: count() for name in pythons}
        updates = self.cfg.ppo.num_updates if self.quick else SPEED_UPDATES
        rows = alternate(
            {
                name: lambda n=name, p=python: self.contend(
                    p, n, next(seeds[n]), False, num_updates=updates
                )
                for name, python in pythons.items()
            },
            self.rounds,
        )
        figures = {
            f"{key}_{name}": median(row[key] for row in found)
            for name, found in rows.items()
            for key in ("episodes_per_s", "episodes_per_cpu_s", "peak_rss_mb")
        }
        notes: dict[str, object] = {
            "rounds": self.rounds, "device": self.device, "dtype": self.dtype,
            "episodes": updates * self.cfg.ppo.rollout_batch_size,
            "rows": rows,
        }  # fmt: skip
        for name in CONTENDERS[1:]:
            if name in rows:
                figures |= compared(rows["ours"], rows[name], name)
        return figures, notes | ({} if "trl" in rows else {"trl": NO_RIVAL})

    def _pythons(self) -> dict[str, Path | str]:
        """The interpreter of each contender that can run here."""
        pythons: dict[str, Path | str] = {"ours": sys.executable}
        try:
            rival = rival_python("trl112", TRL_1_12)
        except (subprocess.CalledProcessError, OSError) as error:
            say(f"trl is left out: {error}")
            return pythons
        return pythons | dict.fromkeys(CONTENDERS[1:], rival)

    def _gain(self, name: str, seed: int) -> dict:
        """What a contender's policy gains on questions of ``valid``."""
        policy = self.policy_of(name, seed)
        return self.once(
            "policy_gain", policy, "valid", seed,
            also=file_digest(policy / "model.safetensors"),
            **{"runtime.dtype": self.dtype},
        )  # fmt: skip

    def _gained(self, name: str) -> dict[str, float]:
        """Medians over the rounds; ``name`` ends every key."""
        rows = [self._gain(name, seed) for seed in self.numbers]
        figures = {
            f"{short}_{name}": median(row[key] for row in rows)
            for short, key in (
                ("gain", "reward_gain_std"),
                ("gain_length_adjusted", "reward_gain_length_adjusted"),
                ("kl", "kl_nats"),
                ("length", "length_after"),
            )
        }
        per_nat = median(row["reward_gain_std"] / row["kl_nats"] for row in rows)
        return figures | {f"gain_per_nat_{name}": per_nat}

    def equal_kl(self) -> Found:
        """Gains of both, and of ours once its KL is trl's.

        Settings are tuned on ``valid`` and on the first seed; ours is the one tuned
        because it takes less time.
        """
        pythons = self._pythons()
        names = [name for name in CONTENDERS[:2] if name in pythons]
        for seed in self.numbers:
            for name in names:
                self.contend(pythons[name], name, seed, True)
        if "trl" not in names:
            return self._gained("ours"), {"trl": NO_RIVAL}
        figures = self._gained("ours") | self._gained("trl")
        first, wanted = self.cfg.ppo.kl_coef, self._gain("trl", 0)["kl_nats"]
        coef, tried = first, {first: self._gain("ours", 0)["kl_nats"]}
        while not close_enough(tried[coef], wanted) and len(tried) <= KL_TRIES:
            coef = next_coef(coef, tried[coef], wanted)
            self.contend(sys.executable, f"ours_{coef:.4g}", 0, True, kl_coef=coef)
            tried[coef] = self._gain(f"ours_{coef:.4g}", 0)["kl_nats"]
        coef = min(tried, key=lambda c: abs(tried[c] - wanted))
        name = "ours" if coef == first else f"ours_{coef:.4g}"
        for seed in self.numbers[1:] if name != "ours" else ():
            self.contend(sys.executable, name, seed, True, kl_coef=coef)
        matched = self._gained(name)
        figures |= {
            "gain_ours_at_equal_kl": matched[f"gain_{name}"],
            "kl_ours_at_equal_kl": matched[f"kl_{name}"],
            "gain_over_trl_at_equal_kl": matched[f"gain_{name}"] - figures["gain_trl"],
        }
        gains = {
            n: [self._gain(n, s) for s in self.numbers] for n in ("ours", "trl", name)
        }
        notes = {"kl_coef_tried": tried, "kl_coef_at_equal_kl": coef, "gains": gains}
        return figures, notes

    def seeds(self) -> Found:
        """08 with each seed on test questions, and what it does to plain text."""
        heard = self._heldout_judge()
        heldout = self.heldout if heard else ""
        digest = file_digest(heldout / "model.safetensors") if heard else ""
        before = self.once("chat_bits")
        rows = [
            self.once("ppo_seed", seed, heldout, also=digest) for seed in self.numbers
        ]
        figures = {
            key: median(row[key] for row in rows)
            for key in rows[0]
            if key not in before and key != "seconds"
        }
        for key, bits in before.items():
            change = median(row[key] / bits - 1 for row in rows)
            figures[key.replace("bpb_", "bpb_change_")] = change
        for key in figures.keys() & {"reward_gain_std", "heldout_rm_gain", "kl_nats"}:
            figures[f"{key}_low"] = min(row[key] for row in rows)
            figures[f"{key}_high"] = max(row[key] for row in rows)
        figures |= {f"heldout_rm_{kind}": heard[kind] for kind in KINDS if heard}
        notes = {"seeds": list(self.numbers), "rows": rows, "bpb_before": before}
        return figures, notes | {"split": "test", "heldout_rm": heard or NO_TRL}

    def _heldout_judge(self) -> dict[str, float]:
        """Accuracy of the judge that pays nobody; empty where none can be trained."""
        if not self.heldout.is_dir() and not find_spec("trl"):
            return {}
        return self.process(
            sys.executable, "ppo_arms:heldout_accuracy", self.folder, self.profile,
            self.overrides, self.heldout,
        )  # fmt: skip

    def reward_model(self) -> Found:
        """07 with each seed on the course's test pairs, beside the rules."""
        if not find_spec("trl"):
            return {}, {"left out": NO_TRL}
        rows = [self.once("reward_seed", seed) for seed in self.numbers]
        figures = {}
        for kind in KINDS:
            figures |= {
                f"rm_{key}": median(row[key] for row in rows)
                for key in (kind, f"{kind}_low")
            }
            right = [row.pop(f"{kind}_right") for row in rows]
            figures[f"rm_agreement_{kind}"] = agreement_across(right)
        baselines = self.once("reward_baselines")
        figures |= {f"rm_{key}": value for key, value in baselines.items()}
        return figures, {"seeds": list(self.numbers), "rows": rows}

    def disclosure(self) -> Found:
        """The task of learning to disclose risks, a run a seed."""
        rows = [self.once("disclosure", seed) for seed in self.numbers]
        figures = {key: median(row[key] for row in rows) for key in rows[0]}
        return figures, {"seeds": list(self.numbers), "rows": rows}


def run_parts(bench: Bench, parts: Sequence[str], name: str) -> None:
    """Runs the parts, prints them with their goals, writes a whole run's result."""
    figures, runs = {}, {}
    for part in parts:
        say(part)
        found, notes = getattr(bench, part)()
        figures |= found
        runs[part] = notes
    if figures:
        print_table(figures, GOALS)
    if bench.quick:
        print("a slice only: no result was written")
        return
    figures, runs = beside_earlier(name, figures, runs)
    known = versions("torch", "transformers")
    known |= dict([TRL_1_12[0].split("==")])
    print(write_result(name, f"make bench ONLY={name}", figures, runs, known))


def options(profile: str, run: str) -> argparse.Namespace:
    """What both benchmarks are asked; ends the program for a folder without 07."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--run", type=Path, default=REPOSITORY / "runs" / run)
    parser.add_argument("--profile", default=profile)
    parser.add_argument("--heldout-rm", type=Path, help="a judge that is not trained")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    asked.run = asked.run.resolve()
    if not (reward_folder(asked.run) / "stats.json").is_file():
        parser.error(
            f"{asked.run} holds no finished 07: run `finllm run --to 07` first"
        )
    return asked


def main() -> None:
    """Measures on the processor, in float32."""
    asked = options("toy", "toy")
    bench = Bench(
        "ppo_cpu", asked.run, asked.profile, device="cpu", dtype="float32",
        quick=asked.quick, heldout=asked.heldout_rm,
    )  # fmt: skip
    run_parts(bench, asked.parts, "ppo_cpu")


if __name__ == "__main__":
    main()
