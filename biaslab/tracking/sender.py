"""The sender: reads folders from its input, writes each as an offline W&B run, and syncs it where asked.

Run by WandbTracker as `python -m biaslab.tracking.sender SETTINGS`; says what it did as JSON lines.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from biaslab.results.store import read_json
from biaslab.secrets import redact
from biaslab.tracking import runs
from biaslab.tracking.seconds import note_seconds
from biaslab.tracking.sync import Sent, send_all

_SAY = threading.Lock()


class Sender:
    """Writes runs on the main thread; another one sends them meanwhile."""

    def __init__(self, settings: Mapping[str, Any], tell: Callable[..., None]) -> None:
        self.settings, self.tell = settings, tell
        self.waiting: queue.Queue[Path | None] = queue.Queue()
        self.arms: set[str] = set()
        self.progress: Mapping[str, Any] = {}  # the sweep as it was last written

    def run(self, lines: IO[str]) -> None:
        """Handle every line, the sweep's progress now and then, and wait until the last sync is over."""
        syncer = threading.Thread(target=self._sync, daemon=True)
        syncer.start()
        for line in self._lines(lines):
            if line is None:
                self._guarded(self._write_progress, {})
            else:
                self._take(json.loads(line))
        self._guarded(self._write_progress, {})
        self.waiting.put(None)
        syncer.join()

    def _lines(self, source: IO[str]) -> Iterator[str | None]:
        """Lines as they come; None where none came for the time between two looks at the sweep."""
        if not (self.settings["online"] and self.settings["progress_s"]):
            yield from source
            return
        came: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            for line in source:
                came.put(line)
            came.put(None)

        threading.Thread(target=read, daemon=True).start()
        while True:
            try:
                line = came.get(timeout=self.settings["progress_s"])
            except queue.Empty:
                yield None
                continue
            if line is None:
                return
            yield line

    def _take(self, message: Mapping[str, Any]) -> None:
        start = time.perf_counter()
        if self._guarded(self._write, message):
            if "cell" in message:
                with suppress(OSError):  # of no weight for anybody but `profile`
                    note_seconds(
                        Path(self.settings["sweep_folder"]), Path(message["cell"]), time.perf_counter() - start
                    )
            self.tell(done=True)

    def _guarded(self, write: Callable[[Mapping[str, Any]], Iterator[Path]], message: Mapping[str, Any]) -> bool:
        """Write and pass on; one run that cannot be written must not cost the others."""
        try:
            for folder in write(message):
                self.tell(written=str(folder), id=runs.read_mark(folder)["id"])
                self.waiting.put(folder)
        except Exception as error:
            traceback.print_exc()
            self.tell(failed=bool(message), error=_first_line(error))
            return False
        return True

    def _write(self, message: Mapping[str, Any]) -> Iterator[Path]:
        if "report" in message:
            yield runs.write_report(Path(message["report"]), self.settings)
        elif "failed" in message:
            yield runs.write_failure(message["failed"], self.settings)
        else:
            folder = Path(message["cell"])
            arm = runs.arm_of(read_json(folder / "cell.json"))
            if arm not in self.arms:
                yield runs.write_arm(folder, self.settings)
                self.arms.add(arm)
            yield runs.write_cell(folder, self.settings)

    def _write_progress(self, message: Mapping[str, Any]) -> Iterator[Path]:
        now = runs.sweep_summary(Path(self.settings["sweep_folder"]))
        if now != self.progress:
            self.progress = now
            yield runs.write_sweep(self.settings)

    def _sync(self) -> None:
        """Sync what is waiting, all of it at once; after the first failure nothing more: the rest would fail too."""
        over = not self.settings["online"]
        ended = False
        while not ended:
            folders = [self.waiting.get()]
            while not self.waiting.empty():
                folders.append(self.waiting.get())
            ended = None in folders
            there = [folder for folder in folders if folder is not None]
            if there and not over:
                over = not send_all(there, self.settings["timeout_s"], self._tell_sent)
            for folder in there if not self.settings["online"] else ():
                runs.remove_superseded(folder)

    def _tell_sent(self, sent: Sent) -> None:
        for folder in sent.folders:
            self.tell(synced=str(folder), url=sent.url)
        if sent.error:
            self.tell(error=redact(sent.error))


def main(settings: Mapping[str, Any]) -> None:
    """Handle standard input until it ends."""
    say = sys.stdout
    sys.stdout = sys.stderr  # whatever the library prints is no message

    def tell(**message: Any) -> None:
        with _SAY:
            print(json.dumps(message), file=say, flush=True)

    Sender(settings, tell).run(sys.stdin)


def _first_line(error: Exception) -> str:
    words = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return redact(words)[:200]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
