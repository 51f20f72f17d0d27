"""Bits per byte against transformers' own loss on single documents."""

import math

import pytest
import torch
from transformers import LlamaForCausalLM

from finllm_utils.evals.bits_per_byte import (
    bits_per_byte,
    change_in_bits_per_byte,
    count_bits_per_byte,
    cut_windows,
    require_heldout,
    spread_sample,
)
from finllm_utils.model.count import CharCountModel
from finllm_utils.records import Document
from tests.evals.tiny import TEXTS, tiny_model, tiny_tokenizer

SETTINGS = {"window": 12, "batch_tokens": 64, "num_bootstrap": 200, "seed": 0}


def documents(texts: list[str] = TEXTS, prefix: str = "heldout/") -> list[Document]:
    return [
        Document(id=f"{prefix}{i}", text=t, source="test", domain="finance_zh")
        for i, t in enumerate(texts)
    ]


def hf_nats(model: LlamaForCausalLM, text: str, window: int) -> float:
    ids = tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]
    total = 0.0
    for begin in range(0, len(ids), window - 1):
        piece = torch.tensor([[1, *ids[begin : begin + window - 1]]])
        total += model(piece, labels=piece).loss.item() * (piece.shape[1] - 1)
    return total


def test_equals_transformers_loss():
    model = tiny_model()
    got = bits_per_byte(model, tiny_tokenizer(), documents(), **SETTINGS)
    num_bytes = sum(len(t.encode("utf-8")) for t in TEXTS)
    expected = [hf_nats(model, text, 12) for text in TEXTS]
    assert got.value == pytest.approx(sum(expected) / num_bytes / math.log(2), abs=1e-4)
    assert got.document_nats == pytest.approx(expected, abs=1e-3)
    assert (got.num_bytes, got.num_documents) == (num_bytes, len(TEXTS))
    assert got.interval[0] < got.value < got.interval[1]


def test_uniform_model_by_hand():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every token costs log V
    got = bits_per_byte(model, tiny_tokenizer(), documents(["资金"]), **SETTINGS)
    assert got.value == pytest.approx(2 * math.log2(model.config.vocab_size) / 6)


def test_windows_cover_every_token_once_and_begin_with_bos():
    tokenizer = tiny_tokenizer()
    windows, owners = cut_windows(tokenizer, ["资金安全保险", "银行"], 4)
    plain = tokenizer(["资金安全保险", "银行"], add_special_tokens=False)["input_ids"]
    assert owners == [0, 0, 1]
    assert all(w[0] == tokenizer.bos_token_id for w in windows)
    assert windows[0][1:] + windows[1][1:] == plain[0]
    with pytest.raises(ValueError, match="window=1"):
        cut_windows(tokenizer, ["资"], 1)


def test_text_is_normalised_before_it_is_counted():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    wide = bits_per_byte(model, tokenizer, documents(["资金１２"]), **SETTINGS)
    narrow = bits_per_byte(model, tokenizer, documents(["资金12"]), **SETTINGS)
    assert wide == narrow
    assert wide.num_bytes == 8


def test_count_model_gives_the_same_unit():
    model = CharCountModel.fit(["资金"], order=1)
    got = count_bits_per_byte(model, documents(["资"]), num_bootstrap=10, seed=0)
    assert got.value == pytest.approx(math.log2(5 / 2) / 3)  # (1 + 1) / (2 + 3)


def test_paired_change_of_a_model_with_itself_is_zero():
    got = bits_per_byte(tiny_model(), tiny_tokenizer(), documents(), **SETTINGS)
    change = change_in_bits_per_byte(got, got, num_bootstrap=50, seed=0)
    assert (change.value, change.word) == (0.0, "no clear change")
    other = bits_per_byte(tiny_model(), tiny_tokenizer(), documents()[:2], **SETTINGS)
    with pytest.raises(ValueError, match="different documents"):
        change_in_bits_per_byte(got, other, num_bootstrap=50, seed=0)


def test_spread_sample_crosses_all_sources():
    parts = documents([str(i) for i in range(10)])
    assert [d.text for d in spread_sample(parts, 3)] == ["0", "3", "6"]
    assert spread_sample(parts, 50) == parts


def test_training_text_is_refused():
    trained = documents(prefix="laws/")
    with pytest.raises(ValueError, match="laws/0"):
        require_heldout(trained)
    with pytest.raises(ValueError, match="held-out"):
        bits_per_byte(tiny_model(), tiny_tokenizer(), trained, **SETTINGS)
