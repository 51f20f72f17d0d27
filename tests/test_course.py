"""The runner on tiny notebooks: cache, failure, resume, gates, locks and kills."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from finllm_utils import stages
from finllm_utils.course import Gate, Options, describe, prepare, run_course
from finllm_utils.dependencies import REPOSITORY

OPEN = """import json, os
from pathlib import Path
from finllm_utils.profiles import load_profile
cfg = load_profile(PROFILE, OVERRIDES)
here = Path(RUN_DIR) / "{stage}"
here.mkdir(parents=True, exist_ok=True)
def require_artifact(run, name, *, made_by):
    path = Path(run) / made_by / name
    assert path.exists(), path
    return path
"""
"""The opening of a course notebook without torch, so that a kernel starts fast."""


def opening(stage: str) -> str:
    return OPEN.format(stage=stage)


@pytest.fixture
def course(write_notebook, notebooks_dir, tmp_path):
    """Three notebooks: 02 reads 01 and cfg.ppo; 03 reads nothing but cfg.hub."""
    write_notebook(
        "01_make",
        opening("01_make"),
        "# # step one",
        "(here / 'text.txt').write_text(f'{cfg.data.min_chars // 100}')",
        "(here / 'report.json').write_text('{\"vocab.size_after\": 39000}')",
    )
    write_notebook(
        "02_use",
        opening("02_use"),
        'text = require_artifact(RUN_DIR, "text.txt", made_by="01_make").read_text()',
        "assert cfg.ppo.kl_coef < 1, 'kl_coef is too large'",
        "(here / 'out.txt').write_text(text)\ncfg.ppo.kl_coef",
    )
    write_notebook("03_alone", opening("03_alone"), "cfg.hub.bm25_top_k")
    return Options(run_dir=str(tmp_path / "run"), notebooks_dir=notebooks_dir)


def run(options: Options, **changes) -> tuple[int, str]:
    """Exit code and printed text of one run."""
    stream = io.StringIO()
    console = Console(file=stream, width=200, force_terminal=False)
    code = run_course(Options(**{**vars(options), **changes}), console)
    return code, stream.getvalue()


def ran(text: str) -> list[str]:
    """Names of the stages that were executed."""
    return [line.split()[0] for line in text.splitlines() if "  starts" in line]


def test_run_then_nothing_then_exactly_what_changed(course, notebooks_dir):
    code, text = run(course)
    assert code == 0 and ran(text) == ["01_make", "02_use", "03_alone"]
    run_dir = Path(course.run_dir)
    assert (run_dir / "index.html").read_text().count(".ipynb") == 3
    report = json.loads((run_dir / "report.json").read_text())
    assert report["vocab.size_after"] == 39000
    assert report["course.seconds"] > 0 and report["course.peak_rss_mb"] > 50
    for stage in ("01_make", "02_use", "03_alone"):
        assert (run_dir / stage / f"{stage}.html").exists()

    code, text = run(course)
    assert code == 0 and ran(text) == [], "a second run does nothing"

    code, text = run(course, overrides={"hub.bm25_top_k": 7})
    assert code == 0 and ran(text) == ["03_alone"], "only the reader of cfg.hub"

    hub = {"hub.bm25_top_k": 7}
    code, text = run(course, overrides={"data.min_chars": 41, **hub})
    assert ran(text) == ["01_make"], "01 makes the same artifact: 02 stays current"
    reasons = {r[0]: r[3] for r in describe(course)}
    assert reasons["01_make"] == ["section data changed"]

    code, text = run(course, overrides={"data.min_chars": 441, **hub})
    assert ran(text) == ["01_make", "02_use"], "another artifact: 02 runs again"

    (run_dir / "02_use" / "out.txt").unlink()
    path = notebooks_dir / "03_alone.ipynb"
    path.write_text(path.read_text().replace("A tiny notebook", "A title"))
    again = Options(
        **{**vars(course), "overrides": {"data.min_chars": 441, **hub}, "seed": 0}
    )
    reasons = {r[0]: r[3] for r in describe(again)}
    assert reasons["01_make"] == []
    assert reasons["02_use"] == ["artifact out.txt is missing or was changed"]
    assert reasons["03_alone"] == ["notebook changed"]


def test_failure_blocks_dependents_only_and_resumes(course):
    code, text = run(course, overrides={"ppo.kl_coef": 2.0})
    assert code == 1 and ran(text) == ["01_make", "02_use", "03_alone"]
    assert "assert cfg.ppo.kl_coef < 1" in text and "kl_coef is too large" in text
    assert "finllm run --profile toy --from 02 --set ppo.kl_coef=2.0" in text
    executed = Path(course.run_dir) / "02_use" / "02_use.ipynb"
    assert "kl_coef is too large" in executed.read_text()
    assert executed.with_suffix(".html").exists()

    code, text = run(course)
    assert code == 0 and ran(text) == ["02_use"], "what was done stays done"


def test_a_failed_stage_blocks_its_readers(write_notebook, notebooks_dir, tmp_path):
    write_notebook("01_make", "1 / 0")
    write_notebook("02_use", 'require_artifact(RUN_DIR, "x", made_by="01_make")')
    write_notebook("03_far", 'require_artifact(RUN_DIR, "y", made_by="02_use")')
    options = Options(run_dir=str(tmp_path / "run"), notebooks_dir=notebooks_dir)
    code, text = run(options)
    assert code == 1 and ran(text) == ["01_make"]
    assert "ZeroDivisionError: division by zero at `1 / 0`" in text
    assert "02_use  not run: it needs 01_make" in text
    assert "03_far  not run: it needs 02_use" in text


def test_gates_stop_the_run(course):
    code, text = run(course, gates=("vocab.size_after<=38000",))
    assert code == 1 and ran(text) == ["01_make"]
    assert "gate vocab.size_after<=38000 missed: it is 3.9e+04" in text
    code, text = run(course, gates=("vocab.size_after<=40000",))
    assert code == 0
    code, text = run(course, gates=("vocab.size_afte<=40000",))
    assert code == 1 and "did you mean vocab.size_after" in text


def test_gate_forms():
    assert Gate.parse("stage2.finance_zh_bpb<=1.2").key == "bpb.stage2.finance_zh"
    assert Gate.parse("ppo.kl_nats < 10").missed({"ppo.kl_nats": 10.0})
    assert not Gate.parse("ppo.kl_nats<=1e1").missed({"ppo.kl_nats": 10.0})
    for wrong in ("ppo.kl_nats", "ppo.kl_nats=3", "x<=abc", "x<=1-2"):
        with pytest.raises(ValueError, match="write key<=number"):
            Gate.parse(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "tiny"}, "unknown profile 'tiny'; did you mean 'toy'"),
        ({"overrides": {"ppo.kl_coeff": 1.0}}, "did you mean 'ppo.kl_coef'"),
        ({"overrides": {"ppo.kl_coef": "high"}}, "expected float, got str"),
        ({"first": "07"}, "--from 07: no such notebook"),
        ({"first": "03", "last": "01"}, "swap them"),
        ({"only": ("9",)}, "--only 9: no such notebook"),
        ({"gates": ("ppo",)}, "write key<=number"),
    ],
)
def test_wrong_options_are_errors_before_anything_runs(course, changes, message):
    with pytest.raises(ValueError, match=message):
        run(course, **changes)
    assert not Path(course.run_dir).exists(), "nothing may have been written"


def test_bad_notebooks_are_errors_before_anything_runs(
    course, write_notebook, notebooks_dir
):
    def fails(message: str, *cells: str, **options) -> None:
        path = write_notebook("04_bad", *cells, **options)
        with pytest.raises(ValueError, match=message):
            run(course)
        path.unlink()

    fails("no parameters cell", "1", parameters=None)
    fails("unknown parameter SEED", "1", parameters='PROFILE: str = "toy"')
    wrong = (
        'PROFILE: str = "toy"\nSEED: str = "0"\nRUN_DIR: str = ""\nOVERRIDES: dict = {}'
    )
    fails("SEED=0 is int, the notebook expects str", "1", parameters=wrong)
    fails("no earlier one makes", 'require_artifact(r, "x", made_by="09_later")')
    fails("literal strings", "require_artifact(r, name, made_by='01_make')")
    fails("not plain Python", "!ls")
    fails("cfg.pppo is no section", "cfg = load_profile(PROFILE)\ncfg.pppo.x")
    fails("whole profile is passed", "cfg = load_profile(PROFILE)\ntrain(cfg)")
    assert not Path(course.run_dir).exists()
    for path in notebooks_dir.glob("*.ipynb"):
        path.unlink()
    with pytest.raises(ValueError, match="no notebooks named NN_topic"):
        prepare(course)


def test_missing_input_names_the_command(course):
    code, text = run(course, only=("02",))
    assert code == 1 and ran(text) == []
    assert "01_make/text.txt is missing; make it with `finllm run" in text
    assert "--only 01" in text


def start(course: Options) -> subprocess.Popen:
    """The command line in its own process."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "finllm_utils.cli", "run",
            "--run-dir", course.run_dir, "--notebooks", str(course.notebooks_dir),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen) -> None:
    for _ in range(600):
        if path.exists():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    raise AssertionError(f"{path} never came")


