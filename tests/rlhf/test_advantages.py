import torch

from finllm_utils.rlhf.advantages import WHITEN_EPS, gae, whiten


def test_gae_on_three_steps_by_hand():
    # gamma 0.5, lambda 0.5; delta = [1+.5*2-1, 0+.5*3-2, 4-3] = [1, -0.5, 1]
    # A2 = 1, A1 = -0.5 + .25*1 = -0.25, A0 = 1 + .25*-0.25 = 0.9375
    advantages, returns = gae(
        torch.tensor([[1.0, 0.0, 4.0]]),
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.ones(1, 3),
        gamma=0.5,
        gae_lambda=0.5,
    )
    assert torch.allclose(advantages, torch.tensor([[0.9375, -0.25, 1.0]]))
    assert torch.allclose(returns, torch.tensor([[1.9375, 1.75, 4.0]]))


def test_gae_ignores_padding_after_the_response():
    rewards, values = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.25]])
    settings = {"gamma": 1.0, "gae_lambda": 0.95}
    short = gae(rewards, values, torch.ones(1, 2), **settings)
    junk = torch.tensor([[9.0, 9.0]])
    long = gae(
        torch.cat([rewards, junk], 1),
        torch.cat([values, junk], 1),
        torch.tensor([[1, 1, 0, 0]]),
        **settings,
    )
    for a, b in zip(short, long, strict=True):
        assert torch.equal(a, b[:, :2])
        assert not b[:, 2:].any()


def test_lambda_one_gives_reward_to_go_minus_value():
    rewards, values = torch.rand(3, 5), torch.rand(3, 5)
    advantages, returns = gae(
        rewards, values, torch.ones(3, 5), gamma=1.0, gae_lambda=1.0
    )
    to_go = rewards.flip(1).cumsum(1).flip(1)
    assert torch.allclose(returns, to_go, atol=1e-6)
    assert torch.allclose(advantages, to_go - values, atol=1e-6)


def test_whiten_uses_valid_tokens_only():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 7.0, -100.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    white = whiten(values, mask)
    root5 = 5**0.5  # the variance of 1, 3, 5, 7 is 5, their mean 4
    expected = torch.tensor([[-3.0, -1.0], [1.0, 3.0]]) / root5
    assert torch.allclose(white[:, :2], expected, atol=1e-6)
    assert not white[:, 2].any()


def test_reward_whitening_keeps_the_mean_by_hand():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 7.0, -100.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    white = whiten(values, mask, shift_mean=False)
    # the mean of 1, 3, 5, 7 is 4, their variance 5
    expected = torch.tensor([[-3.0, -1.0], [1.0, 3.0]]) / 5**0.5 + 4
    assert torch.allclose(white[:, :2], expected, atol=1e-6)
    assert not white[:, 2].any()


def test_equal_values_whiten_to_zero():
    same, mask = torch.full((2, 2), 3.0), torch.ones(2, 2)
    assert not whiten(same, mask).any()
    assert torch.equal(whiten(same, mask, shift_mean=False), same)
    assert WHITEN_EPS == 1e-8
