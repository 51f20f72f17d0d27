"""Benchmark ``ppo_cpu``: what PPO gains and costs, beside trl 1.12's PPOTrainer.

``python -m tests.benchmarks.ppo_cpu`` needs a finished toy course (``make course``).
``speed`` takes the same updates with ours and with trl in turn, five rounds, and
compares episodes a second and memory. ``equal_kl`` trains longer with both and compares
the reward gained at the KL spent, on questions of the split ``valid``. Both are without
pre-training text, which trl's trainer has not. ``seeds`` is 08 with three seeds,
measured on ``test`` and by 07's second judge; ``accept`` gives 08's verdict on each of
these policies, ``raters`` what recorded raters said of such answers. ``reward_model``
is 07 with three seeds beside the rules that never read. ``disclosure`` is the task of
learning to disclose risks; ``baselines`` sets PPO beside other methods. It writes
``results/ppo_cpu.json``; ``--quick`` tries everything on a slice and writes nothing;
``--parts`` chooses.

Runs are processes of their own. What is finished is kept under ``runs/ppo-bench``,
timed runs for the day and the machine only: the same command goes on where it was
stopped, and measures anew when the models, the profile or the code of
``finllm_utils/rlhf`` change, or when that folder is removed.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from statistics import median

from finllm_utils.dependencies import REPOSITORY
from finllm_utils.files import file_digest, read_json, tree_digest, write_json
from finllm_utils.profiles import load_profile
from finllm_utils.rlhf.seed_agreement import seed_agreement
from tests.benchmarks.harness import (
    alternate,
    call_in,
    kept_row,
    machine,
    print_table,
    rival_python,
    say,
    today,
)
from tests.benchmarks.ppo_accept_arms import HACKED, recorded_raters, summary
from tests.benchmarks.ppo_arms import (
    chat_folder,
    judge_folder,
    ptx_text,
    reward_folder,
)
from tests.benchmarks.ppo_contract_rivals import TRL_1_12
from tests.benchmarks.ppo_equal_kl_rivals import NO_PTX, NO_RIVAL, equal_kl
from tests.benchmarks.ppo_rivals import CONTENDERS, compared, new_task
from tests.benchmarks.runner import Found, course_parser, publish, run_parts

PARTS = (
    "speed", "equal_kl", "seeds", "accept", "raters", "reward_model", "disclosure",
    "baselines",
)  # fmt: skip
SEEDS = (0, 1, 2)
KINDS = ("hard", "random", "values")
SPEED_UPDATES, RIVAL_UPDATES = 2, 10  # of a round of speed, of a run of equal_kl
NO_TRL = "trl, which trains reward models, is not installed here"
GOALS = {
    "ratio_to_trl": ">= 2", "memory_ratio_to_trl": "<= 1",
    "reward_gain_std": ">= 0.8", "kl_nats": "<= 10", "reward_gain_length_adjusted": "> 0",
    "heldout_rm_gain": "> 0", "heldout_rm_gain_length_adjusted": "> 0",
    "bpb_change_general_zh": "<= 0.02", "bpb_change_finance_zh": "<= 0.02",
    "bpb_change_english": "<= 0.02", "rm_hard_low": "> 0.5", "rm_values": ">= 0.8",
    "disclosure_before": "< 0.5", "disclosure_after": "> 0.9",
    "disclosure_seconds": "< 90",
    "gain_over_trl_at_equal_kl": ">= 0", "accept.verdict": ">= 0",
    "accept.safety_gain": "> 0", "accept.helpfulness_gain": "> 0",
    "accept.stability_gain": "> 0", HACKED: ">= 1",
}  # fmt: skip
QUICK = {
    "ppo.num_updates": 2, "ppo.rollout_batch_size": 4, "ppo.num_mini_batches": 2,
    "ppo.max_new_tokens": 8, "ppo.num_eval_prompts": 8, "evals.max_documents": 2,
    "evals.num_accept_items": 24,  # a verdict asks for 20
    "reward.num_pairs": 32, "reward.num_eval_pairs": 16, "reward.value_passes": 0,
    "reward.batch_size": 16,
}  # fmt: skip
"""A slice of everything, of any profile."""


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
        num_seeds: int = len(SEEDS),
    ) -> None:
        self.folder, self.profile, self.quick = folder, profile, quick
        self.device, self.dtype = device, dtype
        self.overrides = QUICK if quick else {}
        self.cfg = load_profile(profile, self.overrides)
        self.numbers, self.rounds = (
            SEEDS[: 2 if quick else num_seeds],
            1 if quick else 5,
        )
        kept = f"ppo-bench-quick/{name}" if quick else f"ppo-bench/{name}"
        self.kept = REPOSITORY / "runs" / kept
        self.kept.mkdir(parents=True, exist_ok=True)
        weights = [f(folder) for f in (chat_folder, reward_folder, judge_folder)]
        self.identity = [
            *(file_digest(place / "model.safetensors") for place in weights),
            *(file_digest(place / "stats.json") for place in weights[1:]),
            file_digest(ptx_text(folder)),
            tree_digest(REPOSITORY / "finllm_utils" / "rlhf"),
            self.cfg.ppo,
            self.cfg.reward,
            self.cfg.evals,
        ]
        key = hashlib.sha256(repr(self.identity).encode()).hexdigest()[:8]
        self.policies = self.kept / "policies" / key
        self.spent: dict[str, float] = {}

    def process(self, python: Path | str, target: str, *args: object) -> dict:
        """One run in a process of its own, with all cores unless the user says less."""
        cores = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
        env = {"OMP_NUM_THREADS": cores, "MKL_NUM_THREADS": cores}
        if self.device == "cpu":
            env["CUDA_VISIBLE_DEVICES"] = ""
        began = time.monotonic()
        row = call_in(python, f"tests.benchmarks.{target}", *args, **env)
        return row | {"process_s": time.monotonic() - began}

    def row(self, asked: list, python: Path | str, target: str, *args: object) -> dict:
        """What a process reports, or reported before; its seconds count for the part.

        Args: asked is all that the row depends on, see ``kept_row``.
        """
        found = kept_row(self.kept, asked, lambda: self.process(python, target, *args))
        self.spent[repr(asked)] = found.pop("process_s")
        return found

    def once(self, arm: str, *args: object, also: object = (), **changes) -> dict:
        """An arm's row; ``also`` are other things that it depends on.

        Args: arm is a function of ``ppo_arms`` unless it names its module; changes are
        overrides.
        """
        target = arm if ":" in arm else f"ppo_arms:{arm}"
        overrides = self.overrides | changes
        return self.row(
            [arm, list(map(str, args)), also, overrides, *self.identity],
            sys.executable, target, self.folder, self.profile, overrides, *args,
        )  # fmt: skip

    def contend(
        self, python: Path | str, name: str, seed: int, keep: bool, **ppo: object
    ) -> dict:
        """One training run of a contender; ``keep`` leaves it in ``policy_of``.

        Names other than a contender's are ours with settings of their own in ``ppo``.
        """
        changed = {f"ppo.{key}": value for key, value in ppo.items()}
        cfg = load_profile(self.profile, self.overrides | NO_PTX | changed)
        task = new_task(
            self.folder, cfg, self.prompts, device=self.device, dtype=self.dtype,
            seed=seed, save_to=str(self.policy_of(name, seed)) if keep else "",
        )  # fmt: skip
        target = "ours" if name not in CONTENDERS else name
        asked = [name, seed, machine(), today(), task, *self.identity]
        return self.row(asked, python, f"ppo_rivals:{target}", task)

    def policy_of(self, name: str, seed: int) -> Path:
        """Where a contender's policy lies."""
        return self.policies / f"{name}_{seed}"

    @cached_property
    def prompts(self) -> Path:
        """Training prompts, the same for every contender."""
        path = self.kept / "prompts.json"
        number = self.rival_updates * self.cfg.ppo.rollout_batch_size
        write_json(path, self.once("write_prompts", "train", number)["prompts"])
        return path

    @property
    def rival_updates(self) -> int:
        """Of a run of ``equal_kl``; at most as long as 08."""
        return min(RIVAL_UPDATES, self.cfg.ppo.num_updates)

    def speed(self) -> Found:
        """Contenders in turn on the same task, a seed a round.

        Ratios are medians over the rounds' own ratios.
        """
        pythons = self._pythons()
        seeds = {name: count() for name in pythons}
        updates = min(SPEED_UPDATES, self.rival_updates)
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
            "updates": updates, "rows": rows,
            "episodes": updates * self.cfg.ppo.rollout_batch_size, **NO_PTX,
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

    def equal_kl(self) -> Found:
        """Gains of ours and of trl at the KL that trl spends."""
        return equal_kl(self, self._pythons())

    def seeds(self) -> Found:
        """08 with each seed on test questions, and what it does to plain text."""
        before = self.once("chat_bits")
        rows = [self._seed(seed) for seed in self.numbers]
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
        report = read_json(reward_folder(self.folder).parent / "report.json")
        judged = {k: v for k, v in report.items() if "judge" in k}
        notes = {"seeds": list(self.numbers), "rows": rows, "bpb_before": before}
        return figures, notes | {"split": "test", "second judge, from 07": judged}

    def _seed(self, seed: int) -> dict:
        """08 with ``seed``; its policy stays in ``policy_of("seed", seed)``."""
        return self.once("ppo_seed", seed, self.policy_of("seed", seed))

    def accept(self) -> Found:
        """08's verdict on the policy of each seed; of the first, on a hacked one too.

        The policies are those of ``seeds``, trained now where they are not yet.
        """
        for seed in self.numbers:
            self._seed(seed)
        self.spent.clear()  # their seconds belong to seeds
        rows = []
        for seed in self.numbers:
            policy = self.policy_of("seed", seed)
            also = [
                file_digest(policy / "model.safetensors"),
                tree_digest(REPOSITORY / "finllm_utils" / "evals"),
            ]
            hacked = seed == self.numbers[0]
            asked = ("ppo_accept_arms:accept_seed", seed, policy, hacked)
            rows.append(self.once(*asked, also=also))
        figures, notes = summary(rows)
        return figures, {"seeds": list(self.numbers), **notes}

    def raters(self) -> Found:
        """Recorded blind verdicts on the answers before and after PPO."""
        return recorded_raters()

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
            margins = [row.pop(f"{kind}_margins") for row in rows]
            if len(rows) > 1:
                agreed = seed_agreement(dict(zip(self.numbers, margins, strict=True)))
                figures[f"rm_agreement_{kind}"] = agreed.mean_same_side
        baselines = self.once("reward_baselines")
        figures |= {f"rm_{key}": value for key, value in baselines.items()}
        return figures, {"seeds": list(self.numbers), "rows": rows}

    def disclosure(self) -> Found:
        """The task of learning to disclose risks, a run a seed."""
        updates = self.cfg.ppo.num_updates if self.quick else 0
        rows = [
            self.once("disclosure", seed, updates, **NO_PTX) for seed in self.numbers
        ]
        figures = {
            key: median(row[key] for row in rows)
            for key in rows[0]
            if key.startswith("disclosure")
        }
        return figures, {"seeds": list(self.numbers), "rows": rows}

    def baselines(self) -> Found:
        """PPO beside other methods, all without pre-training text."""
        from tests.benchmarks.ppo_baselines_arms import baselines

        began, plain = time.monotonic(), copy(self)
        plain.overrides = self.overrides | NO_PTX
        plain.cfg = load_profile(self.profile, plain.overrides)
        figures, notes = baselines(plain)
        self.spent["baselines"] = time.monotonic() - began
        return figures, notes | NO_PTX


