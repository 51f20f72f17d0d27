"""The critic: a second network that predicts the reward still to come at each token."""

import copy

import torch
from transformers import LlamaForSequenceClassification

from finllm_utils.rlhf.logprobs import response_hidden
from finllm_utils.rlhf.reward_signal import RewardStats
from finllm_utils.rlhf.rollout import Rollout


class Critic(torch.nn.Module):
    """A copy of the reward model that is read at every response token.

    Its output is on the scale of normalised rewards. Starting from the reward model is
    what makes the first advantages meaningful.
    """

    def __init__(
        self, reward_model: LlamaForSequenceClassification, stats: RewardStats
    ):
        """Copies the reward model; the original stays as it is."""
        super().__init__()
        self.network = copy.deepcopy(reward_model).eval()
        self.stats = stats

    def forward(
        self, rollout: Rollout, dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        """Values before each response token, (B, T) float32, 0 outside the mask."""
        hidden_BTD = response_hidden(self.network.model, rollout, dtype)
        raw_BT = self.network.score(hidden_BTD.float())[..., 0]
        return (raw_BT - self.stats.mean) / self.stats.std * rollout.response_mask_BT
