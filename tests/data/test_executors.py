"""Local, SLURM and Ray run the same list of steps; a killed run goes on where it was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from finllm_utils.config import DataConfig
from finllm_utils.data import executors
from finllm_utils.data.executors import Phase, QuietExecutor, ray_session, run_phases
from finllm_utils.data.pipeline import clean_corpus
from finllm_utils.data.sign_step import WriteSigned
from finllm_utils.data.sources import DOMAINS, SourceFile
from finllm_utils.data.steps import ReadShard
from finllm_utils.data.work import open_work, remove_work
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document, read_records, write_records
from finllm_utils.runtime import REPOSITORY

from .files import ARTICLE, html_page

CONFIG = load_profile("toy").data
HELD = "存款保险实行限额偿付，最高偿付限额为人民币五十万元，中国人民银行会同有关部门可以调整。"
WORDS = (
    "基金 债券 利率 存款 贷款 保险 风险 收益 市场 银行 客户 资产 负债 信用 期限 "
    "上升 下降 调整 公布 说明 评估 管理 增长 投资 审查 披露 合同 条款 费用 账户"
).split()
CHILD = """
import json, sys
from pathlib import Path
from finllm_utils.data.pipeline import clean_corpus
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document, read_records
items, output, work, held = sys.argv[1:]
rejected, funnel = clean_corpus(
    read_records(Path(items), Document), load_profile("toy").data, heldout=[held],
    output=Path(output), work_dir=Path(work), num_workers=2)
Path(output, "audit.json").write_text(json.dumps([list(rejected), funnel]))
"""


def documents(number: int = 600) -> list[Document]:
    """Texts with copies, near copies, short ones and held-out ones in every domain."""
    draw, made = random.Random(0), []
    for i in range(number):
        sentences = ["".join(draw.choices(WORDS, k=12)) + "。" for _ in range(12)]
        text = "".join(sentences)
        if made and i % 7 == 0:
            text = made[draw.randrange(len(made))].text
        elif made and i % 7 == 1:
            text = made[draw.randrange(len(made))].text + sentences[0]
        elif i % 11 == 0:
            text = HELD + sentences[0]
        elif i % 13 == 0:
            text = sentences[0][:10]
        domain = DOMAINS[i % len(DOMAINS)]
        made.append(Document(id=f"d{i}", text=text, source="test", domain=domain))
    return made


def not_many_costs(text: str, meta: dict) -> tuple[bool, str]:
    """A filter of one's own."""
    return text.count("费用") < 8, meta["domain"]


