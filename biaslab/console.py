"""What a person sees while it runs: a bar over cells, a bar inside a cell, a line for each finished cell."""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from biaslab.secrets import redact

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Reporter:
    """Prints lines to standard output; draws bars with an ETA on a terminal only (never in CI or a file)."""

    def __init__(self) -> None:
        self.total = 0
        self._dealt: set[str] = set()
        self._progress: Progress | None = None
        self._cells: TaskID | None = None
        self._requests: TaskID | None = None

    def start(self, total: int) -> None:
        """Begin a sweep of `total` cells."""
        self.total = total
        if _is_interactive():
            self._start_bars()

    def begin_cell(self, text: str, n_requests: int) -> None:
        """Show that a cell is being computed, of so many requests."""
        if self._progress is not None:
            self._drop_bar()  # of what came before it: a model is prepared, then its first cell begins
            self._requests = self._progress.add_task(text, total=n_requests)

    def advance(self, n: int) -> None:
        """`n` more requests of the cell are answered."""
        if self._progress is not None and self._requests is not None:
            self._progress.advance(self._requests, n)

    def end_cell(self, line: str, cell: str, *, news: bool = True) -> None:
        """Count the cell, by its path, as dealt with and say how in one line.

        news : False where nothing was done, which is not said again of a baseline that an earlier job had.
        """
        self._drop_bar()
        if news or cell not in self._dealt:
            self.end_cells(line, [cell])

    def end_cells(self, line: str, cells: Iterable[str]) -> None:
        """Count cells, by their paths, each once however many jobs share it, and say how they ended in one line."""
        before = len(self._dealt)
        self._dealt.update(cells)
        if self._progress is not None and self._cells is not None:
            self._progress.advance(self._cells, len(self._dealt) - before)
        count = f"[{len(self._dealt)}/{self.total}] " if self.total else ""
        self.say(fitted(visible(redact(count + line)), sys.stdout))

    def say(self, line: str) -> None:
        """One line, above the bars; control characters of untrusted text are made visible."""
        text = visible(redact(line))
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)

    def fetching(self, label: str) -> Callable[[int, int], Callable[[int], None]]:
        """What a download of `label` reports to: begin(bytes, files), then the bytes that came, from any thread."""

        def begin(n_bytes: int, n_files: int) -> Callable[[int], None]:
            self.say(f"  {label}: fetching {n_files} files, {n_bytes / 2**20:,.1f} MiB")
            if self._progress is None:
                return _Tenths(label, n_bytes, self.say).advance
            bar, mib = self._progress.add_task(f"fetching {label} (MiB)", total=n_bytes / 2**20), 2**20
            return lambda n: self._progress.advance(bar, n / mib) if self._progress else None

        return begin

    @contextmanager
    def training(self, names: str) -> Iterator[Callable[[float, int, int], None]]:
        """What the training of embedded models reports to: the share done, models finished, models in all.

        A bar with an ETA on a terminal; else a line whenever a model is finished.
        """
        self.say(f"training {names}: once, then they are in the cache")
        if not _is_interactive():
            yield _Finished(self.say)
            return
        with _bars() as bars:
            task = bars.add_task("training", total=100)
            yield lambda share, n, of: bars.update(task, completed=100 * share, description=f"trained {n} of {of}")

    def stop(self) -> None:
        """Take the bars away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _drop_bar(self) -> None:
        if self._progress is not None and self._requests is not None:
            self._progress.remove_task(self._requests)
            self._requests = None

    def _start_bars(self) -> None:
        self._progress = _bars()
        self._cells = self._progress.add_task("cells", total=self.total)
        self._progress.start()


def _bars() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        transient=True,
    )


class _Finished:
    """Progress of training without a terminal: a line for each model that is finished, with the time left."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.told, self.began = say, 0, time.monotonic()

    def __call__(self, share: float, n: int, of: int) -> None:
        if n == self.told:
            return
        self.told, spent = n, time.monotonic() - self.began
        left = f", about {spent * (1 - share) / share:,.0f} s left" if 0 < share < 1 else ""
        self.say(f"  trained {n} of {of}, {spent:,.0f} s{left}")


class _Tenths:
    """Progress without a terminal: a line at each tenth of a large download, at most one in ten seconds."""

    def __init__(self, label: str, total: int, say: Callable[[str], None]) -> None:
        self.label, self.total, self.say = label, max(1, total), say
        self.done, self.told, self.last = 0, 0, time.monotonic()
        self._lock = threading.Lock()

    def advance(self, n: int) -> None:
        with self._lock:
            self.done += n
            tenth, now = 10 * self.done // self.total, time.monotonic()
            if tenth > self.told and (now - self.last > 10 or tenth == 10):
                self.told, self.last = tenth, now
                self.say(f"  {self.label}: {10 * tenth} % fetched")


def visible(text: str) -> str:
    """Untrusted text for a terminal: control characters, escape codes and bidirectional marks as their codes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def fail(message: str, *, fit: bool = False) -> bool:
    """One line of what went wrong, on standard error; fit: no wider than a terminal. Whether it was cut."""
    whole = f"biaslab: {visible(redact(' '.join(message.split())))}"
    shown = fitted(whole, sys.stderr) if fit else whole
    print(shown, file=sys.stderr, flush=True)
    return shown != whole


def fitted(line: str, stream: TextIO) -> str:
    """The line, cut where it is wider than the terminal; whole in a pipe or a file."""
    width = columns(stream)
    return line if width is None or len(line) <= width else line[: width - 1] + "…"


def columns(stream: TextIO) -> int | None:
    """Columns of the terminal, None for a pipe or a file."""
    return max(40, shutil.get_terminal_size((100, 24)).columns) if stream.isatty() else None


def let_go_of_output() -> None:
    """Send what is still printed nowhere: the reader (`| head`) has seen enough, and nobody is left to tell."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def outlive_reader() -> None:
    """From now on a reader that goes away (`| head`) ends the output alone, not the work behind it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue  # a notebook's, a test's
        stream.flush()
        raw = _Unread(stream.fileno(), "w", closefd=False)
        buffer: Any = raw if stream.write_through else io.BufferedWriter(raw)  # python -u
        wrapped = io.TextIOWrapper(
            buffer, stream.encoding, stream.errors, line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )  # fmt: skip
        setattr(sys, name, wrapped)


class _Unread(io.FileIO):
    """A file whose writes go nowhere once its reader is gone."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(content)


def _is_interactive() -> bool:
    return sys.stdout.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
