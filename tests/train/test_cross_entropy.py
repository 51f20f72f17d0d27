"""Tiled cross-entropy equals the library's, in value and in both gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from finllm_utils.train.cross_entropy import TILE_ROWS, tiled_cross_entropy


def both(hidden, weight, labels):
    results = []
    for loss_of in (
        tiled_cross_entropy,
        lambda h, w, y: F.cross_entropy(F.linear(h, w).float(), y, reduction="sum"),
    ):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = loss_of(h, w, labels)
        (loss * 0.5).backward()
        results.append((loss.detach(), h.grad, w.grad))
    return results


def test_by_hand():
    # Two classes with logits ln 3 and 0: the first has probability 3/4.
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[math.log(3)], [0.0]])
    loss = tiled_cross_entropy(hidden, weight, torch.tensor([0]))
    assert loss.item() == pytest.approx(-math.log(3 / 4), abs=1e-6)


@pytest.mark.parametrize("vocab", [7, TILE_ROWS, TILE_ROWS * 2 + 5])
def test_equals_the_library_in_float32(vocab):
    torch.manual_seed(0)
    hidden, weight = torch.randn(33, 16), torch.randn(vocab, 16)
    labels = torch.randint(0, vocab, (33,))
    ours, theirs = both(hidden, weight, labels)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


def test_bfloat16_is_as_close_as_bfloat16_can_be():
    torch.manual_seed(0)
    hidden, weight = torch.randn(64, 32), torch.randn(2_000, 32) * 0.1
    labels = torch.randint(0, 2_000, (64,))
    exact = both(hidden, weight, labels)[1]
    ours, library = both(hidden.bfloat16(), weight.bfloat16(), labels)
    for a, b, c in zip(ours, exact, library, strict=True):
        assert (a - b).norm() <= 1.5 * (c - b).norm() + 1e-3 * b.norm()


def test_a_frequent_label_keeps_all_of_its_gradient():
    # 4,000 equal contributions: a bfloat16 sum would stop growing at 256.
    hidden = torch.ones(4_000, 1, dtype=torch.bfloat16)
    weight = torch.zeros(4, 1, dtype=torch.bfloat16)
    ours, _ = both(hidden, weight, torch.zeros(4_000, dtype=torch.long))
    assert ours[2][0].item() == pytest.approx(-0.5 * 4_000 * 3 / 4, rel=0.01)


@pytest.mark.parametrize("size", [200.0, -200.0])
def test_logits_beyond_exp_fall_back_to_the_library(size):
    hidden = torch.tensor([[1.0, 0.0]])
    weight = torch.tensor([[size, 0.0], [size + 1, 0.0]])
    ours, theirs = both(hidden, weight, torch.tensor([0]))
    assert ours[0] == pytest.approx(math.log(1 + math.e), abs=1e-3)
    assert torch.allclose(ours[2], theirs[2])
