"""What training writes down while it runs: a JSON line and TensorBoard events a row.

``metrics.jsonl`` is the record; TensorBoard shows the same numbers. ``Run.log`` writes
through here, and so does a process that torchrun started and that has no ``Run``.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from finllm_utils.files import require_finite

METRICS_FILE = "metrics.jsonl"
EVENTS_FOLDER = "tensorboard"

Row = dict[str, float]
"""``step`` and named numbers, often ``seconds`` and ``tokens`` among them."""


class MetricsLog:
    """Appends rows to ``<folder>/metrics.jsonl`` and to ``<folder>/tensorboard``."""

    def __init__(
        self, folder: Path, *, tensorboard: bool = True, started: float | None = None
    ) -> None:
        self.folder = Path(folder)
        self.started = time.monotonic() if started is None else started
        self._events = _event_writer(self.folder) if tensorboard else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row, flushed, so that a killed process loses none.

        Raises: ValueError naming every value that is not a finite number.
        """
        plain = plain_numbers(values)
        require_finite(plain, f"{self.folder.name}, step {step}")
        line = {"step": step, "seconds": round(time.monotonic() - self.started, 3)}
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / METRICS_FILE, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(line | plain) + "\n")
            handle.flush()
        if self._events is not None:
            for key, value in plain.items():
                self._events.add_scalar(key, value, step)
            self._events.flush()

    def close(self) -> None:
        """Closes the event file; later rows would start another one."""
        if self._events is not None:
            self._events.close()


def _event_writer(folder: Path) -> object:
    """A SummaryWriter. Raises: ModuleNotFoundError with the two remedies."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"TensorBoard events cannot be written ({error}): install tensorboard, or "
            "set runtime.tensorboard=False; metrics.jsonl then holds the same numbers"
        ) from error
    return SummaryWriter(str(folder / EVENTS_FOLDER))


def plain_numbers(values: Mapping[str, float]) -> Row:
    """Values with NumPy and torch scalars as Python numbers."""
    return {k: v.item() if hasattr(v, "item") else v for k, v in values.items()}


def prefixed(values: Mapping[str, float], prefix: str) -> Row:
    """``{"loss": 1}`` as ``{"stage1/loss": 1}``; unchanged without a prefix."""
    return {f"{prefix}/{k}" if prefix else k: v for k, v in values.items()}


def rows_under(rows: list[Row], prefix: str) -> list[Row]:
    """The rows of one pass with its prefix taken off, as the loop gave them."""
    found = []
    for row in rows:
        cut = {k.removeprefix(f"{prefix}/"): v for k, v in row.items()
               if not prefix or k.startswith(f"{prefix}/")}  # fmt: skip
        if cut:
            times = {k: row[k] for k in ("step", "seconds") if k in row}
            found.append(times | cut)
    return found


def kept_rows(rows: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """The rows without those that a rollback undid: a step that comes again counts.

    Rows with ``loss`` or ``tokens`` are steps; others, such as scores, stand beside
    them and undo nothing.
    """
    kept: list[Mapping[str, float]] = []
    last = -1
    for row in rows:
        if "loss" in row or "tokens" in row:
            if row["step"] <= last:
                kept = [before for before in kept if before["step"] < row["step"]]
            last = row["step"]
        kept.append(row)
    return kept


def new_rows(path: Path, offset: int) -> tuple[list[Row], int]:
    """Whole lines written since byte ``offset``, and the offset to go on from.

    A file that became shorter was started again: it is read from its beginning.
    """
    path = Path(path)
    if not path.exists():
        return [], 0
    if path.stat().st_size < offset:
        offset = 0
    with open(path, "rb") as handle:
        handle.seek(offset)
        text = handle.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)
