"""Checkpoints: exact after SIGKILL, whole or absent, and only of the same pass."""

import errno
import multiprocessing
import random
import shutil

import pytest
import torch
import torch.distributed.checkpoint as dcp

from finllm_utils.train import checkpoint, running
from finllm_utils.train.checkpoint import (
    is_whole,
    remove_checkpoints,
    whole_checkpoints,
)
from tests.train import tiny


@pytest.fixture(scope="module")
def bins(tmp_path_factory):
    return tiny.write_bins(tmp_path_factory.mktemp("bins"))


class Killed(Exception):
    """Stands for a kill inside one process."""


def train_until(bins, folder, step, start=None, **options):
    """A pass that ends abruptly once ``step`` was logged."""

    def on_log(now, values):
        if now >= step:
            raise Killed

    with pytest.raises(Killed):
        tiny.train(
            bins, start, checkpoints=folder, on_log=on_log, log_every=1, **options
        )


def names(folder):
    return [path.name for path in whole_checkpoints(folder)]


def same_weights(first, second):
    return all(
        torch.equal(a, b)
        for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with everything imported, one after another."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train.tiny"])
    return context


def start(processes, target, *arguments):
    """A started process and the end of the pipe on which it speaks."""
    heard, said = processes.Pipe(duplex=False)
    process = processes.Process(target=target, args=(said, *arguments))
    process.start()
    said.close()
    return process, heard


def test_three_kills_change_no_bit(bins, tmp_path, processes):
    whole, _ = tiny.train(bins, runtime=tiny.BFLOAT16)
    arguments = (bins, tmp_path / "checkpoints", tmp_path / "weights.pt")
    for point in sorted(random.Random(0).sample(range(4, 22), 3)):
        process, heard = start(processes, tiny.resumable, *arguments)
        while heard.recv() < point:
            pass
        process.kill()  # SIGKILL
        process.join()
    process, heard = start(processes, tiny.resumable, *arguments)
    while not isinstance(last := heard.recv(), dict):
        pass
    process.join()
    assert last["resumed_from"] in (8, 12, 16, 20)
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("trainable", ["all", "embeddings", "new_rows", "lora"])
def test_a_resumed_pass_ends_in_the_same_bits(bins, tmp_path, trainable):
    options = {
        "trainable": trainable,
        "first_new_row": 40 if trainable == "new_rows" else 0,
        "runtime": tiny.BFLOAT16,
        "tokens": 10 * 256,
        "schedule": "cosine",
    }
    whole, straight = tiny.train(bins, **options)
    train_until(bins, tmp_path, 6, **options)
    resumed, result = tiny.train(bins, checkpoints=tmp_path, **options)
    assert result.resumed_from == 4
    assert result.losses == straight.losses
    assert result.num_tokens == 10 * 256
    assert same_weights(whole, resumed)


def test_a_model_with_dropout_draws_the_same_again(bins, tmp_path):
    options = {"tokens": 8 * 256}
    shape = {"attention_dropout": 0.3, "attn_implementation": "eager"}
    whole, _ = tiny.train(bins, tiny.model(**shape), **options)
    train_until(bins, tmp_path, 5, start=tiny.model(**shape), **options)
    torch.manual_seed(99)
    resumed, result = tiny.train(
        bins, tiny.model(**shape), checkpoints=tmp_path, **options
    )
    assert result.resumed_from == 4 and same_weights(whole, resumed)
    plain, _ = tiny.train(bins, **options)
    assert not same_weights(whole, plain)  # dropout was on


def test_a_finished_pass_is_not_trained_again(bins, tmp_path):
    first, _ = tiny.train(bins, checkpoints=tmp_path)
    assert names(tmp_path) == ["step_000020", "step_000024"]  # two are kept
    again, result = tiny.train(bins, checkpoints=tmp_path)
    assert result.resumed_from == result.num_steps == 24
    assert same_weights(first, again)
    remove_checkpoints(tmp_path)
    assert names(tmp_path) == []
    remove_checkpoints(None)


