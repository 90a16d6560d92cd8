"""Weights & Biases: one run per cell and one for the analysis, written and sent by a process of its own.

Every run is written offline first, which needs no server, and then sent by `wandb sync` where that was asked
for. So a server that is down, slow or refuses costs no result: the run stays in outputs/wandb.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from biaslab.tracking.base import Tracker, TrackerConfig

log = logging.getLogger(__name__)


@dataclass
class _State:
    """What the sender has said so far; guarded by `changed`."""

    written: list[str] = field(default_factory=list)
    synced: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failed: int = 0  # items that could not be written
    url: str = ""
    ended: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)


class WandbTracker(Tracker):
    """Hands folders to the sender process, which starts with the first of them."""

    def __init__(self, config: TrackerConfig, sweep: Path, outputs: Path, *, online: bool) -> None:
        self.config, self.sweep, self.outputs, self.online = config, sweep, outputs, online
        self.told: set[Path] = set()
        self._process: subprocess.Popen[str] | None = None
        self._state = _State()
        self._listener = threading.Thread()
        self._n_sent = 0

    def cell(self, folder: Path) -> None:
        """See Tracker.cell."""
        if folder not in self.told:
            self.told.add(folder)
            self._tell({"cell": str(folder)})

    def finish(self, report: Path | None) -> str:
        """See Tracker.finish."""
        if report is not None and (report / "report.html").is_file() and self.told:
            self._tell({"report": str(report)})
        if self._process is None:
            return ""
        self._close_input()
        self._wait()
        self.stop()
        return self._line()

    def stop(self) -> None:
        """See Tracker.stop."""
        if self._process is None:
            return
        self._close_input()
        try:  # the whole group: wandb starts a service and `wandb sync` of its own
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        self._listener.join(1.0)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _tell(self, message: dict[str, str]) -> None:
        """One line to the sender; a sender that is gone is noticed at the end."""
        try:
            process = self._process or self._start()
            assert process.stdin is not None
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            self._n_sent += 1
        except OSError as error:
            log.warning("the tracker cannot be told: %s", error)
            self._state.errors.append(str(error))

    def _start(self) -> subprocess.Popen[str]:
        folder = self.outputs / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        settings = asdict(self.config) | {"sweep": self.sweep.name, "outputs": str(self.outputs.resolve())}
        settings["online"] = self.online
        with (folder / "tracker.log").open("a", encoding="utf-8") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "biaslab.tracking.sender", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
                env=sender_environment(self.outputs),
                start_new_session=True,
            )
        self._listener = threading.Thread(target=_listen, args=(self._process.stdout, self._state), daemon=True)
        self._listener.start()
        return self._process

    def _close_input(self) -> None:
        try:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
        except OSError:
            pass

    def _wait(self) -> None:
        """Until the sender ends, or `timeout_s` after the last run was written."""
        state, n_written = self._state, -1
        deadline = time.monotonic() + self.config.timeout_s
        with state.changed:
            while not state.ended and (left := deadline - time.monotonic()) > 0:
                if len(state.written) != n_written and not self._all_written():
                    n_written, deadline = len(state.written), time.monotonic() + self.config.timeout_s
                    left = self.config.timeout_s
                state.changed.wait(left)

    def _all_written(self) -> bool:
        return len(self._state.written) + self._state.failed >= self._n_sent

    def _line(self) -> str:
        state, folder = self._state, self.outputs / "wandb"
        n = self._n_sent
        unwritten = n - len(state.written)
        sync = f"wandb sync {folder}"
        why = f" ({state.errors[0]})" if state.errors else ""
        if unwritten:
            again = f"python -m biaslab track {self.sweep}"
            return f"W&B: {unwritten} of {n} runs were not written{why}; no result is lost, write them with: {again}"
        if not self.online:
            return f"W&B: {n} runs written offline; send them with: {sync}"
        if unsent := n - len(set(state.synced)):
            return (
                f"W&B: {unsent} of {n} runs were not sent{why or ' in time'}; no result is lost, send them with: {sync}"
            )
        return f"W&B: {n} runs sent, group {self.sweep.name}{f' at {state.url}' if state.url else ''}"


def sender_environment(outputs: Path) -> dict[str, str]:
    """The sender's environment: nothing outside `outputs` is written, and nothing is printed or asked."""
    folder = (outputs / "wandb").resolve()
    own = {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_ERROR_REPORTING": "false"}
    own |= {"WANDB_DIR": str(outputs.resolve())}
    own |= {f"WANDB_{kind}_DIR": str(folder / f".{kind.lower()}") for kind in ("CACHE", "DATA", "CONFIG")}
    return {**os.environ, **own}


def _listen(lines: IO[str] | None, state: _State) -> None:
    """Take in what the sender says, until it ends."""
    assert lines is not None
    for line in lines:
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:
            continue  # a library's own print
        with state.changed:
            for kind, values in (("written", state.written), ("synced", state.synced), ("error", state.errors)):
                if kind in said:
                    values.append(str(said[kind]))
            state.failed += bool(said.get("failed"))
            state.url = str(said.get("url") or state.url)
            state.changed.notify_all()
    with state.changed:
        state.ended = True
        state.changed.notify_all()
