"""Runs one notebook through papermill, watched: current cell, elapsed time, memory.

The kernel is a child of this process and dies with it; ``kill_orphans`` ends what a
killed run may still have left behind.
"""

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

OWNER = "FINLLM_RUN_OWNER"
"""Environment variable that marks every process a run has started."""
SAMPLE_S = 0.5
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(slots=True)
class Progress:
    """Where a running notebook is; handed to the watcher at every cell."""

    stage: str
    cell: int = 0
    num_cells: int = 0
    step: str = ""  # the last "## " heading passed


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one execution ended. ``error`` is empty when every cell ran."""

    seconds: float
    peak_rss_mb: float
    error: str = ""
    cell: int = 0  # 1-based number of the failed cell among all cells
    source: str = ""  # code of the failed cell


class MemoryWatch(threading.Thread):
    """Samples the resident memory of this process and all its descendants."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mb = 0.0
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Samples until ``stop``."""
        while not self._stop_event.is_set():
            self.peak_mb = max(self.peak_mb, tree_rss_mb())
            self._stop_event.wait(SAMPLE_S)

    def stop(self) -> float:
        """Ends the thread; the peak in MiB."""
        self._stop_event.set()
        self.join()
        return self.peak_mb


def tree_rss_mb() -> float:
    """Resident memory of this process and its descendants now, summed, in MiB."""
    process = psutil.Process()
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.Error:
            continue  # it ended between listing and asking
    return total / 2**20


def kill_orphans(run_dir: Path) -> list[int]:
    """Ends processes that an earlier, killed run started for ``run_dir``; their ids.

    Only call it while holding the run folder's lock: then no live run owns them.
    """
    killed = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get(OWNER) == str(run_dir)
                and process.pid != os.getpid()
            ):
                process.kill()
                killed.append(process)
        except psutil.Error:
            continue  # not ours to look at, or gone
    psutil.wait_procs(killed, timeout=10)
    return [p.pid for p in killed]


@contextmanager
def _kernel_environment(run_dir: Path, repository: Path) -> Iterator[None]:
    """Variables the kernel inherits: the owner mark and where the package is."""
    known = os.environ.get("PYTHONPATH", "")
    changes = {
        OWNER: str(run_dir),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(repository), known])),
        "PYTHONHASHSEED": "0",  # sets of strings iterate alike in every run
        "JUPYTER_PREFER_ENV_PATH": "1",  # this interpreter's kernel, not the user's
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    before = {key: os.environ.get(key) for key in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key)
            else:
                os.environ[key] = value


def _watching_engine(progress: Progress, watch: Callable[[Progress], None]) -> str:
    """Registers a papermill engine that reports each cell; its name."""
    from papermill.engines import NBClientEngine, papermill_engines

    class WatchingEngine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
            start = nb_man.cell_start
            progress.num_cells = len(nb_man.nb.cells)

            def cell_start(cell, cell_index=None, **inner):
                progress.cell = (cell_index or 0) + 1
                headings = re.findall(r"^##? (.+)$", cell.source, re.MULTILINE)
                if cell.cell_type == "markdown" and headings:
                    progress.step = headings[0].strip()
                watch(progress)
                start(cell, cell_index=cell_index, **inner)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    papermill_engines.register("finllm", WatchingEngine)
    return "finllm"


def execute(
    source: Path,
    target: Path,
    parameters: dict[str, object],
    *,
    run_dir: Path,
    repository: Path,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Runs ``source`` in a fresh kernel and leaves the executed copy at ``target``.

    The kernel works in the notebook's own folder. A failing cell is an ``Outcome``
    with its error, not an exception.
    """
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    import papermill
    from nbclient.exceptions import DeadKernelError

    # It warns of parameters that it cannot parse; notebooks.py has checked them all.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    progress = Progress(stage=source.stem)
    memory = MemoryWatch()
    memory.start()
    started = time.monotonic()
    failure = ("", 0, "")
    try:
        with _kernel_environment(run_dir, repository), _terminate_as_interrupt():
            papermill.execute_notebook(
                str(source),
                str(target),
                parameters=parameters,
                engine_name=_watching_engine(progress, watch),
                kernel_name="python3",
                cwd=str(source.parent),
                progress_bar=False,
                start_timeout=120,
                extra_arguments=["--log-level=ERROR"],  # a local kernel needs no notes
            )
    except papermill.PapermillExecutionError as error:
        failure = _described(error), progress.cell, error.source
    except DeadKernelError:
        failure = _dead_kernel(), progress.cell, ""
    except Exception as error:  # a kernel that cannot start, an unwritable folder
        failure = f"{type(error).__name__}: {error}", progress.cell, ""
    finally:
        peak = memory.stop()
    message, cell, code = failure
    return Outcome(
        seconds=time.monotonic() - started,
        peak_rss_mb=peak,
        error=message,
        cell=cell,
        source=code,
    )


def _described(error: "papermill.PapermillExecutionError") -> str:  # noqa: F821
    """The error and the line of the cell that raised it."""
    text = _ANSI.sub("", f"{error.ename}: {error.evalue}".rstrip(": "))
    trace = _ANSI.sub("", "\n".join(error.traceback))
    line = re.search(r"^-+> *\d+ (.+)$", trace, re.MULTILINE)
    return f"{text} at `{line[1].strip()}`" if line else text


def _dead_kernel() -> str:
    free = psutil.virtual_memory().available // 2**20
    return (
        "DeadKernelError: the kernel was killed, most often for lack of memory "
        f"({free} MiB free now); close other programs or set smaller sizes with --set"
    )


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Lets SIGTERM unwind like Ctrl-C, so that the kernel is shut down too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: object) -> None:
        sys.exit(128 + signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def export_html(notebook: Path, assets: Path) -> Path:
    """Writes one HTML file beside the notebook; ``assets`` resolves its images."""
    import nbformat
    from nbconvert import HTMLExporter

    from finllm_utils.files import atomic_file

    exporter = HTMLExporter(embed_images=True)
    resources = {"metadata": {"name": notebook.stem, "path": str(assets)}}
    text, _ = exporter.from_notebook_node(
        nbformat.read(notebook, as_version=4), resources=resources
    )
    target = notebook.with_suffix(".html")
    with atomic_file(target) as handle:
        handle.write(text)
    return target
