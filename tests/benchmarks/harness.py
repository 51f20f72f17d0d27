"""What every benchmark shares: timing in turn, rivals' environments, the result file.

Only the standard library is imported at the top, because the rivals' interpreters,
which have none of our dependencies, measure themselves with ``measured``.
"""

import contextlib
import hashlib
import json
import operator
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from finllm_utils.files import read_json

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
ENVIRONMENTS = REPOSITORY / "runs" / "bench-envs"
FIELDS = ("name", "command", "date", "machine", "versions", "runs", "figures")
ORIGIN = ("machine", "versions", "date")
"""Fields that a part of ``runs`` has too when another run than the file's found it."""
ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip
_MARK = "benchmark result: "


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of every run of one contender."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of all runs."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Slowest minus fastest run, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median


def say(text: str) -> None:
    """Progress, with the time since the benchmark began."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {text}", flush=True)


_STARTED = time.monotonic()


def alternate(
    contenders: Mapping[str, Callable[[], dict]], repeats: int
) -> dict[str, list[dict]]:
    """Every contender once, then all again: what slows the machine slows them alike.

    Each returns what ``measured`` found. The order turns with every round.
    """
    names = list(contenders)
    found: dict[str, list[dict]] = {name: [] for name in names}
    for turn in range(repeats):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            row = contenders[name]()
            found[name].append(row)
            shown = ", ".join(f"{k} {v:,.2f}" for k, v in row.items() if _is_number(v))
            say(f"round {turn + 1} of {repeats}, {name}: {shown}")
    return found


def timing(rows: Iterable[dict], key: str) -> Timing:
    """One column of what ``alternate`` returned."""
    return Timing(tuple(row[key] for row in rows))


@contextlib.contextmanager
def measured() -> Iterator[dict]:
    """Fills the dict it yields: wall and CPU seconds, and the peak memory so far.

    CPU is that of this process and of its finished children, memory of this process.
    """
    row: dict = {}
    wall, cpu = time.perf_counter(), _cpu_seconds()
    yield row
    row["wall_s"] = time.perf_counter() - wall
    row["cpu_s"] = _cpu_seconds() - cpu
    row["peak_rss_mb"] = _peak_mb("self")


def _cpu_seconds() -> float:
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(who) for who in whose]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _peak_mb(process: int | str) -> float:
    """What the kernel has seen a process hold at most, in megabytes; 0 when it ended.

    Not ``ru_maxrss``: a new program starts with that of the process that started it.
    """
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
        line = next(x for x in lines if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return 0.0


@contextlib.contextmanager
def watched_memory(every_s: float = 0.2) -> Iterator[dict]:
    """Fills ``peak_rss_mb``: the most that this process or one of its children held."""
    import psutil

    row, done = {"peak_rss_mb": 0.0}, threading.Event()

    def look() -> None:
        children = psutil.Process().children(recursive=True)
        peaks = [_peak_mb(child.pid) for child in children]
        row["peak_rss_mb"] = max(row["peak_rss_mb"], _peak_mb("self"), *peaks)

    def watch() -> None:
        while not done.wait(every_s):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield row
    finally:
        done.set()
        thread.join()
        look()


def report_back(row: dict) -> None:
    """The last line of a process that ``call_in`` started."""
    print(_MARK + json.dumps(row), flush=True)


def call_in(python: Path | str, target: str, *args: object, **env: str) -> dict:
    """What ``target`` ("module:function") reports when called in another interpreter.

    Raises: RuntimeError with the end of what it printed when it fails.
    """
    module, function = target.split(":")
    code = (
        f"import json, sys; from {module} import {function} as call;"
        "call(*json.loads(sys.argv[1]))"
    )
    arguments = [
        a if isinstance(a, (int, float, str, list, dict)) else str(a) for a in args
    ]
    found = subprocess.run(
        [str(python), "-c", code, json.dumps(arguments)],
        cwd=REPOSITORY, env={**os.environ, **ONE_THREAD, **env}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines = [x for x in found.stdout.splitlines() if x.startswith(_MARK)]
    if found.returncode or not lines:
        raise RuntimeError(f"{target} in {python} failed:\n{found.stdout[-3000:]}")
    return json.loads(lines[-1].removeprefix(_MARK))


def rival_python(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of ``runs/bench-envs/<name>`` with exactly these requirements.

    It is made from the package index on first use, and again when they change.
    """
    digest = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:8]
    folder = ENVIRONMENTS / f"{name}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / ".complete").exists():
        say(f"making {folder.relative_to(REPOSITORY)} from the package index")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             *requirements],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        (folder / ".complete").touch()
    return python


