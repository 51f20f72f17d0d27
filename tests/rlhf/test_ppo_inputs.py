"""Inputs that PPO cannot use are named before anything is lost."""

import dataclasses

import numpy as np
import pytest
import torch

from finllm_utils.rlhf import ppo
from finllm_utils.rlhf.critic import fresh_critic
from finllm_utils.rlhf.guards import PPOFault
from finllm_utils.rlhf.ppo_inputs import checked_scores, require_responses
from finllm_utils.rlhf.rollout import join_rollout, left_pad
from tests.rlhf.conftest import EOS, PAD
from tests.rlhf.small_ppo import PROMPTS, networks, same, share_of_liked, train


def rollout():
    ids, mask = left_pad([[1, 10], [1, 11, 12]], PAD)
    return join_rollout(
        ids, mask, torch.tensor([[9, EOS], [8, 7]]), eos_id=EOS, pad_id=PAD
    )


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, np.nan], r"not finite, nan, to row 1 .*\(token ids 1 11 12 8 7\)"),
        ([np.inf, -np.inf], r"inf, to row 0 .*\(token ids 1 10 9 2\) and 1 more"),
        ([1e300, 0.0], "inf, to row 0"),  # of float32
        ([1.0], r"shape \(1,\) for 2 sequences"),
        ([[1.0], [2.0]], r"shape \(2, 1\) for 2 sequences"),
        (1.0, r"shape \(\) for 2"),
        (None, "returned NoneType, which is no array of numbers"),
        (["good", "bad"], "returned list, which is no array"),
    ],
)
def test_scores_that_cannot_be_used(scores, message):
    with pytest.raises(PPOFault, match="judge .*" + message):
        checked_scores(lambda rows: scores, rollout(), "judge")


def test_scores_that_can():
    seen = []
    for given in ([1, 2], np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])):
        found = checked_scores(lambda rows, g=given: seen.append(rows) or g, rollout())
        assert found.dtype == torch.float32 and found.tolist() == [1.0, 2.0]
    assert seen[0] == [[1, 10, 9, EOS], [1, 11, 12, 8, 7]]


def test_a_long_row_is_quoted_in_part():
    ids, mask = left_pad([list(range(10, 20))], PAD)
    long = join_rollout(ids, mask, torch.tensor([[EOS]]), eos_id=EOS, pad_id=PAD)
    with pytest.raises(PPOFault, match=r"\(token ids 10 11 12 13 14 15 16 17 \.\.\.\)"):
        checked_scores(lambda rows: [np.nan], long)


@pytest.mark.parametrize("judge", ["reward_function", "heldout_reward"])
def test_a_score_that_breaks_late_loses_nothing(tmp_path, judge):
    """The third update's rewards are NaN: two updates stay, and the run goes on."""
    calls = []

    def breaks(sequences):
        calls.append(1)
        scores = share_of_liked(sequences)
        scores[5] = np.nan if len(calls) == 3 else scores[5]
        return scores

    options = {"heldout_reward": share_of_liked, "checkpoints": tmp_path}
    nets, after_two = networks(), []
    with pytest.raises(PPOFault, match=f"{judge} gave .* row 5 of the rollout"):
        train(
            nets,
            on_update=lambda n, f: after_two.append(n),
            **options | {judge: breaks},
        )
    assert after_two == [0, 1]
    resumed, history = train(**options)
    straight, expected = train(heldout_reward=share_of_liked)
    assert history == expected and same(resumed, straight)


def test_a_faulty_first_score_takes_no_step():
    nets = networks()
    with pytest.raises(PPOFault, match="reward_function gave"):
        train(nets, reward_function=lambda rows: np.full(len(rows), np.inf))
    assert same(nets, networks())


def test_an_empty_response_is_named(monkeypatch):
    """As a sampler of the user's may give it; ours always draws a token."""
    require_responses(rollout())
    inner = ppo.sample_rollout

    def lazy(*arguments, **more):
        found = inner(*arguments, **more)
        mask = found.response_mask_BT.clone()
        mask[[2, 4]] = 0
        attention = found.attention_mask_BL.clone()
        attention[:, found.prompt_width :] = mask
        return dataclasses.replace(
            found, response_mask_BT=mask, attention_mask_BL=attention
        )

    monkeypatch.setattr(ppo, "sample_rollout", lazy)
    nets = networks()
    with pytest.raises(PPOFault, match=r"row 2 .* and 1 more has no response token"):
        train(nets)
    assert same(nets, networks())


def nets_with(which):
    nets, other = list(networks()), networks(vocab_size=48)
    nets[which] = fresh_critic(other[0]) if which == 2 else other[which]
    return tuple(nets)


def short_context():
    nets = networks()
    nets[1].config.max_position_embeddings = 9
    return nets


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": [*PROMPTS, []]}, r"prompts\[20\] is empty"),
        ({"prompts": [[1, 40], *PROMPTS]}, r"prompts\[0\] .* 1 to 40, .* 0 to 39"),
        ({"prompts": [[-1], *PROMPTS]}, r"prompts\[0\] has token ids from -1"),
        ({"prompts": [*PROMPTS, [1] * 60]}, r"prompts\[20\] has 60 .*policy's .* 64;"),
        ({"nets": nets_with(1)}, "reference has a vocabulary of 48 .* policy one of 40"),
        ({"nets": nets_with(2)}, "critic has a vocabulary of 48 .* policy one of 40"),
        (
            {"nets": short_context(), "prompts": [[1] * 5] + PROMPTS},
            r"prompts\[0\] has 5 tokens: .*reference's context of 9; .*more than 4",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_at_the_start(options, message, monkeypatch):
    monkeypatch.setattr(ppo, "sample_rollout", None)  # would be called
    with pytest.raises(ValueError, match=message):
        train(**options)


def test_a_prompt_may_fill_the_context_to_the_last_token():
    _, history = train(prompts=[[1] * 59] * 8, num_updates=1)  # and 5 new tokens
    assert len(history) == 1
