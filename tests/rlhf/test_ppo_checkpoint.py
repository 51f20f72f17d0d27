"""A killed PPO run ends in the same bits, and never goes on from another's state."""

import dataclasses
import json
import multiprocessing
import shutil
import signal

import pytest
import torch
from safetensors import SafetensorError

from finllm_utils.rlhf import ppo, ppo_checkpoint
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.reward_signal import RewardStats
from finllm_utils.train.checkpoint import remove_checkpoints, whole_checkpoints
from tests.rlhf import small_ppo
from tests.rlhf.small_ppo import PROMPTS, PTX_ROWS, networks, same, train, weights

ALL_ON = {
    "kl_target": 0.5,
    "kl_horizon": 40,
    "early_stop_kl": 0.002,
    "dual_clip": 3.0,
    "whiten_rewards": True,
    "critic_warmup_updates": 2,
    "warmup_share": 0.3,
    "ptx_coef": 0.5,
    "ptx_rows": PTX_ROWS,
    "num_updates": 5,
}


class Killed(Exception):
    """Stands for a kill inside one process."""


def die_at(update):
    def on_update(number, figures):
        if number == update:
            raise Killed

    return {"on_update": on_update}


def train_until(update, folder, nets=None, **options):
    """A run that ends once ``update`` is done and saved."""
    with pytest.raises(Killed):
        train(nets, checkpoints=folder, **(options | die_at(update)))


def names(folder):
    return [path.name for path in whole_checkpoints(folder)]


@pytest.fixture(scope="module")
def straight():
    torch.set_num_threads(1)
    return train()


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with everything imported, one after another."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.rlhf.small_ppo"])
    return context


@pytest.mark.parametrize(
    ("place", "call", "left"),
    [
        ("rollout", 13, ["step_000001", "step_000002"]),  # 5 tokens an update
        ("step", 20, ["step_000001", "step_000002"]),  # policy done, critic not; 8 each
        ("write", 6, ["step_000001", "step_000002"]),  # the critic of the third
        ("step", 3, []),  # before the first checkpoint
    ],
)
def test_a_sigkill_costs_no_bit(processes, straight, tmp_path, place, call, left):
    arguments = (place, call, tmp_path, {})
    child = processes.Process(target=small_ppo.killed_at, args=arguments)
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    assert names(tmp_path) == left
    nets, history = train(checkpoints=tmp_path)
    assert history == straight[1]
    assert same(nets, straight[0])
    assert names(tmp_path) == ["step_000003", "step_000004"]
    assert not list(tmp_path.glob(".*")), "what was half-written is gone"


