"""From a reward model's raw score to the reward of every token. Pure maths.

The score is put on the scale of SFT samples, clipped, lowered when the response did not
end, and paid at the last real token; the KL is charged at every token.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from finllm_utils.files import read_json, write_json
from finllm_utils.rlhf.losses import kl_k1


@dataclass(frozen=True, slots=True)
class RewardStats:
    """Mean and standard deviation of raw scores on samples of the SFT model."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not self.std > 1e-6:
            raise ValueError(
                f"reward std={self.std}: the reward model gives all SFT samples the "
                "same score; train it longer (reward.num_pairs) before PPO"
            )

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        """Scores in standard deviations of SFT samples, their mean at 0."""
        return (np.asarray(scores, dtype=np.float64) - self.mean) / self.std

    def write(self, path: Path) -> None:
        """Writes ``{"mean": .., "std": ..}``."""
        write_json(path, {"mean": self.mean, "std": self.std})


def read_stats(path: Path) -> RewardStats:
    """The statistics that notebook 07 stored beside the reward model."""
    values = read_json(path)
    return RewardStats(mean=values["mean"], std=values["std"])


def token_rewards(
    scores_B: torch.Tensor,
    ended_B: torch.Tensor,
    logprobs_BT: torch.Tensor,
    ref_logprobs_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    kl_coef: float,
    reward_clip: float,
    missing_eos_penalty: float,
) -> torch.Tensor:
    """The reward of each response token, (B, T).

    -kl_coef x (logp - ref_logp) everywhere, plus the clipped score at the last real
    token. Source: arXiv 2009.01325, section 3.4; the EOS penalty is TRL's.
    Differs: summarize_from_feedback_details and TRL pay one column later, in the
    padding after EOS, and keep a value there; here EOS ends the response, and the value
    after it is 0.
    """
    paid_B = scores_B.clamp(-reward_clip, reward_clip)
    paid_B = paid_B - missing_eos_penalty * (~ended_B).to(paid_B.dtype)
    rewards_BT = -kl_coef * kl_k1(logprobs_BT, ref_logprobs_BT) * mask_BT
    last_B = mask_BT.sum(1) - 1
    rewards_BT[torch.arange(len(paid_B)), last_B] += paid_B.to(rewards_BT.dtype)
    return rewards_BT
