"""A rollout with all that is known of it before the first step, and its figures.

``ppo`` fills it, learns from it and watches what the figures say.
"""

import logging
from dataclasses import dataclass

import torch

from finllm_utils.rlhf import guards, losses
from finllm_utils.rlhf.rollout import Rollout

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Experience:
    """A rollout with its scores, log-probabilities, values and advantages."""

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


def experience_figures(experience: Experience, eos_id: int) -> dict[str, float]:
    """Means over the responses; KL in nats a response, entropy in nats a token."""
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


@torch.no_grad()
def ratio_figures(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    clip_range: float,
) -> dict[str, float]:
    """How far a step's policy is from the one that sampled; approx_kl by k3."""
    ratio_BT = losses.log_ratio(logprobs_BT, old_logprobs_BT).exp()
    deviation_BT = (ratio_BT - 1).abs() * mask_BT
    clipped_BT = (deviation_BT > clip_range).float()
    return {
        "ratio": losses.masked_mean(ratio_BT, mask_BT).item(),
        "max_ratio_deviation": deviation_BT.max().item(),
        "mean_ratio_deviation": losses.masked_mean(deviation_BT, mask_BT).item(),
        "clip_share": losses.masked_mean(clipped_BT, mask_BT).item(),
        "approx_kl": losses.masked_mean(
            losses.kl_k3(old_logprobs_BT, logprobs_BT), mask_BT
        ).item(),
    }


def watch(
    figures: dict[str, float],
    history: list[dict[str, float]],
    experience: Experience,
    reward_clip: float,
) -> None:
    """Stops on a broken invariant; logs each kind of drift.

    Args: history holds the figures of the updates before.
    """
    guards.require_finite(figures)
    guards.require_kl_not_negative(experience.kl_B)
    first = history[0] if history else figures
    for sentence in (
        guards.entropy_drift(figures["entropy"], first["entropy"]),
        guards.length_drift(figures["length"], first["length"]),
        guards.value_drift(figures["max_value"], reward_clip),
    ):
        if sentence:
            logger.warning("update %d: %s", len(history), sentence)
