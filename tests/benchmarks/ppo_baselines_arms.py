"""PPO beside DPO, RLOO and GRPO of trl: a part of the benchmark ``ppo_cpu``.

``baselines(bench)`` is the part; the functions above it run in processes of their own
on a finished course and end with ``report_back``. All start from ``sft2`` and see the
same prompts, pairs, reward model and optimiser. Two budgets are compared: as many
answers as PPO, and as many seconds. Learning rates are chosen on `valid` questions.
"""

import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Protocol

import numpy as np
import torch

from finllm_utils.config import Profile
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.splits import (
    HELDOUT_DOMAINS,
    heldout_documents,
    insurance_questions,
)
from finllm_utils.evals.bits_per_byte import bits_per_byte, spread_sample
from finllm_utils.model.load import load_model, load_tokenizer
from finllm_utils.profiles import load_profile
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf import preference_trainers as trainers
from finllm_utils.rlhf import preferences
from finllm_utils.rlhf import reward_model as judge
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.policy_report import PolicySamples, length_slope, sample_policy
from finllm_utils.rlhf.ppo import RewardFunction, train_ppo
from finllm_utils.rlhf.preference_baselines import accuracy, overlap_margins
from finllm_utils.rlhf.reward_signal import read_stats
from finllm_utils.rlhf.value_grades import read_grades, with_grades
from finllm_utils.rlhf.value_pairs import read_value_pairs, split_pairs
from tests.benchmarks.harness import call_in, measured, report_back

RATES = {
    "rloo": (1e-4, 3e-4, 1e-3),
    "grpo": (1e-4, 3e-4, 1e-3),
    "dpo": (3e-5, 1e-4, 3e-4),
}
SEARCH_UPDATES = 6
UNLIMITED = 100_000  # updates of a run that the clock ends
TRAIN_SEED = 0  # as the notebooks'
SAMPLE_SEED = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One run of one method."""

    method: str  # sft2 (no training), ppo, rloo, grpo or dpo
    split: str  # of the insurance questions that are answered afterwards
    num_prompts: int
    num_updates: int  # rollouts; steps of DPO
    learning_rate: float = 0.0  # 0: of the profile
    max_seconds: float = 0.0
    num_documents: int = 0  # a domain, for bits per byte
    seed: int = TRAIN_SEED


class Course:
    """What a finished run folder gives to every arm."""

    def __init__(self, folder: str, profile: str) -> None:
        self.cfg: Profile = load_profile(profile, {"runtime.device": "cpu"})
        self.chat = Path(folder) / "06_sft" / "sft2"
        self.reward_folder = Path(folder) / "07_reward_model" / "reward_model"
        self.tokenizer = load_tokenizer(self.chat)
        self.special = {
            "eos_id": self.tokenizer.eos_token_id,
            "pad_id": self.tokenizer.pad_token_id,
        }
        self.dtype = getattr(torch, self.cfg.runtime.dtype)

    def prompts(self, split: str, number: int) -> list[list[int]]:
        """As notebook 08 takes them."""
        asked = [q.zh for q in insurance_questions(split)[: 2 * number]]
        ids = [judge.encode_prompt(self.tokenizer, text) for text in asked]
        return [i for i in ids if len(i) <= self.cfg.ppo.max_prompt_len][:number]

    def scorer(self, folder: Path | str) -> RewardFunction:
        """Raw scores of the reward model in ``folder``."""
        return partial(
            judge.score_sequences,
            judge.load_reward_model(folder),
            batch_tokens=4096,
            close_with=self.special["eos_id"],
        )

    @cached_property
    def reward(self) -> RewardFunction:
        """The reward that PPO is paid, in standard deviations of the chat model's."""
        stats = read_stats(self.reward_folder / "stats.json")
        return stats.normalised(self.scorer(self.reward_folder))

    @cached_property
    def matching(self) -> dict:
        """How notebook 07 matches the two answers of a pair, and which it never uses."""
        cfg = self.cfg.reward
        cut = {"max_chars": cfg.max_answer_chars, "seed": TRAIN_SEED}
        held = []
        for split in ("valid", "test"):
            asked = insurance_questions(split)
            hard = preferences.hard_pairs(
                asked, _texts(), tolerance=cfg.length_tolerance, **cut
            )
            far = preferences.random_pairs(asked, _texts(), **cut)
            held += hard[: cfg.num_eval_pairs] + far[: cfg.num_eval_pairs]
        banned = preferences.answer_ids(held)
        return cut | {"tolerance": cfg.length_tolerance, "banned": banned}

    def insurance_pairs(self, questions: tuple, **changes: object):
        """Training pairs of these questions, as notebook 07 makes them."""
        cfg = self.cfg.reward
        return preferences.training_pairs(
            questions, _texts(), num_pairs=cfg.num_pairs,
            random_share=cfg.random_share, **self.matching | changes,
        )  # fmt: skip

    def pairs(self) -> list[PreferencePair]:
        """The pairs that the course's reward model was trained on."""
        graded = with_grades(read_value_pairs(), read_grades())
        values = self.cfg.reward.value_passes * split_pairs(graded.confirmed)[0]
        return self.insurance_pairs(insurance_questions("train")) + values


