"""Compiled layers compute the same, keep their names, and say when there are none."""

import pytest
import torch

from finllm_utils.model.attention import AttentionChoice, packed_kwargs, use_attention
from finllm_utils.model.attention_check import BOS, packed_rows, small_model
from finllm_utils.train import compile as compiling
from finllm_utils.train.compile import (
    BREAK_EVEN_STEPS,
    as_written,
    compile_layers,
    compiler_fault,
    uncompile_layers,
)

NO_COMPILER = "no C++ compiler: install g++ 10 or newer"


def model_of(name):
    model = small_model("cpu", torch.float32, width=8)
    use_attention(model, AttentionChoice(name, ""))
    return model


def loss_and_gradient(model, rows_BT, choice):
    model.zero_grad()
    out = model.model(
        input_ids=rows_BT, use_cache=False, **packed_kwargs(rows_BT, BOS, choice)
    )
    out.last_hidden_state.square().mean().backward()
    gradients = [p.grad.flatten() for p in model.model.parameters()]
    return out.last_hidden_state.detach(), torch.cat(gradients)


def is_compiled(model):
    return [layer._compiled_call_impl is not None for layer in model.model.layers]


@pytest.mark.parametrize(
    ("mode", "device", "steps", "said", "compiled"),
    [
        ("never", "cuda", 10**6, "compile is 'never'", False),
        ("auto", "cpu", 10**6, "on a CPU that brings nothing", False),
        ("auto", "cpu", None, "on a CPU that brings nothing", False),
        ("auto", "cuda", BREAK_EVEN_STEPS - 1, "199 steps are too few", False),
        ("auto", "cuda", BREAK_EVEN_STEPS, "2 layers are compiled", True),
        ("auto", "cuda", None, "2 layers are compiled", True),
        ("always", "cpu", 1, "2 layers are compiled", True),
    ],
)
def test_when_layers_are_compiled(monkeypatch, mode, device, steps, said, compiled):
    monkeypatch.setattr(compiling, "compiler_fault", lambda device: "")
    model = model_of("sdpa")
    names = list(model.state_dict())
    sentence = compile_layers(model, mode, device=device, expected_steps=steps)
    assert said in sentence and is_compiled(model) == [compiled, compiled]
    assert list(model.state_dict()) == names  # nothing like _orig_mod
    uncompile_layers(model)
    assert is_compiled(model) == [False, False]


def test_without_a_compiler_auto_goes_on_and_always_stops(monkeypatch):
    monkeypatch.setattr(compiling, "compiler_fault", lambda device: NO_COMPILER)
    model = model_of("sdpa")
    assert NO_COMPILER in compile_layers(model, "auto", expected_steps=10**6)
    with pytest.raises(ValueError, match="compile='always' cannot.*install g"):
        compile_layers(model, "always")
    with pytest.raises(ValueError, match="use auto, always or never"):
        compile_layers(model, "sometimes")


def test_a_missing_compiler_is_noticed(monkeypatch):
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert compiler_fault("cpu") == NO_COMPILER
    assert "not used on mps" in compiler_fault("mps")


@pytest.mark.slow  # a C++ compiler runs
@pytest.mark.skipif(bool(compiler_fault("cpu")), reason="no C++ compiler")
@pytest.mark.parametrize("name", ["sdpa", "blocks"])
def test_compiled_layers_compute_the_same_and_compile_once(name):
    model, choice = model_of(name), AttentionChoice(name, "")
    batches = [packed_rows(2, 150, seed=seed) for seed in range(4)]
    plain = [loss_and_gradient(model, rows, choice) for rows in batches]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compile_layers(model, "always")
    for rows, expected in zip(batches, plain, strict=True):
        for a, b in zip(loss_and_gradient(model, rows, choice), expected, strict=True):
            assert torch.allclose(a, b, atol=1e-5, rtol=1e-4)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1  # two layers, four batches
    assert not counters["graph_break"]
    uncompile_layers(model)
    torch._dynamo.reset()


def test_as_written_for_a_while_and_compiled_again_after():
    model = model_of("sdpa")
    for layer in model.model.layers:
        layer.compile(backend="eager")
    with pytest.raises(KeyError), as_written(model):
        assert not any(is_compiled(model))
        raise KeyError
    assert all(is_compiled(model))
