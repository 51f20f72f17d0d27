import copy
import dataclasses

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from trl import RewardTrainer

from finllm_utils.profiles import load_profile
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.guards import PPOFault
from finllm_utils.rlhf.reward_model import (
    calibration,
    encode_pairs,
    encode_prompt,
    load_reward_model,
    pair_margins,
    pairwise_losses,
    require_same_tokenizer,
    score_sequences,
    start_reward_model,
    train_reward_model,
)
from finllm_utils.rlhf.reward_signal import RewardStats, read_stats
from finllm_utils.rlhf.reward_training import trainer_settings, training_rows
from finllm_utils.rlhf.stored_reward import load_reward, scaled_reward
from tests.rlhf.conftest import EOS, tiny_config, word_tokenizer

WORDS = ["<unk>", "<s>", "</s>", "<pad>", "<|user|>", "<|end|>", "<|assistant|>"]
WORDS += [f"w{i}" for i in range(33)]


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(WORDS)


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
    with pytest.raises(
        ValueError, match=r"pair q0\|a\|b has 8 .*reward.max_answer_chars"
    ):
        encode_pairs(tokenizer, [_pair(0)], 7)


def test_a_pair_that_cannot_be_learnt_is_named(tokenizer):
    with pytest.raises(ValueError, match=r"pair q1\|a\|b: the question takes 5 tokens"):
        encode_pairs(tokenizer, [_pair(1)], 6)
    alike = [_pair(0), _pair(2, "w1 ｗ２", " w1w2 ")]
    with pytest.raises(ValueError, match=r"pair q2\|a\|b: chosen and rejected are the"):
        encode_pairs(tokenizer, alike, 16)


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


def _cfg(**changes):
    small = {"num_pairs": 64, "batch_size": 8, "learning_rate": 3e-3, "max_seq_len": 16}
    return dataclasses.replace(load_profile("toy").reward, **small | changes)


def test_batches_hold_pairs_of_like_length_and_no_pair_is_lost():
    pairs = [([i] * (1 + i % 7), [i]) for i in range(50)]
    margins = [i / 50 for i in range(50)]
    rows = training_rows(pairs, _cfg(use_margins=True), margins, seed=3)
    plain = training_rows(pairs, _cfg(), margins, seed=3)
    given = [(r["chosen_ids"], r["rejected_ids"]) for r in rows]
    assert given == [tuple(r.values()) for r in plain], "margins change the order"
    assert sorted(given) == sorted(pairs) and given != pairs
    assert all(r["margin"] == r["rejected_ids"][0] / 50 for r in rows)
    widths = [{len(c) for c, _ in given[i : i + 8]} for i in range(0, 50, 8)]
    assert all(max(w) - min(w) <= 2 for w in widths)
    for missing, said in ((None, "got none"), (margins[1:], "got 49")):
        with pytest.raises(ValueError, match=f"needs a margin for each of 50.*{said}"):
            training_rows(pairs, _cfg(use_margins=True), missing, seed=3)


def test_training_separates_liked_from_disliked_and_survives_a_save(
    folder, tokenizer, tmp_path
):
    cfg = _cfg(num_epochs=5)
    encoded = encode_pairs(tokenizer, [_pair(i) for i in range(64)], 16)
    model = start_reward_model(folder, tokenizer, seed=0)
    history = train_reward_model(model, tokenizer, encoded, cfg, seed=0)
    margins = pair_margins(model, encoded, batch_tokens=256)
    assert history[-1]["accuracy"] > 0.9 and (margins > 0).all()
    model.save_pretrained(tmp_path / "rm")
    again = pair_margins(load_reward_model(tmp_path / "rm"), encoded, batch_tokens=256)
    assert np.allclose(margins, again, atol=1e-6)