def test_second_run_in_the_folder_and_kill_nine(course, write_notebook, tmp_path):
    go_on = tmp_path / "go_on"
    write_notebook(
        "03_alone",
        opening("03_alone"),
        f"""
import time
(here / "pid").write_text(str(os.getpid()))
deadline = time.monotonic() + 60
while not os.path.exists({str(go_on)!r}) and time.monotonic() < deadline:
    time.sleep(0.05)
(here / "answer.txt").write_text(str(SEED))
""",
    )
    first = start(course)
    pid_file = Path(course.run_dir) / "03_alone" / "pid"
    wait_for(pid_file, first)
    kernel = psutil.Process(int(pid_file.read_text()))
    with pytest.raises(RuntimeError, match=f"in use by process {first.pid}.*--run-dir"):
        run(course)
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    assert stages.read_status(Path(course.run_dir))["stages"]["03_alone"]["state"] == (
        "running"
    )
    go_on.touch()
    code, text = run(course)
    assert code == 0 and ran(text) == ["03_alone"], (
        "only the stage in progress restarts"
    )
    assert not kernel.is_running(), "the killed run's kernel must be gone"
    assert (Path(course.run_dir) / "03_alone" / "answer.txt").read_text() == "0"


def test_dead_kernel_is_a_failed_stage(write_notebook, notebooks_dir, tmp_path):
    write_notebook("01_dies", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    options = Options(run_dir=str(tmp_path / "run"), notebooks_dir=notebooks_dir)
    code, text = run(options)
    assert code == 1 and "lack of memory" in text
    assert os.path.exists(tmp_path / "run" / "01_dies" / "01_dies.ipynb")


def test_keys_follow_modules_and_data(write_notebook, notebooks_dir, tmp_path):
    package = tmp_path / "finllm_utils"
    (package / "deep").mkdir(parents=True)
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "a.txt").write_text("1")
    (package / "__init__.py").write_text("")
    (package / "deep" / "__init__.py").write_text("")
    (package / "deep" / "one.py").write_text("from finllm_utils.deep import two\n")
    (package / "deep" / "two.py").write_text('DATA_FILES = ("facts",)\n')
    (package / "other.py").write_text("")
    write_notebook("01_make", "from finllm_utils.deep.one import x")
    write_notebook("02_named", 'run("finllm_utils.other:main")')
    write_notebook("03_plain", "1")

    def keys() -> list[str]:
        digests = stages.Digests(tmp_path / "digests.json")
        found = stages.discover(notebooks_dir, tmp_path)
        profile = prepare(Options(notebooks_dir=notebooks_dir)).profile
        return [
            stages.cache_key(
                stages.key_parts(s, profile, 0, tmp_path / "run", digests, tmp_path)
            )
            for s in found
        ]

    def changed(path: str, text: str) -> list[bool]:
        before = keys()
        (tmp_path / path).write_text(text)
        return [a != b for a, b in zip(before, keys(), strict=True)]

    assert changed("finllm_utils/deep/two.py", 'DATA_FILES = ("facts",)  #\n') == [
        True, False, False,
    ]  # fmt: skip
    assert changed("facts/a.txt", "2 and more") == [True, False, False]
    assert changed("finllm_utils/other.py", "value = 1\n") == [False, True, False]
    assert changed("finllm_utils/__init__.py", "#\n") == [True, True, False]
