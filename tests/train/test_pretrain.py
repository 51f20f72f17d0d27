"""The loop on a tiny model: it learns, freezes exactly, and repeats itself."""

import dataclasses

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from finllm_utils.config import RuntimeConfig
from finllm_utils.model.embeddings import (
    embedding_names,
    expand_embeddings,
    spelling,
)
from finllm_utils.profiles import toy
from finllm_utils.tokenizer.base import load_base_tokenizer
from finllm_utils.tokenizer.expand import add_pieces, as_pretrained
from finllm_utils.train.bins import write_bin
from finllm_utils.train.drawn import drawn_token_ids
from finllm_utils.train.loss import batch_loss, prepare_batch
from finllm_utils.train.mixture import DOMAINS
from finllm_utils.train.optim import MasterAdamW
from finllm_utils.train.pretrain import pretrain, token_loss_sum
from finllm_utils.train.throughput import flops_per_token
from tests.train import tiny

RUNTIME = RuntimeConfig(dtype="bfloat16", num_workers=1, device="cpu")
CFG = dataclasses.replace(
    toy().base,
    tokens=3_840,
    seq_len=32,
    micro_batch_size=4,
    global_batch_size=8,
    learning_rate=3e-3,
    embedding_learning_rate=1e-2,
    warmup_steps=2,
)


@pytest.fixture(scope="module")
def tokenizer():
    return as_pretrained(load_base_tokenizer("mistral-v1"), chat=False)


