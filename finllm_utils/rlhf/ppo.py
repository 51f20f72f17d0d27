"""Proximal policy optimisation of a chat model, to be read in one sitting.

One update: sample responses, score them, spread the reward over tokens, estimate
advantages, take clipped steps on policy and critic. The details follow the checklists
of "The N implementation details of RLHF with PPO" (huggingface/blog) and of
vwxyzjn/summarize_from_feedback_details; TRL's ``cliprange`` and ``lam`` are spelt out.
Differs: policy and critic are separate networks with separate optimisers, and every
mean is over the tokens of the whole mini-batch. tests/rlhf/test_ppo_checklist.py lists
the details, with the setting or the test of each.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM

from finllm_utils.config import PPOConfig
from finllm_utils.rlhf import guards, losses, ppo_inputs, processes
from finllm_utils.rlhf.advantages import gae, whiten
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.experience import (
    Experience,
    experience_figures,
    ratio_figures,
    watch,
)
from finllm_utils.rlhf.kl_control import next_kl_coef
from finllm_utils.rlhf.logprobs import logprobs_and_entropy, response_logprobs
from finllm_utils.rlhf.ppo_checkpoint import PPOCheckpoints, Progress, run_identity
from finllm_utils.rlhf.ppo_inputs import RewardFunction
from finllm_utils.rlhf.ppo_optim import (
    Optimizers,
    make_optimizers,
    set_learning_rates,
)
from finllm_utils.rlhf.prompt_batches import prompt_batches
from finllm_utils.rlhf.ptx import TokenRows, ptx_batches, ptx_loss, require_ptx_rows
from finllm_utils.rlhf.reward_signal import token_rewards
from finllm_utils.rlhf.rollout import Rollout, sample_rollout
from finllm_utils.train.parallel import current_world

# In bfloat16 a single token's ratio wavers by several per cent, since a mini-batch is
# multiplied in other shapes than the rollout was; their mean does not.
FIRST_RATIO = {torch.float32: ("max", 1e-4), torch.bfloat16: ("mean", 1e-2)}
EARLY_STOP_FACTOR = 1.5  # of ppo.early_stop_kl, as in openai/spinningup


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
    ptx_rows: TokenRows = (),
    checkpoints: Path | None = None,
    heldout_reward: RewardFunction | None = None,
) -> list[dict[str, float]]:
    """Trains policy and critic in place; one dict of figures an update.

    Args: reward_function maps token sequences (prompt and response) to scores in
    standard deviations of SFT samples; prompts are token ids; the seed fixes prompts,
    samples and mini-batches; ptx_rows, for ``cfg.ptx_coef``, are token ids of
    pre-training documents; checkpoints is a folder that the run fills every
    ``cfg.save_every`` updates and goes on from, to the same bits. It needs the networks
    as at the first call, and tells on_update of restored updates first, so that a log
    is whole; ``train.checkpoint.remove_checkpoints`` empties it. heldout_reward is a
    second judge, a model or a rule, that scores each rollout and teaches nothing.
    Raises: PPOFault naming what is broken; ValueError for networks or prompts that do
    not fit and for ``checkpoints`` of another run (reward functions are not compared).
    """
    ppo_inputs.require_inputs(policy, ref_policy, critic, prompts, cfg, eos_id, pad_id)
    require_ptx_rows(ptx_rows, cfg, policy)
    run = _Run(
        policy=policy,
        ref_policy=ref_policy,
        critic=critic,
        reward_function=reward_function,
        heldout_reward=heldout_reward,
        ptx_rows=ptx_rows if cfg.ptx_coef else (),
        cfg=cfg,
        eos_id=eos_id,
        pad_id=pad_id,
        seed=seed,
        dtype=dtype,
        optimizers=_prepare(policy, ref_policy, critic, cfg),
    )
    store = run.open_checkpoints(checkpoints, prompts)
    progress = Progress(kl_coef=cfg.kl_coef)
    if store:
        progress = store.load(progress)
    hear = on_update or (lambda update, figures: None)
    for update, figures in enumerate(progress.history):
        hear(update, figures)
    batches = prompt_batches(prompts, cfg.rollout_batch_size, seed)
    for batch in islice(batches, len(progress.history), cfg.num_updates):
        progress = run.update(batch, progress)
        if store:
            store.save_when_due(progress)
        hear(len(progress.history) - 1, progress.history[-1])
    return progress.history


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """What is the same in every update."""

    policy: LlamaForCausalLM
    ref_policy: LlamaForCausalLM
    critic: Critic
    optimizers: Optimizers
    reward_function: RewardFunction
    heldout_reward: RewardFunction | None
    ptx_rows: TokenRows
    cfg: PPOConfig
    eos_id: int
    pad_id: int
    seed: int
    dtype: torch.dtype

    def update(self, prompts: Sequence[Sequence[int]], progress: Progress) -> Progress:
        """Samples responses to the prompts, scores them and takes the steps."""
        number, seed = len(progress.history), self.seed
        cfg = replace(self.cfg, kl_coef=progress.kl_coef)
        set_learning_rates(self.optimizers, cfg, number)
        rollout = sample_rollout(
            self.policy,
            processes.own_part(prompts),
            max_new_tokens=cfg.max_new_tokens,
            temperature=cfg.temperature,
            eos_id=self.eos_id,
            pad_id=self.pad_id,
            seed=processes.sampling_seed(seed, number, current_world().rank),
        )
        networks = (self.policy, self.ref_policy, self.critic)
        experience = collect_experience(
            *networks, self.reward_function, rollout, cfg, self.eos_id, self.dtype,
            heldout_reward=self.heldout_reward,
        )  # fmt: skip
        steps = take_steps(
            self.policy,
            self.critic,
            self.optimizers,
            experience,
            cfg,
            seed + number,
            self.dtype,
            train_policy=number >= cfg.critic_warmup_updates,
            ptx=ptx_batches(self.ptx_rows, cfg, number, self.pad_id, seed),
        )
        figures = experience_figures(experience, self.eos_id) | steps
        if cfg.kl_target:
            figures["kl_coef"] = cfg.kl_coef
        figures = processes.joined_figures(figures, experience.scores_B.device)
        figures |= watch(figures, progress.history, experience, cfg.reward_clip)
        return Progress(
            history=[*progress.history, figures],
            kl_coef=next_kl_coef(
                cfg.kl_coef,
                figures["kl_nats"],
                cfg.rollout_batch_size,
                target=cfg.kl_target,
                horizon=cfg.kl_horizon,
            ),
        )

    def open_checkpoints(
        self, folder: Path | None, prompts: Sequence[Sequence[int]]
    ) -> PPOCheckpoints | None:
        """The checkpoints in ``folder``; None when none are to be written."""
        if folder is None or not self.cfg.save_every:
            return None
        identity = run_identity(
            {
                "policy": self.policy,
                "reference": self.ref_policy,
                "critic": self.critic,
            },
            {"prompts": prompts, "ptx_rows": self.ptx_rows},
            self.cfg,
            seed=self.seed,
            dtype=str(self.dtype),
            eos_id=self.eos_id,
            pad_id=self.pad_id,
            processes=current_world().size,
            heldout_reward=self.heldout_reward is not None,
        )
        return PPOCheckpoints(
            folder,
            identity,
            dict(
                policy=(self.policy, self.optimizers[0]),
                critic=(self.critic, self.optimizers[1]),
            ),
            every=self.cfg.save_every,
            num_updates=self.cfg.num_updates,
        )


def _prepare(
    policy: LlamaForCausalLM,
    ref_policy: LlamaForCausalLM,
    critic: Critic,
    cfg: PPOConfig,
) -> Optimizers:
    """No dropout anywhere, embeddings frozen unless they train; the optimisers."""
    for module in (policy, ref_policy, critic):
        module.eval()
    if not cfg.train_embeddings:
        policy.model.embed_tokens.requires_grad_(False)
        critic.network.model.embed_tokens.requires_grad_(False)
    return make_optimizers(policy, critic)


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
    *,
    heldout_reward: RewardFunction | None = None,
) -> Experience:
    """Scores, log-probabilities, values, advantages and returns of a rollout."""
    mask_BT = rollout.response_mask_BT
    ppo_inputs.require_responses(rollout)
    scores_B = ppo_inputs.checked_scores(reward_function, rollout)
    heldout_B = None
    if heldout_reward is not None:
        heldout_B = ppo_inputs.checked_scores(heldout_reward, rollout, "heldout_reward")
    how = {"temperature": cfg.temperature} | _precision(cfg, dtype)
    logprobs_BT, entropy = logprobs_and_entropy(policy, rollout, **how)
    ref_logprobs_BT = response_logprobs(ref_policy, rollout, **how)
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
    if cfg.whiten_rewards:
        rewards_BT = whiten(rewards_BT, mask_BT, shift_mean=False)
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
        heldout_B=heldout_B,
    )


def take_steps(
    policy: LlamaForCausalLM,
    critic: Critic,
    optimizers: Optimizers,
    experience: Experience,
    cfg: PPOConfig,
    seed: int,
    dtype: torch.dtype = torch.float32,
    *,
    train_policy: bool = True,
    ptx: Iterator[Rollout] | None = None,
) -> dict[str, float]:
    """``num_ppo_epochs`` passes of ``num_mini_batches`` steps; their mean figures.

    Args: train_policy False trains the critic alone; ptx gives a batch of pre-training
    text for each step, weighted with ``cfg.ptx_coef``.
    """
    seen: list[dict[str, float]] = []
    for rows in _mini_batches(len(experience.scores_B), cfg, seed):
        loss, figures = _mini_batch_loss(
            policy, critic, experience, rows, cfg, dtype, train_policy
        )
        if not seen:
            which, tolerance = FIRST_RATIO[dtype]
            found = figures[f"{which}_ratio_deviation"]
            guards.require_first_ratio(found, tolerance, which)
        elif _went_too_far(figures["approx_kl"], cfg, loss.device):
            break
        loss.backward()
        if ptx is not None:
            with torch.set_grad_enabled(train_policy):
                text_loss = ptx_loss(policy, next(ptx), **_precision(cfg, dtype))
            if train_policy:
                (cfg.ptx_coef * text_loss).backward()
            figures["ptx_loss"] = processes.total(text_loss.detach()).item()
        for module, optimizer in zip((policy, critic), optimizers, strict=True):
            processes.sum_gradients(module.parameters())
            torch.nn.utils.clip_grad_norm_(module.parameters(), cfg.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seen.append(figures)
    means = {key: float(np.mean([s[key] for s in seen])) for key in seen[0]}
    guarded = f"{FIRST_RATIO[dtype][0]}_ratio_deviation"
    if cfg.early_stop_kl:
        means["num_steps"] = float(len(seen))
    return means | {"first_ratio_deviation": seen[0][guarded]}


def _mini_batches(num_rows: int, cfg: PPOConfig, seed: int) -> Iterator[torch.Tensor]:
    """Yields the rows of each step, all passes over the rollout one after another."""
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(cfg.num_ppo_epochs):
        order = torch.randperm(num_rows, generator=shuffle)
        yield from order.split(num_rows // cfg.num_mini_batches)


def _went_too_far(approx_kl: float, cfg: PPOConfig, device: torch.device) -> bool:
    """Whether the KL from the policy that sampled ends the passes over its rollout."""
    if not cfg.early_stop_kl:
        return False
    joined = processes.joined_figures({"approx_kl": approx_kl}, device)
    return joined["approx_kl"] > EARLY_STOP_FACTOR * cfg.early_stop_kl


def _precision(cfg: PPOConfig, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Of the layers, and of the output layer with its softmax."""
    logits_dtype = torch.float32 if cfg.float32_logits else dtype
    return {"dtype": dtype, "logits_dtype": logits_dtype}


