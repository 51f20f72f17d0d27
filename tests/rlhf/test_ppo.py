import copy
import dataclasses

import numpy as np
import pytest
import torch
from transformers import LlamaForSequenceClassification

from finllm_utils.profiles import load_profile
from finllm_utils.rlhf import ppo
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.guards import PPOFault
from finllm_utils.rlhf.policy_report import (
    PolicySamples,
    length_adjusted_gain,
    length_slope,
    reward_gain,
    sample_policy,
)
from finllm_utils.rlhf.reward_signal import RewardStats, token_rewards
from tests.rlhf.conftest import EOS, PAD, tiny_config

LIKED = 9


@pytest.fixture
def cfg():
    return dataclasses.replace(
        load_profile("toy").ppo,
        num_updates=6,
        rollout_batch_size=32,
        max_new_tokens=6,
        num_ppo_epochs=2,
        num_mini_batches=2,
        learning_rate=5e-3,
        critic_learning_rate=5e-3,
        kl_coef=0.02,
        missing_eos_penalty=1.0,
        train_embeddings=True,
    )


def share_of_liked(sequences):
    return np.array([np.mean([t == LIKED for t in s[2:]]) * 4 for s in sequences])


def _train(policy, reward_model, cfg, reward_function=share_of_liked, **changes):
    ids = {"eos_id": EOS, "pad_id": PAD, "seed": 0} | changes
    ref = copy.deepcopy(policy)
    critic = Critic(reward_model, RewardStats(mean=0.0, std=1.0))
    prompts = [[1, 10 + i % 20] for i in range(64)]
    return ppo.train_ppo(policy, ref, critic, reward_function, prompts, cfg, **ids)


def test_reward_is_paid_at_the_last_token_and_kl_everywhere():
    rewards = token_rewards(
        torch.tensor([9.0, 1.0]),
        torch.tensor([True, False]),
        torch.tensor([[-1.0, -2.0, 0.0], [-1.0, -1.0, -1.0]]),
        torch.tensor([[-2.0, -2.0, 0.0], [-1.0, -1.0, -1.5]]),
        torch.tensor([[1, 1, 0], [1, 1, 1]]),
        kl_coef=0.1,
        reward_clip=5.0,
        missing_eos_penalty=1.0,
    )
    expected = [[-0.1, 5.0, 0.0], [0.0, 0.0, 1.0 - 1.0 - 0.05]]
    assert torch.allclose(rewards, torch.tensor(expected), atol=1e-6)


def test_ppo_raises_the_share_of_a_liked_token(policy, reward_model, cfg):
    history = _train(policy, reward_model, cfg)
    assert history[0]["first_ratio_deviation"] < 1e-5
    assert history[0]["kl_nats"] == pytest.approx(0.0, abs=1e-6)
    assert history[-1]["score"] > history[0]["score"] + 0.5
    assert history[-1]["kl_nats"] > 0
    assert all(line["kl_k3_nats"] >= 0 for line in history)


