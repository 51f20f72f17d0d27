"""Four roads: what learns moves, and everything else keeps every bit."""

import pytest
import torch

from finllm_utils.model.embeddings import embedding_names
from finllm_utils.train.trainable import merge, prepare
from tests.train import tiny

TABLES = {"model.embed_tokens.weight", "lm_head.weight"}


@pytest.fixture(scope="module")
def bins(tmp_path_factory):
    return tiny.write_bins(tmp_path_factory.mktemp("bins"))


def moved(bins, runtime=tiny.BFLOAT16, tie=True, **options):
    """Weights before and after six steps, and the names of those that differ."""
    before = tiny.model(tie=tie).state_dict()
    model, _ = tiny.train(
        bins, tiny.model(tie=tie), runtime=runtime, tokens=6 * 256, **options
    )
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    names = {n for n in before if not torch.equal(before[n], after[n])}
    return before, after, names


@pytest.mark.parametrize("runtime", [tiny.BFLOAT16, tiny.FLOAT32])
def test_all_moves_all(bins, runtime):
    before, _, names = moved(bins, runtime)
    assert names == set(before)


@pytest.mark.parametrize("tie", [True, False])
def test_embeddings_move_alone(bins, tie):
    _, after, names = moved(bins, tie=tie, trainable="embeddings")
    assert names == TABLES
    same = torch.equal(*(after[name] for name in sorted(TABLES)))
    assert same == tie


@pytest.mark.parametrize("runtime", [tiny.BFLOAT16, tiny.FLOAT32])
@pytest.mark.parametrize("tie", [True, False])
def test_new_rows_move_alone(bins, tie, runtime):
    options = {"trainable": "new_rows", "first_new_row": 40}
    before, after, names = moved(bins, runtime, tie, **options)
    assert names == TABLES
    for name in TABLES:
        assert torch.equal(before[name][:40], after[name][:40])
        assert not (before[name][40:] == after[name][40:]).all(1).any()


@pytest.mark.parametrize("first", [0, 64, 100])
def test_new_rows_need_to_be_some(bins, first):
    with pytest.raises(ValueError, match=f"between 1 and 63 .*not {first}"):
        moved(bins, trainable="new_rows", first_new_row=first)


@pytest.mark.parametrize("tie", [True, False])
def test_adapters_are_merged_and_leave_norms_alone(bins, tie):
    before, after, names = moved(bins, tie=tie, trainable="lora", lora_rank=2)
    layers = {n for n in before if n.endswith("_proj.weight")}
    assert len(layers) == 14 and names == layers | TABLES
    for name in layers:
        change = after[name] - before[name]
        scale = torch.linalg.svdvals(change)
        assert scale[2] < 1e-3 * scale[0], f"{name}: the change is not of rank 2"


def test_merging_adds_twice_b_times_a_by_hand():
    model = tiny.model()
    names = embedding_names(model)
    random_before = torch.random.get_rng_state()
    cfg = tiny.dataclasses.replace(tiny.CFG, trainable="lora", lora_rank=4)
    made = prepare(model, cfg, names, seed=3)
    assert torch.equal(torch.random.get_rng_state(), random_before)
    layer = model.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert (b == 0).all() and a.shape == (4, 16)
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert len(learning) == 1 + 2 * 14 and names < learning
    torch.nn.init.normal_(b)
    wanted = layer.base_layer.weight + 2 * b @ a  # alpha / r = 2
    merge(made.lora)
    merged = model.model.layers[0].self_attn.q_proj
    assert type(merged) is torch.nn.Linear
    assert torch.allclose(merged.weight, wanted, atol=1e-6)
    again = tiny.model()
    prepare(again, cfg, names, seed=3)
    other = again.model.layers[0].self_attn.q_proj.lora_A["default"].weight
    assert torch.equal(a, other)  # the seed decides
