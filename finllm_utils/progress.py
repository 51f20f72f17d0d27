"""What a person sees while the course runs: a live line, or lines of a log."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from finllm_utils.execute import Progress


def clock(seconds: float) -> str:
    """Seconds as ``41 s`` or ``4 min 20 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class StageView:
    """Shows one running stage; use as a context manager and call ``update``."""

    def __init__(self, console: Console, stage: str, expected: float | None) -> None:
        self.console = console
        self.progress = Progress(stage=stage)
        self.expected = expected
        self.started = time.monotonic()
        self._step = ""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Starts the live line, or prints the first log line."""
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._line,
                console=self.console,
                refresh_per_second=2,
                transient=True,
            )
            self._live.start()
        else:
            about = f", about {clock(self.expected)}" if self.expected else ""
            self._say(f"{self.progress.stage}  starts{about}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Takes the live line away."""
        if self._live:
            self._live.stop()

    def update(self, progress: Progress) -> None:
        """Called at every cell; prints a line at every new step without a terminal."""
        self.progress = progress
        if not self._live and progress.step != self._step:
            self._step = progress.step
            self._say(self._line().plain)

    def _line(self) -> Text:
        progress = self.progress
        elapsed = clock(time.monotonic() - self.started)
        about = f" of about {clock(self.expected)}" if self.expected else ""
        cells = f"cell {progress.cell}/{progress.num_cells}" if progress.cell else ""
        return Text(
            f"{progress.stage}  {cells:<10}  {elapsed}{about}  {progress.step}",
            no_wrap=True,
            overflow="ellipsis",
        )

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
