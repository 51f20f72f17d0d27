"""Packed rows: whole documents, in order, damaged files found, no leak between them."""

import shutil

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from finllm_utils.files import write_json
from finllm_utils.model.attention import position_ids
from finllm_utils.tokenizer.base import load_base_tokenizer
from finllm_utils.tokenizer.expand import add_pieces, as_pretrained
from finllm_utils.train.bins import (
    PackedBin,
    check_bins,
    labels_of,
    read_meta,
    token_counts,
    write_bin,
)


@pytest.fixture(scope="module")
def base():
    return load_base_tokenizer("mistral-v1")


@pytest.fixture(scope="module")
def tokenizer(base):
    return as_pretrained(base, chat=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("bins")
    texts = [f"document number {i} of the set" for i in range(40)]
    write_bin(folder, "english", texts, tokenizer)
    return folder


@pytest.fixture
def bins(tmp_path, written):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_rows_hold_every_document_once(bins, tokenizer):
    packed = PackedBin(bins, "english", seq_len=16, seed=3)
    stream = np.concatenate([packed.row(i) for i in range(packed.num_rows)])
    assert packed.num_rows == token_counts(bins)["english"] // 16
    decoded = tokenizer.decode(stream.tolist(), skip_special_tokens=False)
    found = [t.replace("</s>", "").strip() for t in decoded.split("<s>") if t.strip()]
    texts = {f"document number {i} of the set" for i in range(40)}
    assert set(found[:-1]) <= texts and len(set(found)) == len(found)
    assert len(found) >= 39
    assert (packed.row(packed.num_rows + 2) == packed.row(2)).all()  # wraps around


def test_rows_are_pieces_of_the_packed_stream_at_any_length(bins):
    packed = PackedBin(bins, "english", seq_len=1, seed=3)
    stream = np.array([packed.row(i)[0] for i in range(packed.num_rows)])
    for seq_len in (7, 16, 100):
        packed = PackedBin(bins, "english", seq_len, seed=3)
        for i in range(packed.num_rows):
            wanted = stream[i * seq_len : (i + 1) * seq_len]
            assert (packed.row(i) == wanted).all()


def test_order_depends_on_the_seed_only(bins):
    rows = [PackedBin(bins, "english", 8, seed).row(2) for seed in (0, 0, 1)]
    assert (rows[0] == rows[1]).all() and (rows[0] != rows[2]).any()


def test_a_bin_of_less_than_a_row_is_an_error(bins):
    with pytest.raises(ValueError, match="less than one row of 4096"):
        PackedBin(bins, "english", 4096, 0)


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
@pytest.mark.parametrize("change", [-8, 8])
def test_a_file_of_the_wrong_size_is_named(bins, suffix, change):
    path = bins / f"english{suffix}"
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"\0" * change)
    with pytest.raises(
        ValueError, match=rf"english\{suffix}.*truncated.*write the bin"
    ):
        PackedBin(bins, "english", 16, 0)


def test_an_unfinished_bin_and_one_of_an_older_version_are_errors(bins):
    meta = bins / "english.json"
    write_json(meta, {"dtype": "uint16", "tokens": 3, "documents": 1})
    with pytest.raises(ValueError, match="not of this version"):
        PackedBin(bins, "english", 16, 0)
    meta.unlink()
    with pytest.raises(ValueError, match="not finished"):
        PackedBin(bins, "english", 16, 0)


@pytest.mark.parametrize(("place", "value"), [(0, 1), (3, 0), (3, 10**6), (-1, 5)])
def test_a_damaged_index_is_found(bins, tokenizer, place, value):
    path = bins / "english.idx"
    starts = np.fromfile(path, dtype=np.int64)
    starts[place] = value
    starts.tofile(path)
    for look in (
        lambda: PackedBin(bins, "english", 16, 0),
        lambda: check_bins(bins, tokenizer),
    ):
        with pytest.raises(ValueError, match="english.idx is damaged"):
            look()


def test_bins_of_another_tokenizer_are_refused(bins, base, tokenizer, tmp_path):
    assert check_bins(bins, tokenizer, read_all=True)["english"].documents == 40
    saved = tmp_path / "saved"
    tokenizer.save_pretrained(saved)
    assert check_bins(bins, type(tokenizer).from_pretrained(saved))
    tokenizer(["padded or cut"], truncation=True, max_length=2)  # changes its state
    assert check_bins(bins, tokenizer)
    other = as_pretrained(add_pieces(base, ["税"]), chat=False)
    with pytest.raises(
        ValueError, match="english.bin was written by another tokenizer"
    ):
        check_bins(bins, other)
    with pytest.raises(ValueError, match="holds no bin"):
        check_bins(tmp_path / "nothing", tokenizer)


