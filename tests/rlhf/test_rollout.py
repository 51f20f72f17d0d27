import pytest
import torch
from transformers import GenerationConfig

from finllm_utils.rlhf import logprobs as logprobs_module
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.logprobs import (
    TokenLogprobs,
    logprobs_and_entropy,
    response_logprobs,
)
from finllm_utils.rlhf.reward_signal import RewardStats
from finllm_utils.rlhf.rollout import (
    join_rollout,
    left_pad,
    mask_after_eos,
    position_ids,
    sample_rollout,
    sample_tokens,
)
from tests.rlhf.conftest import EOS, PAD


def _rollout(policy, prompts, **changes):
    settings = {"max_new_tokens": 8, "temperature": 1.0, "seed": 5} | changes
    return sample_rollout(policy, prompts, eos_id=EOS, pad_id=PAD, **settings)


def test_mask_after_eos():
    responses = torch.tensor([[7, EOS, 5, EOS], [EOS, 7, 7, 7], [7, 8, 9, 5]])
    expected = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert mask_after_eos(responses, EOS).tolist() == expected


def test_left_pad_and_positions():
    ids, mask = left_pad([[5, 6, 7], [8]], PAD)
    assert ids.tolist() == [[5, 6, 7], [PAD, PAD, 8]]
    assert position_ids(mask).tolist() == [[0, 1, 2], [0, 0, 0]]


def test_tokens_after_eos_become_padding():
    ids, mask = left_pad([[1, 10]], PAD)
    rollout = join_rollout(
        ids, mask, torch.tensor([[7, EOS, 9]]), eos_id=EOS, pad_id=PAD
    )
    assert rollout.response_ids() == [[7, EOS]]
    assert rollout.sequences() == [[1, 10, 7, EOS]]
    assert rollout.lengths_B.tolist() == [2]
    assert rollout.ended_B(EOS).tolist() == [True]


def test_sample_tokens_inverts_the_cumulative_distribution():
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).expand(4, 3)
    drawn = sample_tokens(logits, torch.tensor([0.0, 0.19, 0.6, 0.999]))
    assert drawn.tolist() == [0, 0, 1, 2]


def test_greedy_limit_equals_generate(policy, prompts):
    ours = _rollout(policy, prompts, temperature=1e-4)
    ids, mask = left_pad(prompts, PAD)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=8, eos_token_id=EOS, pad_token_id=PAD
    )
    theirs = policy.generate(
        input_ids=ids, attention_mask=mask, generation_config=settings
    )
    assert torch.equal(ours.ids_BL, theirs)


def test_sampling_is_seeded_and_leaves_the_global_state(policy, prompts):
    state = torch.get_rng_state()
    first, second = _rollout(policy, prompts), _rollout(policy, prompts)
    assert torch.equal(first.ids_BL, second.ids_BL)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first.ids_BL, _rollout(policy, prompts, seed=6).ids_BL)


def test_sampled_shares_match_the_distribution(policy):
    rollout = _rollout(policy, [[1, 10]] * 4000, max_new_tokens=1)
    with torch.no_grad():
        wanted = policy(torch.tensor([[1, 10]])).logits[0, -1].softmax(-1)
    seen = torch.bincount(rollout.responses_BT[:, 0], minlength=40) / 4000
    assert (seen - wanted).abs().max() < 0.03


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_left_padding_changes_no_logprob(policy, prompts, temperature):
    rollout = _rollout(policy, prompts)
    ours = response_logprobs(policy, rollout, temperature=temperature)
    for row, (prompt, response) in enumerate(
        zip(prompts, rollout.response_ids(), strict=True)
    ):
        with torch.no_grad():
            logits = policy(torch.tensor([prompt + response])).logits[0] / temperature
        alone = logits[len(prompt) - 1 : -1].log_softmax(-1)
        alone = alone.gather(1, torch.tensor(response)[:, None])[:, 0]
        assert torch.allclose(ours[row, : len(response)], alone, atol=1e-5)
        assert not ours[row, len(response) :].any()


def test_tiled_logprobs_entropy_and_gradients_equal_plain(monkeypatch):
    monkeypatch.setattr(logprobs_module, "TILE_ROWS", 3)
    hidden = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    targets, outer = torch.randint(11, (8,)), torch.randn(8, dtype=torch.float64)
    ours, entropy = TokenLogprobs.apply(hidden, weight, targets, 0.7)
    logs = ((hidden @ weight.T) / 0.7).log_softmax(-1)
    plain = logs.gather(1, targets[:, None])[:, 0]
    assert torch.allclose(ours, plain)
    assert torch.allclose(entropy, -(logs.exp() * logs).sum(-1))
    (ours * outer).sum().backward()
    mine = [hidden.grad.clone(), weight.grad.clone()]
    hidden.grad = weight.grad = None
    (plain * outer).sum().backward()
    for a, b in zip(mine, (hidden.grad, weight.grad), strict=True):
        assert torch.allclose(a, b)


def test_large_logits_stay_finite_and_bfloat16_is_close():
    hidden, weight = 30 * torch.randn(6, 5), 30 * torch.randn(11, 5)
    targets = (hidden @ weight.T).argmax(1)
    ours, _ = TokenLogprobs.apply(hidden, weight, targets, 1.0)
    plain = (hidden @ weight.T).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert torch.allclose(ours, plain, atol=1e-3)
    small, rows = torch.randn(64, 32), torch.randn(400, 32) / 4
    targets = torch.randint(400, (64,))
    exact, _ = TokenLogprobs.apply(small, rows, targets, 1.0)
    rough, _ = TokenLogprobs.apply(small.bfloat16(), rows, targets, 1.0)
    assert (exact - rough).abs().max() < 0.05


def test_no_tensor_of_tokens_times_vocabulary(policy, prompts, monkeypatch):
    monkeypatch.setattr(logprobs_module, "TILE_ROWS", 8)
    rollout, sizes = _rollout(policy, prompts), []
    inner = logprobs_module._tiles

    def watched(*args):
        for rows, weights, exps in inner(*args):
            sizes.append(exps.shape[0])
            yield rows, weights, exps

    monkeypatch.setattr(logprobs_module, "_tiles", watched)
    response_logprobs(policy, rollout, temperature=1.0)
    assert max(sizes) == 8 and sum(sizes) == policy.config.vocab_size


def test_entropy_of_a_uniform_policy(policy, prompts):
    with torch.no_grad():
        policy.lm_head.weight.zero_()
    rollout = _rollout(policy, prompts)
    logprobs, entropy = logprobs_and_entropy(policy, rollout, temperature=1.0)
    log_size = torch.log(torch.tensor(40.0))
    assert entropy == pytest.approx(log_size.item(), abs=1e-4)
    mask = rollout.response_mask_BT
    assert torch.allclose(logprobs, -log_size * mask, atol=1e-4)


def test_critic_reads_the_state_before_each_token(policy, reward_model, prompts):
    rollout = _rollout(policy, prompts)
    critic = Critic(reward_model, RewardStats(mean=1.0, std=2.0))
    values = critic(rollout)
    prompt, response = prompts[2], rollout.response_ids()[2]
    with torch.no_grad():
        hidden = reward_model.model(torch.tensor([prompt + response])).last_hidden_state
        raw = reward_model.score(hidden)[0, len(prompt) - 1 : -1, 0]
    assert torch.allclose(values[2, : len(response)], (raw - 1) / 2, atol=1e-5)
    assert not values[2, len(response) :].any()
