"""The two optimisers of PPO and their learning rates, functions of the update alone.

So a run that goes on from a checkpoint needs no state of a schedule. ``ppo`` calls it.
"""

import math

import torch

from finllm_utils.config import PPOConfig

ADAM_EPS = 1e-5  # as TensorFlow's PPO: 1e-8 makes early steps too large
ADAM_BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.0  # the KL already holds the policy near its start

Optimizers = tuple[torch.optim.AdamW, torch.optim.AdamW]
"""The policy's and the critic's."""


def make_optimizers(policy: torch.nn.Module, critic: torch.nn.Module) -> Optimizers:
    """Adam over all parameters that learn; ``set_learning_rates`` gives the rates."""
    return _adam(policy), _adam(critic)


def _adam(module: torch.nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=0.0,
        betas=ADAM_BETAS,
        eps=ADAM_EPS,
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )


def set_learning_rates(optimizers: Optimizers, cfg: PPOConfig, update: int) -> None:
    """Sets both rates for ``update``, counted from 0.

    The policy's schedule spans the updates that train it: it begins when the critic
    has warmed up.
    """
    frozen = cfg.critic_warmup_updates
    factors = (
        rate_factor(update - frozen, cfg.num_updates - frozen, cfg.warmup_share),
        rate_factor(update, cfg.num_updates, cfg.warmup_share),
    )
    peaks = (cfg.learning_rate, cfg.critic_learning_rate)
    for optimizer, peak, factor in zip(optimizers, peaks, factors, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * factor


def rate_factor(update: int, num_updates: int, warmup_share: float) -> float:
    """Factor of the peak rate: linear warm-up, then linear decay to 0 after the last.

    0 before update 0. Example: of 10 updates with a share of 0.2, the first five have
    0.5, 1, 1, 0.875 and 0.75.
    """
    if update < 0:
        return 0.0
    warmup = math.ceil(warmup_share * num_updates)
    if update < warmup:
        return (update + 1) / warmup
    return 1 - (update - warmup) / (num_updates - warmup)
