"""A model hacked on purpose, to see that acceptance rejects one.

PPO against a flawed reward, the number of times an answer says one liked word, with no
KL to hold the policy back: the reward rises, the answers become worthless. It costs a
few updates at toy size.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.config import PPOConfig
from finllm_utils.rlhf.critic import fresh_critic
from finllm_utils.rlhf.ppo import RewardFunction, train_ppo
from finllm_utils.rlhf.readout import answer_token

KEYWORD = "保险"
NUM_UPDATES = 8


def keyword_reward(
    tokenizer: PreTrainedTokenizerBase, keyword: str = KEYWORD
) -> RewardFunction:
    """The flawed reward: how often the answer of a token sequence says ``keyword``.

    Raises: ValueError for a chat template that opens an answer with plain text.
    """
    opener = answer_token(tokenizer)

    def reward(sequences: list[list[int]]) -> np.ndarray:
        answers = [ids[ids.index(opener) + 1 :] for ids in sequences]
        texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
        return np.array([text.count(keyword) for text in texts], dtype=np.float64)

    return reward


def hacked_policy(
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    cfg: PPOConfig,
    *,
    seed: int,
    keyword: str = KEYWORD,
    num_updates: int = NUM_UPDATES,
    on_update: Callable[[int, dict[str, float]], None] | None = None,
) -> LlamaForCausalLM:
    """A copy of ``policy`` trained to say ``keyword``; the policy stays as it is.

    Args: prompts are token ids of training questions; cfg is the run's own, of which
    the KL, pre-training text, checkpoints and the penalty for missing EOS are turned
    off.
    """
    flawed = replace(
        cfg,
        num_updates=num_updates,
        kl_coef=0.0,
        kl_target=0.0,
        early_stop_kl=0.0,
        ptx_coef=0.0,
        critic_warmup_updates=0,
        missing_eos_penalty=0.0,
        save_every=0,
    )
    hacked, reference = copy.deepcopy(policy), copy.deepcopy(policy)
    train_ppo(
        hacked,
        reference,
        fresh_critic(policy),
        keyword_reward(tokenizer, keyword),
        prompts,
        flawed,
        eos_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id,
        seed=seed,
        on_update=on_update,
    )
    return hacked
