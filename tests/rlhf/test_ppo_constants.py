"""Details of PPO that no setting turns: each holds in a run."""

import dataclasses

import pytest
import torch
from transformers import LlamaForSequenceClassification

from finllm_utils.rlhf import ppo, ppo_optim
from finllm_utils.rlhf.logprobs import TokenLogprobs, response_logprobs
from finllm_utils.rlhf.reward_model import load_reward_model, score_sequences
from tests.rlhf.conftest import tiny_config
from tests.rlhf.small_ppo import (
    CFG,
    networks,
    one_rollout,
    same,
    settings,
    steps,
    train,
    weights,
)


@pytest.fixture
def optimizers(monkeypatch):
    """The optimisers of the run that follows."""
    made, inner = [], ppo.make_optimizers
    monkeypatch.setattr(
        ppo, "make_optimizers", lambda *nets: made.extend(inner(*nets)) or tuple(made)
    )
    return made


def test_adam_has_the_eps_of_tensorflow(optimizers):
    train(num_updates=1)
    assert ppo_optim.ADAM_EPS == 1e-5
    assert [o.defaults["eps"] for o in optimizers] == [1e-5, 1e-5]


def test_adam_betas_and_no_weight_decay(optimizers):
    train(num_updates=1)
    assert ppo_optim.ADAM_BETAS == (0.9, 0.95) and ppo_optim.WEIGHT_DECAY == 0
    for optimizer in optimizers:
        assert optimizer.defaults["betas"] == (0.9, 0.95)
        assert optimizer.defaults["weight_decay"] == 0


def test_dropout_is_off_in_every_network(tmp_path):
    """Networks that come in training mode, with dropout, train as without it."""
    shape = {"attention_dropout": 0.5, "attn_implementation": "eager"}
    noisy = networks(**shape)
    noisy[2].network.config.attention_dropout = 0.5
    for network in noisy:
        network.train()
        for module in network.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.5
    plain, history = train(num_updates=2)
    noisy, noisy_history = train(noisy, num_updates=2)
    for name, tensor in weights(plain).items():
        assert torch.allclose(tensor, weights(noisy)[name], atol=1e-5), name
    assert noisy_history[1]["score"] == history[1]["score"]
    config = tiny_config()
    config.attention_dropout = 0.5
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    model = load_reward_model(tmp_path)
    scores = [score_sequences(model, [[1, 5, 2]], batch_tokens=9) for _ in (0, 1)]
    assert not model.training and scores[0] == scores[1]


def test_what_stands_in_padding_does_not_matter():
    nets = networks()
    rollout = one_rollout(nets).rollout
    hidden = rollout.attention_mask_BL == 0
    assert hidden.any(1).sum() >= 4, "prompts on the left and ends on the right"
    other = dataclasses.replace(rollout, ids_BL=rollout.ids_BL.masked_fill(hidden, 0))
    mask = rollout.response_mask_BT
    with torch.no_grad():
        for read in (
            lambda part: response_logprobs(nets[0], part, temperature=1.0) * mask,
            lambda part: nets[2](part) * mask,
        ):
            assert torch.allclose(read(rollout), read(other), atol=1e-6)


def test_one_temperature_for_sampling_policy_and_reference(monkeypatch):
    seen = []
    for name in ("sample_rollout", "response_logprobs", "logprobs_and_entropy"):
        inner = getattr(ppo, name)

        def spy(*arguments, inner=inner, name=name, **more):
            seen.append((name, more["temperature"]))
            return inner(*arguments, **more)

        monkeypatch.setattr(ppo, name, spy)
    _, history = train(num_updates=1, temperature=0.7)
    assert {t for _, t in seen} == {0.7}
    assert [name for name, _ in seen].count("response_logprobs") == 1 + 4
    assert history[0]["kl_nats"] == pytest.approx(0, abs=1e-6)


def test_old_logprobs_come_from_the_training_forward():
    """To the bit, when a mini-batch is the whole rollout: the ratio is 1."""
    nets = networks()
    experience = one_rollout(nets)
    trained = response_logprobs(nets[0], experience.rollout, temperature=1.0)
    assert trained.requires_grad
    assert torch.equal(trained.detach(), experience.logprobs_BT)
    cfg = settings(num_mini_batches=1, num_ppo_epochs=1)
    assert steps(nets, experience, cfg)["first_ratio_deviation"] < 1e-5


def test_the_reference_is_frozen():
    nets, _ = train(num_updates=2)
    start = networks()[1].state_dict()
    assert all(torch.equal(start[k], v) for k, v in nets[1].state_dict().items())
    assert all(p.grad is None for p in nets[1].parameters())
    assert not same(nets, networks())


def test_policy_and_critic_share_no_weight_and_step_together(monkeypatch):
    nets, taken, inner = networks(), [], torch.optim.AdamW.step
    policy, critic = (
        {p.data_ptr() for p in m.parameters()} for m in (nets[0], nets[2])
    )
    assert not policy & critic

    def spy(self):
        own = self.param_groups[0]["params"][0].data_ptr()
        taken.append("policy" if own in policy else "critic")
        return inner(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    train(nets, num_updates=1)
    assert taken == ["policy", "critic"] * 4


def test_gradient_norms_are_clipped_network_by_network(monkeypatch):
    norms = []

    def spy(self):
        grads = [p.grad.flatten() for p in self.param_groups[0]["params"]]
        norms.append(torch.cat(grads).norm().item())

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    train(num_updates=1, max_grad_norm=1e-3)
    assert norms == pytest.approx([1e-3] * 8, rel=1e-2)


def test_entropy_is_watched_and_not_rewarded():
    hidden = torch.randn(4, 8, requires_grad=True)
    weight = torch.randn(11, 8, requires_grad=True)
    _, entropy = TokenLogprobs.apply(hidden, weight, torch.arange(4), 1.0)
    assert not entropy.requires_grad
    _, history = train(num_updates=1)
    assert {"entropy", "length", "unique_share"} <= history[0].keys()
    assert not [f.name for f in dataclasses.fields(CFG) if "entropy" in f.name]


def test_first_ratio_tolerances():
    assert ppo.FIRST_RATIO[torch.float32] == ("max", 1e-4)
    assert ppo.FIRST_RATIO[torch.bfloat16] == ("mean", 1e-2)
    for dtype, (_, tolerance) in ppo.FIRST_RATIO.items():
        _, history = train(num_updates=1, dtype=dtype)
        assert history[0]["first_ratio_deviation"] < tolerance


def test_a_bfloat16_run_keeps_float32_where_it_counts(optimizers):
    """Master weights, moments, log-probabilities, values and advantages."""
    nets, _ = train(num_updates=1, dtype=torch.bfloat16)
    for network in (nets[0], nets[2]):
        assert {p.dtype for p in network.parameters()} == {torch.float32}
    moments = {
        state[key].dtype
        for optimizer in optimizers
        for state in optimizer.state.values()
        for key in ("exp_avg", "exp_avg_sq")
    }
    assert moments == {torch.float32}
    experience = one_rollout(nets, dtype=torch.bfloat16)
    for field in ("logprobs", "ref_logprobs", "values", "advantages", "returns"):
        assert getattr(experience, f"{field}_BT").dtype == torch.float32, field