def test_what_is_half_written_is_removed_and_an_older_one_used(bins, tmp_path, caplog):
    whole, _ = tiny.train(bins)
    train_until(bins, tmp_path, 13)
    assert names(tmp_path) == ["step_000008", "step_000012"]
    shutil.copytree(tmp_path / "step_000012", tmp_path / "step_000016.tmp")
    damaged = next((tmp_path / "step_000012").glob("*.distcp"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    resumed, result = tiny.train(bins, checkpoints=tmp_path)
    assert result.resumed_from == 8
    assert same_weights(whole, resumed)
    for name in ("step_000012", "step_000016.tmp"):
        assert f"{name} is half-written" in caplog.text
    assert not (tmp_path / "step_000016.tmp").exists()


def test_a_checkpoint_of_another_pass_is_refused_by_name(bins, tmp_path):
    train_until(bins, tmp_path, 5)
    with pytest.raises(ValueError) as told:
        tiny.train(bins, checkpoints=tmp_path, learning_rate=1e-3, seed=7)
    text = str(told.value)
    assert "learning_rate was 0.003 and is now 0.001" in text
    assert "seed was 0 and is now 7" in text
    assert "tokens" not in text.split("learning_rate")[0]
    assert str(tmp_path) in text and "delete" in text and "another" in text
    with pytest.raises(ValueError, match="model.hidden_size was 16 and is now 32"):
        tiny.train(bins, tiny.model(hidden_size=32), checkpoints=tmp_path)
    other = tiny.model()
    other.model.norm.weight.data.mul_(2)
    with pytest.raises(ValueError, match="model.start_weights was"):
        tiny.train(bins, other, checkpoints=tmp_path)
    assert names(tmp_path) == ["step_000004"]


def test_other_bins_are_another_pass(bins, tmp_path):
    train_until(bins, tmp_path / "checkpoints", 5)
    shutil.copytree(bins, tmp_path / "bins")
    tiny.write_bin(tmp_path / "bins", "english", ["w1 w2"] * 300, tiny.tokenizer())
    with pytest.raises(ValueError, match="bins.english was"):
        tiny.train(tmp_path / "bins", checkpoints=tmp_path / "checkpoints")


def test_settings_of_speed_may_change(bins, tmp_path):
    train_until(bins, tmp_path, 5)
    _, result = tiny.train(
        bins,
        checkpoints=tmp_path,
        micro_batch_size=8,
        keep_checkpoints=1,
        checkpoint_every=7,
        activation_checkpointing=True,
    )
    assert result.resumed_from == 4 and names(tmp_path) == ["step_000024"]


def test_a_full_disk_costs_a_checkpoint_and_not_the_pass(
    bins, tmp_path, monkeypatch, caplog
):
    save, calls = dcp.save, []

    def full_at_second(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            save(*arguments, **options)  # most of it was written
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(*arguments, **options)

    monkeypatch.setattr(checkpoint.dcp, "save", full_at_second)
    whole, _ = tiny.train(bins)
    train_until(bins, tmp_path, 10)
    assert names(tmp_path) == ["step_000004"]
    assert "step 8 could not be written" in caplog.text
    assert "No space left on device" in caplog.text
    assert not list(tmp_path.glob("*.tmp"))
    resumed, result = tiny.train(bins, checkpoints=tmp_path)
    assert result.resumed_from == 4 and same_weights(whole, resumed)
    assert names(tmp_path) == ["step_000020", "step_000024"]


def test_a_disk_that_fills_inside_torch_is_no_crash_either(bins, tmp_path, processes):
    process, heard = start(processes, tiny.on_small_files, bins, tmp_path)
    num_steps, notes = heard.recv()
    process.join()
    assert num_steps == 24
    assert sum("could not be written" in note for note in notes) == 6
    assert list(tmp_path.glob("step_*")) == []


def test_another_error_of_the_writer_is_not_hidden(bins, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise KeyError("a bug")

    monkeypatch.setattr(checkpoint.dcp, "save", broken)
    with pytest.raises(KeyError, match="a bug"):
        tiny.train(bins, checkpoints=tmp_path)


def test_writing_goes_on_beside_the_training(bins, tmp_path, monkeypatch):
    """What is written is the state of its step, however long the writing takes."""
    import threading

    go, finish = threading.Event(), checkpoint._save_tensors

    def slow(*arguments):
        go.wait(20)
        finish(*arguments)

    monkeypatch.setattr(checkpoint, "_save_tensors", slow)
    seen = []

    def on_log(step, values):
        seen.append(step)
        if step == 6:  # two steps after the save began
            go.set()
            raise Killed

    with pytest.raises(Killed):
        tiny.train(bins, checkpoints=tmp_path, on_log=on_log, log_every=1)
    assert seen == [0, 1, 2, 3, 4, 5, 6]
    monkeypatch.undo()
    whole, _ = tiny.train(bins)
    resumed, result = tiny.train(bins, checkpoints=tmp_path)
    assert result.resumed_from == 4 and same_weights(whole, resumed)


def test_a_folder_without_its_state_is_not_whole(tmp_path):
    folder = tmp_path / "step_000004"
    folder.mkdir()
    assert not is_whole(folder)
    (folder / "state.json").write_text("{")
    assert not is_whole(folder)
    (folder / "state.json").write_text('{"files": {"gone": 1}}')
    assert not is_whole(folder)


def test_a_mixture_that_reacts_survives_a_resume(bins, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "REACT_ROWS", 24)
    options = {"react_to_loss": 20.0}
    whole, straight = tiny.train(bins, **options)
    assert straight.plan.log  # it moved
    train_until(bins, tmp_path, 13, **options)
    resumed, result = tiny.train(bins, checkpoints=tmp_path, **options)
    assert result.resumed_from == 12
    assert result.plan.log == straight.plan.log and same_weights(whole, resumed)


@pytest.mark.parametrize("trainable", ["all", "embeddings", "lora"])
def test_a_pass_that_breaks_off_leaves_the_model_as_it_was(bins, tmp_path, trainable):
    """So a notebook's cell may simply be run again."""
    start, model = tiny.model().state_dict(), tiny.model()
    options = {"trainable": trainable, "checkpoints": tmp_path, "log_every": 1}

    def stop_at(last):
        def on_log(step, values):
            if step == last:
                raise KeyboardInterrupt

        return on_log

    for last in (2, 9):  # before the first checkpoint, and after two
        with pytest.raises(KeyboardInterrupt):
            tiny.train(
                bins, model, runtime=tiny.BFLOAT16, on_log=stop_at(last), **options
            )
        now = model.state_dict()
        assert now.keys() == start.keys()
        assert all(torch.equal(now[name], start[name]) for name in start)
        assert all(p.requires_grad and p.grad is None for p in model.parameters())
    _, result = tiny.train(bins, model, runtime=tiny.BFLOAT16, **options)
    assert result.resumed_from == 8
    whole, _ = tiny.train(bins, runtime=tiny.BFLOAT16, trainable=trainable)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_a_log_that_cannot_be_written_costs_a_line(bins, tmp_path):
    def on_log(step, values):
        raise OSError(28, "No space left on device")

    _, result = tiny.train(bins, tokens=4 * 256, on_log=on_log)
    assert result.num_steps == 4
    assert any("a log line was lost" in note for note in result.notes)


def test_a_kill_between_two_renames_keeps_the_checkpoint(bins, tmp_path):
    """The old one stands aside while the new one of the same step takes its name."""
    tiny.train(bins, tokens=8 * 256, checkpoints=tmp_path, keep_checkpoints=1)
    (newest,) = whole_checkpoints(tmp_path)
    newest.rename(newest.with_suffix(".replaced.tmp"))
    _, result = tiny.train(
        bins, tokens=8 * 256, checkpoints=tmp_path, keep_checkpoints=1
    )
    assert result.resumed_from == 8
    assert whole_checkpoints(tmp_path) == [newest]
