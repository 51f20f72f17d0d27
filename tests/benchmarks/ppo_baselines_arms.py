"""PPO beside DPO, RLOO and GRPO of trl: a part of the benchmark ``ppo_cpu``.

``baselines(bench)`` is the part; ``arm`` runs in processes of its own on a finished
course and ends with ``report_back``. All methods start from ``sft2`` and see the same
prompts, pairs, reward model and optimiser. Two budgets are compared: as many answers as
PPO, and as many seconds, in which trl comes less far: it puts prompts and padding
through the output layer too. Learning rates are chosen on `valid` questions.
"""

import sys
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Protocol

import numpy as np

from finllm_utils.config import PPOConfig, Profile
from finllm_utils.corpora.splits import (
    HELDOUT_DOMAINS,
    heldout_documents,
)
from finllm_utils.evals.bits_per_byte import bits_per_byte, spread_sample
from finllm_utils.files import file_digest
from finllm_utils.model.load import load_model, load_tokenizer
from finllm_utils.profiles import load_profile
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf import policy_report as measure
from finllm_utils.rlhf import preference_trainers as trainers
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.ppo import train_ppo
from finllm_utils.rlhf.preference_baselines import overlap_margins
from finllm_utils.rlhf.stored_reward import StoredReward, load_reward
from finllm_utils.runtime import resolve_dtype
from tests.benchmarks.harness import (
    kept_row,
    machine,
    measured,
    report_back,
    versions,
)
from tests.benchmarks.ppo_arms import pair_sets, prompts_of

