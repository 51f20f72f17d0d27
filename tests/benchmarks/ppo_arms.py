"""What the benchmarks ``ppo_cpu`` and ``ppo_gpu`` run, each in a process of its own.

Every arm ends with ``report_back``. Its first three arguments are a run folder in which
the stages up to 07 are done, the profile's name and overrides of it. What an arm does
is what notebook 07 or 08 does, with another seed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from finllm_utils.config import Profile
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.splits import (
    HELDOUT_DOMAINS,
    heldout_documents,
    insurance_questions,
)
from finllm_utils.evals.bits_per_byte import bits_per_byte
from finllm_utils.model.load import load_model, load_tokenizer, save_model
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document, PreferencePair, read_records
from finllm_utils.rlhf import policy_report as measure
from finllm_utils.rlhf import preference_baselines as rules
from finllm_utils.rlhf import preferences
from finllm_utils.rlhf import reward_model as judge
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.ppo import train_ppo
from finllm_utils.rlhf.ptx import ptx_rows
from finllm_utils.rlhf.stored_reward import load_reward
from finllm_utils.rlhf.value_baselines import baseline_rows
from finllm_utils.rlhf.value_grades import read_grades, with_grades
from finllm_utils.rlhf.value_pairs import ALL, read_value_pairs, split_pairs
from finllm_utils.runtime import resolve_device, resolve_dtype
from tests.benchmarks.harness import report_back

COURSE_SEED = 0  # of the finished course; its pairs and samples
BATCH_TOKENS = 4096


def chat_folder(folder: Path | str) -> Path:
    """The chat model that PPO starts from."""
    return Path(folder) / "06_sft" / "sft2"


def reward_folder(folder: Path | str) -> Path:
    """The reward model that PPO is paid by."""
    return Path(folder) / "07_reward_model" / "reward_model"


def judge_folder(folder: Path | str) -> Path:
    """The second judge of 07, which pays nobody."""
    return Path(folder) / "07_reward_model" / "heldout_judge"


def ptx_text(folder: Path | str) -> Path:
    """The pre-training text that PPO sees beside its answers."""
    return Path(folder) / "05_sft_data" / "instructions" / "pretrain_text.jsonl"


def prompts_of(tokenizer, split: str, limit: int, cfg: Profile) -> list[list[int]]:
    """The first ``limit`` questions of a split that are short enough, as in 08."""
    asked = [q.zh for q in insurance_questions(split)[: 2 * limit]]
    ids = [judge.encode_prompt(tokenizer, question) for question in asked]
    return [i for i in ids if len(i) <= cfg.ppo.max_prompt_len][:limit]


@dataclass(frozen=True, slots=True)
class PairSets:
    """The pairs of 07; ``heldout`` are the test pairs by kind."""

    train: list[PreferencePair]
    fit: list[PreferencePair]  # those of ``train`` that show a value
    heldout: dict[str, list[PreferencePair]]


def pair_sets(cfg: Profile, seed: int) -> PairSets:
    """Test pairs as the course has them; training pairs as 07 draws them with ``seed``.

    Pairs of a user's own are none: no profile names any.
    """
    texts = {key: answer.zh for key, answer in insurance_answers().items()}
    unmatched = {"max_chars": cfg.reward.max_answer_chars, "seed": COURSE_SEED}
    matching = unmatched | {"tolerance": cfg.reward.length_tolerance}
    tests: list[PreferencePair] = []
    for split in ("valid", "test"):
        asked, limit = insurance_questions(split), cfg.reward.num_eval_pairs
        hard = preferences.hard_pairs(asked, texts, **matching)[:limit]
        far = preferences.random_pairs(asked, texts, **unmatched)[:limit]
        heldout = {"hard": hard, "random": far}
        tests += hard + far
    drawn = preferences.training_pairs(
        insurance_questions("train"),
        texts,
        num_pairs=cfg.reward.num_pairs,
        random_share=cfg.reward.random_share,
        banned=preferences.answer_ids(tests)
        | preferences.reserved_answers(texts, cfg.reward.judge_share, seed),
        **matching | {"seed": seed},
    )
    confirmed = with_grades(read_value_pairs(), read_grades()).confirmed
    fit, kept_out = split_pairs(confirmed)
    train, _ = preferences.without_leaks(
        drawn + cfg.reward.value_passes * fit, tests + kept_out
    )
    return PairSets(train, fit, heldout | {"values": kept_out})


def _trained_judge(folder: str, cfg: Profile, pairs: Sequence, seed: int):
    """A reward model as 07 trains it, and its tokenizer."""
    start = chat_folder(folder)
    tokenizer = load_tokenizer(start)
    model = judge.start_reward_model(start, tokenizer, seed, cfg.reward.readout)
    model.to(resolve_device(cfg.runtime.device))
    judge.train_reward_model(
        model,
        tokenizer,
        judge.encode_pairs(tokenizer, pairs, cfg.reward.max_seq_len),
        cfg.reward,
        seed=seed,
        dtype=cfg.runtime.dtype,
        margins=[pair.margin for pair in pairs],
    )
    return model, tokenizer


def reward_seed(folder: str, profile: str, overrides: dict, seed: int) -> None:
    """A reward model trained with ``seed``: its accuracy and margins of test pairs.

    That of the course's own seed and settings lies in the run and is not trained again.
    """
    cfg, began = load_profile(profile, overrides), time.monotonic()
    sets = pair_sets(cfg, seed)
    if seed == COURSE_SEED and not overrides:
        tokenizer = load_tokenizer(chat_folder(folder))
        device = resolve_device(cfg.runtime.device)
        model = load_reward(reward_folder(folder), tokenizer, device).model
    else:
        model, tokenizer = _trained_judge(folder, cfg, sets.train, seed)
    found: dict[str, object] = {"seconds": time.monotonic() - began}
    for kind, pairs in sets.heldout.items():
        encoded = judge.encode_pairs(tokenizer, pairs, cfg.reward.max_seq_len)
        margins = judge.pair_margins(model, encoded, batch_tokens=BATCH_TOKENS)
        share = rules.accuracy(margins)
        found[kind] = share
        found[f"{kind}_low"] = rules.wilson_bounds(share, len(pairs))[0]
        found[f"{kind}_margins"] = margins.tolist()
    report_back(found)


def reward_baselines(folder: str, profile: str, overrides: dict) -> None:
    """The rules that never read, on the same test pairs."""
    sets = pair_sets(load_profile(profile, overrides), COURSE_SEED)
    blind = rules.QuestionBlind(sets.train)
    found = {}
    for kind in ("hard", "random"):
        pairs = sets.heldout[kind]
        found[f"length_only_{kind}"] = rules.accuracy(rules.shorter_margins(pairs))
        found[f"question_blind_{kind}"] = rules.accuracy(blind.margins(pairs))
        found[f"overlap_{kind}"] = rules.accuracy(rules.overlap_margins(pairs))
    rows = [
        r for r in baseline_rows(sets.fit, sets.heldout["values"]) if r.value == ALL
    ]
    report_back(found | {f"{row.rule}_values": row.share for row in rows})


class Measured:
    """The chat model's samples on unseen prompts, and what another policy gains."""

    def __init__(self, folder: str, cfg: Profile, split: str, seed: int) -> None:
        self.cfg, self.device = cfg, resolve_device(cfg.runtime.device)
        self.dtype = getattr(torch, cfg.runtime.dtype)
        self.tokenizer = load_tokenizer(chat_folder(folder))
        self.reference = load_model(chat_folder(folder), device=self.device)
        self.reward, self.second_judge = (
            load_reward(place, self.tokenizer, self.device)
            for place in (reward_folder(folder), judge_folder(folder))
        )
        limit = cfg.ppo.num_eval_prompts
        self.prompts = prompts_of(self.tokenizer, split, limit, cfg)
        self.seed = seed
        self.before = self._sampled(self.reference, None)

    @property
    def special(self) -> dict[str, int]:
        """The ids that end and pad a response."""
        return {
            "eos_id": self.tokenizer.eos_token_id,
            "pad_id": self.tokenizer.pad_token_id,
        }

    def _sampled(self, policy, reference) -> measure.PolicySamples:
        return measure.sample_policy(
            policy,
            reference,
            self.reward,
            self.prompts,
            max_new_tokens=self.cfg.ppo.max_new_tokens,
            seed=self.seed + 1,
            dtype=self.dtype,
            **self.special,
        )

    def gain(self, policy) -> dict[str, float]:
        """What ``policy`` gains over the chat model, as 08 reports it."""
        before, after = self.before, self._sampled(policy, self.reference)
        heard = [
            measure.rewarded(samples, self.second_judge, self.prompts)
            for samples in (before, after)
        ]
        found = {
            "reward_gain_std": measure.reward_gain(before, after),
            "reward_gain_length_adjusted": measure.length_adjusted_gain(before, after),
            "heldout_rm_gain": measure.reward_gain(*heard),
            "heldout_rm_gain_length_adjusted": measure.length_adjusted_gain(*heard),
            "kl_nats": after.kl_nats.mean(),
        }
        for name, samples in (("before", before), ("after", after)):
            found |= {
                f"length_{name}": samples.lengths.mean(),
                f"eos_{name}": samples.ended.mean(),
                f"unique_{name}": samples.unique_ratio,
                f"repeated_{name}": samples.repeated_ratio,
            }
        return {key: float(value) for key, value in found.items()}


