"""Where the cleaning tasks run: local processes, SLURM arrays or Ray.

A phase is a list of datatrove steps and a number of tasks that need not know of each
other. ``run_phases`` runs phases in order where ``data.executor`` says. A finished task
leaves a file in ``<logs>/<phase>/completions`` and never runs again, so a killed run
goes on where it was. Tasks meet in files only: with several machines, the work folder
is on a disk that all of them see, and each has this package.
"""

import contextlib
import io
import math
import multiprocessing
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import dill
from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from finllm_utils.config import DataConfig
from finllm_utils.files import read_json, write_json

_PRELOAD = [
    "finllm_utils.data.quality",
    "finllm_utils.data.sign_step",
    "finllm_utils.data.dedup_steps",
]
_MAX_ARRAY = 1000  # SLURM's default MaxArraySize is 1001
_RAY_STORE_BYTES = 80 * 2**20  # Ray's least; the tasks pass files, not objects
_RAY_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: 127.0.0.1 everywhere
}
_POLL_S = 20.0


@dataclass(frozen=True)
class Phase:
    """``tasks`` independent tasks; the one of rank r runs ``steps`` on part r."""

    name: str
    steps: list[PipelineStep]
    tasks: int


def run_phases(
    phases: Sequence[Phase], logs: Path, config: DataConfig, num_workers: int
) -> Iterator[Phase]:
    """Runs ``phases`` in order, each with its tasks spread; yields each when finished.

    Args: num_workers tasks run at a time. SLURM gets all phases at once, chained by
    dependencies, so they finish even if this process ends.
    Raises: ValueError when the executor is not there; RuntimeError naming the logs when
    tasks fail. What a task itself raises is passed on by the local executor.
    """
    run = {"local": _run_local, "slurm": _run_slurm, "ray": _run_ray}[config.executor]
    return run(phases, Path(logs), config, num_workers)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """datatrove logs to its folder only; errors are still raised."""
    logger.remove()
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _require_complete(executor: PipelineExecutor, phase: Phase) -> None:
    """Raises RuntimeError naming the tasks of ``phase`` that did not finish."""
    if missing := executor.get_incomplete_ranks(skip_completed=True):
        raise RuntimeError(
            f"cleaning, phase {phase.name}: {len(missing)} of {phase.tasks} tasks did "
            f"not finish (first: {missing[0]}); see logs/ and slurm_logs/ in "
            f"{executor.logging_dir.path}, then run the same again: finished tasks stay"
        )


# Local processes


class QuietExecutor(LocalPipelineExecutor):
    """datatrove's local executor without its manager process, which outlives a kill."""

    def run(self) -> None:
        """Runs the tasks that are not finished.

        Raises: RuntimeError when a worker is killed; what a task raises.
        """
        todo = self.get_incomplete_ranks()
        if self.workers > 1 and len(todo) > 1:
            self._run_pool(todo)
            return
        with _quiet():
            for rank in todo:
                deepcopy(self)._run_for_rank(rank)

    def _run_pool(self, ranks: list[int]) -> None:
        multiprocessing.set_forkserver_preload(_PRELOAD)  # import once, not per worker
        ours = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(
            min(self.workers, len(ranks)),
            mp_context=multiprocessing.get_context("forkserver"),
            initializer=_end_with_parent,
        )
        task = dill.dumps(self)  # a filter may be a notebook's own function
        try:
            for done in as_completed([pool.submit(_run_rank, task, r) for r in ranks]):
                done.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a cleaning process was killed, most often for lack of memory: lower "
                "runtime.num_workers and run the same again; finished shards stay"
            ) from error
        except BaseException:  # also Ctrl-C: nobody waits for the other tasks
            for process in set(multiprocessing.active_children()) - ours:
                process.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _run_rank(task: bytes, rank: int) -> None:
    with _quiet():
        dill.loads(task)._run_for_rank(rank)


def _end_with_parent() -> None:
    """Ends this process when the one that started the run is gone, even by SIGKILL."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_local(
    phases: Sequence[Phase], logs: Path, config: DataConfig, num_workers: int
) -> Iterator[Phase]:
    for phase in phases:
        QuietExecutor(
            pipeline=phase.steps,
            tasks=phase.tasks,
            workers=min(num_workers, phase.tasks),
            logging_dir=str(logs / phase.name),
        ).run()
        yield phase


# Ray


class QuietRayExecutor(RayPipelineExecutor):
    """datatrove's Ray executor; each task logs to its own folder, not to /tmp."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1):  # noqa: ANN202
        with _quiet():
            return PipelineExecutor._run_for_rank(self, rank, local_rank, node_rank)


