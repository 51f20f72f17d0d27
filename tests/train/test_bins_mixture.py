"""Token files, packing and the mixture schedule."""

import dataclasses

import numpy as np
import pytest
import torch

from finllm_utils.profiles import toy
from finllm_utils.tokenizer.base import load_base_tokenizer
from finllm_utils.tokenizer.expand import as_pretrained
from finllm_utils.train.bins import PackedBin, labels_of, position_ids, write_bin
from finllm_utils.train.mixture import DOMAINS, plan_rows, weights_at


@pytest.fixture(scope="module")
def tokenizer():
    return as_pretrained(load_base_tokenizer("mistral-v1"), chat=False)


def test_rows_hold_every_document_once(tmp_path, tokenizer):
    texts = [f"document number {i} of the set" for i in range(40)]
    count = write_bin(tmp_path, "english", texts, tokenizer)
    packed = PackedBin(tmp_path, "english", seq_len=16, seed=3)
    stream = np.concatenate([packed.row(i) for i in range(packed.num_rows)])
    assert packed.num_rows == count // 16
    decoded = tokenizer.decode(stream.tolist(), skip_special_tokens=False)
    found = [t.replace("</s>", "").strip() for t in decoded.split("<s>") if t.strip()]
    assert set(found[:-1]) <= set(texts) and len(set(found)) == len(found)
    assert len(found) >= 39


def test_order_depends_on_the_seed_only(tmp_path, tokenizer):
    write_bin(tmp_path, "english", [f"text {i}" for i in range(50)], tokenizer)
    rows = [PackedBin(tmp_path, "english", 8, seed).row(2) for seed in (0, 0, 1)]
    assert (rows[0] == rows[1]).all() and (rows[0] != rows[2]).any()


def test_empty_and_too_small_bins_are_errors(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="finance_zh"):
        write_bin(tmp_path, "finance_zh", [], tokenizer)
    write_bin(tmp_path, "english", ["short"], tokenizer)
    with pytest.raises(ValueError, match="less than one row"):
        PackedBin(tmp_path, "english", 512, 0)


def test_positions_and_labels_by_hand():
    rows = torch.tensor([[7, 2, 1, 5, 6, 2, 1, 8]])  # 1 is BOS, 2 is EOS
    assert position_ids(rows, 1).tolist() == [[0, 1, 0, 1, 2, 3, 0, 1]]
    # Never predict a BOS, nor anything after the row's end.
    assert labels_of(rows, 1).tolist() == [[2, -100, 5, 6, 2, -100, 8, -100]]


def test_documents_in_one_row_do_not_see_each_other():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    ).eval()
    second = [1, 9, 10, 11]
    packed = torch.tensor([[1, 5, 6, 7, *second]])
    with torch.no_grad():
        together = model.model(
            input_ids=packed, position_ids=position_ids(packed, 1), use_cache=False
        ).last_hidden_state[0, 4:]
        alone = model.model(
            input_ids=torch.tensor([second]), use_cache=False
        ).last_hidden_state[0]
        leaking = model.model(input_ids=packed, use_cache=False).last_hidden_state[
            0, 4:
        ]
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(leaking, alone, atol=1e-2)  # the test can fail


def test_weights_by_hand():
    cfg = toy().pretrain2
    start, end = weights_at(cfg, np.array([0.0, 1.0]))
    assert start == pytest.approx([0.675, 0.075, 0.225, 0.025])  # 3:1 and 1:9
    assert end == pytest.approx([0.6, 0.15, 0.2, 0.05])  # 3:1 and 1:4
    assert end[1] / end[0] == pytest.approx(1 / 4)


def test_drawn_shares_follow_the_plan_within_half_a_percent():
    plan = plan_rows(toy().pretrain2, 4_000, seed=1)
    drawn, planned = plan.drawn_share(), plan.planned_share()
    assert all(abs(drawn[d] - planned[d]) < 0.005 for d in DOMAINS)
    late = np.bincount(plan.domain[3_000:], minlength=4) / 1_000
    assert late == pytest.approx(plan.planned[3_000:].mean(axis=0), abs=0.01)


def test_index_counts_the_rows_of_each_domain():
    plan = plan_rows(toy().pretrain2, 100, seed=0)
    for d in range(len(DOMAINS)):
        mine = plan.index[plan.domain == d]
        assert mine.tolist() == list(range(len(mine)))


def test_a_pass_without_rows_is_an_error():
    with pytest.raises(ValueError, match="no row"):
        plan_rows(dataclasses.replace(toy().pretrain2, tokens=10), 0, 0)