def policy_gain(
    folder: str, profile: str, overrides: dict, policy: str, split: str, seed: int
) -> None:
    """What a saved policy gains over the chat model on a split's questions."""
    found = Measured(folder, load_profile(profile, overrides), split, seed)
    report_back(found.gain(load_model(policy, device=found.device)))


def write_prompts(
    folder: str, profile: str, overrides: dict, split: str, limit: int
) -> None:
    """Prompts of a split, for contenders that cannot read the corpus."""
    tokenizer = load_tokenizer(chat_folder(folder))
    cfg = load_profile(profile, overrides)
    report_back({"prompts": prompts_of(tokenizer, split, limit, cfg)})


def ppo_seed(
    folder: str, profile: str, overrides: dict, seed: int, save_to: str
) -> None:
    """08 with ``seed``: gains on test questions, and bits per byte afterwards.

    The policy stays in ``save_to``.
    """
    cfg, began = load_profile(profile, overrides), time.monotonic()
    found = Measured(folder, cfg, "test", seed)
    policy = load_model(chat_folder(folder), device=found.device)
    limit = cfg.ppo.num_updates * cfg.ppo.rollout_batch_size
    train_ppo(
        policy,
        found.reference,
        Critic(found.reward.model, found.reward.stats),
        found.reward,
        prompts_of(found.tokenizer, "train", limit, cfg),
        cfg.ppo,
        seed=seed,
        dtype=found.dtype,
        ptx_rows=ptx_rows(
            found.tokenizer, read_records(ptx_text(folder), Document), cfg.ppo
        ),
        heldout_reward=found.second_judge,
        **found.special,
    )
    seconds = time.monotonic() - began
    gained = found.gain(policy)  # in float32 weights, as 08: _bits casts them
    save_model(policy, found.tokenizer, save_to)
    bits = _bits(policy, found.tokenizer, cfg)
    report_back(gained | bits | {"seconds": seconds})


