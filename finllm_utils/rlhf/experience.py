"""A rollout with all that is known of it before the first step, and its figures.

``ppo`` fills it, learns from it and watches what the figures say.
"""

import logging
from dataclasses import dataclass

import torch

from finllm_utils.rlhf import guards, losses, processes
from finllm_utils.rlhf.rollout import Rollout
from finllm_utils.train.parallel import current_world

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
    heldout_B: torch.Tensor | None = None
    """Scores of a judge that nothing learns from."""

    @property
    def kl_B(self) -> torch.Tensor:
        """Sum over each response of log p - log p_ref, in nats."""
        return losses.kl_k1(self.logprobs_BT, self.ref_logprobs_BT).sum(1)


def experience_figures(experience: Experience, eos_id: int) -> dict[str, float]:
    """Means over the responses; KL in nats a response, entropy in nats a token.

    A judge's ``_error`` is the standard error of its mean over all processes.
    """
    rollout, mask_BT = experience.rollout, experience.rollout.response_mask_BT
    k3_BT = losses.kl_k3(experience.logprobs_BT, experience.ref_logprobs_BT)
    responses = rollout.response_ids()
    judged = _score_figures("score", experience.scores_B)
    if experience.heldout_B is not None:
        judged |= _score_figures("heldout_score", experience.heldout_B)
    return judged | {
        "kl_nats": experience.kl_B.mean().item(),
        "kl_k3_nats": (k3_BT * mask_BT).sum(1).mean().item(),
        "entropy": experience.entropy,
        "length": rollout.lengths_B.float().mean().item(),
        "eos_share": rollout.ended_B(eos_id).float().mean().item(),
        "unique_share": len({tuple(r) for r in responses}) / len(responses),
        "max_value": experience.values_BT.abs().max().item(),
    }


def _score_figures(name: str, scores_B: torch.Tensor) -> dict[str, float]:
    _, deviation = processes.mean_and_deviation(scores_B)
    count = len(scores_B) * current_world().size
    error = deviation.item() / max(1, count - 1) ** 0.5
    return {name: scores_B.mean().item(), f"{name}_error": error}


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
) -> dict[str, float]:
    """Stops on a broken invariant; logs each kind of drift.

    Args: history holds the figures of the updates before.
    Returns: ``warned_<kind>`` for the history, 1 where a drift spoke and 0 elsewhere.
    """
    guards.require_finite(figures)
    guards.require_kl_not_negative(experience.kl_B)
    found = guards.drifts([*history, figures], reward_clip)
    for sentence in found.values():
        if sentence:
            logger.warning("update %d: %s", len(history), sentence)
    return {f"warned_{kind}": float(bool(said)) for kind, said in found.items()}