@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize("options", [{}, ALL_ON], ids=["plain", "all_on"])
def test_a_run_with_every_option_resumes_in_the_same_bits(tmp_path, options, at):
    whole, expected = train(**options)
    if options:
        assert {h["num_steps"] for h in expected} == {1, 4}, "some stopped early"
    train_until(at, tmp_path, **options)
    assert names(tmp_path)[-1] == f"step_{at + 1:06d}"
    torch.manual_seed(99)  # the global state is not part of a run
    nets, history = train(**options, checkpoints=tmp_path)
    assert history == expected and same(nets, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tied_and_frozen_embeddings_resume_too(tmp_path, dtype):
    shape, options = {"tie_word_embeddings": True}, {"dtype": dtype}
    options["train_embeddings"] = dtype == torch.float32
    whole, expected = train(networks(**shape), **options)
    train_until(1, tmp_path, networks(**shape), **options)
    nets, history = train(networks(**shape), **options, checkpoints=tmp_path)
    assert history == expected and same(nets, whole)


def test_checkpoints_change_no_bit_of_a_run(straight, tmp_path):
    nets, history = train(checkpoints=tmp_path)
    assert history == straight[1] and same(nets, straight[0])


def test_a_finished_run_is_not_trained_again(straight, tmp_path, monkeypatch):
    train(checkpoints=tmp_path, save_every=3)
    assert names(tmp_path) == ["step_000003", "step_000004"]  # the last as well
    monkeypatch.setattr(ppo, "sample_rollout", None)  # would be called
    nets, history = train(checkpoints=tmp_path, save_every=3)
    assert history == straight[1] and same(nets, straight[0])
    remove_checkpoints(tmp_path)
    assert not tmp_path.exists()


def test_nothing_is_written_without_folder_or_interval(tmp_path):
    train(checkpoints=tmp_path / "c", save_every=0, num_updates=1)
    assert not (tmp_path / "c").exists()


def test_a_resumed_log_is_whole(straight, tmp_path):
    train_until(2, tmp_path)
    heard = []
    train(checkpoints=tmp_path, on_update=lambda *told: heard.append(told))
    assert heard == list(enumerate(straight[1]))


def test_files_are_safetensors_and_json(tmp_path):
    train_until(0, tmp_path)
    (folder,) = whole_checkpoints(tmp_path)
    found = {path.name for path in folder.iterdir()}
    assert found == {"policy.safetensors", "critic.safetensors", "state.json"}
    state = json.loads((folder / "state.json").read_text())
    assert state["step"] == len(state["note"]["history"]) == 1
    assert state["note"]["kl_coef"] == 0.02


def test_a_damaged_checkpoint_is_removed_and_an_older_one_used(
    straight, tmp_path, caplog
):
    train_until(2, tmp_path)
    damaged = tmp_path / "step_000003" / "critic.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    nets, history = train(checkpoints=tmp_path)
    assert "step_000003 is damaged" in caplog.text
    assert "resumed after update 2" in caplog.text
    assert history == straight[1] and same(nets, straight[0])


def changed_networks(which):
    nets = networks()
    if which == "statistics":
        critic = Critic(nets[2].network, RewardStats(mean=0.1, std=2.5))
        return nets[0], nets[1], critic
    module = nets[{"policy": 0, "reference": 1, "critic": 2}[which]]
    next(module.parameters()).data.mul_(1.5)
    return nets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kl_coef": 0.5}, "ppo.kl_coef was 0.02 and is now 0.5"),
        ({"num_updates": 6}, "ppo.num_updates was 4 and is now 6"),
        ({"seed": 7}, "seed was 0 and is now 7"),
        ({"dtype": torch.bfloat16}, "dtype was 'torch.float32' and is now"),
        ({"pad_id": 0}, "pad_id was 3 and is now 0"),
        ({"prompts": PROMPTS[::-1]}, "prompts was"),
        ({"ptx_coef": 1.0, "ptx_rows": PTX_ROWS}, "ptx_coef was 0.0 .*ptx_rows was"),
        ({"nets": "policy"}, "policy start weights was .*load both again first"),
        ({"nets": "reference"}, "reference start weights was"),
        ({"nets": "critic"}, "critic start weights was"),
        ({"nets": "statistics"}, "critic reward statistics was"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path, changes, message):
    train_until(0, tmp_path)
    if "nets" in changes:
        changes = {"nets": changed_networks(changes["nets"])}
    before = weights(changes.get("nets") or networks())
    with pytest.raises(ValueError, match=message) as told:
        train(checkpoints=tmp_path, **changes)
    assert str(tmp_path) in str(told.value) and "delete" in str(told.value)
    assert names(tmp_path) == ["step_000001"]
    if "nets" in changes:
        after = weights(changes["nets"])
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_rows_that_are_not_used_do_not_matter(tmp_path):
    train_until(0, tmp_path)
    more = {"ptx_rows": PTX_ROWS, "num_eval_prompts": 9, "max_prompt_len": 99}
    _, history = train(checkpoints=tmp_path, save_every=2, **more)
    assert len(history) == 4


def test_every_setting_but_three_is_part_of_the_identity():
    networks_by_name = dict(zip("abc", networks(), strict=True))
    found = ppo_checkpoint.run_identity(networks_by_name, {}, small_ppo.CFG)
    left_out = {f.name for f in dataclasses.fields(small_ppo.CFG)} - {
        name.removeprefix("ppo.") for name in found
    }
    assert left_out == {"save_every", "num_eval_prompts", "max_prompt_len"}
    assert json.loads(json.dumps(found)) == found


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    processes, straight, tmp_path, monkeypatch, caplog
):
    save, calls = ppo_checkpoint.save_file, []

    def full_at_second(*arguments):
        calls.append(1)
        if len(calls) == 4:  # the critic of the second
            raise OSError(28, "No space left on device")
        return save(*arguments)

    monkeypatch.setattr(ppo_checkpoint, "save_file", full_at_second)
    train_until(1, tmp_path)
    assert names(tmp_path) == ["step_000001"]
    assert "update 2 could not be written" in caplog.text
    assert "No space left" in caplog.text or "disk full" in caplog.text
    nets, history = train(checkpoints=tmp_path)
    assert history == straight[1] and same(nets, straight[0])
    heard, said = processes.Pipe(duplex=False)
    limited = tmp_path / "limited"
    child = processes.Process(target=small_ppo.on_small_files, args=(said, limited))
    child.start()
    child.join(120)
    assert heard.recv() == 4 and list(limited.iterdir()) == []


@pytest.mark.parametrize("error", [KeyError("a bug"), SafetensorError("a bug")])
def test_another_error_of_the_writer_is_not_hidden(tmp_path, monkeypatch, error):
    def broken(*arguments):
        raise error

    monkeypatch.setattr(ppo_checkpoint, "save_file", broken)
    with pytest.raises(type(error), match="a bug"):
        train(checkpoints=tmp_path)


def test_an_older_checkpoint_leads_to_the_same_end(straight, tmp_path):
    train(checkpoints=tmp_path)
    shutil.rmtree(tmp_path / "step_000004")
    nets, history = train(checkpoints=tmp_path)
    assert history == straight[1] and same(nets, straight[0])