def machine() -> dict:
    """Processor, cores and memory."""
    model, memory = platform.processor() or platform.machine(), 0
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((x for x in lines if x.startswith("model name")), model)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model.partition(":")[2].strip() or model,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(*names: str) -> dict[str, str]:
    """Of Python and of installed packages; "trl==1.12.0", a rival's, is as it says."""
    pairs = (name.partition("==")[::2] for name in names)
    return {"python": platform.python_version()} | {
        name: told or metadata.version(name) for name, told in pairs
    }


def beside_earlier(name: str, figures: dict, runs: dict) -> tuple[dict, dict]:
    """The figures of some parts with those of the parts measured before.

    A part that stays from before carries its own ``machine``, ``versions`` and
    ``date``; those of the file are the new run's, and of every part without its own.
    """
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return figures, runs
    earlier = read_json(path)
    origin = {key: earlier[key] for key in ORIGIN}
    stayed = {
        part: origin | notes if isinstance(notes, dict) else notes
        for part, notes in earlier["runs"].items()
    }
    return earlier["figures"] | figures, stayed | runs


def kept_row(folder: Path, asked: Sequence[object], find: Callable[[], dict]) -> dict:
    """What ``find`` returns, or what it returned when the same was asked before.

    So a benchmark that was broken off goes on where it was. ``asked`` must name all
    that the row depends on; its first two are shown.
    """
    from finllm_utils.files import write_json

    key = hashlib.sha256(repr(list(asked)).encode()).hexdigest()[:16]
    path = folder / f"{key}.json"
    if not path.exists():
        write_json(path, find())
    row = read_json(path)
    shown = ", ".join(f"{k} {v:,.3f}" for k, v in row.items() if _is_number(v))
    say(f"{' '.join(map(str, asked[:2]))}: {shown}")
    return row


def today() -> str:
    """The date in UTC, as results tell it."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def write_result(
    name: str,
    command: str,
    figures: Mapping[str, float],
    runs: Mapping[str, object],
    versions: Mapping[str, str],
) -> Path:
    """``results/<name>.json`` as design.md, section 8, wants it.

    Args: runs says how each figure came about, part by part: repeats, sizes, settings,
    spreads. ``beside_earlier`` marks the parts of other machines.
    Raises: ValueError when a figure is not a finite number.
    """
    from finllm_utils.files import require_finite, write_json

    path = RESULTS / f"{name}.json"
    figures = {key: _plain(value) for key, value in figures.items()}
    require_finite(figures, path)
    values = (name, command, today(), machine(), dict(versions), dict(runs), figures)
    write_json(path, dict(zip(FIELDS, values, strict=True)))
    return path


def _plain(value: float) -> float | int:
    number = value.item() if hasattr(value, "item") else value
    return number if isinstance(number, int) else float(f"{number:.5g}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def print_table(figures: Mapping[str, float], goals: Mapping[str, str]) -> None:
    """Figures with their goals, such as ``">= 0.99"``, and whether they are met."""
    width = max(map(len, figures))
    for key, value in figures.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"
        line = f"{key:{width}}  {shown:>14}"
        print(f"{line}  {_judged(value, goals[key])}" if key in goals else line)


_COMPARE = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


def _judged(value: float, goal: str) -> str:
    sign, bound = goal.split()
    met = _COMPARE[sign](value, float(bound))
    return f"{goal:>10}  {'met' if met else 'NOT MET'}"
