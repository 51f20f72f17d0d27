"""PPO on two gloo processes against one."""

import multiprocessing

import numpy as np
import pytest
import torch

from finllm_utils.rlhf import processes
from finllm_utils.rlhf.advantages import whiten
from finllm_utils.train.checkpoint import whole_checkpoints
from finllm_utils.train.parallel import World
from tests.rlhf import small_ppo
from tests.rlhf.small_ppo import PROMPTS, PTX_ROWS, settings, train


def on_two(folder, job, **options):
    """What both processes return for a function of ``small_ppo``, by rank."""
    context = multiprocessing.get_context("forkserver")  # imports once for all
    context.set_forkserver_preload(["tests.rlhf.small_ppo"])
    folder.mkdir(exist_ok=True)
    pipes = [context.Pipe(duplex=False) for _ in (0, 1)]
    members = [
        context.Process(
            target=small_ppo.group_member,
            args=(said, rank, 2, folder / "store", job, options),
        )
        for rank, (_, said) in enumerate(pipes)
    ]
    told = []
    try:
        for member in members:
            member.start()
        for heard, _ in pipes:
            assert heard.poll(120), "a process says nothing"
            told.append(heard.recv())
            assert not isinstance(told[-1], str), told[-1]
    finally:
        for member in members:
            member.join(20)
            member.kill()
    return told[0], told[1]


def test_sampling_seeds_differ_between_updates_and_processes():
    assert processes.sampling_seed(7, 0, 0) == 1_007  # one process, as ever
    assert processes.sampling_seed(7, 2, 3) == 7 + 3_000 + 3 * 100_003
    assert processes.RANK_STRIDE == 100_003
    seeds = {
        processes.sampling_seed(0, update, rank)
        for update in range(1_000)
        for rank in range(64)
    }
    assert len(seeds) == 64_000


def test_one_process_changes_nothing():
    values = torch.tensor([1.0, 2.0, 6.0])
    mean, deviation = processes.mean_and_deviation(values)
    assert torch.equal(mean, values.mean())
    assert torch.equal(deviation, values.std(unbiased=False))
    assert processes.total(values) is values
    assert processes.own_part(PROMPTS) == PROMPTS
    figures = {"a": 0.1}
    assert processes.joined_figures(figures, "cpu") is figures


def test_batches_that_do_not_divide_are_refused(monkeypatch):
    monkeypatch.setattr(processes, "current_world", lambda: World(0, 8))
    with pytest.raises(ValueError, match="8 processes of .* a multiple of 16"):
        processes.require_even_shares(settings())
    with pytest.raises(ValueError, match="ppo.ptx_batch_size=4 .* multiple of 8"):
        processes.require_even_shares(
            settings(rollout_batch_size=16, ptx_coef=1.0, ptx_batch_size=4)
        )


@pytest.mark.parametrize("options", [{}, {"ptx_coef": 0.7, "whiten_rewards": True}])
def test_the_steps_of_two_processes_are_those_of_one(tmp_path, options):
    """Global token means, whitening over all tokens, summed gradients."""
    alone, alone_figures, alone_advantages = small_ppo.steps_member(**options)
    first, second = on_two(tmp_path, "steps_member", **options)
    for name in alone:
        assert np.array_equal(first[0][name], second[0][name]), name
        assert np.allclose(first[0][name], alone[name], atol=2e-5), name
    joined = np.concatenate([first[2], second[2]])
    assert np.allclose(joined, alone_advantages, atol=1e-5)
    for name in ("policy_loss", "value_loss", *(["ptx_loss"] if options else [])):
        assert first[1][name] == second[1][name]
        assert first[1][name] == pytest.approx(alone_figures[name], abs=1e-5), name


def test_whitening_each_half_alone_would_differ():
    """So the test above can fail."""
    advantages = torch.tensor(small_ppo.steps_member()[2])
    mask = (advantages != 0).long()
    halves = torch.cat(
        [whiten(advantages[r], mask[r]) for r in torch.arange(8).chunk(2)]
    )
    assert not torch.allclose(halves, advantages, atol=1e-2)


def test_two_processes_stay_equal_sample_apart_and_resume(tmp_path):
    options = {
        "num_updates": 3, "kl_target": 0.5, "kl_horizon": 40, "early_stop_kl": 0.01,
        "ptx_coef": 0.5, "ptx_rows": PTX_ROWS, "learning_rate": 1e-2,
    }  # fmt: skip
    folder = tmp_path / "checkpoints"
    first, second = on_two(
        tmp_path / "a", "train_member", checkpoints=folder, **options
    )
    assert first[1] == second[1], "both have the figures of all"
    for name, tensor in first[0].items():
        assert np.array_equal(tensor, second[0][name]), name
    prompts = [
        [sequence[:2] for batch in member[2] for sequence in batch]
        for member in (first, second)
    ]
    assert all(len(found) == 3 * 4 for found in prompts), "half of each batch"
    assert first[2] != second[2]
    newest = whole_checkpoints(folder)[-1]
    assert newest.name == "step_000003"
    for path in newest.iterdir():
        path.unlink()  # only step_000002 is whole
    again, other = on_two(tmp_path / "b", "train_member", checkpoints=folder, **options)
    assert again[1] == other[1] == first[1]
    assert len(again[2]) == 1, "the third update alone was sampled again"
    for name, tensor in first[0].items():
        assert np.array_equal(tensor, again[0][name]), name
    with pytest.raises(ValueError, match="processes was 2 and is now 1"):
        train(checkpoints=folder, **options)


def test_ranks_sample_the_same_prompts_differently(tmp_path):
    """With one prompt for all, only the seeds tell the processes' answers apart."""
    options = {"num_updates": 1, "prompts": [[1, 10]] * 20}
    first, second = on_two(tmp_path, "train_member", **options)
    assert first[2][0] != second[2][0]


def test_a_second_judge_hears_all_processes(tmp_path):
    """Mean and standard error are those of both halves together, by hand."""
    options = {"num_updates": 1, "heldout_reward": small_ppo.variety}
    first, second = on_two(tmp_path, "train_member", **options)
    assert first[1] == second[1]
    scores = small_ppo.variety(first[2][0] + second[2][0])
    (row,) = first[1]
    assert row["heldout_score"] == pytest.approx(scores.mean(), abs=1e-6)
    error = scores.std(ddof=1) / len(scores) ** 0.5
    assert row["heldout_score_error"] == pytest.approx(error, abs=1e-6)
    assert error > 0.1
