"""Adapters train, are saved small, merge exactly, and know their base."""

import pytest
import torch

from finllm_utils.config import ModelConfig
from finllm_utils.model.embeddings import new_llama
from finllm_utils.model.load import load_model
from finllm_utils.train.adapters import (
    add_adapter,
    dequantised,
    load_for_tuning,
    memory_of,
    merge_adapter,
    save_adapter,
)


def settings(tied: bool, inner: int = 128) -> ModelConfig:
    return ModelConfig(
        path="", hidden_size=64, intermediate_size=inner, num_layers=2, num_heads=2,
        num_kv_heads=1, tie_embeddings=tied, max_seq_len=64,
    )  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def base(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    new_llama(settings(request.param), 128, seed=1).save_pretrained(folder)
    return folder


def trained(base, method, **changes):
    """A model with an adapter after a few steps, and the batch it was trained on."""
    model = add_adapter(load_for_tuning(base, method), rank=4, **changes)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-2)
    ids = torch.randint(128, (4, 24), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(6):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    return model.eval(), ids


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_merged_weights_answer_as_the_adapter_did(base, method, tmp_path):
    before = load_model(base).state_dict()
    model, ids = trained(base, method)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    save_adapter(model, base, method, tmp_path)
    merged = merge_adapter(base, tmp_path)
    with torch.no_grad():
        assert (merged(input_ids=ids).logits - expected).abs().max() < 1e-3
    assert not any("lora" in name for name in merged.state_dict())
    assert all(p.dtype == torch.float32 for p in merged.parameters())
    after = load_model(base).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    tied = merged.lm_head.weight is merged.model.embed_tokens.weight
    assert tied == merged.config.tie_word_embeddings


def test_four_bits_round_and_the_merge_must_know_it(base, tmp_path):
    """Merged into the float32 base instead, a QLoRA adapter answers something else."""
    model, ids = trained(base, "qlora")
    save_adapter(model, base, "lora", tmp_path)  # the wrong word in its note
    with torch.no_grad():
        wrong = merge_adapter(base, tmp_path)(input_ids=ids).logits
        assert (wrong - model(input_ids=ids).logits).abs().max() > 1e-2
    plain, rounded = load_model(base).state_dict(), dequantised(base).state_dict()
    moved = {n for n in plain if not torch.equal(plain[n], rounded[n])}
    assert moved and all("proj" in name for name in moved)
    for name in moved:
        gap = (plain[name] - rounded[name]).abs().max()
        # half of NF4's widest step is 0.15 of a block's maximum; its scale is rounded too
        assert 0 < gap < 0.16 * plain[name].abs().max(), name


def test_what_learns(base):
    model = add_adapter(load_for_tuning(base, "lora"), rank=4, train_embeddings=False)
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    assert names and all("lora_" in name for name in names)
    assert memory_of(model)["learning"] < 0.3 * memory_of(load_model(base))["learning"]
    packed = load_for_tuning(base, "qlora")
    assert memory_of(packed)["weights"] < memory_of(load_model(base))["weights"]


def test_the_same_seed_makes_the_same_adapter(base):
    first, second, other = (
        add_adapter(load_for_tuning(base, "lora"), rank=4, seed=seed).state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_faults_are_named(base, tmp_path):
    with pytest.raises(ValueError, match="sft.method='dora': use full, lora, qlora"):
        load_for_tuning(base, "dora")
    with pytest.raises(ValueError, match="not a model folder"):
        load_for_tuning(tmp_path, "qlora")
    new_llama(settings(True, inner=96), 128, seed=1).save_pretrained(tmp_path / "odd")
    with pytest.raises(
        ValueError, match="down_proj reads 96 numbers, no multiple of 64"
    ):
        load_for_tuning(tmp_path / "odd", "qlora")
    with pytest.raises(ValueError, match="no adapter saved by notebook 06"):
        merge_adapter(base, tmp_path)
    model, _ = trained(base, "lora")
    save_adapter(model, base, "lora", tmp_path / "adapter")
    tied = load_model(base).config.tie_word_embeddings
    new_llama(settings(tied), 128, seed=2).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="trained on another base"):
        merge_adapter(tmp_path / "other", tmp_path / "adapter")
