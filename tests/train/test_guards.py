"""Questions about losses by hand, and the loop's answers to injected faults."""

import re

import numpy as np
import pytest
import torch

from finllm_utils.train import guards, running
from finllm_utils.train.checkpoint import whole_checkpoints
from finllm_utils.train.placement import Placed
from tests.train import tiny


@pytest.fixture(scope="module")
def bins(tmp_path_factory):
    return tiny.write_bins(tmp_path_factory.mktemp("bins"))


def spoil(monkeypatch, at, with_loss, times=1):
    """Replaces the loss of the given steps, ``times`` each; the weights learn on."""
    left = dict.fromkeys(at, times)
    inner = running.Pass._forward_backward

    def forward_backward(self, step):
        sums_24, loss = inner(self, step)
        if left.get(step):
            left[step] -= 1
            return sums_24, with_loss(loss)
        return sums_24, loss

    monkeypatch.setattr(running.Pass, "_forward_backward", forward_backward)


def test_a_plateau_is_two_equal_means():
    assert not guards.plateaued([3.0, 2.0], 0, 0.1)
    assert not guards.plateaued([3.0, 3.0, 3.0], 2, 0.1)  # too few
    assert guards.plateaued([9.0, 2.0, 2.0, 2.0, 1.9], 2, 0.1)  # means 2.0 and 1.95
    assert not guards.plateaued([2.0, 2.0, 2.0, 1.7], 2, 0.1)  # 2.0 and 1.85
    assert guards.plateaued([2.0, 2.0, 2.5, 2.5], 2, 0.1)  # it rises


def test_a_spike_is_measured_in_median_deviations():
    steady = [2.0, 2.1] * 10  # median 2.05, deviation 0.05
    assert guards.is_spike(steady, 2.56, 10.0)
    assert not guards.is_spike(steady, 2.54, 10.0)
    assert not guards.is_spike(steady, 99.0, 0.0)  # off
    assert not guards.is_spike(steady[:9], 99.0, 10.0)  # too few to say
    assert not guards.is_spike(steady, 0.5, 10.0)  # downwards is no spike
    assert guards.is_spike([*steady, 50.0], 3.2, 10.0)  # median 2.1, deviation 0.1
    assert not guards.is_spike([2.0] * 20, 2.05, 10.0)  # a flat past: 0.01 at least
    assert guards.is_spike([9.0] * 60 + steady + [2.0, 2.1] * 15, 3.0, 10.0)  # last 50


def test_divergence_needs_twenty_steps_above():
    assert not guards.diverged([4.0] + [6.1] * 19)
    assert guards.diverged([4.0] + [6.1] * 20)
    assert not guards.diverged([4.0] + [6.1] * 10 + [5.9] + [6.1] * 19)
    with pytest.raises(ValueError, match="step 33: .*from 4.00 to 6.10.*learning_rate"):
        guards.require_no_divergence([4.0] + [6.1] * 20, 33)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_the_batch(
    bins, tmp_path, monkeypatch, value
):
    spoil(monkeypatch, [6], lambda loss: value)
    with pytest.raises(ValueError, match="step 6: the loss is .*learning_rate") as told:
        tiny.train(bins, checkpoints=tmp_path)
    path = re.search(r"are in (\S+\.npy)", str(told.value))[1]
    rows_BT = np.load(path)
    assert rows_BT.shape == (8, 32) and rows_BT.max() < 64
    assert str(tmp_path) in path
    assert (tmp_path / "step_000004").is_dir()  # the last checkpoint stays


def test_a_gradient_that_is_not_finite_changes_nothing(bins, monkeypatch):
    seen = {}
    inner = running.Pass._forward_backward

    def forward_backward(self, step):
        found = inner(self, step)
        seen["pass"] = self
        if step == 3:
            seen["before"] = [m.clone() for m in self.optimizer.masters().values()]
            next(iter(self.optimizer.masters().values())).grad[0, 0] = float("inf")
        return found

    monkeypatch.setattr(running.Pass, "_forward_backward", forward_backward)
    monkeypatch.setattr(Placed, "abandon", lambda self: None)  # it would hide a step
    with pytest.raises(ValueError, match="step 3: the gradient norm is (inf|nan)"):
        tiny.train(bins)
    after = seen["pass"].optimizer.masters().values()
    assert all(torch.equal(a, b) for a, b in zip(seen["before"], after, strict=True))


