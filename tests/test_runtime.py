"""A stage's place in the run folder."""

import json
import subprocess
import sys

import pytest

from finllm_utils import runtime
from finllm_utils.dependencies import REPOSITORY
from finllm_utils.profiles import load_profile


@pytest.fixture
def run(tmp_path):
    cfg = load_profile("toy")
    stage = runtime.start_run(str(tmp_path), cfg, 0, stage="04_x", quiet=False)
    yield stage
    from finllm_utils.files import release_lock

    release_lock(stage.stage_dir / ".lock")


def test_artifacts_are_whole_or_absent(run):
    with run.artifact("model") as folder:
        (folder / "weights").write_text("1")
    with run.artifact("answers.jsonl") as path:
        path.write_text("{}\n")
    assert (run.stage_dir / "model" / "weights").read_text() == "1"
    assert (run.stage_dir / "answers.jsonl").read_text() == "{}\n"
    with pytest.raises(KeyError), run.artifact("half") as folder:
        raise KeyError
    left = {p.name for p in run.stage_dir.iterdir()}
    assert left == {".lock", "model", "answers.jsonl"}


def test_log_appends_finite_numbers(run):
    run.log(1, loss=2.5)
    run.log(2, loss=2.0)
    lines = (run.stage_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [2.5, 2.0]
    with pytest.raises(ValueError, match="04_x, step 3: loss is not a finite number"):
        run.log(3, loss=float("nan"))
    assert len((run.stage_dir / "metrics.jsonl").read_text().splitlines()) == 2


def test_report_adds_plain_values(run):
    import numpy as np

    run.report(**{"a.x": np.float64(0.5), "a.ok": True})
    run.report(**{"a.y": 2})
    stored = json.loads((run.stage_dir / "report.json").read_text())
    assert stored == {"a.x": 0.5, "a.ok": True, "a.y": 2}
    for bad in (float("nan"), np.float32("inf")):
        with pytest.raises(ValueError, match="report.json: a.z is not a finite"):
            run.report(**{"a.z": bad})


def test_a_new_start_clears_the_old_numbers(run, tmp_path):
    run.report(**{"a.x": 1})
    run.log(1, loss=1.0)
    assert list((run.stage_dir / "tensorboard").iterdir())
    runtime.start_run(str(tmp_path), run.cfg, 0, stage="04_x", quiet=False)
    assert {p.name for p in run.stage_dir.iterdir()} == {".lock"}


def test_tensorboard_can_be_turned_off(tmp_path):
    cfg = load_profile("toy", {"runtime.tensorboard": False})
    stage = runtime.Run(directory=tmp_path, stage="04_x", cfg=cfg, seed=0)
    stage.log(1, loss=1.0)
    assert {p.name for p in stage.stage_dir.iterdir()} == {"metrics.jsonl"}


def test_missing_artifact_names_the_notebook(run):
    with pytest.raises(FileNotFoundError, match="run notebooks/02_vocab.ipynb first"):
        runtime.require_artifact(run, "tokenizer", made_by="02_vocab")
    folder = run.directory / "02_vocab" / "tokenizer"
    folder.mkdir(parents=True)
    found = runtime.require_artifact(run, "tokenizer", made_by="02_vocab")
    assert found == folder


def test_a_second_process_in_the_stage_is_refused(run):
    code = (
        "import sys\n"
        "from finllm_utils import files\n"
        "from pathlib import Path\n"
        "files.hold_lock(Path(sys.argv[1]), 'stage folder', 'wait', patience_s=0)"
    )
    lock = str(run.stage_dir / ".lock")
    done = subprocess.run(
        [sys.executable, "-c", code, lock],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode and "stage folder is in use by process" in done.stderr


def test_seeds_make_numbers_equal():
    import random

    import numpy as np
    import torch

    def draw() -> tuple:
        runtime.seed_everything(3)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draw() == draw()


def test_names_are_resolved():
    import torch

    assert runtime.resolve_run_dir("", "toy") == REPOSITORY / "runs" / "toy"
    assert runtime.resolve_device("cpu") == "cpu"
    assert runtime.resolve_device() in ("cuda", "npu", "mps", "cpu")
    assert runtime.resolve_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(ValueError, match="runtime.dtype='int8'"):
        runtime.resolve_dtype("int8")
