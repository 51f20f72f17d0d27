import math

import pytest
import torch

from finllm_utils.rlhf.losses import (
    MAX_LOG_RATIO,
    kl_k1,
    kl_k3,
    log_ratio,
    masked_mean,
    policy_loss,
    value_loss,
)


def test_policy_loss_by_hand():
    # ratios 1.5 (clipped to 1.2 where that is worse), 0.5 and a masked token
    new = torch.log(torch.tensor([[1.5, 0.5, 9.0]]))
    loss = policy_loss(
        new,
        torch.zeros(1, 3),
        torch.tensor([[1.0, -2.0, 5.0]]),
        torch.tensor([[1, 1, 0]]),
        clip_range=0.2,
        num_tokens=2,
    )
    # token 0: max(-1.5, -1.2) = -1.2; token 1: max(2*0.5, 2*0.8) = 1.6
    assert loss.item() == pytest.approx((-1.2 + 1.6) / 2, abs=1e-6)


def test_clipped_gain_has_no_gradient():
    new = torch.tensor([[math.log(1.5)]], requires_grad=True)
    policy_loss(
        new,
        torch.zeros(1, 1),
        torch.ones(1, 1),
        torch.ones(1, 1),
        clip_range=0.2,
        num_tokens=1,
    ).backward()
    assert new.grad.item() == 0.0


def dual(new_ratio, advantage, dual_clip):
    new = torch.tensor([[math.log(new_ratio)]], requires_grad=True)
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    loss = policy_loss(
        new, zero, one * advantage, one, clip_range=0.2, num_tokens=1,
        dual_clip=dual_clip,
    )  # fmt: skip
    loss.backward()
    return loss.item(), new.grad.item()


def test_dual_clip_by_hand():
    # A = -2 at ratio 5: max(2 x 5, 2 x 1.2) = 10, bounded at 3 x 2 and then flat
    assert dual(5.0, -2.0, 0.0) == pytest.approx((10.0, 10.0), rel=1e-5)
    assert dual(5.0, -2.0, 3.0) == pytest.approx((6.0, 0.0), rel=1e-5)
    # below the bound, and at a positive advantage, it changes nothing
    assert dual(2.5, -2.0, 3.0) == pytest.approx((5.0, 5.0), rel=1e-5)
    assert dual(0.5, -2.0, 3.0) == pytest.approx((1.6, 0.0), rel=1e-5)
    assert dual(5.0, 2.0, 3.0) == pytest.approx((-2.4, 0.0), rel=1e-5)


def test_value_loss_by_hand():
    # unclipped (2-0)^2 = 4; clipped value 1+0.2 = 1.2 -> 1.44: the larger counts
    loss = value_loss(
        torch.tensor([[2.0]]),
        torch.tensor([[1.0]]),
        torch.tensor([[0.0]]),
        torch.ones(1, 1),
        value_clip_range=0.2,
        num_tokens=1,
    )
    assert loss.item() == pytest.approx(2.0)


def test_micro_batches_sum_to_the_whole_batch():
    new, old, adv = torch.randn(3, 4, 6).unbind(0)
    mask = (torch.arange(6)[None] < torch.tensor([[1], [6], [2], [4]])).long()
    settings = {"clip_range": 0.2, "num_tokens": int(mask.sum())}
    whole = policy_loss(new, old, adv, mask, **settings)
    halves = sum(
        policy_loss(new[p], old[p], adv[p], mask[p], **settings)
        for p in (slice(0, 1), slice(1, 4))
    )
    assert torch.allclose(whole, halves, atol=1e-6)


def test_kl_estimators_on_known_distributions():
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.4, 0.4, 0.2])
    exact = (p * (p / q).log()).sum()
    for estimator in (kl_k1, kl_k3):  # the expectation under p is the KL, exactly
        assert torch.allclose((p * estimator(p.log(), q.log())).sum(), exact, atol=1e-6)
    assert (kl_k1(p.log(), q.log()) < 0).any()
    assert (kl_k3(p.log(), q.log()) >= 0).all()


def test_log_ratios_are_clamped_at_20():
    assert MAX_LOG_RATIO == 20.0
    ratios = log_ratio(torch.tensor([25.0, 19.0, -25.0]), torch.zeros(3))
    assert ratios.tolist() == [20.0, 19.0, -20.0]


def test_log_ratio_is_clamped_and_mean_is_masked():
    assert log_ratio(torch.tensor(1e4), torch.tensor(0.0)).exp().isfinite()
    mean = masked_mean(torch.tensor([[2.0, 4.0, 100.0]]), torch.tensor([[1, 1, 0]]))
    assert mean.item() == 3.0
