"""Costs of the three methods: memory by hand, exact merging, and faults."""

import dataclasses

import pytest

from finllm_utils.model.load import save_model
from finllm_utils.train.methods import compare_methods, method_cost
from finllm_utils.train.sft import conversation_rows
from tests.train.test_sft import CFG, RUNTIME, item, tiny_model, tokenizer

__all__ = ["tokenizer"]  # a fixture
LORA = dataclasses.replace(CFG, lora_rank=2, adapt_embeddings=False)


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory):
    """A model whose widths bitsandbytes can pack on a CPU."""
    folder = tmp_path_factory.mktemp("base")
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 2}
    save_model(tiny_model(**shape), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def costs(base, tokenizer):
    rows = conversation_rows(tokenizer, [item("一二", "三")] * 4, 24)
    return compare_methods(base, tokenizer, rows, LORA, RUNTIME, seed=0)


def test_memory_is_what_the_shapes_say(costs, tokenizer):
    # a layer: q, k, v, o of 64 x 64, gate, up, down of 64 x 128, two norms of 64;
    # rank 2 adds 2 (in + out) to each: 4 * 2 * 128 + 3 * 2 * 192
    linear, norms = 2 * (4 * 64 * 64 + 3 * 64 * 128), 2 * 2 * 64 + 64
    all_weights = linear + norms + len(tokenizer) * 64
    adapters = 2 * (4 * 2 * 128 + 3 * 2 * 192)
    full, lora, qlora = costs["full"], costs["lora"], costs["qlora"]
    assert full.learning_millions == pytest.approx(all_weights / 1e6)
    assert full.total_mb == pytest.approx(16 * all_weights / 1e6)
    for cost in (lora, qlora):
        assert cost.learning_millions == pytest.approx(adapters / 1e6)
        assert cost.gradients_mb == pytest.approx(4 * adapters / 1e6)
        assert cost.moments_mb == pytest.approx(8 * adapters / 1e6)
    assert lora.weights_mb == pytest.approx(4 * (all_weights + adapters) / 1e6)
    # 4 bits a weight of the linear layers, the rest as it was
    assert qlora.weights_mb == pytest.approx(lora.weights_mb - 3.5 * linear / 1e6)


def test_merged_models_are_the_adapters(costs):
    assert costs["full"].merge_max_diff is None
    assert costs["lora"].merge_max_diff < 1e-4 and costs["qlora"].merge_max_diff < 1e-4
    assert all(cost.tokens_per_s > 0 for cost in costs.values())


def test_faults_are_named(base, tokenizer):
    with pytest.raises(ValueError, match="no rows to train on"):
        method_cost(base, tokenizer, [], "lora", CFG, RUNTIME, seed=0)
    rows = conversation_rows(tokenizer, [item("一二", "三")], 24)
    with pytest.raises(ValueError, match="sft.method='dora'"):
        method_cost(base, tokenizer, rows, "dora", CFG, RUNTIME, seed=0)
