"""The command lines that an export prints, run as they stand."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from finllm_utils.evals.bits_per_byte import bits_per_byte
from finllm_utils.evals.exam.items import read_exam
from finllm_utils.evals.exam.run import ask_exam
from finllm_utils.evals.exam.scoring import CHAT
from finllm_utils.evals.lmeval.export import export_tasks, exported_items
from finllm_utils.evals.models.local import LocalModel, load_folder
from finllm_utils.evals.suites.hallucination_suite import (
    exam_items,
    hallucination_exam,
    hallucination_suite,
)
from finllm_utils.evals.suites.stability_suite import stability_suite
from finllm_utils.evals.tasks.following import spread
from finllm_utils.evals.tasks.stability import read_paraphrases
from tests.evals.tiny import TEMPLATE

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra dev)")
from tests.evals.lmeval_run import SMALL, course_suites, credit, figure  # noqa: E402
from tests.model.byte_level import byte_model, byte_tokenizer  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def printed_commands(folder):
    """The commands of the export's README, each on one line."""
    block = (folder / "README.md").read_text("utf-8").split("```")[1]
    return block.replace("\\\n", " ").strip().splitlines()


def run_printed(command, model, folder):
    """What lm-eval leaves behind, after the printed command for ``model``."""
    command = command.replace("MODEL", shlex.quote(str(model)))
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(folder / "hf"),
    }
    done = subprocess.run(
        f"{command} --output_path {shlex.quote(str(folder / 'out.json'))}",
        shell=True, cwd=folder, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = folder.glob("out_*.json")
    results = json.loads(found.read_text("utf-8"))["results"]
    found.unlink()
    return results, done.stdout


def export_for_chat(folder, items, cfg):
    return export_tasks(
        folder, items, asking=CHAT, prompt="chat", max_new_tokens=cfg.max_exam_tokens
    )


@pytest.mark.slow  # a process of its own imports torch and lm-eval
def test_the_printed_command_gives_our_figures(tmp_path):
    exam = spread(read_exam(), 8)
    items = {
        "exam": exam,
        "stability": spread(read_paraphrases(), 3),
        "hallucination": exam_items(hallucination_exam(8, seed=0)),
    }
    cfg = replace(SMALL, max_exam_tokens=4)
    made = export_for_chat(tmp_path / "my tasks", items, cfg)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    for part in (byte_model(context=4096), tokenizer):
        part.save_pretrained(tmp_path / "tiny")

    (command,) = printed_commands(tmp_path / "my tasks")
    results, printed = run_printed(command, tmp_path / "tiny", tmp_path)
    model = LocalModel("tiny", *load_folder(tmp_path / "tiny", None))
    ours = {
        "exam": credit(ask_exam(model, exam, batch_tokens=4096)),
        "stability": credit(stability_suite(3, 4).run(model)),
        "hallucination": credit(hallucination_suite(8, 4, seed=0).run(model)),
    }
    assert {n: figure(made[n], results) for n in ours} == pytest.approx(ours)
    assert 0 < ours["exam"] < 1 and "|finllm_stability" in printed


@pytest.mark.course
def test_the_printed_commands_on_the_chat_model_of_the_course(tmp_path):
    """Every suite, at its own length of answers, and every command."""
    folder = ROOT / "runs/toy/06_sft/sft2"
    cfg = replace(SMALL, max_exam_tokens=48, num_exam_items=8)
    items = exported_items(cfg, seed=0)
    made = export_for_chat(tmp_path / "tasks", items, cfg)
    network, tokenizer = load_folder(folder, None)
    model, suites = LocalModel("sft2", network, tokenizer), course_suites(cfg)
    ours = {
        name: credit(suites[name].run(model))
        if one.chat
        else bits_per_byte(
            network, tokenizer, items[name],
            window=512, batch_tokens=4096, num_bootstrap=2, seed=0,
        ).value
        for name, one in made.items()
    }  # fmt: skip

    results = {}
    commands = printed_commands(tmp_path / "tasks")
    for command in commands:
        results |= run_printed(command, folder, tmp_path)[0]
    assert len(commands) == 2
    theirs = {name: figure(one, results) for name, one in made.items()}
    assert theirs == pytest.approx(ours, abs=1e-5)
