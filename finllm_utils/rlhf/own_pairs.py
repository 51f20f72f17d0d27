"""What a user adds to the training of the reward model: own pairs and feedback.

Own pairs are split by question, so that 07 can say how many of them the model judges
right that it has not seen. Notebook 07 calls this.
"""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from finllm_utils.config import RewardConfig
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.feedback import feedback_pairs, read_feedback
from finllm_utils.rlhf.preference_formats import read_preferences, text_key
from finllm_utils.rlhf.value_pairs import split_of


@dataclass(frozen=True, kw_only=True, slots=True)
class UserPairs:
    """The pairs that a user has given; all empty where none were."""

    train: list[PreferencePair]
    """Own pairs that are trained on; their leaks are not out yet."""
    feedback: list[PreferencePair]
    """The pairs in the feedback, all for training."""
    heldout: list[PreferencePair]
    """Own pairs of a quarter of the questions, never trained on."""


def read_user_pairs(cfg: RewardConfig, tokenizer: PreTrainedTokenizerBase) -> UserPairs:
    """The pairs in ``cfg.own_pairs`` and ``cfg.feedback``; an empty setting gives none.

    Which side an own pair is on hangs on its question alone, spaces and width aside.
    Raises: ValueError naming the setting for a path that is not there, and file and
    line for what is wrong in it, see ``read_preferences`` and ``read_feedback``; a pair
    longer than ``cfg.max_seq_len`` among it.
    """
    own = []
    if cfg.own_pairs:
        path = _existing("reward.own_pairs", cfg.own_pairs)
        own = read_preferences(path, tokenizer=tokenizer, max_seq_len=cfg.max_seq_len)
    said = []
    if cfg.feedback:
        path = _existing("reward.feedback", cfg.feedback)
        said = feedback_pairs(read_feedback(path)).pairs
    sides = {"train": [], "test": []}
    for pair in own:
        sides[split_of(text_key(pair.prompt))].append(pair)
    return UserPairs(train=sides["train"], feedback=said, heldout=sides["test"])


def _existing(setting: str, name: str) -> Path:
    path = Path(name).expanduser()
    if not path.exists():
        raise ValueError(f"{setting}: {path} does not exist; give an existing path")
    return path
