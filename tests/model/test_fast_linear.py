"""oneDNN's products in place of MKL's: same values, and only where they are fit."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from finllm_utils.model import fast_linear
from finllm_utils.model.fast_linear import MIN_ROWS, FastLinear, linear

ONEDNN = "mkldnn._linear_pointwise.default"
needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)


class Ops(TorchDispatchMode):
    """Names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def with_kernels(monkeypatch):
    monkeypatch.setattr(fast_linear, "_has_kernels", lambda: True)


def operands(rows=MIN_ROWS, bias=True, dtype=torch.float32):
    torch.manual_seed(0)
    x, weight = torch.randn(rows, 24, dtype=dtype), torch.randn(40, 24, dtype=dtype)
    return x, weight, torch.randn(40, dtype=dtype) if bias else None


def used(call) -> bool:
    with torch.no_grad(), Ops() as ops:
        call()
    return ONEDNN in ops.names


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
def test_values_are_those_of_the_exact_product(with_kernels, bias):
    x, weight, offset = operands(bias=bias)
    exact = x.double() @ weight.double().T
    if bias:
        exact += offset.double()
    with torch.no_grad():
        for given in (x, x.view(4, -1, 24), x.view(4, -1, 24).transpose(0, 1)):
            wanted = exact.view(4, -1, 40)
            found = linear(given, weight, offset).double()
            if given.ndim == 3 and not given.is_contiguous():
                wanted = wanted.transpose(0, 1)
            torch.testing.assert_close(
                found, wanted.reshape(found.shape), atol=1e-5, rtol=0
            )
    assert used(lambda: linear(x, weight, offset))


@needs_onednn
def test_a_layer_takes_it_inside_the_context_only(with_kernels):
    layer, x = nn.Linear(24, 40), operands()[0]
    assert not used(lambda: layer(x))

    def inside():
        with FastLinear():
            return layer(x)

    assert used(inside)
    with torch.no_grad():
        torch.testing.assert_close(inside(), layer(x), atol=1e-5, rtol=0)


@needs_onednn
def test_what_does_not_fit_stays_with_pytorch(with_kernels, monkeypatch):
    x, weight, _ = operands()
    assert used(lambda: linear(x, weight))
    assert not used(lambda: linear(x[1:], weight))
    assert not used(lambda: linear(x.bfloat16(), weight.bfloat16()))
    monkeypatch.setattr(fast_linear, "_has_kernels", lambda: False)
    assert not used(lambda: linear(x, weight))


def test_gradients_flow_as_before(with_kernels):
    layer, x = nn.Linear(24, 40), operands()[0]
    with FastLinear():
        layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.sum(0).expand(40, 24))


def test_a_cpu_without_avx512_does_without(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not fast_linear._has_kernels()