def test_our_loss_is_trls_with_margin_and_centring(folder, tokenizer, tmp_path):
    pairs = [_pair(0, "w1", "w3 w4"), _pair(1, "w9 w2", "w4"), _pair(2, "w7", "w8")]
    encoded, margins = encode_pairs(tokenizer, pairs, 16), [0.0, 1 / 3, 1.0]
    model = start_reward_model(folder, tokenizer, seed=0)
    rows = [
        {"chosen_ids": c, "rejected_ids": r, "margin": m}
        for (c, r), m in zip(encoded, margins, strict=True)
    ]
    trainer = RewardTrainer(
        model=model,
        args=trainer_settings(
            _cfg(center_coef=0.3), str(tmp_path), 0, "float32", "cpu"
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    (batch,) = trainer.get_train_dataloader()
    with torch.no_grad():
        theirs = trainer.compute_loss(model, batch).item()
    flat = [ids for pair in encoded for ids in pair]
    scores = score_sequences(model, flat, batch_tokens=256)
    ours = pairwise_losses(scores[0::2], scores[1::2], 0.3, np.array(margins))
    assert ours.mean() == pytest.approx(theirs, abs=1e-6)
    plain = pairwise_losses(scores[0::2], scores[1::2], 0.3)
    assert plain[0] == ours[0] and (plain[1:] < ours[1:]).all()
    assert pairwise_losses([2.0], [1.0], 0.1, 1.0)[0] == pytest.approx(np.log(2) + 0.9)


def test_margins_reach_the_training_only_when_they_shall_count(folder, tokenizer):
    pairs = [_pair(i) for i in range(16)]
    encoded, leads = encode_pairs(tokenizer, pairs, 16), {}
    for use in (False, True):
        model = start_reward_model(folder, tokenizer, seed=0)
        cfg = _cfg(use_margins=use, num_epochs=4)
        train_reward_model(model, tokenizer, encoded, cfg, seed=0, margins=[1.0] * 16)
        leads[use] = pair_margins(model, encoded, batch_tokens=256).mean()
    assert leads[True] > leads[False] + 0.05


def test_a_score_that_is_no_number_is_named(folder, tokenizer):
    model = start_reward_model(folder, tokenizer, seed=0)
    with torch.no_grad():
        model.model.embed_tokens.weight[9] = float("nan")
    sequences = [[1, 5, 5, 5, EOS], [1, 4, EOS], [1, 5, 9, EOS], [9, EOS]]
    assert np.isfinite(score_sequences(model, sequences[:2], batch_tokens=8)).all()
    with pytest.raises(
        ValueError, match=r"sequence 2 \(4 tokens\) is nan, 2 of 4 are not finite"
    ):
        score_sequences(model, sequences, batch_tokens=8)


def test_a_stored_reward_scores_as_before_and_knows_its_tokenizer(
    folder, tokenizer, tmp_path
):
    model = start_reward_model(folder, tokenizer, seed=0)
    sequences = [[1, 4, 9, 6, 11, EOS], [1, 4, 9, 6, 12, 13], [1, 4, 8, 6, 14, EOS]]
    reward = scaled_reward(model, EOS, sequences)
    given = reward(sequences)
    assert given.mean() == pytest.approx(0, abs=1e-9)
    assert given.std() == pytest.approx(1)
    closed = [*sequences[1], EOS]
    assert reward([closed])[0] == pytest.approx(given[1])  # EOS is put behind
    reward.save(tokenizer, tmp_path / "reward")
    again = load_reward(tmp_path / "reward", tokenizer, "cpu")
    assert again.stats == reward.stats
    assert np.allclose(again(sequences), given, atol=1e-6)
    policy = copy.deepcopy(tokenizer)
    policy.add_tokens(["w99"])
    with pytest.raises(ValueError, match="another tokenizer"):
        load_reward(tmp_path / "reward", policy, "cpu")


def test_another_vocabulary_is_refused(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "reward")
    policy = copy.deepcopy(tokenizer)
    policy.name_or_path = "runs/other/sft2"
    require_same_tokenizer(tmp_path / "reward", policy)
    policy.add_tokens(["w99"])
    with pytest.raises(ValueError) as caught:
        require_same_tokenizer(tmp_path / "reward", policy)
    said = str(caught.value)
    assert str(tmp_path / "reward") in said and "runs/other/sft2" in said
    assert "40 and 41 tokens, 'w99' has the ids None and 40; run notebooks/07" in said


def test_a_vocabulary_in_another_order_is_refused(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "reward")
    words = [*WORDS[:-2], WORDS[-1], WORDS[-2]]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    policy = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", bos_token="<s>"
    )
    with pytest.raises(ValueError, match="'w31' has the ids 38 and 39"):
        require_same_tokenizer(tmp_path / "reward", policy)


def test_faults_of_the_start_are_named(folder, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="07_reward_model"):
        load_reward_model(tmp_path / "nothing")
    same = copy.deepcopy(tokenizer)
    same.pad_token = same.eos_token
    with pytest.raises(PPOFault, match="EOS and PAD are the same token"):
        start_reward_model(folder, same, seed=0)
    model = start_reward_model(folder, tokenizer, seed=0)
    encoded = encode_pairs(tokenizer, [_pair(0)], 16)
    with pytest.raises(
        ValueError, match="max_seq_len=65 is longer than the model's co"
    ):
        train_reward_model(model, tokenizer, encoded, _cfg(max_seq_len=65), seed=0)


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