def clean(
    items, folder: Path, config: DataConfig = CONFIG, workers: int = 1, filters=()
):
    """(rejected, funnel) and the bytes of every output file."""
    output = folder / "out"
    output.mkdir(parents=True, exist_ok=True)
    audit = clean_corpus(
        items, config, heldout=[HELD], output=output,
        work_dir=folder / "work", num_workers=workers, filters=filters,
    )  # fmt: skip
    return list(audit), {p.name: p.read_bytes() for p in output.glob("*.jsonl")}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Items, and what one uninterrupted process makes of them."""
    audit, files = clean(documents(), tmp_path_factory.mktemp("straight"))
    assert set(files) == {f"{d}.jsonl" for d in DOMAINS}
    assert len({row["step"] for row in audit[0]}) >= 4
    return audit, files


def task_times(work: Path) -> dict[str, int]:
    """When each finished task wrote its log: a task that runs again writes it anew."""
    times = {}
    for done in work.glob("*/logs/*/completions/*"):
        log = done.parents[1] / "logs" / f"task_{done.name}.log"
        times[f"{done.parents[1].name}/{done.name}"] = log.stat().st_mtime_ns
    return times


def kill_after(process: subprocess.Popen, work: Path, tasks: int, delay: float) -> bool:
    """SIGKILL, ``delay`` after that many finished tasks; False if it ended before."""
    deadline = time.monotonic() + 120
    while len(task_times(work)) < tasks and process.poll() is None:
        assert time.monotonic() < deadline, "the run does not go on"
        time.sleep(0.005)
    time.sleep(delay)
    if process.poll() is not None:
        return False
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not [p for p in alive if p.name() != "resource_tracker"], "orphans work on"
    return True


@pytest.mark.slow
def test_killed_runs_lose_and_repeat_nothing(straight, tmp_path):
    items, output, work = tmp_path / "items.jsonl", tmp_path / "out", tmp_path / "work"
    write_records(items, documents())
    output.mkdir()
    command = [sys.executable, "-c", CHILD, str(items), str(output), str(work), HELD]
    draw, kills, known = random.Random(1), 0, {}
    for tasks in (0, 4, 9, 99):
        process = subprocess.Popen(command, cwd=REPOSITORY)
        kills += kill_after(process, work, tasks, draw.uniform(0, 0.2))
        now = task_times(work)
        assert {k: now[k] for k in known} == known, "a finished task ran again"
        known = now
    assert kills >= 3 and process.returncode == 0
    assert {k.split("/")[0] for k in known} == {"heldout", "chain", "class", "global"}
    assert len(list(work.iterdir())) == 1, "half-made folders are left"
    audit = json.loads((output / "audit.json").read_text())
    files = {p.name: p.read_bytes() for p in output.glob("*.jsonl")}
    assert (audit, files) == straight


def test_a_finished_run_called_again_runs_no_task(straight, tmp_path):
    clean(documents(), tmp_path)
    before = task_times(tmp_path / "work")
    assert clean(documents(), tmp_path, workers=3) == straight
    assert task_times(tmp_path / "work") == before


def key(folder: Path, items=None, config=CONFIG, held=HELD, models=None, shards=2):
    items = documents(9) if items is None else items
    return open_work(
        folder, items, config, heldout=[held], models=models, num_shards=shards
    ).name


def test_work_is_found_again_by_what_decides_the_result(tmp_path):
    page, models = tmp_path / "a.html", tmp_path / "models"
    page.write_bytes(html_page())
    models.mkdir()
    (models / "weights").write_text("1")
    files = [SourceFile("a.html", str(page), "finance_zh", "mine")]
    base, with_file = key(tmp_path / "w"), key(tmp_path / "w", files)
    slurm = replace(CONFIG, executor="slurm", slurm_partition="cpu", task_memory_gb=9)
    same = [key(tmp_path / "w", shards=5), key(tmp_path / "w", config=slurm)]
    assert set(same) == {base}
    os.utime(page, ns=(1, 1))
    other = [
        with_file,
        key(tmp_path / "w", files),
        key(tmp_path / "w", documents(9)[::-1]),
        key(tmp_path / "w", config=replace(CONFIG, min_chars=41)),
        key(tmp_path / "w", held=HELD[1:]),
        key(tmp_path / "w", models=models),
    ]
    assert len({base, *other}) == 7
    names = {p.name for p in (tmp_path / "w" / base / "shards").iterdir()}
    assert names == {"00000.jsonl", "00001.jsonl"}, "the first run's shards stay"


def test_remove_work_leaves_nothing(tmp_path):
    key(tmp_path / ".work")
    remove_work(tmp_path / ".work")
    remove_work(tmp_path / ".work")
    assert not list(tmp_path.iterdir())


def test_a_task_that_stops_half_way_leaves_no_file(tmp_path):
    work = open_work(
        tmp_path, documents(4), CONFIG, heldout=[HELD], models=None, num_shards=1
    )

    def stop(data, rank, world_size):
        yield next(data)
        raise OSError("disk full")

    steps = [ReadShard(work), stop, WriteSigned(work, CONFIG)]
    with pytest.raises(OSError, match="disk full"):
        list(run_phases([Phase("chain", steps, 1)], work / "logs", CONFIG, 1))
    assert not list((work / "signed").iterdir())
    assert not (work / "logs" / "chain" / "completions").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_reaches_the_caller(tmp_path, workers):
    def fail(data, rank, world_size):
        raise ValueError(f"task {rank} cannot")

    with pytest.raises(ValueError, match="task . cannot"):
        list(run_phases([Phase("chain", [fail], 2)], tmp_path, CONFIG, workers))


def test_a_killed_worker_is_an_error_and_not_a_wait(tmp_path):
    def die(data, rank, world_size):
        import os

        if rank:
            os.kill(os.getpid(), 9)
        return []

    phase = Phase("chain", [die], 2)
    with pytest.raises(RuntimeError, match="lower runtime.num_workers"):
        list(run_phases([phase], tmp_path, CONFIG, 2))
    executor = QuietExecutor([], tasks=2, logging_dir=str(tmp_path / "chain"))
    assert 1 in executor.get_incomplete_ranks()


def slurm_phases(tmp_path: Path, shards: int):
    config = replace(
        CONFIG, executor="slurm", slurm_partition="cpu-long", slurm_time="03:30:00",
        task_memory_gb=7,
    )  # fmt: skip
    steps = [ReadShard(tmp_path), WriteSigned(tmp_path, config)]
    phases = [Phase("chain", steps, shards), Phase("class", [], 4)]
    return [*phases, Phase("global", [], 1)], config


def test_slurm_scripts_ask_for_what_the_settings_say(tmp_path, monkeypatch):
    """datatrove's own scripts; ``sbatch`` only notes what it was given."""
    sent = []

    def sbatch(script, job_id_retriever, *arguments):
        sent.append((script, arguments))
        return str(100 + len(sent))

    monkeypatch.setattr("datatrove.executor.slurm.launch_slurm_job", sbatch)
    monkeypatch.setattr(executors, "_in_queue", lambda job: True)
    phases, config = slurm_phases(tmp_path, 64)
    made = executors.slurm_executors(phases, tmp_path / "logs", config, 16)
    jobs = executors.submit(made, tmp_path / "logs" / "jobs.json")
    arrays = [(s, a) for s, a in sent if "launch_pickled_pipeline" in s]
    for (script, _), array in zip(arrays, ("0-63%16", "0-3%4", "0-0%1"), strict=True):
        lines = script.splitlines()
        assert f"#SBATCH --array={array}" in lines
        assert "#SBATCH --partition=cpu-long" in lines
        assert "#SBATCH --time=03:30:00" in lines
        assert "#SBATCH --mem-per-cpu=7G" in lines
        assert "#SBATCH --kill-on-invalid-dep=yes" in lines
        assert str(Path(sys.executable).parent) in script
        assert "qos" not in script
    options = [next(iter(a[1:]), "") for _, a in arrays]
    first, second = jobs["clean_chain"], jobs["clean_class"]
    assert options == [
        "",
        f"--dependency=afterok:{first}",
        f"--dependency=afterok:{second}",
    ]
    script = (tmp_path / "logs" / "chain" / "launch_script.slurm").read_text()
    assert script == arrays[0][0]
    assert not task_times(tmp_path), "nothing has run"
    again = executors.slurm_executors(phases, tmp_path / "logs", config, 16)
    before = len(sent)
    assert executors.submit(again, tmp_path / "logs" / "jobs.json") == jobs
    assert len(sent) == before, "jobs that still wait are not submitted twice"


