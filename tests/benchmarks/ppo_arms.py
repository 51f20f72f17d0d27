"""What the benchmarks ``ppo_cpu`` and ``ppo_gpu`` run, each in a process of its own.

Every arm ends with ``report_back``. Its first three arguments are a run folder in which
the stages up to 07 are done, the profile's name and overrides of it. What an arm does
is what notebook 07 or 08 does, with another seed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from finllm_utils.config import Profile
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.splits import (
    HELDOUT_DOMAINS,
    heldout_documents,
    insurance_questions,
)
from finllm_utils.evals.bits_per_byte import bits_per_byte
from finllm_utils.files import atomic_folder
from finllm_utils.model.load import load_model, load_tokenizer
from finllm_utils.profiles import load_profile
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf import policy_report as measure
from finllm_utils.rlhf import preference_baselines as rules
from finllm_utils.rlhf import preferences
from finllm_utils.rlhf import reward_model as judge
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.ppo import train_ppo
from finllm_utils.rlhf.reward_signal import read_stats
from finllm_utils.rlhf.value_baselines import baseline_rows
from finllm_utils.rlhf.value_grades import read_grades, with_grades
from finllm_utils.rlhf.value_pairs import ALL, read_value_pairs, split_pairs
from finllm_utils.runtime import resolve_device, resolve_dtype
from tests.benchmarks.harness import report_back

COURSE_SEED = 0  # of the finished course; its pairs and samples
JUDGE_SEED = 101  # of the held-out judge: another draw, another start
BATCH_TOKENS = 4096


def chat_folder(folder: Path | str) -> Path:
    """The chat model that PPO starts from."""
    return Path(folder) / "06_sft" / "sft2"


def reward_folder(folder: Path | str) -> Path:
    """The reward model that PPO is paid by."""
    return Path(folder) / "07_reward_model" / "reward_model"


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
    """Test pairs as the course has them; training pairs drawn with ``seed``."""
    texts = {key: answer.zh for key, answer in insurance_answers().items()}
    heldout, banned = {}, frozenset()
    for split in ("valid", "test"):
        asked, limit = insurance_questions(split), cfg.reward.num_eval_pairs
        plain = {"max_chars": cfg.reward.max_answer_chars, "seed": COURSE_SEED}
        hard = preferences.hard_pairs(
            asked, texts, tolerance=cfg.reward.length_tolerance, **plain
        )[:limit]
        far = preferences.random_pairs(asked, texts, **plain)[:limit]
        heldout = {"hard": hard, "random": far}
        banned |= preferences.answer_ids(hard + far)
    confirmed = with_grades(read_value_pairs(), read_grades()).confirmed
    fit, kept_out = split_pairs(confirmed)
    train = _drawn(insurance_questions("train"), texts, cfg, seed, banned)
    return PairSets(
        train + cfg.reward.value_passes * fit, fit, heldout | {"values": kept_out}
    )


def _drawn(questions, texts, cfg: Profile, seed: int, banned) -> list[PreferencePair]:
    return preferences.training_pairs(
        questions,
        texts,
        num_pairs=cfg.reward.num_pairs,
        random_share=cfg.reward.random_share,
        max_chars=cfg.reward.max_answer_chars,
        tolerance=cfg.reward.length_tolerance,
        seed=seed,
        banned=banned,
    )


def _trained_judge(folder: str, cfg: Profile, pairs: Sequence, seed: int):
    """A reward model as 07 trains it, and its tokenizer."""
    start = chat_folder(folder)
    tokenizer = load_tokenizer(start)
    model = judge.start_reward_model(
        start, tokenizer, seed, cfg.reward.query_scale, cfg.reward.readout
    ).to(resolve_device(cfg.runtime.device))
    judge.train_reward_model(
        model,
        tokenizer,
        judge.encode_pairs(tokenizer, pairs, cfg.reward.max_seq_len),
        cfg.reward,
        seed=seed,
        dtype=cfg.runtime.dtype,
    )
    return model, tokenizer


def _margins(model, tokenizer, pairs: Sequence, cfg: Profile) -> np.ndarray:
    encoded = judge.encode_pairs(tokenizer, pairs, cfg.reward.max_seq_len)
    return judge.pair_margins(model, encoded, batch_tokens=BATCH_TOKENS)


def reward_seed(folder: str, profile: str, overrides: dict, seed: int) -> None:
    """A reward model trained with ``seed``: accuracy and which test pairs it gets."""
    cfg, began = load_profile(profile, overrides), time.monotonic()
    sets = pair_sets(cfg, seed)
    model, tokenizer = _trained_judge(folder, cfg, sets.train, seed)
    found: dict[str, object] = {"seconds": time.monotonic() - began}
    for kind, pairs in sets.heldout.items():
        margins = _margins(model, tokenizer, pairs, cfg)
        share = rules.accuracy(margins)
        found[kind] = share
        found[f"{kind}_low"] = rules.wilson_bounds(share, len(pairs))[0]
        found[f"{kind}_right"] = [int(m > 0) for m in margins]
    report_back(found)


def agreement_across(rows: Sequence[Sequence[int]]) -> float:
    """Share of pairs judged alike, the mean over every two judges.

    Args: rows holds, of each judge, 1 where it prefers the chosen answer, else 0.
    """
    both = [np.mean(np.equal(a, b)) for a, b in combinations(rows, 2)]
    return float(np.mean(both)) if both else 1.0


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


def heldout_judge(folder: str, cfg: Profile, place: Path) -> None:
    """Trains a reward model that PPO never sees and saves it in ``place``.

    It is asked about what the course's reward model was not: its pairs are of other
    training questions, drawn and trained with another seed.
    """
    texts = {key: answer.zh for key, answer in insurance_answers().items()}
    sets = pair_sets(cfg, COURSE_SEED)
    tested = [pair for kind in ("hard", "random") for pair in sets.heldout[kind]]
    asked = {pair.prompt for pair in sets.train}
    others = [q for q in insurance_questions("train") if q.zh not in asked]
    banned = preferences.answer_ids(tested)
    pairs = _drawn(others, texts, cfg, JUDGE_SEED, banned)
    model, tokenizer = _trained_judge(folder, cfg, pairs, JUDGE_SEED)
    with atomic_folder(place) as scratch:
        judge.save_reward_model(model, tokenizer, scratch)


def heldout_accuracy(folder: str, profile: str, overrides: dict, place: str) -> None:
    """Trains the held-out judge unless it lies in ``place``; how often it is right."""
    cfg, began = load_profile(profile, overrides), time.monotonic()
    if not Path(place).is_dir():
        heldout_judge(folder, cfg, Path(place))
    model = judge.load_reward_model(place).to(resolve_device(cfg.runtime.device))
    tokenizer = load_tokenizer(place)
    sets = pair_sets(cfg, COURSE_SEED)
    found = {
        kind: rules.accuracy(_margins(model, tokenizer, pairs, cfg))
        for kind, pairs in sets.heldout.items()
    }
    report_back(found | {"seconds": time.monotonic() - began})


class Measured:
    """The chat model's samples on unseen prompts, and what another policy gains."""

    def __init__(
        self, folder: str, cfg: Profile, split: str, seed: int, heldout: str = ""
    ) -> None:
        """``heldout`` is the folder of a judge that did not pay the policy, or none."""
        self.cfg, self.device = cfg, resolve_device(cfg.runtime.device)
        self.dtype = getattr(torch, cfg.runtime.dtype)
        self.tokenizer = load_tokenizer(chat_folder(folder))
        self.reference = load_model(chat_folder(folder), device=self.device)
        self.reward_model = judge.load_reward_model(reward_folder(folder))
        self.reward_model.to(self.device)
        self.stats = read_stats(reward_folder(folder) / "stats.json")
        self.reward = self.stats.normalised(self._score(self.reward_model))
        self.heldout = None
        if heldout:
            other = judge.load_reward_model(heldout).to(self.device)
            self.heldout = self._score(other)
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

    def _score(self, model):
        return partial(
            judge.score_sequences,
            model,
            batch_tokens=BATCH_TOKENS,
            close_with=self.tokenizer.eos_token_id,
        )

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
        found = {
            "reward_gain_std": measure.reward_gain(before, after),
            "reward_gain_length_adjusted": measure.length_adjusted_gain(before, after),
            "kl_nats": after.kl_nats.mean(),
        }
        for name, samples in (("before", before), ("after", after)):
            found |= {
                f"length_{name}": samples.lengths.mean(),
                f"eos_{name}": samples.ended.mean(),
                f"unique_{name}": samples.unique_ratio,
                f"repeated_{name}": samples.repeated_ratio,
            }
        if self.heldout:
            found["heldout_rm_gain"] = measure.reward_gain(
                self._judged(before), self._judged(after)
            )
        return {key: float(value) for key, value in found.items()}

    def _judged(self, samples: measure.PolicySamples) -> measure.PolicySamples:
        """The same responses with the held-out judge's scores."""
        whole = [
            prompt + response
            for prompt, response in zip(self.prompts, samples.responses, strict=True)
        ]
        return replace(samples, rewards=self.heldout(whole))


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
    folder: str, profile: str, overrides: dict, seed: int, heldout: str
) -> None:
    """08 with ``seed``: gains on test questions, and bits per byte afterwards."""
    cfg, began = load_profile(profile, overrides), time.monotonic()
    found = Measured(folder, cfg, "test", seed, heldout)
    policy = load_model(chat_folder(folder), device=found.device)
    train_ppo(
        policy,
        found.reference,
        Critic(found.reward_model, found.stats),
        found.reward,
        prompts_of(
            found.tokenizer,
            "train",
            cfg.ppo.num_updates * cfg.ppo.rollout_batch_size,
            cfg,
        ),
        cfg.ppo,
        seed=seed,
        dtype=found.dtype,
        **found.special,
    )
    seconds = time.monotonic() - began
    gained = found.gain(policy)  # in float32 weights, as 08: _bits casts them
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


def disclosure(folder: str, profile: str, overrides: dict, seed: int) -> None:
    """The task of learning to disclose risks, from the chat model."""
    from finllm_utils.rlhf.disclosure_task import run_disclosure_task

    report_back(run_disclosure_task(chat_folder(folder), seed=seed))