def test_reading_all_finds_changed_ids_and_ids_beyond_the_vocabulary(bins, tokenizer):
    tokens = np.fromfile(bins / "english.bin", dtype=np.uint16)
    starts = np.fromfile(bins / "english.idx", dtype=np.int64)
    tokens[starts[7] + 2] += 1
    tokens.tofile(bins / "english.bin")
    check_bins(bins, tokenizer)  # sizes and index are as they were
    with pytest.raises(ValueError, match="english.bin changed after it was written"):
        check_bins(bins, tokenizer, read_all=True)
    tokens[starts[7] + 2] = 32_000
    tokens.tofile(bins / "english.bin")
    with pytest.raises(ValueError, match="document 7: token id 32000 is beyond"):
        check_bins(bins, tokenizer, read_all=True)


def test_knowledge_first_reads_rich_documents_early(tmp_path, tokenizer):
    texts = [f"{i}" for i in range(1_000)]
    quality = np.random.default_rng(0).permutation(1_000) / 1_000
    write_bin(tmp_path, "english", texts, tokenizer, scores=quality)

    def order(seed, way="knowledge_first"):
        packed = PackedBin(tmp_path, "english", 8, seed, way)
        rows = np.concatenate([packed.row(i) for i in range(packed.num_rows)])
        text = tokenizer.decode(rows.tolist(), skip_special_tokens=False)
        return [int(t.split("</s>")[0]) for t in text.split("<s>")[1:-1]]

    found = order(1)
    tenths = [quality[part].mean() for part in np.array_split(found, 10)]
    assert tenths == sorted(tenths, reverse=True)
    assert tenths[0] > 0.85 and tenths[-1] < 0.15
    assert min(quality[found[:100]]) > 0.65  # noise moves nothing further than 0.2
    assert found == order(1) and found != order(2)
    shuffled = quality[order(1, "shuffled")[:100]].mean()
    assert abs(shuffled - 0.5) < 0.1


def test_knowledge_first_without_scores_names_the_remedy(bins):
    with pytest.raises(ValueError, match=r"write_bin\(scores=...\)"):
        PackedBin(bins, "english", 16, 0, "knowledge_first")
    with pytest.raises(ValueError, match="use shuffled or knowledge_first"):
        PackedBin(bins, "english", 16, 0, "alphabetical")


def test_meta_states_what_is_in_the_bin(tmp_path, tokenizer):
    count = write_bin(tmp_path, "english", ["one 一", "two"], tokenizer)
    meta = read_meta(tmp_path, "english")
    ids = [*tokenizer("one 一").input_ids, *tokenizer("two").input_ids]
    assert meta.tokens == count == len(ids) + 2  # and an EOS each
    assert (meta.documents, meta.text_bytes) == (2, 4 + 3 + 3)
    assert (meta.dtype, meta.vocab_size, meta.max_id) == ("uint16", 32_000, max(ids))


def test_positions_and_labels_by_hand():
    rows = torch.tensor([[7, 2, 1, 5, 6, 2, 1, 8]])  # 1 is BOS, 2 is EOS
    assert position_ids(rows, 1).tolist() == [[0, 1, 0, 1, 2, 3, 0, 1]]
    # Never predict a BOS, nor anything after the row's end.
    assert labels_of(rows, 1).tolist() == [[2, -100, 5, 6, 2, -100, 8, -100]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32_000,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    ).eval()


@torch.no_grad()
def logits(model, rows_BT):
    positions = position_ids(rows_BT, 1)
    return model(input_ids=rows_BT, position_ids=positions, use_cache=False).logits


def test_documents_in_one_row_do_not_see_each_other(model):
    second = [1, 9, 10, 11]
    packed = torch.tensor([[1, 5, 6, 7, *second]])
    together = logits(model, packed)[0, 4:]
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([second]), use_cache=False).logits[0]
        leaking = model(input_ids=packed, use_cache=False).logits[0, 4:]
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(leaking, alone, atol=1e-3)  # the test can fail


def test_a_changed_document_changes_no_logit_of_its_neighbours(bins, model):
    packed = PackedBin(bins, "english", seq_len=32, seed=0)
    rows_BT = torch.from_numpy(np.stack([packed.row(i) for i in range(6)]))
    inside = rows_BT[:, 0] != 1
    assert inside.sum() >= 4  # rows that begin inside a document
    numbers_BT = (rows_BT == 1).cumsum(dim=1)  # of the document in its row, from 0
    before = logits(model, rows_BT)
    for document in range(int(numbers_BT.max()) + 1):
        mine = (numbers_BT == document) & (rows_BT != 1)
        changed = torch.where(mine, (rows_BT + 77) % 31_000 + 3, rows_BT)
        moved = (logits(model, changed) - before).abs().amax(dim=-1)
        others = numbers_BT != document
        assert moved[others].max() < 1e-5, document
        if mine.any():
            assert moved[mine].min() > 1e-3, document