@contextlib.contextmanager
def ray_session(config: DataConfig, num_workers: int) -> Iterator[None]:
    """Ray while the block runs: the caller's, the cluster's, or a small local one.

    Raises: ValueError when Ray is not installed.
    """
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    with _ray_environment():
        try:
            import ray
        except ImportError as error:
            raise ValueError(
                "data.executor='ray' needs Ray: pip install -c constraints.txt -e "
                "'.[ray]'"
            ) from error
        started = not ray.is_initialized()
        if started and config.ray_address:
            ray.init(address=config.ray_address, **quiet)
        elif started:
            ray.init(
                address="local",
                num_cpus=num_workers,
                object_store_memory=_RAY_STORE_BYTES,
                _memory=num_workers * config.task_memory_gb * 2**30,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
        try:
            yield
        finally:
            if started:
                ray.shutdown()


@contextlib.contextmanager
def _ray_environment() -> Iterator[None]:
    """What Ray's processes inherit: no usage report, loopback only, a fast start.

    Each of them imports jsonschema, which imports rfc3987_syntax if it can, which
    compiles a grammar for four seconds; Ray gives up on a process after fifteen.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "rfc3987_syntax.py").write_text("raise ImportError")
        known = {name: os.environ.get(name) for name in (*_RAY_VARIABLES, "PYTHONPATH")}
        paths = filter(None, (folder, known["PYTHONPATH"]))
        os.environ |= {**_RAY_VARIABLES, "PYTHONPATH": os.pathsep.join(paths)}
        try:
            yield
        finally:
            for name, value in known.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def _run_ray(
    phases: Sequence[Phase], logs: Path, config: DataConfig, num_workers: int
) -> Iterator[Phase]:
    with ray_session(config, num_workers):
        for phase in phases:
            with _quiet():
                executor = QuietRayExecutor(
                    pipeline=phase.steps,
                    tasks=phase.tasks,
                    workers=min(num_workers, phase.tasks),
                    mem_per_cpu_gb=config.task_memory_gb,
                    logging_dir=str(logs / phase.name),
                )
                executor.run()
            _require_complete(executor, phase)
            yield phase


# SLURM


def slurm_executors(
    phases: Sequence[Phase], logs: Path, config: DataConfig, num_workers: int
) -> list[SlurmPipelineExecutor]:
    """One array a phase, each after the whole of the one before; nothing is submitted.

    An array that is too long for SLURM gives each of its jobs several tasks.
    """
    prefix = shlex.quote(str(Path(sys.executable).parent))
    package = shlex.quote(str(Path(__file__).resolve().parents[2]))
    executors: list[SlurmPipelineExecutor] = []
    for phase in phases:
        executors.append(
            SlurmPipelineExecutor(
                pipeline=phase.steps,
                tasks=phase.tasks,
                time=config.slurm_time,
                partition=config.slurm_partition,
                workers=min(num_workers, phase.tasks),
                mem_per_cpu_gb=config.task_memory_gb,
                tasks_per_job=math.ceil(phase.tasks / _MAX_ARRAY),
                job_name=f"clean_{phase.name}",
                qos="",  # the cluster's default
                env_command=f"export PATH={prefix}:$PATH PYTHONPATH={package}",
                sbatch_args={"kill-on-invalid-dep": "yes"},
                depends=executors[-1] if executors else None,
                logging_dir=str(logs / phase.name),
            )
        )
    return executors


def _run_slurm(
    phases: Sequence[Phase], logs: Path, config: DataConfig, num_workers: int
) -> Iterator[Phase]:
    if shutil.which("sbatch") is None:
        raise ValueError(
            "data.executor='slurm': no sbatch here; run this on a login node, or set "
            "data.executor to 'local'"
        )
    executors = slurm_executors(phases, logs, config, num_workers)
    jobs = submit(executors, logs / "jobs.json")
    for phase, executor in zip(phases, executors, strict=True):
        while executor.get_incomplete_ranks(skip_completed=True):
            if not _in_queue(jobs[executor.job_name]):
                time.sleep(_POLL_S)  # a shared disk may show the last file late
                _require_complete(executor, phase)
            time.sleep(_POLL_S)
        yield phase


def submit(executors: list[SlurmPipelineExecutor], path: Path) -> dict[str, str]:
    """Job ids by job name: of jobs still queued from an earlier run, or new ones."""
    jobs = read_json(path) if path.exists() else {}
    if not any(_in_queue(job) for job in jobs.values()):
        with _quiet():
            executors[-1].launch_job()  # and all that it depends on
        jobs = {e.job_name: str(e.job_id) for e in executors if e.job_id}
        write_json(path, jobs)
    return jobs


def _in_queue(job: str) -> bool:
    """Whether SLURM still holds the job, waiting or running."""
    if job == "-1":  # datatrove: there was nothing left to submit
        return False
    command = ["squeue", "--noheader", "--jobs", job]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.returncode == 0 and bool(found.stdout.strip())