def _texts() -> dict[str, str]:
    return {key: answer.zh for key, answer in insurance_answers().items()}


def heldout_judge(folder: str, profile: str, into: str, number: int) -> None:
    """A reward model that no method is paid by: other questions, another seed.

    Reports its accuracy on hard pairs of `valid` beside that of word overlap.
    """
    course, seed = Course(folder, profile), TRAIN_SEED + 1
    used = {p.id.partition("|")[0] for p in course.pairs()}
    others = tuple(q for q in insurance_questions("train") if q.id not in used)
    cfg, began = replace(course.cfg.reward, num_pairs=number), time.monotonic()
    course.cfg = replace(course.cfg, reward=cfg)
    pairs = course.insurance_pairs(others, seed=seed)
    model = judge.start_reward_model(
        course.chat, course.tokenizer, seed, cfg.query_scale, cfg.readout
    )
    encoded = judge.encode_pairs(course.tokenizer, pairs, cfg.max_seq_len)
    judge.train_reward_model(
        model, course.tokenizer, encoded, cfg, seed=seed, dtype=course.cfg.runtime.dtype
    )
    judge.save_reward_model(model, course.tokenizer, into)
    seconds = time.monotonic() - began
    asked = insurance_questions("valid")
    hard = preferences.hard_pairs(asked, _texts(), **course.matching | {"banned": ()})
    hard = hard[: cfg.num_eval_pairs]
    held = judge.encode_pairs(course.tokenizer, hard, cfg.max_seq_len)
    margins = judge.pair_margins(model, held, batch_tokens=4096)
    report_back({
        "accuracy": accuracy(margins), "overlap": accuracy(overlap_margins(hard)),
        "pairs": len(pairs), "seconds": seconds,
    })  # fmt: skip


def arm(folder: str, profile: str, other_judge: str, asked: dict) -> None:
    """One method, trained and measured on unseen questions with one set of seeds."""
    course, asked = Course(folder, profile), Asked(**asked)
    policy, row = train(course, asked)
    reference = load_model(course.chat)
    prompts = course.prompts(asked.split, asked.num_prompts)
    samples = sample_policy(
        policy, reference, course.reward, prompts, seed=SAMPLE_SEED,
        max_new_tokens=course.cfg.ppo.max_new_tokens, dtype=course.dtype,
        **course.special,
    )  # fmt: skip
    row |= sample_figures(course, prompts, samples)
    if other_judge:
        whole = [[*p, *r] for p, r in zip(prompts, samples.responses, strict=True)]
        scores = course.scorer(other_judge)(whole)
        row |= {"heldout": scores.mean(), "heldout_std": scores.std()}
    for domain in HELDOUT_DOMAINS if asked.num_documents else ():
        row[f"bpb.{domain}"] = bits_per_byte(
            policy, course.tokenizer,
            spread_sample(heldout_documents(domain), asked.num_documents),
            window=course.cfg.pretrain2.seq_len, num_bootstrap=10, seed=0,
            batch_tokens=course.cfg.evals.batch_tokens,
        ).value  # fmt: skip
    report_back({key: float(value) for key, value in row.items()})


