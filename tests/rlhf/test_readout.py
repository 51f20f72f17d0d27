"""Where the score is read: masks and means by hand, both readouts, saving, training."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from finllm_utils.profiles import load_profile
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.readout import (
    TokenRewardModel,
    answer_mask,
    answer_token,
    running_scores,
)
from finllm_utils.rlhf.reward_model import (
    encode_pairs,
    load_reward_model,
    pair_margins,
    save_reward_model,
    score_sequences,
    start_reward_model,
    train_reward_model,
)
from finllm_utils.rlhf.reward_signal import RewardStats
from finllm_utils.rlhf.reward_training import optimizer
from finllm_utils.rlhf.rollout import sample_rollout
from tests.rlhf.conftest import EOS
from tests.rlhf.test_reward_model import WORDS, _pair, folder
from tests.rlhf.test_reward_model import tokenizer as plain_tokenizer

__all__ = ["folder", "plain_tokenizer"]  # fixtures
OPENER = WORDS.index("<|assistant|>")


@pytest.fixture(scope="module")
def tokenizer(plain_tokenizer):
    made = copy.deepcopy(plain_tokenizer)
    made.add_special_tokens({"additional_special_tokens": ["<|assistant|>"]})
    return made


@pytest.fixture
def model(folder, tokenizer):
    return start_reward_model(folder, tokenizer, seed=0, readout="tokens")


def test_the_mask_by_hand():
    ids = torch.tensor(
        [[1, 8, OPENER, 9, 10, EOS, 3, 3], [OPENER, 9, OPENER, 9, EOS, 3, 3, 3]]
    )
    real = ids != 3
    assert answer_mask(ids, real, OPENER).long().tolist() == [
        [0, 0, 0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 0, 0, 0],  # the policy said the opener: what it said counts
    ]
    with pytest.raises(ValueError, match="sequence 1 of the batch has no token behind"):
        answer_mask(torch.tensor([[OPENER, 9], [9, OPENER]]), torch.ones(2, 2), OPENER)


def test_the_opener_must_be_a_token_of_its_own(tokenizer, plain_tokenizer):
    assert answer_token(tokenizer) == OPENER
    with pytest.raises(
        ValueError, match="reward.readout='tokens' needs a chat templat"
    ):
        answer_token(plain_tokenizer)


def test_a_score_is_the_mean_of_the_answers_tokens(model):
    sequence = [1, 8, OPENER, 9, 10, 11, EOS]
    with torch.no_grad():
        hidden = model.model(torch.tensor([sequence])).last_hidden_state
        each = model.score(hidden)[0, :, 0]
    ours = score_sequences(model, [sequence, [OPENER, 9]], batch_tokens=64)
    assert ours[0] == pytest.approx(each[3:].mean().item(), abs=1e-6)
    running = running_scores(model, hidden[:, 3:])[0]
    assert running.tolist() == pytest.approx(
        [each[3].item(), each[3:5].mean().item(), each[3:6].mean().item(), ours[0]],
        abs=1e-6,
    )


def test_trl_sees_the_same_score_and_padding_changes_nothing(model):
    sequence = [1, 8, OPENER, 9, 10, EOS]
    padded = torch.tensor([sequence + [3] * 4])
    with torch.no_grad():
        theirs = model(padded, attention_mask=(padded != 3).long()).logits
    assert theirs.shape == (1, 1)
    ours = score_sequences(model, [sequence], batch_tokens=64)
    assert ours[0] == pytest.approx(theirs.item(), abs=1e-6)


def test_a_saved_model_is_read_as_it_was(model, tokenizer, tmp_path):
    save_reward_model(model, tokenizer, tmp_path / "rm")
    again = load_reward_model(tmp_path / "rm")
    assert isinstance(again, TokenRewardModel)
    assert again.config.answer_token_id == OPENER
    sequences = [[1, 8, OPENER, 9, EOS], [OPENER, 12, 13, EOS]]
    scores = [score_sequences(m, sequences, batch_tokens=64) for m in (model, again)]
    assert np.allclose(*scores, atol=1e-7)


def test_sentence_level_stays_the_last_token(folder, tokenizer):
    model = start_reward_model(folder, tokenizer, seed=0, readout="eos")
    hidden = torch.randn(2, 5, model.config.hidden_size)
    assert torch.equal(running_scores(model, hidden), model.score(hidden)[..., 0])
    assert not isinstance(model, TokenRewardModel)


def test_a_critics_values_are_the_mean_so_far(model, policy):
    prompts = [[1, 8, OPENER], [1, 9, 10, 11, OPENER]]
    rollout = sample_rollout(
        policy, prompts, max_new_tokens=6, temperature=1.0, eos_id=EOS, pad_id=3, seed=0
    )
    values = Critic(model, RewardStats(mean=0.5, std=2.0))(rollout)
    for prompt, sequence, row in zip(
        prompts, rollout.sequences(), values.tolist(), strict=True
    ):
        with torch.no_grad():
            each = model.score(model.model(torch.tensor([sequence])).last_hidden_state)
        seen = each[0, len(prompt) - 1 : -1, 0]  # the state before each response token
        by_hand = [(seen[: t + 1].mean().item() - 0.5) / 2 for t in range(len(seen))]
        assert row[: len(seen)] == pytest.approx(by_hand, abs=1e-5)
        assert row[len(seen) :] == [0.0] * (len(row) - len(seen))


def test_training_learns_a_word_and_the_embedding_takes_larger_steps(model, tokenizer):
    cfg = dataclasses.replace(
        load_profile("toy").reward, num_pairs=64, batch_size=8, learning_rate=3e-3,
        num_epochs=3, max_seq_len=16, embedding_rate=10.0,
    )  # fmt: skip
    rest, rows = optimizer(model, cfg).param_groups
    assert (rest["lr"], rows["lr"]) == pytest.approx((3e-3, 3e-2))
    assert rows["params"][0] is model.model.embed_tokens.weight
    count = len(rest["params"]) + len(rows["params"])
    assert count == len(list(model.parameters()))
    encoded = encode_pairs(tokenizer, [_pair(i) for i in range(64)], 16)
    train_reward_model(model, tokenizer, encoded, cfg, seed=0)
    assert (pair_margins(model, encoded, batch_tokens=256) > 0).all()