@pytest.fixture(scope="module")
def bins(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("bins")
    texts = [f"the rate of loan {i % 7} is {i % 5} percent a year" for i in range(300)]
    write_bin(folder, "english", texts, tokenizer)
    return folder


def tiny_model(vocab_size=32_000, tie=True, seed=0):
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=tie,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def run_once(bins, **changes):
    model = tiny_model()
    cfg = dataclasses.replace(CFG, **changes)
    names = embedding_names(model)
    result = pretrain(model, bins, cfg, RUNTIME, embedding_names=names, seed=0)
    return model, result


def test_loss_falls_and_a_second_run_is_identical(bins):
    first, result = run_once(bins)
    assert len(result.losses) == CFG.num_steps == 15
    assert result.losses[-1] < result.losses[0] - 0.5
    second, again = run_once(bins)
    assert again.losses == result.losses
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


def test_stage_one_moves_embeddings_and_nothing_else(bins):
    before = tiny_model().state_dict()
    model, _ = run_once(bins, trainable="embeddings", weight_decay=0.1)
    after = model.state_dict()
    tied = {"model.embed_tokens.weight", "lm_head.weight"}
    for name in before:
        assert torch.equal(before[name], after[name]) == (name not in tied), name
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_accumulation_gives_the_gradient_of_one_large_batch(small_bins):
    """In float32, and far closer than what two steps change."""
    tokens = 2 * tiny.CFG.tokens_per_step
    whole, _ = tiny.train(small_bins, micro_batch_size=8, tokens=tokens)
    parts, _ = tiny.train(small_bins, micro_batch_size=2, tokens=tokens)
    triples = zip(
        whole.parameters(), parts.parameters(), tiny.model().parameters(), strict=True
    )
    for a, b, start in triples:
        assert torch.allclose(a, b, atol=2e-5)
        assert (a - start).abs().max() > 1e-3


def test_loss_equals_the_libraries_on_one_document():
    model = tiny_model().eval()
    row = torch.tensor([[1, 50, 60, 70, 80, 2]])
    ours, count = token_loss_sum(model, row, bos_id=1)
    theirs = model(input_ids=row, labels=row).loss
    assert count == 5
    assert ours.item() / count == pytest.approx(theirs.item(), abs=1e-5)


def test_a_diverged_loss_names_the_step_and_the_remedy(bins, monkeypatch):
    monkeypatch.setattr(
        "finllm_utils.train.loss.tiled_cross_entropy",
        lambda hidden, *rest, **more: hidden.sum() * float("nan"),
    )
    with pytest.raises(ValueError, match="step 0: .*learning_rate"):
        run_once(bins)


def test_drawn_text_is_what_training_read(bins, tokenizer):
    drawn = drawn_token_ids(bins, CFG, bos_id=1, seed=0)
    assert not any(drawn[d] for d in drawn if d != "english")
    segments = drawn["english"]
    assert sum(map(len, segments)) == CFG.num_steps * CFG.tokens_per_step
    text = tokenizer.decode(segments[1], skip_special_tokens=True)
    assert text.startswith("the rate of loan")


def test_master_weights_keep_updates_that_bfloat16_would_lose():
    layer = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    layer.weight.data.fill_(1.0)
    cfg = dataclasses.replace(CFG, learning_rate=1e-3)
    optimizer = MasterAdamW(layer, cfg, set())
    for _ in range(8):  # each step is 0.001; bfloat16 near 1 steps by 0.0039
        layer.weight.grad = torch.ones_like(layer.weight)
        optimizer.step(1.0)
    assert optimizer.masters()["weight"].item() == pytest.approx(0.992, abs=1e-4)
    assert layer.weight.item() == pytest.approx(0.992, abs=2e-3)


@pytest.mark.parametrize("tie", [True, False])
def test_new_rows_are_the_mean_of_their_pieces(tokenizer, tie):
    model = tiny_model(tie=tie)
    base = load_base_tokenizer("mistral-v1")
    after = as_pretrained(add_pieces(base, ["税", "赔"]), chat=True)
    grown = expand_embeddings(model, tokenizer, after, num_rows=32_128)
    pieces = spelling("税", tokenizer)
    assert tokenizer.convert_ids_to_tokens(pieces) == ["<0xE7>", "<0xA8>", "<0x8E>"]
    new = after.convert_tokens_to_ids("税")
    for get in ("get_input_embeddings", "get_output_embeddings"):
        old, rows = getattr(model, get)().weight, getattr(grown, get)().weight
        assert rows.shape[0] == 32_128
        assert torch.equal(rows[:32_000], old)
        assert torch.allclose(rows[new], old[pieces].mean(dim=0))
    assert embedding_names(grown) == (
        {"model.embed_tokens.weight"}
        if tie
        else {"model.embed_tokens.weight", "lm_head.weight"}
    )


def test_expansion_refuses_what_cannot_be(tokenizer):
    model = tiny_model()
    with pytest.raises(ValueError, match="method"):
        expand_embeddings(model, tokenizer, tokenizer, num_rows=32_000, method="best")
    with pytest.raises(ValueError, match="num_rows"):
        expand_embeddings(model, tokenizer, tokenizer, num_rows=10)


@pytest.fixture(scope="module")
def small_bins(tmp_path_factory):
    return tiny.write_bins(tmp_path_factory.mktemp("small_bins"))


def test_what_is_logged_and_scored(small_bins):
    lines, scored = [], []

    def on_eval(step, model):
        assert not model.training
        scored.append(step)
        return {"bpb/english": 1.5}

    model, result = tiny.train(
        small_bins,
        tokens=8 * 256,
        log_every=3,
        eval_every=4,
        schedule="cosine",
        on_log=lambda step, values: lines.append((step, values)),
        on_eval=on_eval,
    )
    assert scored == [3, 7] and not model.training
    assert [step for step, _ in lines] == [0, 3, 6, 7]
    assert [line["loss"] for _, line in lines] == [
        result.losses[s] for s in (0, 3, 6, 7)
    ]
    for step, line in lines:
        assert ("bpb/english" in line) == (step in scored)
        assert line["tokens"] == (step + 1) * 256
        assert line["tokens_per_s"] > 0 and 0 <= line["data_wait"] < 1
        assert {"rate", "grad_norm"} < line.keys()
    # between two lines each domain's loss is its own mean: weighted, they give the whole
    domains = result.plan.draw(8, 24)[0]
    shares = [(domains == DOMAINS.index(d)).mean() for d in ("general_zh", "english")]
    window = lines[1][1]["loss/general_zh"], lines[1][1]["loss/english"]
    mixed = sum(s * loss for s, loss in zip(shares, window, strict=True))
    assert mixed == pytest.approx(sum(result.losses[1:4]) / 3, abs=2e-3)
    assert result.plan.log == () and result.resumed_from is None
    assert 0 < result.data_wait_seconds < result.seconds
    assert result.peak_memory_bytes > 2**20
    assert any(note.startswith("attention: ") for note in result.notes)


def test_scores_between_steps_use_the_models_own_attention(small_bins):
    """They pad their rows, which kernels for packed rows do not know."""
    before, seen = tiny.model().config._attn_implementation, []

    def note(step, model):
        seen.append((model.config._attn_implementation, model.training))

    model, _ = tiny.train(small_bins, tokens=3 * 256, eval_every=1, on_eval=note)
    assert seen == [(before, False)] * 3
    assert model.config._attn_implementation == before


def test_a_rows_nats_are_those_of_the_row_alone(small_bins):
    model = tiny.model().eval()
    rows = torch.tensor([[1, 5, 9, 2, 1, 7], [8, 4, 1, 1, 6, 3]])
    whole, nats_2B = batch_loss(model, prepare_batch(rows, 1, "cpu"))
    for i in range(2):
        alone, count = token_loss_sum(model, rows[i : i + 1], 1)
        assert nats_2B[0, i].item() == pytest.approx(alone.item(), rel=1e-5)
        assert nats_2B[1, i].item() == count
    assert nats_2B[1].tolist() == [4, 3]  # not the first of a document
    assert nats_2B[0].sum().item() == pytest.approx(whole.item(), rel=1e-5)


def test_checkpointing_layers_changes_nothing(small_bins):
    """But each layer runs twice, forward and again for the backward pass."""
    calls, trained = [], {}
    for on in (False, True):
        start = tiny.model()
        start.model.layers[0].mlp.register_forward_pre_hook(
            lambda *_, on=on: calls.append(on)
        )
        trained[on], _ = tiny.train(
            small_bins, start, tokens=4 * 256, activation_checkpointing=on
        )
    plain, model = trained[False], trained[True]
    assert calls.count(True) == 2 * calls.count(False) == 2 * 4 * 4
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not model.is_activation_checkpointing


def test_a_models_kernels_are_its_own_again_afterwards(small_bins):
    start = tiny.model()
    before = start.config._attn_implementation
    model, result = tiny.train(
        small_bins, start, tokens=2 * 256, attention="blocks", runtime=tiny.BFLOAT16
    )
    assert any("blocks" in note for note in result.notes)
    assert model.config._attn_implementation == before
    model(torch.tensor([[1, 2, 3]]))


def test_models_that_cannot_read_the_bins_are_refused(small_bins):
    with pytest.raises(
        ValueError, match="tokenizer of 64 tokens, .* 48 embedding rows"
    ):
        tiny.train(small_bins, tiny.model(rows=48))
    with pytest.raises(
        ValueError, match="seq_len=32 exceeds the model's context of 16"
    ):
        tiny.train(small_bins, tiny.model(max_position_embeddings=16))
    with pytest.raises(ValueError, match="no bos_token_id"):
        tiny.train(small_bins, tiny.model(bos_token_id=None))


def test_a_model_with_another_bos_than_the_bins_is_refused(small_bins):
    """Its documents would silently see each other."""
    with pytest.raises(ValueError, match="begin with id 1, .* bos_token_id=5"):
        tiny.train(small_bins, tiny.model(bos_token_id=5))


def test_a_pass_without_a_step_is_refused(small_bins):
    with pytest.raises(ValueError, match="the pass has no row"):
        tiny.train(small_bins, tokens=10)


def test_flops_by_hand():
    model = tiny_model()
    weights = 4 * 16 * 16 + 3 * 16 * 32 + 32_000 * 16
    assert flops_per_token(model, 32) == 6 * weights + 12 * 1 * 16 * 32
