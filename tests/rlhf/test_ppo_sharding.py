"""PPO in shards on two gloo processes against one process with whole networks."""

import numpy as np
import pytest

from finllm_utils.train.checkpoint import whole_checkpoints
from tests.rlhf import small_ppo
from tests.rlhf.small_ppo import PTX_ROWS
from tests.rlhf.test_ppo_processes import on_two

LORA = {"trainable": "lora", "lora_rank": 4, "train_embeddings": False}
FULL = {
    "ptx_coef": 0.7, "ptx_rows": PTX_ROWS, "critic_warmup_updates": 1,
    "train_embeddings": False, "early_stop_kl": 0.002,
}  # fmt: skip
LOSSES = ("policy_loss", "value_loss", "score", "kl_nats", "approx_kl")


@pytest.mark.parametrize("options", [FULL, LORA], ids=["all", "lora"])
def test_two_processes_in_shards_are_one_with_whole_networks(
    tmp_path, options, monkeypatch
):
    """Losses, figures and weights; the mini-batch is the batch, as who takes which
    rows of it differs."""
    options = options | {"num_updates": 4, "num_mini_batches": 1, "num_ppo_epochs": 3}
    monkeypatch.setattr(small_ppo.ppo, "sample_rollout", None)
    alone, expected = small_ppo.sharded_member(**options)
    first, second = on_two(tmp_path, "sharded_member", shard=True, **options)
    assert first[1] == second[1]
    for own, one in zip(first[1], expected, strict=True):
        for name in LOSSES:
            assert own[name] == pytest.approx(one[name], abs=1e-5), name
    if "early_stop_kl" in options:
        assert {update["num_steps"] for update in expected} == {1, 2, 3}
    start = small_ppo.numpy_weights(small_ppo.networks())
    assert any(not np.allclose(alone[n], start[n], atol=1e-3) for n in alone)
    for name, tensor in alone.items():
        assert np.array_equal(first[0][name], second[0][name]), name
        assert np.allclose(first[0][name], tensor, atol=1e-5), name


def test_a_rollout_gathers_once_however_long_it_is_and_each_holds_half(tmp_path):
    nets = small_ppo.networks()
    num_weights = len(list(nets[0].parameters()))
    policy, critic = (sum(p.numel() for p in nets[i].parameters()) for i in (0, 2))
    adapters = 2 * (4 * 16 * (32 + 32) + 3 * 16 * (32 + 64))  # rank 16, two layers
    for counts in on_two(tmp_path, "gathers_member"):
        assert counts["all"] == [num_weights] * 2
        assert counts["lora"][0] == counts["lora"][1] >= num_weights
        half = {"all": 2 * policy + critic, "lora": policy + adapters + critic}
        for name, whole in half.items():  # one row of one output cannot be cut
            assert counts[f"{name} held"] == [pytest.approx(whole / 2, abs=16)]


def test_clipping_finds_the_norm_of_all_shards(tmp_path):
    norm, grads = small_ppo.clipped_member(0.5)
    assert norm > 0.5, "so it clips"
    for found, parts in on_two(tmp_path, "clipped_member", max_grad_norm=0.5):
        assert found == pytest.approx(norm, rel=1e-5)
        for name, grad in grads.items():
            assert np.allclose(parts[name], grad, atol=1e-5), name


@pytest.mark.parametrize("options", [FULL, LORA], ids=["all", "lora"])
def test_a_run_in_shards_resumes_in_the_same_bits(tmp_path, options):
    options = options | {"num_updates": 3, "shard": True}
    folder = tmp_path / "checkpoints"
    first, _ = on_two(tmp_path / "a", "train_member", checkpoints=folder, **options)
    newest = whole_checkpoints(folder)[-1]
    assert newest.name == "step_000003"
    for path in newest.iterdir():
        path.unlink()  # only step_000002 is whole
    again, other = on_two(tmp_path / "b", "train_member", checkpoints=folder, **options)
    assert len(again[2]) == 1, "the third update alone was sampled again"
    assert again[1] == other[1] == first[1]
    for name, tensor in first[0].items():
        assert np.array_equal(tensor, again[0][name]), name
        assert np.array_equal(tensor, other[0][name]), name


def test_one_process_shards_nothing():
    nets, history = small_ppo.train(shard=True, num_updates=1)
    whole, expected = small_ppo.train(num_updates=1)
    assert history == expected and small_ppo.same(nets, whole)