def measure_parts(bench: Bench, parts: Sequence[str], name: str) -> None:
    """Runs the parts, prints them with their goals, writes a whole run's result."""

    def timed(part: str, figures: dict, notes: dict) -> dict:
        spent = round(sum(bench.spent.values()))
        bench.spent.clear()
        say(f"{part}: {spent} s in processes, kept ones among them")
        return notes | {"process_s": spent}

    figures, runs = run_parts(bench, parts, timed)
    if figures:
        print_table(figures, GOALS)
    packages = ("torch", "transformers", TRL_1_12[0])
    publish(name, (figures, runs), packages, quick=bench.quick, beside=True)


def options(profile: str, run: str, parts: Sequence[str] = PARTS) -> argparse.Namespace:
    """What both benchmarks are asked; ends the program for a folder without 07.

    Args: parts are those that run when none is named.
    """
    parser = course_parser("", PARTS, profile, run)
    parser.set_defaults(parts=parts)
    parser.add_argument("--seeds", type=int, choices=(1, 2, 3), default=len(SEEDS))
    asked = parser.parse_args()
    asked.run = asked.run.resolve()
    for place in (reward_folder(asked.run), judge_folder(asked.run)):
        if not (place / "stats.json").is_file():
            parser.error(
                f"{place} is missing, which notebook 07_reward_model writes: run "
                f"`finllm run --to 07` first, or name a finished course with --run"
            )
    return asked


def main() -> None:
    """Measures on the processor, in float32."""
    asked = options("toy", "toy")
    bench = Bench(
        "ppo_cpu", asked.run, asked.profile, device="cpu", dtype="float32",
        quick=asked.quick, num_seeds=asked.seeds,
    )  # fmt: skip
    measure_parts(bench, asked.parts, "ppo_cpu")


if __name__ == "__main__":
    main()
