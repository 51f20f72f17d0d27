"""Each fault is committed on purpose in a real run, and its guard names it."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from finllm_utils.rlhf import guards
from finllm_utils.rlhf.guards import PPOFault
from tests.rlhf.conftest import EOS
from tests.rlhf.small_ppo import networks, same, train, variety


def scaled(factor):
    """Networks whose policy is sharper (above 1) or flatter than the reference."""
    nets = networks()
    nets[0].model.norm.weight.data.mul_(factor)  # of all logits
    return nets


def hotter(module, args, output):
    """What sampling alone sees: log-probabilities are read from the hidden states."""
    output.logits = output.logits / 4


def greedy(module, args, output):
    least = output.logits.topk(1).values[..., -1:]
    output.logits = output.logits.masked_fill(output.logits < least, -torch.inf)


def all_drifts(history, reward_clip=5.0):
    """[(update, kind, sentence)] out of a finished history."""
    return [
        (number, kind, sentence)
        for number in range(len(history))
        for kind, sentence in guards.drifts(history[: number + 1], reward_clip).items()
        if sentence
    ]


def first_of(kind, history):
    """The first update at which this kind spoke, and its sentence."""
    return next((n, said) for n, k, said in all_drifts(history) if k == kind)


@pytest.mark.parametrize(("factor", "sampling"), [(2.0, hotter), (0.3, greedy)])
def test_a_sampler_of_its_own_is_a_negative_kl(factor, sampling):
    nets = scaled(factor)
    nets[0].register_forward_hook(sampling)
    with pytest.raises(PPOFault, match="KL to the reference is negative.*top_k"):
        train(nets, num_updates=1)
    _, history = train(scaled(factor), num_updates=1)
    assert history[0]["kl_nats"] > 0, "of its own samples it cannot be negative"


def test_dropout_that_eval_does_not_end_is_a_ratio_far_from_one():
    nets = networks()
    nets[0].model.norm.register_forward_hook(lambda m, a, out: F.dropout(out, 0.1))
    with pytest.raises(PPOFault, match=r"first mini-batch has max \|ratio - 1\|"):
        train(nets, num_updates=1)
    assert same(nets, networks()), "no step was taken"


def test_a_reward_for_one_token_collapses_the_entropy(caplog):
    options = {"num_updates": 10, "learning_rate": 2e-2, "rollout_batch_size": 16}
    _, history = train(kl_coef=0.0, **options)
    update, sentence = first_of("entropy", history)
    assert update > 2 and "raise ppo.kl_coef" in sentence
    assert f"update {update}: {sentence}" in caplog.messages
    _, held = train(kl_coef=0.5, **options)
    assert not any(row["warned_entropy"] for row in held), "the remedy helps"


def test_a_price_on_every_token_is_a_length_drift():
    _, history = train(
        num_updates=8, learning_rate=3e-2, kl_coef=0.0, max_new_tokens=8,
        missing_eos_penalty=0.0, rollout_batch_size=16,
        reward_function=lambda rows: np.array([5.0 - len(row) / 2 for row in rows]),
    )  # fmt: skip
    _, sentence = first_of("length", history)
    assert "shrank from" in sentence and "the reward may pay for length" in sentence


def test_a_critic_in_a_hurry_explodes():
    _, history = train(num_updates=3, critic_learning_rate=3.0)
    _, sentence = first_of("value", history)
    assert "lower ppo.critic_learning_rate" in sentence
    _, calm = train(num_updates=3)
    assert not any(row["warned_value"] for row in calm)


def test_eos_as_padding_is_refused():
    with pytest.raises(PPOFault, match="never learns to stop"):
        train(pad_id=EOS)


HACKED = {
    "num_updates": 12,
    "learning_rate": 3e-3,
    "kl_coef": 0.0,
    "rollout_batch_size": 16,
}


def test_a_second_judge_sees_reward_hacking(caplog):
    caplog.set_level(logging.WARNING)
    _, history = train(heldout_reward=variety, **HACKED)
    update, sentence = first_of("hacking", history)
    assert update >= 9, "two windows of five updates"
    assert "the score rose" in sentence and "raise ppo.kl_coef" in sentence
    assert [row["warned_hacking"] for row in history[:9]] == [0.0] * 9
    assert history[update]["warned_hacking"] == 1.0
    assert f"update {update}: {sentence}" in caplog.messages


def test_a_second_judge_that_agrees_stays_silent_and_changes_no_bit():
    nets, alone = train(**HACKED)
    judged, history = train(
        heldout_reward=lambda rows: np.array([float(9 in row) for row in rows]),
        **HACKED,
    )
    assert same(nets, judged)
    assert history[-1]["score"] > history[0]["score"] + 1
    assert not any(row["warned_hacking"] for row in history)
    added = {"heldout_score", "heldout_score_error", "warned_hacking"}
    for row, with_judge in zip(alone, history, strict=True):
        assert row == {k: v for k, v in with_judge.items() if k not in added}
        assert added <= with_judge.keys()


def test_the_history_says_what_was_logged(caplog):
    _, history = train(heldout_reward=variety, **(HACKED | {"learning_rate": 1e-2}))
    told = all_drifts(history)
    assert {kind for _, kind, _ in told} >= {"entropy", "hacking"}
    assert [f"update {n}: {said}" for n, _, said in told] == caplog.messages
    for number, row in enumerate(history):
        marked = {k for k in row if k.startswith("warned_") and row[k]}
        assert marked == {f"warned_{kind}" for n, kind, _ in told if n == number}


def test_a_resumed_run_warns_as_the_straight_one(tmp_path):
    options = HACKED | {"heldout_reward": variety, "save_every": 1}
    nets, straight = train(**options)

    class Killed(Exception):
        pass

    def die(update, figures):
        if update == 7:
            raise Killed

    with pytest.raises(Killed):
        train(checkpoints=tmp_path, on_update=die, **options)
    again, history = train(checkpoints=tmp_path, **options)
    assert history == straight and same(nets, again)
    with pytest.raises(ValueError, match="heldout_reward was True and is now False"):
        train(checkpoints=tmp_path, **(options | {"heldout_reward": None}))
