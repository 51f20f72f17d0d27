"""Counted arithmetic by hand, and what marks of learning change in it."""

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from transformers import LlamaConfig, LlamaForCausalLM

from finllm_utils.train import throughput
from finllm_utils.train.throughput import (
    data_sheet_peak,
    flops_per_token,
    matmul_peak_tflops,
    matmul_rates,
    mfu,
)

# Width 8, inner width 12, 2 heads of 4, 1 key head, 2 layers, 10 tokens of vocabulary:
# q and o 8 x 8, k and v 4 x 8, three of 12 x 8.
LAYER = 64 + 64 + 32 + 32 + 3 * 96  # 480
OUTPUT = 80
ATTENTION = 12 * 2 * 8 * 16  # 12 L D T at T = 16


def tiny(**values):
    settings = dict(
        vocab_size=10, hidden_size=8, intermediate_size=12, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**settings | values))


@pytest.mark.parametrize("tied", [True, False])
def test_everything_learns(tied):
    # The output layer counts once, the input look-up never, tied or not.
    model = tiny(tie_word_embeddings=tied)
    assert flops_per_token(model, 16) == 6 * (2 * LAYER + OUTPUT) + ATTENTION


def test_stage_1_does_without_the_gradients_of_frozen_weights():
    model = tiny()
    model.model.layers.requires_grad_(False)
    # forward 2, gradients of activations 2; the output layer's own gradient 2
    assert flops_per_token(model, 16) == 4 * 2 * LAYER + 6 * OUTPUT + ATTENTION


def test_adapters_learn_and_what_they_adapt_does_not():
    model = tiny()
    LoraModel(model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]), "default")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or "embed" in name)
    adapters = 2 * (2 * (8 + 8) + 2 * (12 + 8))
    expected = 4 * 2 * LAYER + 6 * (adapters + OUTPUT) + ATTENTION
    assert flops_per_token(model, 16) == expected


def test_heads_wider_than_the_model_are_counted_as_they_are():
    model = tiny(head_dim=8)
    attention = 12 * 2 * (2 * 8) * 16
    layer = LAYER + 64 + 64 + 32 + 32  # q, o, k and v are twice as large
    assert flops_per_token(model, 16) == 6 * (2 * layer + OUTPUT) + attention


def test_the_formula_equals_what_the_profiler_counts():
    # 6 N of a real step, as torch's own counter sees its matmuls.
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny(attn_implementation="eager")
    ids = torch.randint(0, 10, (1, 16))
    for learning in (True, False):
        model.model.layers.requires_grad_(learning)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids, use_cache=False).logits.sum().backward()
        # The counter sees attention's full matmuls, which 12 L D T counts too.
        expected = 16 * flops_per_token(model, 16)
        assert counter.get_total_flops() == pytest.approx(expected, rel=0.03)


def test_mfu_by_hand():
    # 1,000 tokens a second of 2 GFLOP each are 2 TFLOP/s: a quarter of 8.
    assert mfu(1_000, 2e9, 8.0) == pytest.approx(0.25)


def test_the_peak_is_the_best_of_the_sizes(monkeypatch):
    assert throughput.CPU_SIZES == (1_024, 2_048, 4_096)
    monkeypatch.setattr(throughput, "CPU_SIZES", (32, 64))
    rates = matmul_rates(torch.float32, repeats=2)
    assert set(rates) == {32, 64} and min(rates.values()) > 0
    monkeypatch.setattr(throughput, "matmul_rates", lambda *_: {32: 1.0, 64: 2.5})
    assert matmul_peak_tflops(torch.float32) == 2.5


@pytest.mark.parametrize(
    "name, peak",
    [
        ("NVIDIA H200", 989.0),
        ("NVIDIA H20", 148.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA H800", 989.0),
        ("Ascend910B2", 313.0),
        ("Some other card", None),
    ],
)
def test_data_sheet_peaks(name, peak):
    assert data_sheet_peak(name) == peak
