"""A task with a known answer: PPO shall make a chat model add a risk disclosure.

PPO can only raise what is sampled at times, and the course's chat model never discloses
anything. So a warm start shows it a few dozen own answers (data_samples/disclosure),
a third of which end with one of four disclosures. From there PPO learns from
``rule_reward``, alone or with a reward model. Products and wordings of the unseen
questions occur nowhere in training. Benchmarks and an exercise of 08 call this.
"""

import copy
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.config import Profile
from finllm_utils.corpora.splits import insurance_questions
from finllm_utils.files import read_json
from finllm_utils.finance.compliance import disclosures
from finllm_utils.intervals import wilson_interval
from finllm_utils.model.load import load_model, load_tokenizer
from finllm_utils.records import ChatTurn, Instruction
from finllm_utils.rlhf.critic import fresh_critic
from finllm_utils.rlhf.policy_report import PolicySamples, sample_policy
from finllm_utils.rlhf.ppo import RewardFunction, train_ppo
from finllm_utils.rlhf.reward_model import encode_prompt
from finllm_utils.rlhf.reward_signal import RewardStats
from finllm_utils.rlhf.rule_reward import (
    RuleReward,
    answer_texts,
    combined,
    compliance_reward,
    discloses_risk,
    on_answers,
)
from finllm_utils.runtime import resolve_device
from finllm_utils.train.sft import conversation_rows
from finllm_utils.train.tuning import train_sft

DATA_FILES = ("data_samples/disclosure",)
TASK_FILE = Path(__file__).resolve().parents[2] / DATA_FILES[0] / "task.json"
ANSWERS_A_FACT = 3
NUM_ELSEWHERE = 64
NUM_SCALE = 128  # samples that give the reward its mean and deviation


@dataclass(frozen=True, kw_only=True, slots=True)
class DisclosureRun:
    """What the task found: figures for a table, answers to read."""

    figures: dict[str, float]
    questions: list[str]
    before: list[str]
    after: list[str]
    history: list[dict[str, float]]


def task_settings(cfg: Profile) -> Profile:
    """``cfg`` with the task's sections ``sft`` and ``ppo``, chosen at toy size.

    Chosen on the valid questions. The critic knows nothing at first, so what an answer
    is paid goes to all its tokens alike (``gae_lambda`` 1) and no critic is waited for.
    """
    return replace(
        cfg,
        sft=replace(
            cfg.sft,
            max_seq_len=128,
            micro_batch_size=2,
            grad_accum_steps=1,
            num_epochs=20,
            learning_rate=3e-3,
        ),
        ppo=replace(
            cfg.ppo,
            num_updates=34,
            rollout_batch_size=32,
            max_new_tokens=40,
            learning_rate=3e-4,
            critic_learning_rate=3e-4,
            num_ppo_epochs=2,
            num_mini_batches=4,
            gae_lambda=1.0,
            kl_coef=0.05,
            ptx_coef=0.0,
            reward_clip=5.0,
            missing_eos_penalty=1.0,
        ),
    )


def task_questions(split: str) -> list[str]:
    """The questions of ``train``, ``valid`` or ``test``: all products, all wordings.

    Those to train on hold the examples' too. They are many, since PPO needs no answers
    to them, and few questions asked often would be learnt by heart.
    """
    task = read_json(TASK_FILE)
    names, wordings = task["products"][split], task["questions"][split]
    if split == "train":
        names = [*task["facts"], *names]
        wordings = [*task["questions"]["examples"], *wordings]
    return [wording.format(name) for name, wording in product(names, wordings)]