def test_slurm_gets_one_array_however_many_tasks(tmp_path):
    phases, config = slurm_phases(tmp_path, 2_500)
    made = executors.slurm_executors(phases, tmp_path / "logs", config, 500)
    assert made[0].tasks_per_job == 3  # 834 jobs: one array, so one dependency
    assert made[1].depends is made[0] and made[2].depends is made[1]


def test_slurm_submits_only_what_is_left(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(
        "datatrove.executor.slurm.launch_slurm_job",
        lambda script, retriever, *a: sent.append(script) or str(len(sent)),
    )
    phases, config = slurm_phases(tmp_path, 3)
    made = executors.slurm_executors(phases, tmp_path / "logs", config, 2)
    for rank in range(3):
        made[0].mark_rank_as_completed(rank)
    made[1].mark_rank_as_completed(2)
    jobs = executors.submit(made, tmp_path / "logs" / "jobs.json")
    assert jobs["clean_chain"] == "-1"
    left = json.loads((tmp_path / "logs" / "class" / "ranks_to_run.json").read_text())
    assert left == [0, 1, 3]
    assert "#SBATCH --array=0-2%2" in sent[0]


def test_settings_that_cannot_work_say_so(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="use local, slurm or ray"):
        replace(CONFIG, executor="spark")
    with pytest.raises(ValueError, match="needs data.slurm_partition"):
        replace(CONFIG, executor="slurm")
    monkeypatch.setenv("PATH", str(tmp_path))
    phases, config = slurm_phases(tmp_path, 1)
    with pytest.raises(ValueError, match="no sbatch here"):
        list(run_phases(phases, tmp_path, config, 1))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="needs Ray: pip install"):
        list(run_phases(phases, tmp_path, replace(CONFIG, executor="ray"), 1))


def listening() -> set[str]:
    """Addresses that the processes below this one accept connections on."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip.removeprefix("::ffff:"))
    return found


@pytest.mark.slow
@pytest.mark.needs_ray
def test_ray_makes_the_same_bytes_goes_on_and_reports(straight, tmp_path):
    config = replace(CONFIG, executor="ray", task_memory_gb=1)

    def fail(data, rank, world_size):
        raise ValueError("cannot")

    with ray_session(config, 2):
        assert listening() == {"127.0.0.1"}
        assert clean(documents(), tmp_path, config, workers=2) == straight
        before = task_times(tmp_path / "work")
        assert clean(documents(), tmp_path, workers=1) == straight  # local goes on
        assert task_times(tmp_path / "work") == before
        own = {"items": documents(40), "filters": [not_many_costs], "config": config}
        there = clean(**own, folder=tmp_path / "there")
        with pytest.raises(RuntimeError, match="phase chain: 1 of 1 tasks did not"):
            list(run_phases([Phase("chain", [fail], 1)], tmp_path, config, 1))
    import ray

    assert not ray.is_initialized()
    own["config"] = CONFIG
    assert clean(**own, folder=tmp_path / "here") == there
    assert [row for row in there[0][0] if row["step"] == "own"]
    assert not [p for p in psutil.Process().children() if "ray" in p.name()]


def test_files_and_rows_together(tmp_path):
    """Files are read in the tasks, wherever these run."""
    page = tmp_path / "a.html"
    page.write_bytes(html_page())
    items = [SourceFile("a.html", str(page), "finance_zh", "mine"), *documents(5)]
    clean(items, tmp_path)
    path = tmp_path / "out" / "finance_zh.jsonl"
    kept = {d.id: d for d in read_records(path, Document)}
    assert ARTICLE[0][:10] in kept["a.html"].text