RATES = {"rloo": (3e-4, 1e-3), "grpo": (3e-4, 1e-3), "dpo": (1e-4, 3e-4)}
SEARCH_UPDATES = 3  # rollouts; DPO takes the optimiser steps of one
SEARCH_PROMPTS = 128
BPB_DOCUMENTS = 30  # a domain
UNLIMITED = 100_000  # updates of a run that the clock ends
TRAIN_SEED = 0  # the notebooks'
SAMPLE_SEED = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One run of one method."""

    method: str  # sft2 (no training), ppo, rloo, grpo or dpo
    split: str  # of the insurance questions that are answered afterwards
    num_prompts: int
    num_updates: int = 0  # rollouts; steps of DPO
    learning_rate: float = 0.0  # 0: of the profile
    max_seconds: float = 0.0
    num_documents: int = 0  # a domain, for bits per byte


class Course:
    """What a finished run folder gives to every method."""

    def __init__(self, folder: str, profile: str, overrides: dict) -> None:
        self.cfg: Profile = load_profile(profile, overrides)
        self.chat = Path(folder) / "06_sft" / "sft2"
        self.judges = Path(folder) / "07_reward_model"
        self.budget = trainers.Budget(seed=TRAIN_SEED, runtime=self.cfg.runtime)
        self.tokenizer = load_tokenizer(self.chat)
        self.asked_of_models = {
            "eos_id": self.tokenizer.eos_token_id,
            "pad_id": self.tokenizer.pad_token_id,
            "dtype": resolve_dtype(self.cfg.runtime.dtype),
        }

    def model(self):
        """The chat model, which every method starts from."""
        return load_model(self.chat, device=self.budget.device)

    def judge(self, name: str) -> StoredReward:
        """``reward_model``, which pays, or ``heldout_judge``, which only measures."""
        return load_reward(self.judges / name, self.tokenizer, self.budget.device)

    @cached_property
    def reward(self) -> StoredReward:
        """The reward that every method but DPO is paid."""
        return self.judge("reward_model")


def arm(folder: str, profile: str, overrides: dict, asked: dict) -> None:
    """One method, trained and measured on unseen questions with one set of seeds."""
    course, wanted = Course(folder, profile, overrides), Asked(**asked)
    policy, row = train(course, wanted)
    prompts = prompts_of(course.tokenizer, wanted.split, wanted.num_prompts, course.cfg)
    samples = measure.sample_policy(
        policy, course.model(), course.reward, prompts, seed=SAMPLE_SEED,
        max_new_tokens=course.cfg.ppo.max_new_tokens, **course.asked_of_models,
    )  # fmt: skip
    row |= sample_figures(course, prompts, samples)
    for domain in HELDOUT_DOMAINS if wanted.num_documents else ():
        row[f"bpb.{domain}"] = bits_per_byte(
            policy, course.tokenizer,
            spread_sample(heldout_documents(domain), wanted.num_documents),
            window=course.cfg.pretrain2.seq_len, num_bootstrap=10, seed=0,
            batch_tokens=course.cfg.evals.batch_tokens,
        ).value  # fmt: skip
    report_back({key: float(value) for key, value in row.items()})


def train(course: Course, asked: Asked):
    """The policy of the asked method, and what its training cost."""
    if asked.method == "sft2":
        return course.model(), {}
    ppo = course.cfg.ppo
    cfg = replace(
        ppo, num_updates=asked.num_updates,
        learning_rate=asked.learning_rate or ppo.learning_rate,
    )  # fmt: skip
    prompts = prompts_of(
        course.tokenizer, "train", ppo.num_updates * cfg.rollout_batch_size, course.cfg
    )
    budget = replace(course.budget, max_seconds=asked.max_seconds)
    given = (course.chat, course.tokenizer)
    steps, answers = cfg.num_ppo_epochs * cfg.num_mini_batches, cfg.rollout_batch_size
    if asked.method == "ppo":
        policy, row = train_with_ppo(course, prompts, cfg)
        return policy, row | {"samples": cfg.num_updates * answers}
    if asked.method == "dpo":
        longest = course.cfg.reward.max_seq_len
        steps, answers = 1, 2 * answers // cfg.num_mini_batches  # those of the pairs
        rows = trainers.pair_rows(
            course.tokenizer, pair_sets(course.cfg, TRAIN_SEED).train, longest
        )
        found = trainers.train_dpo(
            *given, rows, cfg, budget, num_steps=asked.num_updates
        )
    else:
        method = {"rloo": trainers.train_rloo, "grpo": trainers.train_grpo}
        found = method[asked.method](*given, course.reward, prompts, cfg, budget)
    return found.policy, {
        "train_s": found.seconds, "steps": found.num_steps,
        "samples": -(-found.num_steps // steps) * answers,
    }  # fmt: skip


def train_with_ppo(course: Course, prompts: list[list[int]], cfg: PPOConfig):
    """The policy of our loop, its seconds and optimiser steps."""
    policy, reward = course.model(), course.reward
    critic = Critic(reward.model, reward.stats)
    reference = course.model()
    with measured() as row:
        history = train_ppo(
            policy, reference, critic, reward, prompts, cfg, seed=TRAIN_SEED,
            **course.asked_of_models,
        )  # fmt: skip
    steps = len(history) * cfg.num_ppo_epochs * cfg.num_mini_batches
    return policy, {"train_s": row["wall_s"], "steps": steps}


def sample_figures(
    course: Course, prompts: list[list[int]], samples: measure.PolicySamples
) -> dict[str, float]:
    """Rewards, KL and what rules see: ends, length, variety, repeats, words asked."""
    read = partial(course.tokenizer.decode, skip_special_tokens=True)
    whole = [[*p, *r] for p, r in zip(prompts, samples.responses, strict=True)]
    said = [
        PreferencePair(
            id=str(i), prompt=read(p), chosen=read(r), rejected="", source="policy"
        )
        for i, (p, r) in enumerate(zip(prompts, samples.responses, strict=True))
    ]
    rewards, heldout = samples.rewards, course.judge("heldout_judge")(whole)
    return {
        "reward": rewards.mean(), "reward_std": rewards.std(),
        "heldout": heldout.mean(), "heldout_std": heldout.std(),
        "reward_error": rewards.std() / len(rewards) ** 0.5,
        "heldout_error": heldout.std() / len(heldout) ** 0.5,
        "length_slope": measure.length_slope(samples), "kl": samples.kl_nats.mean(),
        "length": samples.lengths.mean(), "ended": samples.ended.mean(),
        "unique": samples.unique_ratio, "repeated": samples.repeated_ratio,
        "overlap": float(np.mean(overlap_margins(said))),
    }  # fmt: skip


class Bench(Protocol):
    """What the part needs of the benchmark ``ppo_cpu``."""

    folder: Path  # a finished course
    profile: str
    overrides: dict[str, object]
    cfg: Profile
    kept: Path  # of finished rows
    identity: list[object]  # what every row depends on

    def process(self, python: Path | str, target: str, *args: object) -> dict:
        """One run in a process of its own."""
        ...


def baselines(bench: Bench) -> tuple[dict[str, float], dict[str, object]]:
    """The table: one row a method and budget, and the search of learning rates."""
    ppo, evals = bench.cfg.ppo, bench.cfg.evals
    rates, searched = search(bench)

    def one(method: str, updates: int = 0, seconds: float = 0.0) -> dict:
        return once(bench, Asked(
            method=method, split="test", num_prompts=ppo.num_eval_prompts,
            num_updates=updates or ppo.num_updates, max_seconds=seconds,
            learning_rate=rates.get(method, 0.0),
            num_documents=min(BPB_DOCUMENTS, evals.max_documents),
        ))  # fmt: skip

    rows = {name: one(name) for name in ("sft2", "ppo", "rloo", "grpo")}
    seconds = rows["ppo"]["train_s"]
    for name in ("rloo", "grpo", "dpo"):
        rows[f"{name}_time"] = one(name, UNLIMITED, seconds)
    figures = {}
    for name, row in rows.items():
        found = gains(rows["sft2"], row)
        figures |= {f"baseline.{name}.{key}": value for key, value in found.items()}
    return figures, {
        "rows": rows, "learning rates": rates, "search on valid": searched,
        "unseen prompts": ppo.num_eval_prompts, "split": "test",
        "_time": "stopped after PPO's seconds", "seeds": [TRAIN_SEED],
        "answers to a prompt": "1 of PPO, 4 of RLOO and GRPO",
    }  # fmt: skip


def search(bench: Bench) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The rate of each method with the best reward less ``kl_coef`` x KL on `valid`.

    Short runs; the objective is what all of them are given to raise. PPO's rate is the
    profile's.
    """
    ppo = bench.cfg.ppo
    found: dict[str, dict[float, float]] = {}
    for method, rates in RATES.items():
        found[method] = {}
        updates = min(SEARCH_UPDATES, ppo.num_updates)
        if method == "dpo":
            updates = ppo.num_ppo_epochs * ppo.num_mini_batches
        for rate in rates:
            row = once(bench, Asked(
                method=method, split="valid", learning_rate=rate,
                num_prompts=min(SEARCH_PROMPTS, ppo.num_eval_prompts),
                num_updates=updates,
            ))  # fmt: skip
            found[method][rate] = row["reward"] - ppo.kl_coef * row["kl"]
    best = {method: max(rows, key=rows.__getitem__) for method, rows in found.items()}
    return best, {
        method: {f"{rate:g}": value for rate, value in rows.items()}
        for method, rows in found.items()
    }


