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
"""Steps of a pass from which "auto" compiles on an accelerator: fewer do not win back
what compiling takes."""


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
) -> str:
    """Compiles each decoder layer of ``model`` in place; a sentence saying what it did.

    Args: mode is auto, always or never; device is where the model will run, by default
    where its weights lie; expected_steps is how many optimiser steps the
    pass has, without which auto takes it for long enough. On a CPU auto never compiles:
    beside our own kernels for attention and loss it brought nothing at 8M and at 135M
    parameters (``pretrain_cpu``), and compiling takes half a minute.
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
    if mode == "auto" and str(device) == "cpu":
        return (
            "layers are not compiled: on a CPU that brings nothing beside the kernels "
            "in use; compile='always' insists"
        )
    if mode == "auto" and expected_steps is not None:
        if expected_steps < BREAK_EVEN_STEPS:
            return (
                f"layers are not compiled: {expected_steps:,} steps are too few to win "
                "back the time that compiling takes; compile='always' insists"
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
