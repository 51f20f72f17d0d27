"""The live board: what a person watches while a model trains.

``LiveBoard`` collects the rows that the loop logs: in a notebook it redraws one display
in place, elsewhere it writes one line a log step. Pass ``board.update`` as ``on_log``.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from finllm_utils.board_frame import Curve, draw_board, png_bytes, text_line
from finllm_utils.metrics import (
    METRICS_FILE,
    Row,
    new_rows,
    plain_numbers,
    prefixed,
    rows_under,
)


class Logs(Protocol):
    """What the board asks of a ``Run``."""

    def log(self, step: int, **values: float) -> None:
        """Writes one row down."""


class LiveBoard:
    """Collects rows and shows them; use it as a context manager around training.

    Args:
        run: a ``Run``, or anything with its ``log``; None writes nothing down.
        prefix: put before every key that is written, such as ``stage1``.
        more: gives further numbers from those of the loop (``train.tracking.meter``).
        bands: tolerance bands to draw behind the lines (``reference["curves"]``).
        refresh_s: shortest time between two frames.
        share: most of the time that drawing may take after the first frame. A frame
            costs about half a second of one core, so a short pass sees few of them;
            the line of text above is renewed at every log step.
        notebook: True or False instead of looking for a Jupyter kernel.
    """

    def __init__(
        self,
        run: Logs | None = None,
        *,
        prefix: str = "",
        more: Callable[[Mapping[str, float]], Mapping[str, float]] | None = None,
        bands: Mapping[str, Curve] | None = None,
        refresh_s: float = 3.0,
        share: float = 0.01,
        notebook: bool | None = None,
    ) -> None:
        self.rows: list[Row] = []
        self.num_frames, self.drawing_s = 0, 0.0
        self._run, self.prefix, self._more, self._bands = run, prefix, more, bands
        self._refresh_s, self._share = refresh_s, share
        self._screen = _Screen() if _in_notebook(notebook) else None
        self._next_frame = 0.0  # on the clock of time.monotonic
        self._stale = False

    def __enter__(self) -> Self:
        """The board itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shows the last frame, also when training failed: then it matters most."""
        self.close()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Takes one log step of the loop; every key is kept and shown."""
        values = plain_numbers(values)
        if self._more is not None:
            values |= plain_numbers(self._more(values))
        self._take({"step": step} | values)
        self._write(step, values)

    def evaluate(self, step: int, values: Mapping[str, float]) -> None:
        """Takes what was scored outside the loop: ``bpb/<domain>``, ``score/<task>``.

        What the loop's ``on_eval`` returns comes with ``update`` already.
        """
        values = plain_numbers(values)
        self._take({"step": step} | values)
        self._write(step, values)

    def close(self) -> None:
        """Draws the last frame; the board may be used again afterwards."""
        if self._screen is not None and self.rows:
            if self._stale:
                self._frame()
            last = max(row["step"] for row in self.rows)
            self._screen.line(f"{self.prefix} last log at step {last:,}".strip())

    @contextmanager
    def following(self, folder: Path, every_s: float = 2.0) -> Iterator[Self]:
        """Shows what other processes append to ``<folder>/metrics.jsonl`` meanwhile.

        For training through torchrun, where no callback reaches the notebook.
        """
        path, done = Path(folder) / METRICS_FILE, threading.Event()
        start = path.stat().st_size if path.exists() else 0

        def follow() -> None:
            offset, ended = start, False
            while not ended:
                ended = done.wait(every_s)  # one more look after the end
                rows, offset = new_rows(path, offset)
                for row in rows_under(rows, self.prefix):
                    self._take(row)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()
            self.close()

    def _write(self, step: int, values: Row) -> None:
        if self._run is not None:
            self._run.log(step, **prefixed(values, self.prefix))

    def _take(self, row: Row) -> None:
        self.rows.append(row)
        self._stale = True
        line = text_line(row, self.prefix)
        if self._screen is None:
            sys.stdout.write(line + "\n")
            return
        self._screen.line(line)
        if time.monotonic() >= self._next_frame:
            self._frame()

    def _frame(self) -> None:
        """Draws and shows a frame; says when the next one may be drawn."""
        began = time.monotonic()
        figure = draw_board(self.rows, title=self.prefix, bands=self._bands)
        self._screen.picture(png_bytes(figure))
        took = time.monotonic() - began
        self.num_frames += 1
        self.drawing_s += took
        self._stale = False
        self._next_frame = began + took + max(self._refresh_s, took / self._share)


def _in_notebook(asked: bool | None) -> bool:
    """Whether a Jupyter kernel runs this process, papermill's included."""
    if asked is not None or "IPython" not in sys.modules:
        return bool(asked)
    shell = sys.modules["IPython"].get_ipython()
    return getattr(shell, "kernel", None) is not None


class _Screen:
    """Two displays of a notebook cell, renewed in place: a line and a picture."""

    def __init__(self) -> None:
        self._handles: dict[str, object] = {}

    def line(self, text: str) -> None:
        """Shows the newest numbers."""
        self._show("line", {"text/plain": text})

    def picture(self, png: bytes) -> None:
        """Shows the newest frame."""
        self._show("picture", {"image/png": png, "text/plain": "the board"})

    def _show(self, name: str, data: dict[str, object]) -> None:
        if name in self._handles:
            self._handles[name].update(data, raw=True)
            return
        from IPython.display import display

        self._handles[name] = display(data, raw=True, display_id=True)
