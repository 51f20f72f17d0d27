"""The reward models that notebook 07 left, as the reward functions that PPO takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerBase

from finllm_utils.rlhf.reward_model import (
    load_reward_model,
    require_same_tokenizer,
    save_reward_model,
    score_sequences,
)
from finllm_utils.rlhf.reward_signal import RewardStats, read_stats

BATCH_TOKENS = 4096  # a scoring pass; results do not depend on it


@dataclass(frozen=True, slots=True)
class StoredReward:
    """A reward model with the scale of its scores; calling it gives rewards."""

    model: LlamaForSequenceClassification
    stats: RewardStats
    eos_id: int

    def raw(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Scores of prompt and response as the model gives them; (B,) float64."""
        return score_sequences(
            self.model, sequences, batch_tokens=BATCH_TOKENS, close_with=self.eos_id
        )

    def __call__(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Scores in standard deviations of SFT samples; (B,) float64."""
        return self.stats.normalise(self.raw(sequences))

    def save(self, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        """Model and tokenizer in Hugging Face format, and ``stats.json``."""
        save_reward_model(self.model, tokenizer, folder)
        self.stats.write(folder / "stats.json")


def scaled_reward(
    model: LlamaForSequenceClassification,
    eos_id: int,
    sequences: Sequence[Sequence[int]],
) -> StoredReward:
    """``model`` with rewards of mean 0 and deviation 1 on ``sequences``.

    Args: sequences are prompts with answers of the SFT model.
    Raises: ValueError when all get the same score.
    """
    raw = StoredReward(model, RewardStats(0.0, 1.0), eos_id).raw(sequences)
    return StoredReward(model, RewardStats(float(raw.mean()), float(raw.std())), eos_id)


def load_reward(
    folder: Path | str, tokenizer: PreTrainedTokenizerBase, device: torch.device | str
) -> StoredReward:
    """The reward that ``StoredReward.save`` wrote to ``folder``.

    Raises: ValueError when there is none, or it was made for another tokenizer.
    """
    model = load_reward_model(folder).to(device)
    require_same_tokenizer(folder, tokenizer)
    stats = read_stats(Path(folder) / "stats.json")
    return StoredReward(model, stats, tokenizer.eos_token_id)
