"""LoRA on a reward model: what learns, what stays, and merging that changes nothing."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import RewardTrainer

from finllm_utils.profiles import load_profile
from finllm_utils.rlhf.reward_model import (
    encode_pairs,
    load_reward_model,
    pair_margins,
    save_reward_model,
    score_sequences,
    start_reward_model,
    train_reward_model,
)
from finllm_utils.rlhf.reward_training import (
    optimizer,
    trainable_part,
    trainer_settings,
    training_rows,
)
from tests.rlhf.test_readout import plain_tokenizer, tokenizer
from tests.rlhf.test_reward_model import _pair, folder

__all__ = ["folder", "plain_tokenizer", "tokenizer"]  # fixtures
CFG = dataclasses.replace(
    load_profile("toy").reward, num_pairs=64, batch_size=8, learning_rate=1e-2,
    num_epochs=3, max_seq_len=16, trainable="lora", lora_rank=4,
)  # fmt: skip
each_readout = pytest.mark.parametrize("readout", ["eos", "tokens"])


@pytest.fixture
def encoded(tokenizer):
    return encode_pairs(tokenizer, [_pair(i) for i in range(64)], 16)


@each_readout
def test_only_adapters_and_head_learn_and_merged_scores_agree(
    folder, tokenizer, encoded, readout, tmp_path
):
    model = start_reward_model(folder, tokenizer, 0, readout)
    before = copy.deepcopy(model.state_dict())
    flat = [ids for pair in encoded for ids in pair]
    plain = score_sequences(model, flat, batch_tokens=256)
    with trainable_part(model, "lora", 4, seed=0) as learner:
        started = score_sequences(model, flat, batch_tokens=256)
        assert np.allclose(started, plain, atol=1e-6), "an adapter starts as nothing"
        RewardTrainer(
            model=learner,
            args=trainer_settings(CFG, str(tmp_path), 0, "float32", "cpu"),
            train_dataset=Dataset.from_list(training_rows(encoded, CFG, None, 0)),
            processing_class=tokenizer,
            optimizers=(optimizer(learner, CFG), None),
        ).train()
        learnt = {n for n, p in learner.named_parameters() if p.requires_grad}
        model.eval()
        adapted = score_sequences(model, flat, batch_tokens=256)
    places = {n.split("lora_")[0].split(".")[-2] for n in learnt if "lora_" in n}
    assert places == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    assert {n for n in learnt if "lora_" not in n} == {
        "base_model.model.score.modules_to_save.default.weight"
    }
    merged = score_sequences(model, flat, batch_tokens=256)
    assert np.allclose(adapted, merged, atol=1e-4)
    assert np.abs(merged - plain).max() > 0.01, "nothing was learnt"
    after = model.state_dict()
    assert list(after) == list(before), "a plain model again"
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert changed == {n for n in before if "_proj" in n or n == "score.weight"}
    assert all(p.requires_grad for p in model.parameters())


@each_readout
def test_a_model_trained_with_adapters_loads_like_any_other(
    folder, tokenizer, encoded, readout, tmp_path
):
    model = start_reward_model(folder, tokenizer, 0, readout)
    train_reward_model(model, tokenizer, encoded, CFG, seed=0)
    margins = pair_margins(model, encoded, batch_tokens=256)
    assert (margins > 0).mean() > 0.9
    save_reward_model(model, tokenizer, tmp_path / "rm")
    assert not (tmp_path / "rm" / "adapter_config.json").exists()
    again = load_reward_model(tmp_path / "rm")
    assert type(again) is type(model)
    assert np.allclose(pair_margins(again, encoded, batch_tokens=256), margins)


def test_the_frozen_embedding_is_not_the_optimisers(folder, tokenizer):
    model = start_reward_model(folder, tokenizer, 0)
    with trainable_part(model, "lora", 4, seed=0) as learner:
        (group,) = optimizer(learner, CFG).param_groups
    assert group["lr"] == CFG.learning_rate
    assert len(group["params"]) == 2 * 7 * 2 + 1  # A and B, linear layers, depth; head


def test_settings_of_lora_are_checked():
    for changes in ({"trainable": "qlora"}, {"lora_rank": 0}):
        with pytest.raises(
            ValueError, match="use all or lora, and a rank of 1 or more"
        ):
            dataclasses.replace(CFG, **changes)
