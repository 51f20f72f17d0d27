"""PPO of adapters: one base for policy and reference, exact, and plain at the end."""

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from finllm_utils.rlhf import ppo
from finllm_utils.rlhf.logprobs import response_logprobs
from finllm_utils.rlhf.networks import Networks, prepare_networks
from finllm_utils.rlhf.ppo_optim import make_optimizers
from finllm_utils.rlhf.rollout import sample_rollout
from finllm_utils.rlhf.whole_weights import reference_of, whole_weights
from finllm_utils.train.checkpoint import whole_checkpoints
from tests.rlhf import small_ppo
from tests.rlhf.conftest import EOS
from tests.rlhf.small_ppo import (
    IDS,
    PROMPTS,
    adapter_networks,
    networks,
    same,
    settings,
    train,
)

LORA = {"trainable": "lora", "lora_rank": 4, "train_embeddings": False}


def adapted(policy, critic, learnt=True):
    """The networks of a run; ``learnt`` moves the adapters off their start."""
    nets = prepare_networks(policy, None, critic, settings(**LORA), 0)
    if learnt:
        torch.manual_seed(1)
        for name, parameter in nets.policy.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
    return nets


def a_rollout(model):
    return sample_rollout(
        model, PROMPTS[:8], max_new_tokens=5, temperature=1.0, seed=3, **IDS
    )


@torch.no_grad()
def logprobs(model, rollout):
    return response_logprobs(model, rollout, temperature=1.0)


def test_policy_reference_and_base_are_equal_to_the_bit_before_a_step():
    base, _, critic = networks()
    nets = adapted(networks()[0], critic, learnt=False)
    rollout = a_rollout(base)
    expected = logprobs(base, rollout)
    assert torch.equal(logprobs(nets.policy, rollout), expected)
    experience = ppo.collect_experience(
        nets.policy, None, nets.critic, small_ppo.share_of_liked, rollout,
        settings(**LORA), EOS,
    )  # fmt: skip
    assert torch.equal(experience.ref_logprobs_BT, expected)
    assert experience.kl_B.abs().max() == 0


def test_the_reference_stays_the_plain_base_while_the_policy_moves():
    base, _, critic = networks()
    nets = adapted(networks()[0], critic)
    rollout = a_rollout(base)
    moved = logprobs(nets.policy, rollout)
    assert (moved - logprobs(base, rollout)).abs().max() > 1e-2
    with reference_of(nets.policy, None) as reference:
        assert torch.equal(logprobs(reference, rollout), logprobs(base, rollout))
    assert torch.equal(logprobs(nets.policy, rollout), moved), "switched on again"
    learning = {n for n, p in nets.policy.named_parameters() if p.requires_grad}
    assert learning and all(".lora_" in name for name in learning)


@pytest.mark.parametrize("tied", [False, True])
def test_merged_weights_say_what_the_adapters_say_and_touch_nothing(tied):
    policy, _, critic = adapter_networks(tie_word_embeddings=tied)
    before = {n: t.clone() for n, t in policy.state_dict().items()}
    nets = adapted(policy, critic)
    for _ in range(3):  # as often as there are rollouts
        plain = nets.plain_policy(torch.float32)
    rollout = a_rollout(plain)
    assert not any("lora" in name for name, _ in plain.named_parameters())
    found = logprobs(plain, rollout)
    assert torch.allclose(found, logprobs(nets.policy, rollout), atol=1e-4)
    name = "model.layers.1.mlp.down_proj.weight"
    layer = nets.policy.get_submodule("model.layers.1.mlp.down_proj")
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = before[name] + 2 * b @ a  # alpha is 2 r
    assert torch.allclose(dict(whole_weights(nets.policy))[name], expected, atol=1e-6)
    for name, tensor in policy.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert plain.lm_head.weight.data_ptr() == policy.lm_head.weight.data_ptr()


def test_a_rollout_in_bfloat16_rounds_the_merged_weights_once():
    policy, _, critic = adapter_networks()
    nets = adapted(policy, critic)
    exact = dict(whole_weights(nets.policy))
    for name, tensor in nets.plain_policy(torch.bfloat16).named_parameters():
        assert torch.equal(tensor, exact[name].bfloat16()), name


