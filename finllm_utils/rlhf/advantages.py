"""Advantages from rewards and values. Pure maths on tensors; ``ppo`` calls it.

Shapes: B responses, T response tokens. Masks are 1 on real tokens, which stand first.
"""

import torch

from finllm_utils.rlhf.processes import mean_and_deviation

WHITEN_EPS = 1e-8  # equal values become 0 and not NaN


def gae(
    rewards_BT: torch.Tensor,
    values_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantages and returns, zero where the mask is 0.

    delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lambda A_{t+1}; the
    value after the last real token is 0, for the response ends there.
    Source: arXiv 1506.02438, equation 16.
    """
    mask_BT = mask_BT.to(rewards_BT.dtype)
    rewards_BT, values_BT = rewards_BT * mask_BT, values_BT * mask_BT
    advantages_BT = torch.zeros_like(rewards_BT)
    next_value_B = torch.zeros_like(rewards_BT[:, 0])
    carried_B = torch.zeros_like(next_value_B)
    for t in reversed(range(rewards_BT.shape[1])):
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        carried_B = (delta_B + gamma * gae_lambda * carried_B) * mask_BT[:, t]
        advantages_BT[:, t] = carried_B
        next_value_B = values_BT[:, t]
    return advantages_BT, (advantages_BT + values_BT) * mask_BT


def whiten(
    values_BT: torch.Tensor, mask_BT: torch.Tensor, *, shift_mean: bool = True
) -> torch.Tensor:
    """Values with mean 0 and deviation 1 over all valid tokens; 0 elsewhere.

    All valid tokens are those of all processes, where there are several.

    Args: shift_mean False keeps the mean, for rewards: theirs says which sign is good.
    """
    mean, deviation = mean_and_deviation(values_BT[mask_BT.bool()])
    whitened_BT = (values_BT - mean) / (deviation + WHITEN_EPS)
    if not shift_mean:
        whitened_BT = whitened_BT + mean
    return whitened_BT * mask_BT.to(values_BT.dtype)
