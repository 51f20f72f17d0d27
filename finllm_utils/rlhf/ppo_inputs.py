"""What PPO is given, checked before it costs anything.

``train_ppo`` checks networks, prompts and settings before it begins. Of every rollout
it checks responses and scores before it learns from them (PPOFault): weights, moments
and checkpoints are then those of the update before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from finllm_utils.config import PPOConfig
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.guards import PPOFault, require_distinct_pad
from finllm_utils.rlhf.processes import require_even_shares
from finllm_utils.rlhf.rollout import Rollout

RewardFunction = Callable[[list[list[int]]], np.ndarray]
"""From token sequences, prompt and response, to one score each."""
SHOWN = 8  # token ids of a faulty row that a message quotes


def require_inputs(
    policy: LlamaForCausalLM,
    ref_policy: LlamaForCausalLM,
    critic: Critic,
    prompts: Sequence[Sequence[int]],
    cfg: PPOConfig,
    eos_id: int | None,
    pad_id: int | None,
) -> None:
    """Checks what needs no forward pass.

    A prompt needs a token, ids of the vocabulary, and room for its response in the
    context of all three networks.
    Raises: PPOFault for missing or equal EOS and PAD; ValueError for networks that do
    not fit together, an unfit prompt and batches that do not divide.
    """
    require_distinct_pad(eos_id, pad_id)
    require_even_shares(cfg)
    configs = {
        "policy": policy.config,
        "reference": ref_policy.config,
        "critic": critic.network.config,
    }
    _require_one_vocabulary(configs)
    _require_fitting_prompts(prompts, configs, cfg.max_new_tokens)


def _require_one_vocabulary(configs: Mapping[str, LlamaConfig]) -> None:
    vocab_size = configs["policy"].vocab_size
    for name, config in configs.items():
        if config.vocab_size != vocab_size:
            raise ValueError(
                f"the {name} has a vocabulary of {config.vocab_size} tokens and the "
                f"policy one of {vocab_size}: the same id is another token; make both "
                "from models with one tokenizer"
            )


def _require_fitting_prompts(
    prompts: Sequence[Sequence[int]],
    configs: Mapping[str, LlamaConfig],
    max_new_tokens: int,
) -> None:
    vocab_size = configs["policy"].vocab_size
    name = min(configs, key=lambda n: configs[n].max_position_embeddings)
    context = configs[name].max_position_embeddings
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(
                f"prompts[{number}] is empty: a response needs a token to follow; "
                "drop it, or begin it with BOS"
            )
        if not 0 <= min(prompt) <= max(prompt) < vocab_size:
            raise ValueError(
                f"prompts[{number}] has token ids from {min(prompt)} to {max(prompt)}, "
                f"the policy knows 0 to {vocab_size - 1}: encode it with the policy's "
                "tokenizer"
            )
        if len(prompt) + max_new_tokens > context:
            raise ValueError(
                f"prompts[{number}] has {len(prompt)} tokens: with ppo.max_new_tokens="
                f"{max_new_tokens} that is more than the {name}'s context of "
                f"{context}; lower one, or drop prompts of more than "
                f"{context - max_new_tokens} tokens (ppo.max_prompt_len)"
            )


def require_responses(rollout: Rollout) -> None:
    """Raises PPOFault naming the rows that have no response token."""
    empty = (rollout.lengths_B == 0).nonzero()[:, 0].tolist()
    if empty:
        raise PPOFault(
            f"{_rows(empty, rollout.sequences())} has no response token: there is "
            "nothing to pay a reward for; a sampler must give one token or more, EOS "
            "itself at least"
        )


def checked_scores(
    reward_function: RewardFunction, rollout: Rollout, name: str = "reward_function"
) -> torch.Tensor:
    """Scores of the rollout's sequences, (B,) float32 on its device.

    Args: name is what messages call the function.
    Raises: PPOFault unless it gives a finite number for each sequence.
    """
    sequences = rollout.sequences()
    given = reward_function(sequences)
    try:
        scores_B = torch.as_tensor(
            given, dtype=torch.float32, device=rollout.ids_BL.device
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise PPOFault(
            f"{name} returned {type(given).__name__}, which is no array of numbers "
            f"({error}): return one score a sequence"
        ) from error
    if scores_B.shape != (len(sequences),):
        raise PPOFault(
            f"{name} returned scores of shape {tuple(scores_B.shape)} for "
            f"{len(sequences)} sequences: return a flat array, one score a sequence"
        )
    bad = (~scores_B.isfinite()).nonzero()[:, 0].tolist()
    if bad:
        raise PPOFault(
            f"{name} gave a score that is not finite, {scores_B[bad[0]]:g}, to "
            f"{_rows(bad, sequences)}: nothing was learnt from this rollout; score "
            "that sequence alone, mend the function or the reward model's statistics, "
            "and start again from the last checkpoint"
        )
    return scores_B


def _rows(rows: Sequence[int], sequences: Sequence[Iterable[int]]) -> str:
    """The first of the rows with its token ids, and how many more there are."""
    ids = [int(token) for token in sequences[rows[0]]]
    shown = " ".join(map(str, ids[:SHOWN])) + (" ..." if len(ids) > SHOWN else "")
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"row {rows[0]} of the rollout (token ids {shown}){more}"
