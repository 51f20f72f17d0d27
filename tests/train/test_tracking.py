"""What training writes down: JSON lines and TensorBoard events with equal numbers."""

import builtins
import json

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import LlamaConfig, LlamaForCausalLM

from finllm_utils.metrics import MetricsLog, new_rows, prefixed, rows_under
from finllm_utils.train.tracking import folder_log, meter


def events(folder):
    """{tag: [(step, value), ...]} as TensorBoard itself reads the folder."""
    reader = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    return {
        tag: [(e.step, e.value) for e in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


def lines(folder):
    return [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]


def test_both_files_hold_the_same_numbers(tmp_path):
    log = MetricsLog(tmp_path / "04_x")
    log.write(0, {"loss": 2.5, "loss/zh": np.float32(3.5), "tokens": 1_024})
    log.write(10, {"loss": torch.tensor(2.0), "bpb/zh": 1.25})
    log.close()
    assert events(tmp_path / "04_x") == {
        "loss": [(0, 2.5), (10, 2.0)],
        "loss/zh": [(0, 3.5)],
        "tokens": [(0, 1_024.0)],
        "bpb/zh": [(10, 1.25)],
    }
    first, second = lines(tmp_path / "04_x")
    assert first.pop("seconds") <= second.pop("seconds")
    assert first == {"step": 0, "loss": 2.5, "loss/zh": 3.5, "tokens": 1_024}
    assert second == {"step": 10, "loss": 2.0, "bpb/zh": 1.25}


def test_numbers_that_are_not_finite_are_refused_before_they_are_written(tmp_path):
    log = MetricsLog(tmp_path / "04_x")
    with pytest.raises(ValueError, match="04_x, step 3: loss/zh is not a finite"):
        log.write(3, {"loss": 1.0, "loss/zh": float("nan")})
    assert not (tmp_path / "04_x" / "metrics.jsonl").exists()


def test_the_setting_turns_events_off_and_nothing_else(tmp_path):
    log = MetricsLog(tmp_path, tensorboard=False)
    log.write(1, {"loss": 1.0})
    log.close()
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_missing_tensorboard_names_the_setting(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModuleNotFoundError, match="runtime.tensorboard=False"):
        MetricsLog(tmp_path)


def test_prefixes_come_off_again():
    assert prefixed({"loss": 1}, "") == {"loss": 1}
    assert prefixed({"loss/zh": 1}, "stage1") == {"stage1/loss/zh": 1}
    rows = [
        {"step": 1, "seconds": 2.0, "base/loss": 5.0},
        {"step": 1, "seconds": 3.0, "stage1/loss": 4.0, "stage1/loss/zh": 3.0},
    ]
    assert rows_under(rows, "stage1") == [
        {"step": 1, "seconds": 3.0, "loss": 4.0, "loss/zh": 3.0}
    ]
    assert rows_under(rows, "") == rows


def test_new_rows_are_whole_lines_since_the_last_look(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert new_rows(path, 0) == ([], 0)
    path.write_text('{"step": 1}\n{"ste')
    rows, offset = new_rows(path, 0)
    assert rows == [{"step": 1}] and offset == 12
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert new_rows(path, offset) == ([{"step": 2}], 24)
    path.write_text('{"step": 9}\n')  # the stage was started again
    assert new_rows(path, 24) == ([{"step": 9}], 12)


def test_mfu_by_hand():
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=50, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False,
    ))  # fmt: skip
    # weights: 4 x 8 x 8 + 3 x 8 x 16 in the layer, 50 x 8 in the output: 1,040
    attention = 12 * 1 * 8 * 32
    every, frozen = meter(model, 32, 1e-6, num_devices=2), meter(model, 32, 1e-6)
    # 10 tokens/s on two devices of 1e6 FLOP/s each
    row = every({"tokens_per_s": 10.0, "loss": 1.0})
    assert row["mfu"] == pytest.approx(5 * (6 * 1_040 + attention) / 1e6)
    assert set(row) == {"mfu", "memory_gib"} and 0.05 < row["memory_gib"] < 50
    model.model.requires_grad_(False)  # as the loop does after the meter was made
    row = frozen({"tokens_per_s": 10.0})
    assert row["mfu"] == pytest.approx(10 * (4 * 1_040 + 2 * 400 + attention) / 1e6)
    assert set(frozen({"loss": 1.0})) == {"memory_gib"}
    with pytest.raises(ValueError, match="peak_tflops=0"):
        meter(model, 32, 0)


@pytest.mark.gpu
def test_memory_on_a_gpu_is_the_peak_of_its_tensors():
    torch.cuda.reset_peak_memory_stats()
    measure = meter(None, 32, 1.0, "cuda")
    before = measure({})["memory_gib"]
    held = torch.ones(2**28, device="cuda")
    del held
    assert measure({})["memory_gib"] - before == pytest.approx(1.0, abs=0.01)


def test_numbers_of_the_loop_reach_the_folder(tmp_path):
    idle = folder_log(tmp_path / "idle")
    on_log = folder_log(
        tmp_path, prefix="stage1", more=lambda v: {"mfu": v["loss"] / 4}
    )
    for step in range(3):
        on_log(step, {"loss": 2.0})
    assert idle and not (tmp_path / "idle").exists(), "nothing logged, nothing made"
    assert [row["stage1/loss"] for row in lines(tmp_path)] == [2.0, 2.0, 2.0]
    assert events(tmp_path)["stage1/mfu"] == [(0, 0.5), (1, 0.5), (2, 0.5)]
