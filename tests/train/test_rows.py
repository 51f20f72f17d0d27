"""Mixed rows: any process reads any row, and how often text is repeated."""

import dataclasses

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from finllm_utils.profiles import toy
from finllm_utils.train.bins import PackedBin, write_bin
from finllm_utils.train.drawn import drawn_token_ids
from finllm_utils.train.mixture import DOMAINS, RowSampler, plan_rows
from finllm_utils.train.rows import MixedRows, planned_reading

CFG = dataclasses.replace(toy().pretrain2, seq_len=16)
ENGLISH = dataclasses.replace(CFG, mixture_points=((0.0, 0.0, 0.0),))
NUM_ROWS = 2_500


@pytest.fixture(scope="module")
def bins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bins")
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{i}": i for i in range(3, 1_000)}}
    words = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>"
    )
    for d, domain in enumerate(DOMAINS):  # ids say which domain they are of
        texts = [f"w{200 * d + 10 + i} " * (3 + i) for i in range(100)]
        write_bin(folder, domain, texts, tokenizer, scores=range(100))
    return folder


def test_rows_are_those_of_the_plan(bins):
    plan = plan_rows(CFG, NUM_ROWS, seed=5)
    rows = MixedRows(bins, plan, 16, seed=5)
    packed = [PackedBin(bins, d, 16, seed=5) for d in DOMAINS]
    for start, size in ((0, 4), (1_020, 8), (2_496, 4)):  # 1,024 rows a window
        batch = rows.batch(start, size)
        assert batch.dtype == torch.int64 and batch.shape == (size, 16)
        for i, row in enumerate(batch.numpy(), start):
            assert (row == packed[plan.domain[i]].row(int(plan.index[i]))).all()
        domains = rows.domains(start, size)
        assert (domains == plan.domain[start : start + size]).all()
        assert ((batch.amax(dim=1).numpy() - 10) // 200 == domains).all()


@pytest.mark.parametrize("world_size", [2, 3])
def test_any_number_of_processes_reads_the_same_pass(bins, world_size):
    sampler = RowSampler(CFG, NUM_ROWS, seed=1)
    whole = MixedRows(bins, sampler, 16, seed=1).batch(0, 1_200)
    parts = []
    for rank in range(world_size):  # each with its own reader, micro-batches of 4
        rows = MixedRows(bins, RowSampler(CFG, NUM_ROWS, seed=1), 16, seed=1)
        starts = range(4 * rank, 1_200, 4 * world_size)
        parts.append([(start, rows.batch(start, 4)) for start in starts])
    found = sorted((pair for part in parts for pair in part), key=lambda p: p[0])
    assert torch.equal(torch.cat([batch for _, batch in found]), whole)


def test_a_reweighted_schedule_takes_over_from_its_row(bins):
    rows = MixedRows(bins, RowSampler(CFG, NUM_ROWS, seed=0), 16, seed=0)
    before = rows.batch(0, 1_024)
    rows.plan = rows.plan.reweighted(512, (0.75, 1.4, 0.75, 1.4))
    after = rows.batch(0, 1_024)
    assert torch.equal(after[:512], before[:512])
    assert not torch.equal(after[512:], before[512:])
    saved = RowSampler(CFG, NUM_ROWS, 0, rows.plan.log)  # as after a resume
    assert torch.equal(MixedRows(bins, saved, 16, seed=0).batch(0, 1_024), after)


def test_only_bins_that_are_drawn_from_are_opened(bins, tmp_path):
    for path in bins.glob("english.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = MixedRows(tmp_path, RowSampler(ENGLISH, 100, 0), 16, seed=0)
    assert rows.batch(0, 2).shape == (2, 16)
    with pytest.raises(ValueError, match="zh.json is missing"):
        MixedRows(tmp_path, RowSampler(CFG, 100, 0), 16, seed=0)


def test_knowledge_first_reaches_every_bin(bins):
    rows = MixedRows(bins, RowSampler(CFG, 400, 0), 16, 0, "knowledge_first")
    early, late = rows.batch(0, 40), rows.batch(360, 40)
    richness = [((b - 10) % 200)[b > 2].double().mean() for b in (early, late)]
    assert richness[0] > richness[1] + 20


def test_reading_by_hand(bins):
    available = 99 * 100 // 2 + 3 * 100 + 2 * 100  # words of each length, BOS and EOS
    sampler = RowSampler(CFG, NUM_ROWS, seed=0)
    reading = planned_reading(bins, sampler, 16)
    counts = dict(zip(DOMAINS, sampler.counts().tolist(), strict=True))
    for domain, found in reading.items():
        assert found.rows == counts[domain] and found.available == available
        assert found.tokens == 16 * counts[domain]
        assert found.epochs == pytest.approx(16 * counts[domain] / available)
    assert reading["general_zh"].epochs == pytest.approx(4.7, abs=0.1)
    assert [d for d in DOMAINS if reading[d].too_often] == ["general_zh"]
    assert list(planned_reading(bins, RowSampler(ENGLISH, 9, 0), 16)) == ["english"]


def test_drawn_text_is_what_the_rows_hold(bins):
    cfg = dataclasses.replace(CFG, tokens=16 * CFG.global_batch_size * 3)
    num_rows = cfg.num_steps * cfg.global_batch_size
    drawn = drawn_token_ids(bins, cfg, bos_id=1, seed=0)
    sampler = RowSampler(cfg, num_rows, 0)
    rows = MixedRows(bins, sampler, 16, 0).batch(0, num_rows).numpy()
    for d, domain in enumerate(DOMAINS):
        mine = rows[sampler.domains(0, num_rows) == d]
        assert np.concatenate([[], *drawn[domain]]).tolist() == mine.flatten().tolist()
        assert all(1 not in segment[1:] for segment in drawn[domain])