def numbers_held(*modules):
    """Distinct numbers in memory behind the modules' parameters."""
    storages = {}
    for module in modules:
        for parameter in module.parameters():
            if parameter.device.type != "meta":
                storage = parameter.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes() // 4
    return sum(storages.values())


def test_one_base_is_held_and_few_moments():
    policy, reference, critic = networks()
    one = numbers_held(policy)
    held = {}
    for name, (nets, cfg) in {
        "all": (prepare_networks(policy, reference, critic, settings(), 0), settings()),
        "lora": (adapted(networks()[0], critic), settings(**LORA)),
    }.items():
        experience = ppo.collect_experience(
            nets.policy, nets.ref_policy, nets.critic, small_ppo.share_of_liked,
            a_rollout(nets.plain_policy(torch.float32)), cfg, EOS,
        )  # fmt: skip
        optimizers = make_optimizers(nets.policy, nets.critic)
        ppo.take_steps(nets.policy, nets.critic, optimizers, experience, cfg, 0)
        moments = optimizers[0].state.values()
        models = [nets.given[0], nets.policy, nets.empty]
        models += [nets.ref_policy] if nets.ref_policy else []
        count = sum(state["exp_avg"].numel() for state in moments)
        held[name] = (numbers_held(*models), count)
    attention, mlp = 4 * 4 * (32 + 32), 3 * 4 * (32 + 64)  # rank 4
    assert held["all"] == (2 * one, one)
    assert held["lora"] == (one + 2 * (attention + mlp), 2 * (attention + mlp))


def test_a_run_learns_and_leaves_a_plain_model_that_loads_anywhere(tmp_path):
    start = networks()[0]
    nets, history = train(**LORA, num_updates=12, learning_rate=1e-2, num_ppo_epochs=4)
    policy = nets[0]
    assert history[0]["kl_nats"] == 0 and history[-1]["kl_nats"] > 0
    assert history[-1]["score"] > history[0]["score"] + 0.2
    assert set(policy.state_dict()) == set(start.state_dict())
    frozen = ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight")
    for name in frozen:
        assert torch.equal(policy.state_dict()[name], start.state_dict()[name])
    policy.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    rollout = a_rollout(policy)
    assert torch.allclose(logprobs(loaded, rollout), logprobs(policy, rollout))


def test_the_model_at_the_end_is_the_adapter_model(monkeypatch):
    rollout, told, inner = a_rollout(networks()[0]), [], Networks.hand_back

    def spy(self):
        told.append(logprobs(self.policy, rollout))
        inner(self)

    monkeypatch.setattr(Networks, "hand_back", spy)
    nets, _ = train(**LORA)
    moved = (told[0] - logprobs(networks()[0], rollout)).abs().max()
    assert moved > 1e-2, "so equality says something"
    assert torch.allclose(logprobs(nets[0], rollout), told[0], atol=1e-4)


class Killed(Exception):
    """Stands for a kill inside one process."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpoints_hold_the_adapters_alone_and_resume_in_the_same_bits(
    tmp_path, dtype
):
    options = LORA | {"dtype": dtype}
    whole, expected = train(**options)

    def die(update, figures):
        if update == 1:
            raise Killed

    nets = adapter_networks()
    with pytest.raises(Killed):
        train(nets, checkpoints=tmp_path, on_update=die, **options)
    start = networks()[0].state_dict()
    assert all(torch.equal(t, start[n]) for n, t in nets[0].state_dict().items())
    newest = whole_checkpoints(tmp_path)[-1]
    with safe_open(newest / "policy.safetensors", "pt") as file:
        assert all(".lora_" in name for name in file.keys())  # noqa: SIM118
        assert sum(name.startswith("weights/") for name in file.keys()) == 28  # noqa: SIM118
    resumed, history = train(checkpoints=tmp_path, **options)
    assert history == expected and same(resumed, whole)
    with pytest.raises(ValueError, match="lora_rank was 4 and is now 8"):
        train(checkpoints=tmp_path, **(options | {"lora_rank": 8}))


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="give train_ppo None as ref_policy"):
        train(networks(), **LORA)
    with pytest.raises(ValueError, match="a second copy of the policy"):
        train(adapter_networks())
    with pytest.raises(ValueError, match="set ppo.train_embeddings to False"):
        settings(trainable="lora", train_embeddings=True)
    with pytest.raises(ValueError, match="ppo.trainable='half' must be all or lora"):
        settings(trainable="half")