def test_same_seed_same_run(policy, reward_model, cfg):
    cfg = dataclasses.replace(cfg, num_updates=2)
    twin = copy.deepcopy(policy)
    assert _train(policy, reward_model, cfg) == _train(twin, reward_model, cfg)
    for a, b in zip(policy.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_first_ratio_is_one_in_every_epoch_setting(policy, reward_model, cfg):
    cfg = dataclasses.replace(cfg, num_updates=1, num_mini_batches=4, temperature=0.7)
    history = _train(policy, reward_model, cfg)
    assert history[0]["first_ratio_deviation"] < 1e-4


def test_frozen_embeddings_stay(policy, reward_model, cfg):
    before = policy.model.embed_tokens.weight.clone()
    inner = policy.model.layers[0].mlp.up_proj.weight.clone()
    cfg = dataclasses.replace(cfg, num_updates=1, train_embeddings=False)
    _train(policy, reward_model, cfg)
    assert torch.equal(before, policy.model.embed_tokens.weight)
    assert not torch.equal(inner, policy.model.layers[0].mlp.up_proj.weight)


def test_dropout_is_named_by_the_first_ratio(policy, reward_model, cfg, monkeypatch):
    inner = ppo.response_logprobs

    def noisy(model, *args, **kwargs):
        return inner(model, *args, **kwargs) + 0.1 * torch.rand(1)

    monkeypatch.setattr(ppo, "response_logprobs", noisy)
    with pytest.raises(PPOFault, match="first mini-batch.*dropout"):
        _train(policy, reward_model, cfg)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_rounded_token_stops_float32_only(
    policy, reward_model, cfg, monkeypatch, dtype
):
    """bfloat16 moves single tokens by several per cent: no fault of the loop."""
    inner = ppo.response_logprobs

    def rounded(model, *args, **kwargs):
        logprobs = inner(model, *args, **kwargs)
        shift = torch.zeros_like(logprobs)
        shift[0, 0] = 0.05
        return logprobs + shift

    monkeypatch.setattr(ppo, "response_logprobs", rounded)
    cfg = dataclasses.replace(cfg, num_updates=1)
    if dtype == torch.bfloat16:
        assert _train(policy, reward_model, cfg, dtype=dtype)
        return
    with pytest.raises(PPOFault, match="has max"):
        _train(policy, reward_model, cfg, dtype=dtype)


def test_wrong_sampling_temperature_shows_as_negative_kl(
    policy, reward_model, cfg, monkeypatch
):
    inner = ppo.sample_rollout

    def hot(model, prompts, **kwargs):
        return inner(model, prompts, **(kwargs | {"temperature": 50.0}))

    monkeypatch.setattr(ppo, "sample_rollout", hot)
    cfg = dataclasses.replace(cfg, num_updates=30, num_ppo_epochs=4)
    with pytest.raises(PPOFault, match="KL to the reference is negative"):
        _train(policy, reward_model, cfg)


def test_broken_rewards_and_tokens_are_named(policy, reward_model, cfg):
    with pytest.raises(PPOFault, match="EOS and PAD are the same"):
        _train(policy, reward_model, cfg, pad_id=EOS)
    with pytest.raises(PPOFault, match="score that is not finite"):
        _train(policy, reward_model, cfg, lambda s: np.full(len(s), np.nan))
    few = dataclasses.replace(cfg, rollout_batch_size=128)
    with pytest.raises(ValueError, match="rollout_batch_size=128"):
        _train(policy, reward_model, few)


def test_critic_is_a_copy():
    model = LlamaForSequenceClassification(tiny_config())
    critic = Critic(model, RewardStats(mean=0.0, std=1.0))
    critic.network.score.weight.data.zero_()
    assert model.score.weight.abs().sum() > 0


def test_sample_policy_before_equals_itself(policy):
    settings = {"max_new_tokens": 5, "eos_id": EOS, "pad_id": PAD, "seed": 3}
    prompts = [[1, 10 + i] for i in range(6)]
    first = sample_policy(
        policy, None, share_of_liked, prompts, batch_size=4, **settings
    )
    again = sample_policy(
        policy, policy, share_of_liked, prompts, batch_size=4, **settings
    )
    assert first.responses == again.responses and len(first.responses) == 6
    assert np.abs(again.kl_nats).max() == 0
    assert np.array_equal(first.rewards, again.rewards)


def _samples(rewards, lengths):
    return PolicySamples(
        responses=[[1, 2, 1, 2], [3], [3]][: len(rewards)],
        rewards=np.array(rewards, dtype=float),
        lengths=np.array(lengths, dtype=float),
        ended=np.array([True] * len(rewards)),
        kl_nats=np.zeros(len(rewards)),
    )


def test_gains_by_hand():
    before = _samples([1.0, 2.0, 3.0], [10, 20, 30])  # 0.1 a token, std sqrt(2/3)
    after = _samples([4.0, 4.0, 4.0], [30, 30, 30])
    std = (2 / 3) ** 0.5
    assert length_slope(before) == pytest.approx(0.1)
    assert reward_gain(before, after) == pytest.approx(2 / std)
    assert length_adjusted_gain(before, after) == pytest.approx(1 / std)
    assert before.unique_ratio == pytest.approx(2 / 3)
    # bigrams of 1 2 1 2: (1,2) (2,1) (1,2), one of three is a repeat
    assert before.repeated_ratio == pytest.approx((1 / 3) / 3)
