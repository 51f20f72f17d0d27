"""The clipped losses of PPO and the two KL estimators. Pure maths; ``ppo`` calls it.

Every mean is over the valid tokens of the whole mini-batch: ``num_tokens`` is passed
in, so that summing micro-batches gives the same gradient as one large batch.
"""

import torch

MAX_LOG_RATIO = 20.0  # exp(20) is finite in float32; beyond it a ratio says nothing


def log_ratio(logprobs_BT: torch.Tensor, old_logprobs_BT: torch.Tensor) -> torch.Tensor:
    """log(new / old), clamped so that its exponential stays finite."""
    return (logprobs_BT - old_logprobs_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def policy_loss(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    clip_range: float,
    num_tokens: int,
    dual_clip: float = 0.0,
) -> torch.Tensor:
    """The clipped surrogate, to be minimised. Source: arXiv 1707.06347, equation 7.

    The maximum of two negatives is the pessimistic bound: a step that leaves the clip
    range in the direction of a gain earns nothing more.

    Args: dual_clip, above 1, bounds what a token with a negative advantage costs by
    dual_clip x |advantage|, however large the ratio (arXiv 1912.09729, equation 5);
    0 sets no bound.
    """
    ratio_BT = log_ratio(logprobs_BT, old_logprobs_BT).exp()
    clipped_BT = ratio_BT.clamp(1 - clip_range, 1 + clip_range)
    loss_BT = torch.maximum(-advantages_BT * ratio_BT, -advantages_BT * clipped_BT)
    if dual_clip:
        bounded_BT = torch.minimum(loss_BT, -advantages_BT * dual_clip)
        loss_BT = torch.where(advantages_BT < 0, bounded_BT, loss_BT)
    return (loss_BT * mask_BT).sum() / num_tokens


def value_loss(
    values_BT: torch.Tensor,
    old_values_BT: torch.Tensor,
    returns_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    value_clip_range: float,
    num_tokens: int,
) -> torch.Tensor:
    """Half the squared error, the larger of the clipped and the unclipped one."""
    clipped_BT = old_values_BT + (values_BT - old_values_BT).clamp(
        -value_clip_range, value_clip_range
    )
    worst_BT = torch.maximum(
        (values_BT - returns_BT).square(), (clipped_BT - returns_BT).square()
    )
    return 0.5 * (worst_BT * mask_BT).sum() / num_tokens


def kl_k1(logprobs: torch.Tensor, ref_logprobs: torch.Tensor) -> torch.Tensor:
    """logp - ref_logp a token: unbiased on samples of the policy, may be negative."""
    return logprobs - ref_logprobs


def kl_k3(logprobs: torch.Tensor, ref_logprobs: torch.Tensor) -> torch.Tensor:
    """r - 1 - log r with r = ref / policy: unbiased as well, and never negative.

    Source: Schulman, "Approximating KL divergence", 2020.
    """
    log_r = log_ratio(ref_logprobs, logprobs)
    return log_r.exp() - 1 - log_r


def masked_mean(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """The mean over valid tokens."""
    return (values_BT * mask_BT).sum() / mask_BT.sum()
