"""Float32 matrix products on a CPU by oneDNN, for scoring without gradients.

PyTorch sends them to MKL, which gives CPUs of other makers than Intel no AVX-512:
there oneDNN, which PyTorch ships as well, is twice as fast. Sums are taken in another
order, so values agree to float32 rounding.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

MIN_ROWS = 16
"""Fewer rows are no faster: oneDNN packs the weight for every product."""


class FastLinear(TorchFunctionMode):
    """``with FastLinear():`` takes every linear layer that can be taken that way.

    Everything else is untouched: other devices and types, few rows, gradients, and
    CPUs without AVX-512.
    """

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: dict | None = None,
    ):
        if func is F.linear and not kwargs:
            return linear(*args)
        return func(*args, **(kwargs or {}))


def linear(
    x: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor | None = None
) -> torch.Tensor:
    """``x @ weight.T + bias``: what ``F.linear`` gives, to float32 rounding."""
    if _suits(x, weight_OI):
        return torch.ops.mkldnn._linear_pointwise(x, weight_OI, bias_O, "none", [], "")
    with torch._C.DisableTorchFunction():
        return F.linear(x, weight_OI, bias_O)


def _suits(x: torch.Tensor, weight_OI: torch.Tensor) -> bool:
    return (
        x.dtype == weight_OI.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() >= MIN_ROWS * weight_OI.shape[1]
        and not torch.is_grad_enabled()
        and _has_kernels()
    )


def _has_kernels() -> bool:
    """Whether oneDNN is there and this CPU has what it is faster with."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
    )
