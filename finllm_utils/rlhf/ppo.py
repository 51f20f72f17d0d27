"""Proximal policy optimisation of a chat model, to be read in one sitting.

One update: sample responses, score them, spread the reward over tokens, estimate
advantages, take clipped steps on policy and critic. The details follow the checklists
of "The N implementation details of RLHF with PPO" (huggingface/blog) and of
vwxyzjn/summarize_from_feedback_details; TRL's ``cliprange`` and ``lam`` are spelt out.
Differs: policy and critic are separate networks with separate optimisers, and every
mean is over the tokens of the whole mini-batch.
"""

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LlamaForCausalLM

from finllm_utils.config import PPOConfig
from finllm_utils.rlhf import guards, losses
from finllm_utils.rlhf.advantages import gae, whiten
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.logprobs import logprobs_and_entropy, response_logprobs
from finllm_utils.rlhf.reward_signal import token_rewards
from finllm_utils.rlhf.rollout import Rollout, sample_rollout

logger = logging.getLogger(__name__)
RewardFunction = Callable[[list[list[int]]], np.ndarray]
# In bfloat16 a single token's ratio wavers by several per cent, since a mini-batch is
# multiplied in other shapes than the rollout was; their mean does not.
FIRST_RATIO = {torch.float32: ("max", 1e-4), torch.bfloat16: ("mean", 1e-2)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Experience:
    """A rollout with all that is known of it before the first step."""

    rollout: Rollout
    scores_B: torch.Tensor
    logprobs_BT: torch.Tensor
    ref_logprobs_BT: torch.Tensor
    values_BT: torch.Tensor
    advantages_BT: torch.Tensor
    returns_BT: torch.Tensor
    entropy: float

    @property
    def kl_B(self) -> torch.Tensor:
        """Sum over each response of log p - log p_ref, in nats."""
        return losses.kl_k1(self.logprobs_BT, self.ref_logprobs_BT).sum(1)


def train_ppo(
    policy: LlamaForCausalLM,
    ref_policy: LlamaForCausalLM,
    critic: Critic,
    reward_function: RewardFunction,
    prompts: Sequence[Sequence[int]],
    cfg: PPOConfig,
    *,
    eos_id: int,
    pad_id: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    on_update: Callable[[int, dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Trains policy and critic in place; one dict of figures an update.

    Args: reward_function maps token sequences (prompt and response) to scores in
    standard deviations of SFT samples; prompts are token ids; the seed fixes prompts,
    samples and mini-batches.
    Raises: PPOFault naming what is broken.
    """
    guards.require_distinct_pad(eos_id, pad_id)
    for module in (policy, ref_policy, critic):
        module.eval()  # no dropout anywhere
    if not cfg.train_embeddings:
        policy.model.embed_tokens.requires_grad_(False)
        critic.network.model.embed_tokens.requires_grad_(False)
    optimizers = (
        _optimizer(policy, cfg.learning_rate),
        _optimizer(critic, cfg.critic_learning_rate),
    )
    schedules = [_linear_decay(o, cfg.num_updates) for o in optimizers]
    batches = _prompt_batches(prompts, cfg.rollout_batch_size, seed)
    history: list[dict[str, float]] = []
    for update in range(cfg.num_updates):
        rollout = sample_rollout(
            policy,
            next(batches),
            max_new_tokens=cfg.max_new_tokens,
            temperature=cfg.temperature,
            eos_id=eos_id,
            pad_id=pad_id,
            seed=seed + 1_000 * (update + 1),
        )
        experience = collect_experience(
            policy, ref_policy, critic, reward_function, rollout, cfg, eos_id, dtype
        )
        steps = take_steps(
            policy, critic, optimizers, experience, cfg, seed + update, dtype
        )
        for schedule in schedules:
            schedule.step()
        figures = _figures(experience, eos_id) | steps
        _watch(figures, history, experience, cfg, dtype)
        history.append(figures)
        if on_update:
            on_update(update, figures)
    return history


@torch.no_grad()
def collect_experience(
    policy: LlamaForCausalLM,
    ref_policy: LlamaForCausalLM,
    critic: Critic,
    reward_function: RewardFunction,
    rollout: Rollout,
    cfg: PPOConfig,
    eos_id: int,
    dtype: torch.dtype = torch.float32,
) -> Experience:
    """Scores, log-probabilities, values, advantages and returns of a rollout."""
    mask_BT = rollout.response_mask_BT
    scores_B = torch.as_tensor(
        reward_function(rollout.sequences()), dtype=torch.float32, device=mask_BT.device
    )
    logprobs_BT, entropy = logprobs_and_entropy(
        policy, rollout, temperature=cfg.temperature, dtype=dtype
    )
    ref_logprobs_BT = response_logprobs(
        ref_policy, rollout, temperature=cfg.temperature, dtype=dtype
    )
    values_BT = critic(rollout, dtype)
    rewards_BT = token_rewards(
        scores_B,
        rollout.ended_B(eos_id),
        logprobs_BT,
        ref_logprobs_BT,
        mask_BT,
        kl_coef=cfg.kl_coef,
        reward_clip=cfg.reward_clip,
        missing_eos_penalty=cfg.missing_eos_penalty,
    )
    advantages_BT, returns_BT = gae(
        rewards_BT, values_BT, mask_BT, gamma=cfg.gamma, gae_lambda=cfg.gae_lambda
    )
    return Experience(
        rollout=rollout,
        scores_B=scores_B,
        logprobs_BT=logprobs_BT,
        ref_logprobs_BT=ref_logprobs_BT,
        values_BT=values_BT,
        advantages_BT=whiten(advantages_BT, mask_BT),
        returns_BT=returns_BT,
        entropy=entropy,
    )


def take_steps(
    policy: LlamaForCausalLM,
    critic: Critic,
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    experience: Experience,
    cfg: PPOConfig,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> dict[str, float]:
    """``num_ppo_epochs`` passes of ``num_mini_batches`` steps; their mean figures."""
    shuffle = torch.Generator().manual_seed(seed)
    num_rows = len(experience.scores_B)
    seen: list[dict[str, float]] = []
    for _ in range(cfg.num_ppo_epochs):
        order = torch.randperm(num_rows, generator=shuffle)
        for rows in order.split(num_rows // cfg.num_mini_batches):
            loss, figures = _mini_batch_loss(
                policy, critic, experience, rows, cfg, dtype
            )
            if not seen:
                which, tolerance = FIRST_RATIO[dtype]
                found = figures[f"{which}_ratio_deviation"]
                guards.require_first_ratio(found, tolerance, which)
            loss.backward()
            for module, optimizer in zip((policy, critic), optimizers, strict=True):
                torch.nn.utils.clip_grad_norm_(module.parameters(), cfg.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            seen.append(figures)
    means = {key: float(np.mean([s[key] for s in seen])) for key in seen[0]}
    guarded = f"{FIRST_RATIO[dtype][0]}_ratio_deviation"
    return means | {"first_ratio_deviation": seen[0][guarded]}


def _mini_batch_loss(
    policy: LlamaForCausalLM,
    critic: Critic,
    experience: Experience,
    rows: torch.Tensor,
    cfg: PPOConfig,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Policy loss plus ``vf_coef`` times value loss of some rows, and their figures."""
    part = experience.rollout.rows(rows)
    mask_BT = part.response_mask_BT
    num_tokens = int(mask_BT.sum())
    logprobs_BT = response_logprobs(
        policy, part, temperature=cfg.temperature, dtype=dtype
    )
    pg_loss = losses.policy_loss(
        logprobs_BT,
        experience.logprobs_BT[rows],
        experience.advantages_BT[rows],
        mask_BT,
        clip_range=cfg.clip_range,
        num_tokens=num_tokens,
    )
    vf_loss = losses.value_loss(
        critic(part, dtype),
        experience.values_BT[rows],
        experience.returns_BT[rows],
        mask_BT,
        value_clip_range=cfg.value_clip_range,
        num_tokens=num_tokens,
    )
    figures = {"policy_loss": pg_loss.item(), "value_loss": vf_loss.item()}
    figures |= _ratio_figures(logprobs_BT, experience.logprobs_BT[rows], mask_BT, cfg)
    return pg_loss + cfg.vf_coef * vf_loss, figures


@torch.no_grad()
def _ratio_figures(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    cfg: PPOConfig,
) -> dict[str, float]:
    ratio_BT = losses.log_ratio(logprobs_BT, old_logprobs_BT).exp()
    deviation_BT = (ratio_BT - 1).abs() * mask_BT
    clipped_BT = (deviation_BT > cfg.clip_range).float()
    return {
        "ratio": losses.masked_mean(ratio_BT, mask_BT).item(),
        "max_ratio_deviation": deviation_BT.max().item(),
        "mean_ratio_deviation": losses.masked_mean(deviation_BT, mask_BT).item(),
        "clip_share": losses.masked_mean(clipped_BT, mask_BT).item(),
        "approx_kl": losses.masked_mean(
            losses.kl_k3(old_logprobs_BT, logprobs_BT), mask_BT
        ).item(),
    }


def _figures(experience: Experience, eos_id: int) -> dict[str, float]:
    rollout, mask_BT = experience.rollout, experience.rollout.response_mask_BT
    k3_BT = losses.kl_k3(experience.logprobs_BT, experience.ref_logprobs_BT)
    responses = rollout.response_ids()
    return {
        "score": experience.scores_B.mean().item(),
        "kl_nats": experience.kl_B.mean().item(),
        "kl_k3_nats": (k3_BT * mask_BT).sum(1).mean().item(),
        "entropy": experience.entropy,
        "length": rollout.lengths_B.float().mean().item(),
        "eos_share": rollout.ended_B(eos_id).float().mean().item(),
        "unique_share": len({tuple(r) for r in responses}) / len(responses),
        "max_value": experience.values_BT.abs().max().item(),
    }


def _watch(
    figures: dict[str, float],
    history: list[dict[str, float]],
    experience: Experience,
    cfg: PPOConfig,
    dtype: torch.dtype,
) -> None:
    """Stops on a broken invariant; logs each kind of drift."""
    guards.require_finite(figures)
    guards.require_kl_not_negative(experience.kl_B)
    first = history[0] if history else figures
    for sentence in (
        guards.entropy_drift(figures["entropy"], first["entropy"]),
        guards.length_drift(figures["length"], first["length"]),
        guards.value_drift(figures["max_value"], cfg.reward_clip),
    ):
        if sentence:
            logger.warning("update %d: %s", len(history), sentence)


def _optimizer(module: torch.nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """Adam with eps 1e-5, as in TensorFlow's PPO: 1e-8 makes early steps too large."""
    return torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=learning_rate,
        betas=(0.9, 0.95),
        eps=1e-5,
        weight_decay=0.0,
        fused=True,
    )


def _linear_decay(
    optimizer: torch.optim.Optimizer, num_updates: int
) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda u: 1 - u / num_updates)


def _prompt_batches(
    prompts: Sequence[Sequence[int]], size: int, seed: int
) -> Iterator[list[Sequence[int]]]:
    """Yields batches without end; every prompt comes once before any comes again."""
    if len(prompts) < size:
        raise ValueError(
            f"{len(prompts)} prompts are fewer than ppo.rollout_batch_size={size}: "
            "lower it, or raise ppo.max_prompt_len so that fewer prompts are skipped"
        )
    rng = random.Random(seed)
    while True:
        order = rng.sample(range(len(prompts)), len(prompts))
        for begin in range(0, len(order) - size + 1, size):
            yield [prompts[i] for i in order[begin : begin + size]]
