import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from finllm_utils.model.load import load_model
from finllm_utils.profiles import load_profile
from finllm_utils.rlhf import preference_trainers as baselines
from finllm_utils.rlhf.guards import PPOFault
from finllm_utils.rlhf.logprobs import response_logprobs
from finllm_utils.rlhf.policy_report import sample_policy
from finllm_utils.rlhf.rollout import join_rollout, left_pad
from tests.benchmarks.ppo_baselines_arms import gains
from tests.rlhf.conftest import EOS, PAD
from tests.rlhf.small_ppo import PROMPTS, share_of_liked
from tests.rlhf.test_reward_model import _pair, folder, tokenizer

__all__ = ["folder", "tokenizer"]  # fixtures
TOY = load_profile("toy")
RUNTIME = dataclasses.replace(TOY.runtime, device="cpu", dtype="float32")
METHODS = (baselines.train_rloo, baselines.train_grpo)


@pytest.fixture
def cfg():
    return dataclasses.replace(
        TOY.ppo,
        num_updates=12,
        rollout_batch_size=32,
        max_new_tokens=6,
        num_ppo_epochs=2,
        num_mini_batches=2,
        learning_rate=1e-2,
        kl_coef=0.02,
        reward_clip=5.0,
        missing_eos_penalty=1.0,
    )


def budget(**changes: object) -> baselines.Budget:
    return baselines.Budget(**{"seed": 0, "runtime": RUNTIME} | changes)


def liked(policy) -> float:
    found = sample_policy(
        policy, None, share_of_liked, PROMPTS * 4,
        max_new_tokens=6, eos_id=EOS, pad_id=PAD, seed=5,
    )  # fmt: skip
    return found.rewards.mean()


@pytest.mark.parametrize("train", METHODS)
def test_a_liked_token_becomes_frequent_and_all_else_stays(
    train, folder, tokenizer, cfg
):
    start = load_model(folder)
    found = train(folder, tokenizer, share_of_liked, PROMPTS, cfg, budget())
    assert liked(found.policy) > liked(start) + 1
    assert found.num_steps == 12 * 2 * 2 and len(found.log) == 12
    assert found.log[-1]["reward"] > found.log[0]["reward"] + 1
    assert found.log[-1]["kl"] > 0
    assert "forward" not in vars(found.policy) and not found.policy.training
    for name, tensor in load_model(folder).state_dict().items():
        assert torch.equal(tensor, start.state_dict()[name]), "the reference changed"
    rows = found.policy.model.embed_tokens.weight
    assert torch.equal(rows, start.model.embed_tokens.weight)
    inner = found.policy.model.layers[0].mlp.up_proj.weight
    assert not torch.equal(inner, start.model.layers[0].mlp.up_proj.weight)


