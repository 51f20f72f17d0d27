"""Float32 masters against torch's own AdamW, and rows that must not move."""

import dataclasses
import math

import pytest
import torch

from finllm_utils.train.optim import MasterAdamW
from tests.train import tiny


def layer_and_optimizer(cfg=tiny.CFG, dtype=torch.float32, **options):
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 6, dtype=dtype)
    return layer, MasterAdamW(layer, cfg, set(), **options)


def test_steps_equal_torchs_adamw_with_decay_on_matrices_only():
    layer, ours = layer_and_optimizer()
    theirs = torch.nn.Linear(4, 6)
    theirs.load_state_dict(layer.state_dict())
    groups = [
        {"params": [theirs.weight], "weight_decay": tiny.CFG.weight_decay},
        {"params": [theirs.bias], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=tiny.CFG.learning_rate, betas=(0.9, 0.95))
    for step in range(5):
        x = torch.randn(3, 4) * (step + 1)
        for one in (layer, theirs):
            one(x).square().sum().backward()
        norm = ours.step(1.0)
        total = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()
        assert norm == pytest.approx(total.item(), rel=1e-5)
    assert torch.allclose(layer.weight, theirs.weight, atol=1e-6)
    assert torch.allclose(layer.bias, theirs.bias, atol=1e-6)
    assert layer.weight.grad is None


def test_micro_batches_are_added_in_float32():
    """1 + 8 x 2^-9 is 1 in bfloat16 sums, and 1.015625 in float32."""
    cfg = dataclasses.replace(tiny.CFG, max_grad_norm=0.0)
    layer = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    optimizer = MasterAdamW(layer, cfg, set())
    for value in [1.0] + [2.0**-9] * 8:
        layer.weight.grad = torch.full_like(layer.weight, value)
        optimizer.collect()
    assert optimizer.clip() == 1.015625


def test_a_float32_model_may_be_its_own_master():
    (one, separate), (two, shared) = (
        layer_and_optimizer(separate=True),
        layer_and_optimizer(separate=False),
    )
    assert shared.masters()["weight"] is two.weight
    for _ in range(3):
        for layer, optimizer in ((one, separate), (two, shared)):
            layer(torch.ones(1, 4)).sum().backward()
            optimizer.collect()
            layer(torch.ones(1, 4)).square().sum().backward()
            optimizer.step(0.5)
    assert torch.equal(one.weight, two.weight) and torch.equal(one.bias, two.bias)


def test_only_new_rows_move_and_only_their_gradient_counts():
    torch.manual_seed(0)
    table = torch.nn.Embedding(6, 2, dtype=torch.bfloat16)
    start = table.weight.detach().clone()
    optimizer = MasterAdamW(table, tiny.CFG, {"weight"}, first_row=4)
    for _ in range(3):
        table.weight.grad = torch.full_like(table.weight, 0.5)
        assert optimizer.step(1.0) == pytest.approx(0.5 * math.sqrt(4))
    assert torch.equal(table.weight[:4], start[:4])
    assert torch.equal(optimizer.masters()["weight"][:4], start[:4].float())
    assert not torch.equal(table.weight[4:], start[4:])


def test_state_goes_to_another_optimizer_exactly():
    (one, first), (two, second) = layer_and_optimizer(), layer_and_optimizer()

    def step(layer, optimizer, value):
        layer(torch.full((1, 4), value)).square().sum().backward()
        optimizer.step(1.0)

    for value in (1.0, 2.0, 3.0):
        step(one, first, value)
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    assert len(state) == 6  # master and two moments of weight and bias
    assert first.state_bytes() == 3 * 4 * (24 + 6)
    for name, tensor in second.state().items():
        tensor.copy_(state[name])
    second.state_loaded(3)
    assert torch.equal(one.weight, two.weight)
    step(one, first, 4.0)
    step(two, second, 4.0)
    assert torch.equal(one.weight, two.weight) and torch.equal(one.bias, two.bias)
