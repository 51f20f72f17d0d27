"""The critic: a second network that predicts the reward still to come at each token."""

import copy

import torch
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from finllm_utils.rlhf.logprobs import response_hidden
from finllm_utils.rlhf.readout import running_scores
from finllm_utils.rlhf.reward_signal import RewardStats
from finllm_utils.rlhf.rollout import Rollout


class Critic(torch.nn.Module):
    """A copy of the reward model that is read at every response token.

    Its output is on the scale of normalised rewards. Starting from the reward model is
    what makes the first advantages meaningful. Of a token-level one it is the mean
    score so far.
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
        raw_BT = running_scores(self.network, hidden_BTD)
        return (raw_BT - self.stats.mean) / self.stats.std * rollout.response_mask_BT


def fresh_critic(policy: LlamaForCausalLM) -> Critic:
    """A critic that begins at 0 everywhere: the policy's layers under a head of zeros.

    For rewards that no reward model gives, such as rules. It has to learn what they are
    before its advantages mean anything: set ``ppo.critic_warmup_updates`` to 5 or more.
    """
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    with torch.device("meta"):  # no memory and no random numbers for what is replaced
        network = LlamaForSequenceClassification(config)
    network.model = policy.model  # Critic copies it
    network.score.to_empty(device=policy.device)
    torch.nn.init.zeros_(network.score.weight)
    return Critic(network, RewardStats(mean=0.0, std=1.0))