@pytest.mark.parametrize("train", METHODS)
def test_the_reward_function_sees_the_sampled_ids(
    train, folder, tokenizer, cfg, monkeypatch
):
    """Whole prompts with their one BOS, answers with EOS, groups side by side."""
    prompts, answers, scored = [], [], []
    trainer = dict(zip(METHODS, (baselines._RLOO, baselines._GRPO), strict=True))[train]
    inner = trainer._generate_single_turn

    def spy(self, prompt_ids, *rest):
        ids = inner(self, prompt_ids, *rest)
        prompts.extend(prompt_ids)
        answers.extend(ids[0] if isinstance(ids, tuple) else ids)
        return ids

    def reward(sequences):
        scored.extend(sequences)
        return share_of_liked(sequences)

    monkeypatch.setattr(trainer, "_generate_single_turn", spy)
    cfg = dataclasses.replace(cfg, num_updates=2)
    train(folder, tokenizer, reward, PROMPTS, cfg, budget())
    assert scored == [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    assert len(scored) == 2 * 32 and all(p in PROMPTS for p in prompts)
    for begin in range(0, len(prompts), 4):
        assert prompts[begin : begin + 4] == [prompts[begin]] * 4
    for answer in answers:
        assert len(answer) == 6 or answer[-1] == EOS
        assert EOS not in answer[:-1]
    assert any(answer[-1] == EOS for answer in answers)


def test_scores_are_paid_as_ppo_pays_them(cfg):
    paid = baselines.paid_scores(np.array([9.0, -0.5, 1.0]), [True, True, False], cfg)
    assert paid.tolist() == [5.0, -0.5, 0.0]  # clipped at 5; no EOS costs 1


def test_dpo_raises_the_margin_of_the_chosen_answer(folder, tokenizer, cfg):
    pairs = [_pair(i) for i in range(64)]
    rows = baselines.pair_rows(tokenizer, pairs, 16)
    start = load_model(folder)
    cfg = dataclasses.replace(cfg, rollout_batch_size=32, kl_coef=0.1)
    found = baselines.train_dpo(folder, tokenizer, rows, cfg, budget(), num_steps=8)
    before, after = margin(start, rows[0]), margin(found.policy, rows[0])
    assert after > before + 1
    assert found.log[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    shown = found.log[-1]["rewards/margins"] / cfg.kl_coef  # mean of other rows
    assert shown == pytest.approx(after - before, rel=0.5)
    assert found.num_steps == len(found.log) == 8
    for name, tensor in load_model(folder).state_dict().items():
        assert torch.equal(tensor, start.state_dict()[name]), "the reference changed"
    rows = found.policy.model.embed_tokens.weight
    assert torch.equal(rows, start.model.embed_tokens.weight)


def margin(policy, row) -> float:
    """log p of the chosen minus log p of the rejected answer."""
    prompts = left_pad([row["prompt_ids"]] * 2, PAD)
    answers = torch.tensor([row["chosen_ids"], row["rejected_ids"]])
    both = join_rollout(*prompts, answers, eos_id=EOS, pad_id=PAD)
    with torch.no_grad():
        chosen, rejected = response_logprobs(policy, both, temperature=1.0).sum(1)
    return float(chosen - rejected)


def test_rows_of_a_pair_by_hand(tokenizer):
    (row,) = baselines.pair_rows(tokenizer, [_pair(0)], 16)
    words = {k: tokenizer.convert_ids_to_tokens(ids) for k, ids in row.items()}
    assert words == {
        "prompt_ids": ["<s>", "<|user|>", "w5", "<|end|>", "<|assistant|>"],
        "chosen_ids": ["w1", "w2", "</s>"],
        "rejected_ids": ["w3", "w4", "</s>"],
    }


def test_a_time_limit_ends_training_and_takes_the_rate_to_0(
    folder, tokenizer, cfg, monkeypatch
):
    """The clock moves by a second a rollout, so all is known by hand."""
    now = [0.0]

    def slow(sequences):
        now[0] += 1
        return share_of_liked(sequences)

    monkeypatch.setattr(baselines, "time", SimpleNamespace(monotonic=lambda: now[0]))
    cfg = dataclasses.replace(cfg, num_updates=1000)
    limited = budget(max_seconds=3.5)
    found = baselines.train_rloo(folder, tokenizer, slow, PROMPTS, cfg, limited)
    assert found.num_steps == 3 * 4 + 1 and found.seconds == 4
    rates = [line["learning_rate"] / cfg.learning_rate for line in found.log]
    assert rates == pytest.approx([2.5 / 3.5, 1.5 / 3.5, 0.5 / 3.5])


def test_gains_of_the_benchmark_by_hand():
    shared = dict.fromkeys(("ended", "unique", "repeated", "overlap"), 0.5)
    before = shared | {
        "reward": 1.0, "reward_std": 2.0, "length_slope": 0.1, "length": 30, "kl": 0,
        "heldout": 0.0, "heldout_std": 4.0, "bpb.a": 2.0, "bpb.b": 1.0,
    }  # fmt: skip
    after = before | {
        "reward": 3.0, "length": 40, "kl": 5, "heldout": 1.0, "bpb.a": 2.2,
        "bpb.b": 1.3, "train_s": 9.0, "samples": 64,
    }  # fmt: skip
    found = gains(before, after)
    assert found["reward_gain_std"] == 1
    assert found["reward_gain_length_adjusted"] == 0.5  # 10 tokens at 0.1 explain 1
    assert found["heldout_rm_gain"] == 0.25
    assert found["bpb_change"] == pytest.approx(0.2)
    assert found["kl"] == 5 and found["samples"] == 64


def test_what_cannot_be_right_is_named(folder, tokenizer, cfg):
    same = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer)
    same.eos_token = same.pad_token = "</s>"
    with pytest.raises(PPOFault, match="EOS and PAD are the same"):
        baselines.train_rloo(folder, same, share_of_liked, PROMPTS, cfg, budget())
    with pytest.raises(ValueError, match="num_generations"):
        baselines.train_grpo(
            folder, tokenizer, share_of_liked, PROMPTS, cfg, budget(num_generations=5)
        )
