"""DPO, RLOO and GRPO of trl on the inputs of ``ppo``: what PPO has to stand beside.

Nothing of trl's losses is changed. What is ours makes the comparison fair: token ids go
in as they are (trl would tokenise text anew, and may put a second BOS before a chat
template's), the reward function sees the sampled ids with their EOS, and clipping, the
fine for a missing EOS, optimiser, schedule and frozen embeddings are PPO's.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from finllm_utils.config import PPOConfig, RuntimeConfig
from finllm_utils.model.load import load_model
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.guards import require_distinct_pad
from finllm_utils.rlhf.ppo import RewardFunction
from finllm_utils.rlhf.ppo_optim import (
    ADAM_BETAS,
    ADAM_EPS,
    WEIGHT_DECAY,
    rate_factor,
)
from finllm_utils.rlhf.reward_model import encode_pairs, encode_prompt
from finllm_utils.rlhf.reward_signal import token_rewards
from finllm_utils.runtime import resolve_device

PairRow = dict[str, list[int]]
"""prompt_ids, chosen_ids and rejected_ids of one pair, both answers with their EOS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What the three trainers need beside the settings of ``ppo``."""

    seed: int
    runtime: RuntimeConfig
    """Device, and dtype: bfloat16 trains in autocast, weights stay float32."""
    num_generations: int = 4
    """RLOO, GRPO: answers to one prompt; the others of a group are the baseline."""
    max_seconds: float = 0.0
    """Training ends after this; the learning rate then reaches 0 with the time instead
    of the steps. 0: no limit."""

    @property
    def device(self) -> str:
        """The device that trains."""
        return resolve_device(self.runtime.device)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A trained policy, a plain model again, and how it came about."""

    policy: LlamaForCausalLM
    log: list[dict[str, float]]
    """trl's figures: of each rollout (RLOO, GRPO), of each step (DPO)."""
    num_steps: int
    seconds: float
    """Of training alone: loading is not counted."""


def train_rloo(
    folder: Path | str,
    tokenizer: PreTrainedTokenizerBase,
    reward_function: RewardFunction,
    prompts: Sequence[Sequence[int]],
    cfg: PPOConfig,
    budget: Budget,
) -> Trained:
    """REINFORCE with the mean of the other answers as baseline (arXiv 2402.14740).

    ``cfg.kl_coef`` times the summed KL is taken from the score, as in PPO, where it is
    spread over the tokens. Arguments as of ``train_grpo``.
    """
    return _train_sampling(
        _RLOO, RLOOConfig, folder, tokenizer, reward_function, prompts, cfg, budget
    )


def train_grpo(
    folder: Path | str,
    tokenizer: PreTrainedTokenizerBase,
    reward_function: RewardFunction,
    prompts: Sequence[Sequence[int]],
    cfg: PPOConfig,
    budget: Budget,
) -> Trained:
    """Group-relative policy optimisation (arXiv 2402.03300), trl's loss as it comes.

    The score is put on the scale of its group; ``cfg.kl_coef`` times the KL is part of
    each token's loss. Scores are about 1 wide, so one coefficient means much the same
    in all methods.

    Args: folder holds the chat model, start and reference; reward_function and prompts
    as for ``train_ppo``; of cfg, one rollout is ``rollout_batch_size`` answers to a
    ``num_generations``-th as many prompts, and learning_rate is the method's own.
    Raises: ValueError when a rollout is no whole number of groups.
    """
    return _train_sampling(
        _GRPO, GRPOConfig, folder, tokenizer, reward_function, prompts, cfg, budget
    )


def train_dpo(
    folder: Path | str,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[PairRow],
    cfg: PPOConfig,
    budget: Budget,
    *,
    num_steps: int,
) -> Trained:
    """Direct preference optimisation (arXiv 2305.18290): no rollout, no reward model.

    Args: folder as for ``train_grpo``; rows are the pairs' ids (``pair_rows``), of
    which a step takes as many as a step of PPO takes answers; cfg.kl_coef is DPO's
    beta.
    """
    policy, reference = (load_model(folder, device=budget.device) for _ in range(2))
    with tempfile.TemporaryDirectory() as scratch:
        settings = DPOConfig(
            per_device_train_batch_size=cfg.rollout_batch_size // cfg.num_mini_batches,
            max_steps=num_steps,
            beta=cfg.kl_coef,
            max_length=None,
            logging_steps=1,
            **_shared(scratch, cfg, budget),
        )
        return _run(
            _DPO, policy, folder, cfg, budget,
            ref_model=reference, args=settings, processing_class=tokenizer,
            train_dataset=Dataset.from_list(list(rows)),
        )  # fmt: skip


def pair_rows(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    max_seq_len: int,
) -> list[PairRow]:
    """The ids of each pair, exactly those that the reward model is trained on."""
    rows = []
    encoded = encode_pairs(tokenizer, pairs, max_seq_len)
    for pair, (chosen, rejected) in zip(pairs, encoded, strict=True):
        prompt = encode_prompt(tokenizer, pair.prompt)
        rows.append({
            "prompt_ids": prompt,
            "chosen_ids": chosen[len(prompt) :],
            "rejected_ids": rejected[len(prompt) :],
        })  # fmt: skip
    return rows