def _mini_batch_loss(
    policy: LlamaForCausalLM,
    critic: Critic,
    experience: Experience,
    rows: torch.Tensor,
    cfg: PPOConfig,
    dtype: torch.dtype,
    train_policy: bool,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Policy loss plus ``vf_coef`` times value loss of some rows, and their figures."""
    part = experience.rollout.rows(rows)
    mask_BT = part.response_mask_BT
    num_tokens = int(processes.total(mask_BT.sum()))
    with torch.set_grad_enabled(train_policy):
        logprobs_BT = response_logprobs(
            policy, part, temperature=cfg.temperature, **_precision(cfg, dtype)
        )
    pg_loss = losses.policy_loss(
        logprobs_BT,
        experience.logprobs_BT[rows],
        experience.advantages_BT[rows],
        mask_BT,
        clip_range=cfg.clip_range,
        num_tokens=num_tokens,
        dual_clip=cfg.dual_clip,
    )
    vf_loss = losses.value_loss(
        critic(part, dtype),
        experience.values_BT[rows],
        experience.returns_BT[rows],
        mask_BT,
        value_clip_range=cfg.value_clip_range,
        num_tokens=num_tokens,
    )
    figures = {
        "policy_loss": processes.total(pg_loss.detach()).item(),
        "value_loss": processes.total(vf_loss.detach()).item(),
    }
    figures |= ratio_figures(
        logprobs_BT, experience.logprobs_BT[rows], mask_BT, cfg.clip_range
    )
    return pg_loss + cfg.vf_coef * vf_loss, figures