def test_a_spike_rolls_back_and_leaves_the_batches_out(bins, tmp_path, monkeypatch):
    spoil(monkeypatch, [14], lambda loss: loss + 50)
    _, result = tiny.train(bins, checkpoints=tmp_path, spike_factor=30.0)
    assert result.skipped_steps == (13, 14)
    assert result.num_steps == 24 and len(result.losses) == 22
    assert result.num_tokens == 22 * tiny.CFG.tokens_per_step
    assert any("back to step 12" in note for note in result.notes)


def test_a_rollback_equals_never_having_seen_the_batches(bins, tmp_path, monkeypatch):
    from finllm_utils.train.progress import Progress

    monkeypatch.setattr(running, "Progress", lambda: Progress(skipped=[13, 14]))
    plain, _ = tiny.train(bins)
    monkeypatch.undo()
    spoil(monkeypatch, [14], lambda loss: loss + 50)
    rolled, _ = tiny.train(bins, checkpoints=tmp_path, spike_factor=30.0)
    for a, b in zip(plain.parameters(), rolled.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_checkpoint_gone_back_to_is_older_than_both_batches(
    bins, tmp_path, monkeypatch
):
    spoil(monkeypatch, [16], lambda loss: loss + 50)  # step 16 has a checkpoint
    _, result = tiny.train(bins, checkpoints=tmp_path, spike_factor=30.0)
    assert result.skipped_steps == (15, 16)
    assert any("back to step 12" in note for note in result.notes)
    assert [p.name for p in whole_checkpoints(tmp_path)] == [
        "step_000020",
        "step_000024",
    ]


def test_a_spike_before_the_first_checkpoint_goes_back_to_the_start(
    bins, tmp_path, monkeypatch
):
    spoil(monkeypatch, [11], lambda loss: loss + 50)
    _, result = tiny.train(
        bins, checkpoints=tmp_path, spike_factor=30.0, checkpoint_every=100
    )
    assert result.skipped_steps == (10, 11)
    assert any("back to step 0" in note for note in result.notes)


def test_a_second_spike_does_not_forget_what_the_first_left_out(
    bins, tmp_path, monkeypatch
):
    """Both go back to the start, whose checkpoint knows of neither."""
    spoil(monkeypatch, [11, 14], lambda loss: loss + 50)
    _, result = tiny.train(
        bins, checkpoints=tmp_path, spike_factor=30.0, checkpoint_every=100
    )
    assert result.skipped_steps == (10, 11, 13, 14)


def test_a_pass_whose_last_batch_is_left_out_still_logs_its_end(
    bins, tmp_path, monkeypatch
):
    spoil(monkeypatch, [23], lambda loss: loss + 50)
    steps = []
    _, result = tiny.train(
        bins, checkpoints=tmp_path, spike_factor=30.0,
        on_log=lambda step, values: steps.append(step),
    )  # fmt: skip
    assert result.skipped_steps == (22, 23) and steps[-1] == 23


def test_spikes_without_end_stop_the_pass(bins, tmp_path, monkeypatch):
    spoil(monkeypatch, range(10, 24), lambda loss: loss + 50, times=99)
    monkeypatch.setattr(guards, "MAX_ROLLBACKS", 3)
    with pytest.raises(ValueError, match="loss spike number 4.*spike_factor"):
        tiny.train(bins, checkpoints=tmp_path, spike_factor=30.0)


def test_spikes_need_somewhere_to_go_back_to(bins):
    with pytest.raises(ValueError, match="spike_factor=5.0 rolls back to checkpoints"):
        tiny.train(bins, spike_factor=5.0)


def test_a_rate_that_diverges_stops_with_the_remedy(bins):
    with pytest.raises(ValueError, match="training diverged.*learning_rate"):
        tiny.train(
            bins,
            tokens=80 * 256,
            learning_rate=1.0,
            embedding_learning_rate=5.0,
            max_grad_norm=0.0,
        )


def test_the_pass_stops_on_a_plateau_and_says_at_which_token(bins):
    _, result = tiny.train(
        bins, learning_rate=0.0, embedding_learning_rate=0.0, plateau_steps=4
    )
    assert result.stopped_by == "plateau"
    assert result.num_steps == tiny.CFG.warmup_steps + 8 == len(result.losses)
    assert result.num_tokens == 10 * tiny.CFG.tokens_per_step
    _, falling = tiny.train(bins, plateau_steps=4)
    assert falling.stopped_by == "end" and falling.num_steps == 24
