"""What a person sees while it runs: a bar over cells, a bar inside a cell, a line for each finished cell."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Reporter:
    """Prints lines to standard output; draws bars with an ETA on a terminal only (never in CI or a file)."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self._progress: Progress | None = None
        self._cells: TaskID | None = None
        self._requests: TaskID | None = None

    def start(self, total: int) -> None:
        """Begin a sweep of `total` cells."""
        self.total, self.done = total, 0
        if _is_interactive():
            self._start_bars()

    def begin_cell(self, text: str, n_requests: int) -> None:
        """Show that a cell is being computed, of so many requests."""
        if self._progress is not None:
            self._requests = self._progress.add_task(text, total=n_requests)

    def advance(self, n: int) -> None:
        """`n` more requests of the cell are answered."""
        if self._progress is not None and self._requests is not None:
            self._progress.advance(self._requests, n)

    def end_cell(self, line: str) -> None:
        """Count the cell as dealt with and say how in one line."""
        self.done += 1
        if self._progress is not None:
            if self._requests is not None:
                self._progress.remove_task(self._requests)
                self._requests = None
            if self._cells is not None:
                self._progress.advance(self._cells)
        count = f"[{self.done}/{self.total}] " if self.total else ""
        self.say(count + line)

    def say(self, line: str) -> None:
        """One line, above the bars; control characters of untrusted text are made visible."""
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)

    def stop(self) -> None:
        """Take the bars away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _start_bars(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            transient=True,
        )
        self._cells = self._progress.add_task("cells", total=self.total)
        self._progress.start()


def fail(message: str) -> None:
    """One line of what went wrong, on standard error."""
    print(f"biaslab: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _is_interactive() -> bool:
    return sys.stdout.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