def chat_bits(folder: str, profile: str, overrides: dict) -> None:
    """Bits per byte of the chat model."""
    cfg, start = load_profile(profile, overrides), chat_folder(folder)
    model = load_model(start, device=resolve_device(cfg.runtime.device))
    report_back(_bits(model, load_tokenizer(start), cfg))


def _bits(model, tokenizer, cfg: Profile) -> dict[str, float]:
    """By domain, in the precision of 08; the model itself is cast."""
    model.to(resolve_dtype(cfg.runtime.dtype))
    return {
        f"bpb_{domain}": bits_per_byte(
            model,
            tokenizer,
            heldout_documents(domain)[: cfg.evals.max_documents],
            window=cfg.pretrain2.seq_len,
            batch_tokens=cfg.evals.batch_tokens,
            num_bootstrap=10,
            seed=0,
        ).value
        for domain in HELDOUT_DOMAINS
    }


def disclosure(
    folder: str, profile: str, overrides: dict, seed: int, num_updates: int
) -> None:
    """The task of learning to disclose risks, from the chat model.

    Args: num_updates 0 is the task's own number.
    """
    from finllm_utils.rlhf.disclosure_task import run_disclosure_task, task_settings

    cfg = task_settings(load_profile(profile, overrides))
    if num_updates:
        cfg = replace(cfg, ppo=replace(cfg.ppo, num_updates=num_updates))
    found = run_disclosure_task(chat_folder(folder), cfg, seed=seed)
    report_back(found.figures)
