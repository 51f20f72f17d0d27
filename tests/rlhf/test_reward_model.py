import dataclasses

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from finllm_utils.profiles import load_profile
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.reward_model import (
    _like_lengths_together,
    calibration,
    encode_pairs,
    encode_prompt,
    load_reward_model,
    pair_margins,
    score_sequences,
    start_reward_model,
    train_reward_model,
)
from finllm_utils.rlhf.reward_signal import RewardStats, read_stats
from tests.rlhf.conftest import EOS, tiny_config

WORDS = ["<unk>", "<s>", "</s>", "<pad>", "<|user|>", "<|end|>", "<|assistant|>"]
WORDS += [f"w{i}" for i in range(33)]
TEMPLATE = (
    "<s> {% for m in messages %}<|{{ m.role }}|> {{ m.content }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", bos_token="<s>"
    )
    made.chat_template = TEMPLATE
    return made


@pytest.fixture
def folder(tmp_path):
    LlamaForCausalLM(tiny_config()).save_pretrained(tmp_path / "sft")
    return tmp_path / "sft"


def _pair(i, chosen="w1 w2", rejected="w3 w4"):
    return PreferencePair(
        id=f"q{i}|a|b",
        prompt=f"w{5 + i % 9}",
        chosen=chosen,
        rejected=rejected,
        source="x",
    )


def test_encoding_ends_with_eos_and_never_cuts_it(tokenizer):
    prompt = encode_prompt(tokenizer, "w5")
    assert tokenizer.convert_ids_to_tokens(prompt) == [
        "<s>", "<|user|>", "w5", "<|end|>", "<|assistant|>",
    ]  # fmt: skip
    ((chosen, rejected),) = encode_pairs(tokenizer, [_pair(0)], 16)
    assert chosen[:5] == rejected[:5] == prompt
    assert chosen[-1] == rejected[-1] == EOS and len(chosen) == 8
    with pytest.raises(ValueError, match="reward.max_answer_chars"):
        encode_pairs(tokenizer, [_pair(0)], 7)


def test_scores_equal_transformers_and_keep_order(folder, tokenizer):
    model = start_reward_model(folder, tokenizer, seed=0)
    sequences = [[1, 5, 6, 7, EOS], [1, 9, EOS], [1, 4, 4, 4, 4, 4, EOS]]
    ours = score_sequences(model, sequences, batch_tokens=12)
    for sequence, score in zip(sequences, ours, strict=True):
        padded = torch.tensor([sequence + [3] * 4])
        with torch.no_grad():
            theirs = model(padded, attention_mask=(padded != 3).long()).logits.item()
        assert score == pytest.approx(theirs, abs=1e-5)


def test_an_unfinished_response_is_read_at_an_added_eos(folder, tokenizer):
    model = start_reward_model(folder, tokenizer, seed=0)
    finished, cut = [1, 5, 6, EOS], [1, 5, 6]
    open_end = score_sequences(model, [finished, cut], batch_tokens=64)
    closed = score_sequences(model, [finished, cut], batch_tokens=64, close_with=EOS)
    assert open_end[0] != pytest.approx(open_end[1], abs=1e-4)
    assert closed == pytest.approx(open_end[0], abs=1e-5)


def test_start_is_seeded_and_keeps_the_language_model(folder, tokenizer):
    first = start_reward_model(folder, tokenizer, seed=1)
    assert torch.equal(
        first.score.weight, start_reward_model(folder, tokenizer, seed=1).score.weight
    )
    source = LlamaForCausalLM.from_pretrained(folder)
    assert torch.equal(
        first.model.embed_tokens.weight, source.model.embed_tokens.weight
    )
    assert first.score.weight.std().item() == pytest.approx(33**-0.5, rel=0.5)


def test_a_small_query_scale_makes_eos_read_the_whole_answer(folder, tokenizer):
    sequence = torch.tensor([[1, 4, 7, 5, 6, 8, 9, EOS]])
    plain, even = (
        start_reward_model(folder, tokenizer, seed=0, query_scale=scale)
        for scale in (1.0, 0.0)
    )
    half = plain.config.num_hidden_layers // 2
    for model, flat in ((plain, False), (even, True)):
        model.set_attn_implementation("eager")
        with torch.no_grad():
            seen = model.model(sequence, output_attentions=True).attentions
        for weights in seen[half:]:
            assert torch.allclose(weights[0, :, -1], torch.tensor(1 / 8)) == flat
    below = (m.model.layers[0].self_attn.q_proj.weight for m in (plain, even))
    assert half == 0 or torch.equal(*below)


def test_batches_hold_pairs_of_like_length_and_no_pair_is_lost():
    pairs = [([i] * (1 + i % 7), [i]) for i in range(50)]
    rows = _like_lengths_together(pairs, 8, seed=3)
    assert sorted(rows) == sorted(pairs) and rows != pairs
    assert rows == _like_lengths_together(pairs, 8, seed=3)
    widths = [{len(c) for c, _ in rows[i : i + 8]} for i in range(0, 50, 8)]
    assert all(max(w) - min(w) <= 2 for w in widths)


def test_training_separates_liked_from_disliked_and_survives_a_save(
    folder, tokenizer, tmp_path
):
    cfg = dataclasses.replace(
        load_profile("toy").reward, num_pairs=64, batch_size=8, learning_rate=3e-3,
        num_epochs=5, max_seq_len=16,
    )  # fmt: skip
    encoded = encode_pairs(tokenizer, [_pair(i) for i in range(64)], 16)
    model = start_reward_model(folder, tokenizer, seed=0)
    history = train_reward_model(model, tokenizer, encoded, cfg, seed=0)
    margins = pair_margins(model, encoded, batch_tokens=256)
    assert history[-1]["accuracy"] > 0.9 and (margins > 0).all()
    model.save_pretrained(tmp_path / "rm")
    again = pair_margins(load_reward_model(tmp_path / "rm"), encoded, batch_tokens=256)
    assert np.allclose(margins, again, atol=1e-6)


def test_eos_as_pad_and_missing_folder_are_named(folder, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="07_reward_model"):
        load_reward_model(tmp_path / "nothing")


def test_stats_round_trip_and_refuse_a_constant_reward(tmp_path):
    RewardStats(mean=2.0, std=4.0).write(tmp_path / "stats.json")
    stats = read_stats(tmp_path / "stats.json")
    assert stats.normalise(np.array([2.0, 6.0])).tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="same score"):
        RewardStats(mean=0.0, std=0.0)


def test_calibration_by_hand():
    (one,) = calibration([2.0, -2.0, 2.0, 2.0], num_bins=1)
    assert one["actual"] == 0.75 and one["count"] == 4
    assert one["predicted"] == pytest.approx(1 / (1 + np.exp(-2)))