def once(bench: Bench, asked: Asked) -> dict:
    """The row of a run, or what an earlier, broken-off benchmark found."""
    heldout = bench.folder / "07_reward_model" / "heldout_judge" / "model.safetensors"
    depends = [machine(), versions("torch", "transformers", "trl"), bench.overrides]
    return kept_row(
        bench.kept,
        [asked.method, asked, *depends, file_digest(heldout), *bench.identity],
        lambda: bench.process(
            sys.executable, "ppo_baselines_arms:arm", bench.folder, bench.profile,
            bench.overrides, asdict(asked),
        ),
    )  # fmt: skip


def gains(before: dict, row: dict) -> dict[str, float]:
    """The columns of the table; gains in deviations of the chat model's answers."""
    longer = row["length"] - before["length"]
    gain = row["reward"] - before["reward"]
    adjusted = gain - before["length_slope"] * longer
    domains = [key for key in row if key.startswith("bpb.")]
    shown = ("kl", "length", "ended", "unique", "repeated", "overlap")
    return {
        "reward_gain_std": gain / before["reward_std"],
        "reward_gain_length_adjusted": adjusted / before["reward_std"],
        "heldout_rm_gain": (row["heldout"] - before["heldout"]) / before["heldout_std"],
        "bpb_change": fmean(row[d] / before[d] - 1 for d in domains),
        **{key: row[key] for key in shown},
        **{key: row[key] for key in ("train_s", "samples") if key in row},
    }  # fmt: skip