def paid_scores(
    scores: np.ndarray, ended: Sequence[bool], cfg: PPOConfig
) -> torch.Tensor:
    """What PPO pays for whole answers: clipped, and fined where EOS is missing."""
    none_B1 = torch.zeros(len(ended), 1)
    return token_rewards(
        torch.as_tensor(scores, dtype=torch.float32),
        torch.as_tensor(ended),
        none_B1,
        none_B1,
        torch.ones_like(none_B1, dtype=torch.long),
        kl_coef=0.0,
        reward_clip=cfg.reward_clip,
        missing_eos_penalty=cfg.missing_eos_penalty,
    )[:, 0]


class TimeLimit(TrainerCallback):
    """Stops a trainer after ``max_seconds``, counted from its first step; 0: never."""

    def __init__(self, max_seconds: float) -> None:
        self.max_seconds = max_seconds
        self.began: float | None = None

    @property
    def spent(self) -> float:
        """Share of the time that is used up; 0 without a limit."""
        if not self.max_seconds or self.began is None:
            return 0.0
        return (time.monotonic() - self.began) / self.max_seconds

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Starts the clock."""
        self.began = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Ends training when the time is up."""
        if self.spent >= 1:
            control.should_training_stop = True


class _Offline:
    """Calls nobody: trl counts its users over the network."""

    def _send_telemetry(self) -> None:
        pass


class _TokenPrompts(_Offline):
    """Prompts of the data set are token ids already; trl's own are text."""

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list, None, dict]:
        return prompts, None, {}


class _RLOO(_TokenPrompts, RLOOTrainer):
    pass


class _GRPO(_TokenPrompts, GRPOTrainer):
    pass


class _DPO(_Offline, DPOTrainer):
    def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
        return dataset  # token ids already


def _train_sampling(
    trainer_class: type[Trainer],
    settings_class: type[RLOOConfig] | type[GRPOConfig],
    folder: Path | str,
    tokenizer: PreTrainedTokenizerBase,
    reward_function: RewardFunction,
    prompts: Sequence[Sequence[int]],
    cfg: PPOConfig,
    budget: Budget,
) -> Trained:
    """One of the methods that sample; the reference is trl's own load of ``folder``."""
    require_distinct_pad(tokenizer.eos_token_id, tokenizer.pad_token_id)
    steps = cfg.num_ppo_epochs * cfg.num_mini_batches  # of each rollout
    policy = load_model(folder, device=budget.device)

    def paid(prompts: list, completion_ids: list, **_: object) -> list[float]:
        sequences = [[*p, *c] for p, c in zip(prompts, completion_ids, strict=True)]
        ended = [c[-1] == tokenizer.eos_token_id for c in completion_ids]
        return paid_scores(reward_function(sequences), ended, cfg).tolist()

    with tempfile.TemporaryDirectory() as scratch:
        settings = settings_class(
            num_generations=budget.num_generations,
            per_device_train_batch_size=cfg.rollout_batch_size // cfg.num_mini_batches,
            steps_per_generation=cfg.num_mini_batches,
            num_iterations=cfg.num_ppo_epochs,
            max_steps=cfg.num_updates * steps,
            max_completion_length=cfg.max_new_tokens,
            temperature=cfg.temperature,
            beta=cfg.kl_coef,
            epsilon=cfg.clip_range,
            generation_kwargs={"use_cache": True},  # whatever the folder's config says
            logging_steps=steps,
            **_shared(scratch, cfg, budget),
        )
        return _run(
            trainer_class, policy, folder, cfg, budget,
            reward_funcs=paid, args=settings, processing_class=tokenizer,
            train_dataset=Dataset.from_dict({"prompt": [list(p) for p in prompts]}),
        )  # fmt: skip


def _shared(scratch: str, cfg: PPOConfig, budget: Budget) -> dict[str, object]:
    """Settings of all three; trl's defaults (bf16, checkpointing) are overridden."""
    return {
        "output_dir": scratch,
        "max_grad_norm": cfg.max_grad_norm,
        "disable_dropout": True,
        "activation_checkpointing": False,
        "bf16": budget.runtime.dtype == "bfloat16",
        "use_cpu": budget.device == "cpu",
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": budget.seed,
    }


def _run(
    trainer_class: type[Trainer],
    policy: LlamaForCausalLM,
    folder: Path | str,
    cfg: PPOConfig,
    budget: Budget,
    **arguments: object,
) -> Trained:
    if not cfg.train_embeddings:
        policy.model.embed_tokens.requires_grad_(False)
    limit = TimeLimit(budget.max_seconds)
    trainer = trainer_class(
        policy,
        callbacks=[limit],
        optimizers=_optimizer(policy, cfg, limit, arguments["args"].max_steps),
        **arguments,
    )
    trainer.remove_callback(PrinterCallback)
    began = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - began
    # A fresh model: trl leaves a forward of its own on the trained one.
    plain = load_model(folder, device=budget.device)
    plain.load_state_dict(policy.state_dict())
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return Trained(
        policy=plain, log=lines, num_steps=trainer.state.global_step, seconds=seconds
    )


def _optimizer(
    policy: LlamaForCausalLM, cfg: PPOConfig, limit: TimeLimit, max_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """PPO's Adam and schedule over the steps; with a limit it falls over the time."""
    optimizer = torch.optim.AdamW(
        [p for p in policy.parameters() if p.requires_grad],
        lr=cfg.learning_rate,
        betas=ADAM_BETAS,
        eps=ADAM_EPS,
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )

    def factor(step: int) -> float:
        if limit.max_seconds:
            return max(0.0, 1 - limit.spent)
        return rate_factor(step, max_steps, cfg.warmup_share)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
