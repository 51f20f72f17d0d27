"""Compiling a model's layers with ``torch.compile``, where that pays.

Layers are compiled one by one and in place: they are alike, so one compilation serves
all of them; names of weights stay as they are, and saving needs no undoing.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

BREAK_EVEN_STEPS = 200
"""Steps from which "auto" compiles when nothing else is known of the pass."""
SAVED_NS = 60.0
"""Nanoseconds that compiled layers save on a CPU per token, layer and number of the
hidden state, forward and backward in bfloat16: what is saved is elementwise work.
Measured on one busy core: 130 at a width of 192, 170 at 576; half, for an idle one."""
COMPILE_S = 20.0
"""Seconds that compiling takes on a CPU; layers are alike, so their number is no
matter."""


def is_worth_it(
    model: PreTrainedModel,
    expected_steps: int | None,
    tokens_per_step: int | None,
    device: str | torch.device = "cpu",
) -> bool:
    """Will compiled layers save more time than compiling takes?

    On an accelerator, or without ``tokens_per_step``, from ``BREAK_EVEN_STEPS`` on.
    """
    if expected_steps is None:
        return True
    if tokens_per_step is None or str(device) != "cpu":
        return expected_steps >= BREAK_EVEN_STEPS
    config = model.config
    numbers = tokens_per_step * config.num_hidden_layers * config.hidden_size
    return expected_steps * numbers * SAVED_NS * 1e-9 > COMPILE_S


def compiler_fault(device: str | torch.device) -> str:
    """Why ``torch.compile`` cannot make code for ``device``; empty when it can."""
    kind = str(device).split(":")[0]  # "npu" is unknown without torch-npu
    if kind == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            found = shutil.which(get_cpp_compiler())
        except (InvalidCxxCompiler, RuntimeError):
            found = None
        return "" if found else "no C++ compiler: install g++ 10 or newer"
    if kind == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "no triton for this device: pip install triton"
    return f"torch.compile is not used on {kind}: set compile='never'"


def compile_layers(
    model: PreTrainedModel,
    mode: str = "auto",
    *,
    device: str | torch.device | None = None,
    expected_steps: int | None = None,
    tokens_per_step: int | None = None,
) -> str:
    """Compiles each decoder layer of ``model`` in place; a sentence saying what it did.

    Args: mode is auto, always or never; device is where the model will run, by default
    where its weights lie; expected_steps is how many optimiser steps the
    pass has, without which auto takes it for long enough, and tokens_per_step what one
    process computes in each.
    Raises: ValueError for "always" without a compiler, or for another mode.
    """
    if mode not in ("auto", "always", "never"):
        raise ValueError(f"compile={mode!r}: use auto, always or never")
    if mode == "never":
        return "layers are not compiled: compile is 'never'"
    device = device or next(model.parameters()).device
    fault = compiler_fault(device)
    if fault and mode == "always":
        raise ValueError(
            f"compile='always' cannot be had here: {fault}; or set compile='auto', "
            "which goes on without"
        )
    if fault:
        return f"layers are not compiled: {fault}"
    if mode == "auto" and not is_worth_it(
        model, expected_steps, tokens_per_step, device
    ):
        return (
            f"layers are not compiled: {expected_steps:,} steps of this model are too "
            "few to win back the time that compiling takes; compile='always' insists"
        )
    layers = model.get_decoder().layers
    for layer in layers:
        layer.compile(dynamic=False)
    return f"{len(layers)} layers are compiled at their first step"


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Runs the modules uncompiled for a while: scoring has rows of every length."""
    compiled = {m: m._compiled_call_impl for m in model.modules()}
    uncompile_layers(model)
    try:
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call


def uncompile_layers(model: nn.Module) -> None:
    """Lets every module of ``model`` run as it was written again."""
    for module in model.modules():
        module._compiled_call_impl = None
