"""The run folder: where a stage reads its inputs and leaves its results.

``runs/<name>/<stage>/`` holds artifacts, ``metrics.jsonl``, TensorBoard events and the
stage's part of ``report.json``. Nothing here trains or scores anything.
"""

import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from finllm_utils.config import Profile
from finllm_utils.files import (
    atomic_file,
    atomic_folder,
    hold_lock,
    read_json,
    require_finite,
    write_json,
)
from finllm_utils.metrics import (
    EVENTS_FOLDER,
    METRICS_FILE,
    MetricsLog,
    plain_numbers,
)

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(kw_only=True)
class Run:
    """One stage's place in a run folder, made by ``start_run``."""

    directory: Path
    stage: str
    cfg: Profile
    seed: int
    started: float = field(default_factory=time.monotonic)
    _metrics: MetricsLog | None = None

    @property
    def stage_dir(self) -> Path:
        """``runs/<name>/<stage>``."""
        return self.directory / self.stage

    @contextmanager
    def artifact(self, name: str) -> Iterator[Path]:
        """Yields a path to fill; it becomes ``<stage_dir>/<name>`` only on success.

        A name with a suffix is a file, one without is a folder.
        """
        target = self.stage_dir / name
        if Path(name).suffix:
            with atomic_file(target, "wb") as handle:
                yield Path(handle.name)
        else:
            with atomic_folder(target) as folder:
                yield folder

    def log(self, step: int, **values: float) -> None:
        """Appends named numbers to ``metrics.jsonl``, flushed, and to TensorBoard."""
        if self._metrics is None:
            self._metrics = MetricsLog(
                self.stage_dir,
                tensorboard=self.cfg.runtime.tensorboard,
                started=self.started,
            )
        self._metrics.write(step, values)

    def report(self, **values: float | str | bool) -> None:
        """Adds flat ``<group>.<metric>`` keys to the report: ``**{"a.b": 1}``."""
        path = self.stage_dir / "report.json"
        plain = plain_numbers(values)
        require_finite(plain, path)
        known = read_json(path) if path.exists() else {}
        write_json(path, known | plain)


def start_run(
    run_dir: str, cfg: Profile, seed: int, *, stage: str, quiet: bool = True
) -> Run:
    """Opens a stage: seeds the generators, locks its folder, clears old metrics.

    Args: run_dir empty means ``runs/<profile>`` in the repository; ``stage`` is the
    notebook's name without suffix.
    Raises: RuntimeError when another process works in the same stage folder.
    """
    directory = resolve_run_dir(run_dir, cfg.name)
    run = Run(directory=directory, stage=stage, cfg=cfg, seed=seed)
    hold_lock(
        run.stage_dir / ".lock",
        f"stage folder {run.stage_dir}",
        "wait for it, shut its kernel down, or use another run folder",
    )
    for stale in (METRICS_FILE, "report.json"):
        (run.stage_dir / stale).unlink(missing_ok=True)
    shutil.rmtree(run.stage_dir / EVENTS_FOLDER, ignore_errors=True)
    seed_everything(seed)
    if quiet:
        quieten()
    threads = cfg.runtime.num_threads
    if threads:
        import torch

        torch.set_num_threads(threads)
    return run


def resolve_run_dir(run_dir: str, profile_name: str) -> Path:
    """The run folder: the given one, or ``runs/<profile>`` in the repository."""
    return Path(run_dir).resolve() if run_dir else REPOSITORY / "runs" / profile_name


def require_artifact(run: Run, name: str, *, made_by: str) -> Path:
    """Path of an artifact that an earlier stage left in this run folder.

    Raises: FileNotFoundError naming the notebook to run when it is missing.
    """
    path = run.directory / made_by / name
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: run notebooks/{made_by}.ipynb first, "
            f"or `finllm run --only {made_by[:2]}`"
        )
    return path


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch, and asks torch for deterministic kernels.

    Libraries that are not loaded yet are left alone: importing torch takes seconds.
    """
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling each new tensor with NaN finds bugs, at a pass over memory each time.
        torch.utils.deterministic.fill_uninitialized_memory = False


def quieten() -> None:
    """Keeps progress bars and hub look-ups out of notebooks; errors stay visible."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()
    if "transformers" in sys.modules:
        transformers = sys.modules["transformers"]
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()


def resolve_device(name: str = "auto") -> str:
    """``cuda``, ``npu``, ``mps`` or ``cpu``; "auto" takes the first that is there."""
    import torch

    if name != "auto":
        return name
    for candidate in ("cuda", "npu", "mps"):
        module = getattr(torch, candidate, None)
        if module is not None and module.is_available():
            return candidate
    return "cpu"


def resolve_dtype(name: str) -> "torch.dtype":  # noqa: F821  (torch is imported lazily)
    """The torch dtype called ``name``: bfloat16, float16 or float32."""
    import torch

    if name not in ("bfloat16", "float16", "float32"):
        raise ValueError(
            f"runtime.dtype={name!r}: use 'bfloat16', 'float16' or 'float32'"
        )
    return getattr(torch, name)
