"""What PPO changed: reward, KL, length, ends and variety on unseen prompts.

Before and after answer the same prompts with the same seeds. A gain in reward means
little alone, so the part that length explains is taken out, and samples are kept.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import LlamaForCausalLM

from finllm_utils.rlhf.logprobs import response_logprobs
from finllm_utils.rlhf.ppo import RewardFunction
from finllm_utils.rlhf.rollout import sample_rollout


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicySamples:
    """One response a prompt, and what was measured on it."""

    responses: list[list[int]]
    rewards: np.ndarray
    lengths: np.ndarray
    ended: np.ndarray
    kl_nats: np.ndarray

    @property
    def unique_ratio(self) -> float:
        """Share of responses that differ from all before them."""
        return len({tuple(r) for r in self.responses}) / len(self.responses)

    @property
    def repeated_ratio(self) -> float:
        """Mean share of a response's token bigrams that it has used before."""
        return float(np.mean([repeated_share(ids) for ids in self.responses]))


def repeated_share(items: Sequence[Hashable]) -> float:
    """Share of the pairs of neighbours that were there before; of tokens or a text.

    Example: "abab" has ab, ba, ab: 1/3.
    """
    pairs = list(zip(items[:-1], items[1:], strict=True))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0


def sample_policy(
    policy: LlamaForCausalLM,
    ref_policy: LlamaForCausalLM | None,
    reward_function: RewardFunction,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_id: int,
    pad_id: int,
    seed: int,
    batch_size: int = 64,
    dtype: torch.dtype = torch.float32,
) -> PolicySamples:
    """Samples at temperature 1 and measures; without ``ref_policy`` the KL is 0.

    KL of a response = sum over its tokens of log p - log p_ref, both in ``dtype``.
    """
    responses, sequences, ended, kl = [], [], [], []
    for begin in range(0, len(prompts), batch_size):
        rollout = sample_rollout(
            policy,
            prompts[begin : begin + batch_size],
            max_new_tokens=max_new_tokens,
            temperature=1.0,
            eos_id=eos_id,
            pad_id=pad_id,
            seed=seed + begin,
        )
        responses += rollout.response_ids()
        sequences += rollout.sequences()
        ended += rollout.ended_B(eos_id).tolist()
        if ref_policy is None:
            kl += [0.0] * len(rollout.lengths_B)
            continue
        with torch.no_grad():
            own_BT, ref_BT = (
                response_logprobs(model, rollout, temperature=1.0, dtype=dtype)
                for model in (policy, ref_policy)
            )
        kl += (own_BT - ref_BT).double().sum(1).tolist()
    return PolicySamples(
        responses=responses,
        rewards=np.asarray(reward_function(sequences), dtype=np.float64),
        lengths=np.array([len(r) for r in responses], dtype=np.float64),
        ended=np.array(ended),
        kl_nats=np.array(kl),
    )


def rewarded(
    samples: PolicySamples,
    reward_function: RewardFunction,
    prompts: Sequence[Sequence[int]],
) -> PolicySamples:
    """The same responses to ``prompts`` with the rewards of another judge."""
    rows = zip(prompts, samples.responses, strict=True)
    given = reward_function([[*prompt, *response] for prompt, response in rows])
    return replace(samples, rewards=np.asarray(given, dtype=np.float64))


def reward_gain(before: PolicySamples, after: PolicySamples) -> float:
    """(mean after - mean before) / standard deviation before."""
    difference = after.rewards.mean() - before.rewards.mean()
    return float(difference / before.rewards.std())


def length_adjusted_gain(before: PolicySamples, after: PolicySamples) -> float:
    """The gain that remains when the part explained by response length is removed.

    A line reward = a + b x length is fitted on the samples before; what it predicts
    from the new lengths is not counted as gain.
    """
    slope = length_slope(before)
    explained = slope * (after.lengths.mean() - before.lengths.mean())
    difference = after.rewards.mean() - before.rewards.mean() - explained
    return float(difference / before.rewards.std())


def length_slope(samples: PolicySamples) -> float:
    """Least-squares change of the reward for one more response token."""
    spread = samples.lengths - samples.lengths.mean()
    if not spread.any():
        return 0.0
    return float((spread * samples.rewards).sum() / (spread**2).sum())