def train(course: Course, asked: Asked):
    """The policy of the asked method, and what its training cost."""
    cfg = replace(course.cfg.ppo, num_updates=asked.num_updates)
    rate = asked.learning_rate or cfg.learning_rate
    cfg = replace(cfg, learning_rate=rate)
    if asked.method == "sft2":
        return load_model(course.chat), {}
    prompts = course.prompts(
        "train", course.cfg.ppo.num_updates * cfg.rollout_batch_size
    )
    pairs = course.pairs() if asked.method == "dpo" else []
    rows = trainers.pair_rows(course.tokenizer, pairs, course.cfg.reward.max_seq_len)
    budget = trainers.Budget(
        seed=asked.seed, max_seconds=asked.max_seconds, runtime=course.cfg.runtime
    )
    given = (course.chat, course.tokenizer)
    with measured() as row:
        if asked.method == "ppo":
            policy, seconds, steps = train_with_ppo(course, prompts, cfg, asked.seed)
        else:
            if asked.method == "dpo":
                found = trainers.train_dpo(
                    *given, rows, cfg, budget, num_steps=asked.num_updates
                )
            else:
                method = {"rloo": trainers.train_rloo, "grpo": trainers.train_grpo}
                found = method[asked.method](
                    *given, course.reward, prompts, cfg, budget
                )
            policy, seconds, steps = found.policy, found.seconds, found.num_steps
    per_rollout = cfg.num_ppo_epochs * cfg.num_mini_batches
    rollouts = steps if asked.method == "dpo" else -(-steps // per_rollout)
    return policy, {
        "train_s": seconds, "train_cpu_s": row["cpu_s"], "steps": steps,
        "samples": rollouts * cfg.rollout_batch_size,
    }  # fmt: skip


def train_with_ppo(course: Course, prompts: list, cfg, seed: int):
    """Policy, seconds and optimiser steps of our loop."""
    policy, reference = (load_model(course.chat) for _ in range(2))
    stats = read_stats(course.reward_folder / "stats.json")
    critic = Critic(judge.load_reward_model(course.reward_folder), stats)
    reward, began = course.reward, time.monotonic()
    history = train_ppo(
        policy, reference, critic, reward, prompts, cfg, seed=seed,
        dtype=course.dtype, **course.special,
    )  # fmt: skip
    seconds = time.monotonic() - began
    return policy, seconds, len(history) * cfg.num_ppo_epochs * cfg.num_mini_batches


def sample_figures(
    course: Course, prompts: list[list[int]], samples: PolicySamples
) -> dict[str, float]:
    """Reward, KL and what rules see: ends, length, variety, repeats, words asked."""
    read = partial(course.tokenizer.decode, skip_special_tokens=True)
    said = [
        PreferencePair(
            id=str(i), prompt=read(p), chosen=read(r), rejected="", source="policy"
        )
        for i, (p, r) in enumerate(zip(prompts, samples.responses, strict=True))
    ]
    rewards = samples.rewards
    return {
        "reward": rewards.mean(), "reward_std": rewards.std(),
        "reward_error": rewards.std() / len(rewards) ** 0.5,
        "length_slope": length_slope(samples), "kl": samples.kl_nats.mean(),
        "length": samples.lengths.mean(), "ended": samples.ended.mean(),
        "unique": samples.unique_ratio, "repeated": samples.repeated_ratio,
        "overlap": float(np.mean(overlap_margins(said))),
    }  # fmt: skip


class Bench(Protocol):
    """What the part needs of the benchmark."""

    folder: Path  # a finished course
    profile: str
    quick: bool
    kept: Path  # where the second judge is written


def baselines(bench: Bench) -> tuple[dict[str, float], dict[str, object]]:
    """The table: one row a method and budget, and the search of learning rates."""
    other = bench.kept / "heldout_judge"
    size = {"num_prompts": 16, "num_documents": 2} if bench.quick else {
        "num_prompts": 256, "num_documents": 100,
    }  # fmt: skip
    cfg = load_profile(bench.profile)
    updates = 2 if bench.quick else cfg.ppo.num_updates
    pairs = 64 if bench.quick else cfg.reward.num_pairs
    made = _call(bench, "heldout_judge", str(other), pairs)
    rates, searched = search(bench)

    def one(method: str, num_updates: int = updates, max_seconds: float = 0) -> dict:
        asked = Asked(
            method=method, split="test", num_updates=num_updates,
            learning_rate=rates.get(method, 0.0), max_seconds=max_seconds, **size,
        )  # fmt: skip
        return _call(bench, "arm", str(other), asdict(asked))

    rows = {name: one(name) for name in ("sft2", "ppo", "rloo", "grpo")}
    seconds = rows["ppo"]["train_s"]
    for name in ("rloo", "grpo", "dpo"):
        rows[f"{name}_time"] = one(name, UNLIMITED, seconds)
    figures = {}
    for name, row in rows.items():
        found = gains(rows["sft2"], row)
        figures |= {f"baseline.{name}.{key}": value for key, value in found.items()}
    return figures, {
        "rows": rows, "heldout judge": made, "learning rates": rates,
        "search on valid": searched, "unseen prompts": size["num_prompts"],
        "_time": "stopped after PPO's seconds", "seeds": [TRAIN_SEED],
        "answers to a prompt": "1 of PPO, 4 of RLOO and GRPO",
    }  # fmt: skip


def search(bench: Bench) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The rate of each method with the best reward less ``kl_coef`` x KL on `valid`.

    Short runs; the objective is what all of them are given to raise.
    """
    updates, number = (1, 16) if bench.quick else (SEARCH_UPDATES, 128)
    kl_coef = load_profile(bench.profile).ppo.kl_coef
    found: dict[str, dict[str, float]] = {}
    for method, rates in RATES.items():
        steps = 8 * updates if method == "dpo" else updates
        found[method] = {}
        for rate in rates[:1] if bench.quick else rates:
            asked = Asked(
                method=method, split="valid", num_prompts=number, num_updates=steps,
                learning_rate=rate,
            )  # fmt: skip
            row = _call(bench, "arm", "", asdict(asked))
            found[method][f"{rate:g}"] = row["reward"] - kl_coef * row["kl"]
    best = {m: float(max(rows, key=rows.get)) for m, rows in found.items()}
    return best, found


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


def _call(bench: Bench, function: str, *args: object) -> dict:
    """One arm in a process of its own, with all cores."""
    cores = str(os.cpu_count())
    return call_in(
        sys.executable, f"tests.benchmarks.ppo_baselines_arms:{function}",
        bench.folder, bench.profile, *args,
        OMP_NUM_THREADS=cores, MKL_NUM_THREADS=cores,
    )  # fmt: skip