def warm_start_examples() -> list[Instruction]:
    """Three short answers on each product, one of them ending with a disclosure."""
    task = read_json(TASK_FILE)
    wordings, endings = task["questions"]["examples"], task["disclosures"]
    found = []
    for number, (name, fact) in enumerate(task["facts"].items()):
        answers = [fact] * ANSWERS_A_FACT
        # its place moves on, or some wordings would always get a disclosure
        answers[number // 2 % ANSWERS_A_FACT] += endings[number % len(endings)]
        for answer in answers:
            question = wordings[len(found) % len(wordings)].format(name)
            found.append(
                Instruction(
                    id=f"disclosure/{len(found) + 1}",
                    messages=(
                        ChatTurn(role="user", content=question),
                        ChatTurn(role="assistant", content=answer),
                    ),
                    task="disclosure",
                    domain="finance",
                    source="disclosure",
                )
            )
    return found


def warm_start(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    cfg: Profile,
    seed: int,
) -> None:
    """Tunes ``model`` in place on the examples."""
    rows = conversation_rows(tokenizer, warm_start_examples(), cfg.sft.max_seq_len)
    train_sft(
        model,
        tokenizer,
        rows,
        cfg=cfg.sft,
        runtime=replace(cfg.runtime, dtype="float32"),  # bfloat16 learnt less
        learning_rate=cfg.sft.learning_rate,
        num_epochs=cfg.sft.num_epochs,
        seed=seed,
    )


def train_on_rules(
    policy: LlamaForCausalLM,
    reference: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    reward: RewardFunction,
    cfg: Profile,
    *,
    seed: int,
    on_update: Callable[[int, dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """PPO of ``policy`` on the training questions, in place; ``train_ppo``'s history.

    The reward is first put on the scale of the reference's samples, as a reward model's
    is: their mean is 0, which is also what the fresh critic begins with.
    """
    prompts = [encode_prompt(tokenizer, asked) for asked in task_questions("train")]
    how = {"eos_id": tokenizer.eos_token_id, "pad_id": tokenizer.pad_token_id}
    how |= {"seed": seed, "dtype": getattr(torch, cfg.runtime.dtype)}
    samples = sample_policy(
        reference,
        None,
        reward,
        random.Random(seed).sample(prompts, NUM_SCALE),
        max_new_tokens=cfg.ppo.max_new_tokens,
        **how,
    )
    scale = RewardStats(samples.rewards.mean(), samples.rewards.std())
    return train_ppo(
        policy,
        reference,
        fresh_critic(policy),
        lambda sequences: scale.normalise(reward(sequences)),
        prompts,
        cfg.ppo,
        on_update=on_update,
        **how,
    )


def task_reward(
    tokenizer: PreTrainedTokenizerBase,
    rules: RuleReward,
    model_reward: RewardFunction | None = None,
    model_weight: float = 0.0,
) -> RewardFunction:
    """The rules' reward of token sequences, with the model's where it has a weight."""
    by_rule = on_answers(tokenizer, rules)
    if not model_weight:
        return by_rule
    if model_reward is None:
        raise ValueError(
            f"model_weight={model_weight} needs a model_reward: give the normalised "
            "scores of 07's reward model, or set the weight to 0"
        )
    return combined(by_rule, model_reward, model_weight)


def run_disclosure_task(
    chat_model: Path | str,
    cfg: Profile,
    *,
    seed: int = 0,
    split: str = "test",
    model_reward: RewardFunction | None = None,
    model_weight: float = 0.0,
    on_update: Callable[[int, dict[str, float]], None] | None = None,
) -> DisclosureRun:
    """Warm start, samples, PPO with ``compliance_reward()``, samples again.

    Args: chat_model is a folder in Hugging Face format; cfg comes from
    ``task_settings``; model_reward gives normalised scores: they are measured, and
    count ``model_weight`` in training.
    Returns: figures ``disclosure_before`` and ``disclosure_after`` (shares of ``n``
    answers; ``_low`` and ``_high`` behind the name: 95% Wilson), ``disclosure_seconds``
    and ``disclosure_cpu_seconds`` of PPO alone, ``start_seconds`` of the warm start,
    ``disclosure_chat_model`` before it, and what ``_Report.measure`` names.
    """
    tokenizer, rules = load_tokenizer(chat_model), compliance_reward()
    policy = load_model(chat_model, device=resolve_device(cfg.runtime.device))
    asked = task_questions(split)
    report = _Report(tokenizer, cfg, rules, model_reward, asked, seed + 1)
    figures = {"n": float(len(asked)), "disclosure_chat_model": report.quick(policy)}
    begun = time.perf_counter()
    warm_start(policy, tokenizer, cfg, seed)
    figures["start_seconds"] = time.perf_counter() - begun
    reference = copy.deepcopy(policy)
    before = report.measure(reference, reference)
    reward = task_reward(tokenizer, rules, model_reward, model_weight)
    wall, cpu = time.perf_counter(), time.process_time()
    history = train_on_rules(
        policy, reference, tokenizer, reward, cfg, seed=seed, on_update=on_update
    )
    figures["disclosure_seconds"] = time.perf_counter() - wall
    figures["disclosure_cpu_seconds"] = time.process_time() - cpu
    after = report.measure(policy, reference)
    for when, (found, _) in (("before", before), ("after", after)):
        figures |= {_placed(name, when): value for name, value in found.items()}
    return DisclosureRun(
        figures=figures,
        questions=asked,
        before=before[1],
        after=after[1],
        history=history,
    )


def _placed(name: str, when: str) -> str:
    """disclosure_low of before is disclosure_before_low."""
    for bound in ("_low", "_high"):
        if name.endswith(bound):
            return f"{name.removesuffix(bound)}_{when}{bound}"
    return f"{name}_{when}"


@dataclass(frozen=True, slots=True)
class _Report:
    """Samples a policy and measures every fault that could pay for disclosures."""

    tokenizer: PreTrainedTokenizerBase
    cfg: Profile
    rules: RuleReward
    model_reward: RewardFunction | None
    questions: Sequence[str]
    seed: int

    def measure(
        self, policy: LlamaForCausalLM, reference: LlamaForCausalLM
    ) -> tuple[dict[str, float], list[str]]:
        """Figures of one answer a question, and the answers.

        ``disclosure`` with bounds, ``disclosures_an_answer``, ``rule.<name>``,
        ``kl_nats`` an answer, ``length`` in tokens, ``ended``, ``unique_ratio``,
        ``repeated_ratio``, ``model_reward``, and ``elsewhere``: the share where the
        question is about insurance.
        """
        samples, texts, sequences = self._answers(policy, reference, self.questions)
        shown = self.rules.figures(texts)
        share, low, high = disclosed_share(texts)
        insurance = [q.zh for q in insurance_questions("valid")[:NUM_ELSEWHERE]]
        elsewhere = self._answers(policy, None, insurance)[1]
        figures = {
            "disclosure": share,
            "disclosure_low": low,
            "disclosure_high": high,
            "disclosures_an_answer": np.mean([len(disclosures(t)) for t in texts]),
            "elsewhere": disclosed_share(elsewhere)[0],
            "kl_nats": samples.kl_nats.mean(),
            "length": samples.lengths.mean(),
            "ended": samples.ended.mean(),
            "unique_ratio": samples.unique_ratio,
            "repeated_ratio": samples.repeated_ratio,
        }
        figures |= {f"rule.{name}": values.mean() for name, values in shown.items()}
        if self.model_reward:
            figures["model_reward"] = np.mean(self.model_reward(sequences))
        return {name: float(value) for name, value in figures.items()}, texts

    def quick(self, policy: LlamaForCausalLM) -> float:
        """The share of disclosures in answers to some of the questions."""
        some = self.questions[:: max(1, len(self.questions) // NUM_ELSEWHERE)]
        return disclosed_share(self._answers(policy, None, some)[1])[0]

    def _answers(
        self,
        policy: LlamaForCausalLM,
        reference: LlamaForCausalLM | None,
        questions: Sequence[str],
    ) -> tuple[PolicySamples, list[str], list[list[int]]]:
        """Samples, texts of the answers, and questions with answers in tokens."""
        prompts = [encode_prompt(self.tokenizer, question) for question in questions]
        samples = sample_policy(
            policy,
            reference,
            on_answers(self.tokenizer, self.rules),
            prompts,
            max_new_tokens=self.cfg.ppo.max_new_tokens,
            eos_id=self.tokenizer.eos_token_id,
            pad_id=self.tokenizer.pad_token_id,
            seed=self.seed,
            dtype=getattr(torch, self.cfg.runtime.dtype),
        )
        sequences = [p + r for p, r in zip(prompts, samples.responses, strict=True)]
        return samples, answer_texts(self.tokenizer, sequences), sequences


def disclosed_share(texts: Sequence[str]) -> tuple[float, float, float]:
    """Share of the texts with a recognised disclosure, and its 95% Wilson bounds."""
    found = sum(discloses_risk(text) for text in texts)
    return (found / len(texts), *wilson_interval(found, len(texts)))
