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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from biaslab.tracking.base import Tracker, TrackerConfig

log = logging.getLogger(__name__)


@dataclass
class _State:
    """What the sender has said so far; guarded by `changed`."""

    written: dict[str, str] = field(default_factory=dict)  # the latest folder of each run, by its id
    synced: set[str] = field(default_factory=set)  # folders
    errors: list[str] = field(default_factory=list)
    done: int = 0  # messages of which every run was written
    failed: int = 0  # messages of which a run could not be written
    url: str = ""
    ended: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, said: dict[str, Any]) -> None:
        """Take in one message of the sender."""
        if "written" in said:
            self.written[str(said["id"])] = str(said["written"])
        if "synced" in said:
            self.synced.add(str(said["synced"]))
        if "error" in said:
            self.errors.append(str(said["error"]))
        self.done += bool(said.get("done"))
        self.failed += bool(said.get("failed"))
        self.url = str(said.get("url") or self.url)

    def unsent(self) -> int:
        """How many runs are not on the server as they were last written."""
        return sum(folder not in self.synced for folder in self.written.values())


class WandbTracker(Tracker):
    """Hands folders to the sender process, which starts with the first of them."""

    def __init__(
        self, config: TrackerConfig, sweep: Path, outputs: Path, *, online: bool, patient: bool = False
    ) -> None:
        self.config, self.sweep, self.outputs, self.online, self.patient = config, sweep, outputs, online, patient
        self.told: set[Path] = set()
        self._process: subprocess.Popen[str] | None = None
        self._state = _State()
        self._listener = threading.Thread()
        self._n_sent = 0

    def begin(self) -> None:
        """See Tracker.begin. Online, the sender looks at the sweep from now on."""
        if self.online and self.config.progress_s:
            try:
                self._start()
            except OSError as error:
                log.warning("the tracker cannot be started: %s", error)

    def cell(self, folder: Path) -> None:
        """See Tracker.cell."""
        if folder not in self.told:
            self.told.add(folder)
            self._tell({"cell": str(folder)})

    def failed(self, entry: Mapping[str, Any]) -> None:
        """See Tracker.failed."""
        self._tell({"failed": dict(entry)})

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

    def _tell(self, message: dict[str, Any]) -> None:
        """One line to the sender; a sender that is gone is noticed at the end."""
        self._n_sent += 1  # whether it arrives or not: what was not written is counted
        try:
            process = self._process or self._start()
            assert process.stdin is not None
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        except OSError as error:
            log.warning("the tracker cannot be told: %s", error)
            self._state.errors.append(str(error))

    def _start(self) -> subprocess.Popen[str]:
        folder = self.outputs / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        settings = asdict(self.config) | {"sweep": self.sweep.name, "outputs": str(self.outputs.resolve())}
        settings |= {"online": self.online, "sweep_folder": str(self.sweep.resolve())}
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
        """Until the sender ends, or `timeout_s` after the last run was written (patient: or was sent)."""
        state, seen = self._state, (-1, -1)
        deadline = time.monotonic() + self.config.timeout_s
        with state.changed:
            while not state.ended and (left := deadline - time.monotonic()) > 0:
                now = len(state.written), len(state.synced) if self.patient else 0
                if now != seen and (self.patient or not self._all_written()):
                    seen, deadline = now, time.monotonic() + self.config.timeout_s
                    left = self.config.timeout_s
                state.changed.wait(left)

    def _all_written(self) -> bool:
        return self._state.done + self._state.failed >= self._n_sent

    def _line(self) -> str:
        state, folder = self._state, self.outputs / "wandb"
        n, unwritten = len(state.written), self._n_sent - state.done
        if not n and not unwritten:
            return ""
        send = f"python -m biaslab sync {folder}"
        why = f" ({state.errors[0]})" if state.errors else ""
        if unwritten:
            again = f"python -m biaslab track {self.sweep}"
            short = f"{unwritten} of {self._n_sent} runs were not written{why}"
            return f"W&B: {short}; no result is lost, write them with: {again}"
        if not self.online:
            return f"W&B: {n} runs written offline; send them with: {send}"
        if unsent := state.unsent():
            why = why or " in time"
            return f"W&B: {unsent} of {n} runs were not sent{why}; no result is lost, send them with: {send}"
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
            state.take(said)
            state.changed.notify_all()
    with state.changed:
        state.ended = True
        state.changed.notify_all()
