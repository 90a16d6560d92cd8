"""How a sweep stands, from its ledger and the results folder: on any machine, at any time, only reading.

Of a sweep whose jobs were given to Slurm the queue is asked too, where there is squeue.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biaslab.console import visible
from biaslab.errors import ConfigError
from biaslab.launchers.queue import ENDED, arrays, queued_states
from biaslab.results.claims import host_name
from biaslab.results.ledger import benchmark_words, read_ledger, submitted_jobs
from biaslab.results.store import CellRef, Store

#: A longer sweep shows only the cells that are not complete, at most so many of them.
LINES = 60
ORDER = ("failed", "refused", "running", "waiting", "missing", "complete")


@dataclass(frozen=True)
class CellState:
    """A cell of a sweep as it is now.

    benchmark : with decoding and seed where they are not the default. state : one of ORDER. words : where it
    runs, or why it is not there.
    """

    model: str
    accel: str
    benchmark: str
    state: str
    words: str = ""

    def line(self, before: CellState | None = None) -> str:
        """One line for the terminal; what is said of the cell `before` it is not said again."""
        same = before is not None and self.words and (self.model, self.state, self.words) == before._said()
        words = "(the same)" if same else self.words
        return f"  {self.state:9} {self.model:16} {self.accel:20} {self.benchmark:18} {words}".rstrip()

    def entry(self) -> dict[str, str]:
        """The cell as a ledger's line has it."""
        words = {"model": self.model, "accel": self.accel, "benchmark": self.benchmark}
        return words | {"state": self.state, "error": self.words}

    def _said(self) -> tuple[str, str, str]:
        return self.model, self.state, self.words


def sweep_folder(verb: str, argv: Sequence[str]) -> Path:
    """The sweep folder named by a verb's argument, or the newest of a named outputs folder (default: outputs).

    ConfigError if there is none.
    """
    if len(argv) > 1:
        raise ConfigError(f"{verb} {' '.join(argv)}: takes one sweep folder at most")
    folder = Path(argv[0] if argv else "outputs")
    if (folder / "sweep.json").is_file():
        return folder
    paths = [path for pattern in ("sweeps/*/sweep.json", "*/sweep.json") for path in folder.glob(pattern)]
    if not paths:
        raise ConfigError(
            f"{verb} {' '.join(argv)}".rstrip() + f": no sweep in {folder}; name an outputs folder, or one sweep's "
            "(outputs/sweeps/<id>)"
        )
    return max(paths, key=lambda path: path.stat().st_mtime).parent


def cell_states(folder: Path, ledger: dict[str, Any]) -> list[CellState]:
    """Every cell of the ledger with its state at this moment, in the ledger's order."""
    return _cell_states(folder, ledger, _Queue(ledger))


def _cell_states(folder: Path, ledger: dict[str, Any], queue: _Queue) -> list[CellState]:
    store = Store(folder / ledger["results"])
    root = str(store.root)
    return [_state(store, root, entry, queue) for entry in ledger["cells"]]


def report(folder: Path, *, everything: bool = False, width: int | None = None) -> tuple[list[str], list[CellState]]:
    """Lines that tell how a sweep stands, and the states they were made from.

    width : columns of the terminal, where a cell's line is cut; None for a pipe or a file.
    """
    ledger = read_ledger(folder)
    queue = _Queue(ledger)
    states = _cell_states(folder, ledger, queue)
    counts = Counter(state.state for state in states)
    shown = states
    if not everything and len(states) > LINES:
        rest = sorted((s for s in states if s.state != "complete"), key=lambda s: ORDER.index(s.state))
        shown = rest[:LINES]
    lines = [f"sweep {ledger['id']}: {ledger['command']}", f"  {_process(ledger)}", *queue.lines()]
    cells = [visible(cell.line(before)) for before, cell in zip([None, *shown], shown, strict=False)]
    lines += [line if width is None or len(line) <= width else line[: width - 1] + "…" for line in cells]
    left_out = len(states) - len(shown)
    if left_out:
        lines.append(f"  ... and {left_out} more, most of them complete or alike (status all=true shows every cell)")
    lines.append(f"{len(states)} cells: " + ", ".join(f"{counts[name]} {name}" for name in ORDER if counts[name]))
    return [visible(line) for line in lines], states


class _Queue:
    """What Slurm's queue says of the jobs of a sweep; silent for a sweep that was given to no queue."""

    def __init__(self, ledger: dict[str, Any]) -> None:
        jobs = submitted_jobs(ledger)
        self.partition = ledger["submitted"]["partition"] if jobs else ""
        self.states = queued_states(jobs) if jobs else {}
        self.jobs = jobs
        self.of_cell: dict[str, list[str]] = {}
        for job, paths in jobs.items():
            for path in paths:
                self.of_cell.setdefault(path, []).append(job)

    def lines(self) -> list[str]:
        """What was submitted, and how many of the jobs wait and run."""
        if not self.jobs:
            return []
        name = arrays(self.jobs)
        where = f"partition {self.partition}" if self.partition else "the default partition"
        what = (
            f"{len(self.jobs)} Slurm jobs ({name}, {where})" if len(self.jobs) > 1 else f"1 Slurm job ({name}, {where})"
        )
        if self.states is None:
            return [f"  {what}: the queue cannot be asked here (squeue), so what waits in it is shown as missing"]
        counts = Counter(_queue_words(state) for state in self.states.values() if state not in ENDED)
        them = "them" if len(self.jobs) > 1 else "it"
        if not counts:
            return [f"  {what}: no longer in the queue"]
        return [f"  {what}: {', '.join(f'{n} {words}' for words, n in counts.items())}; scancel {name} ends {them}"]

    def waits(self, path: str) -> str:
        """The job that a cell waits for, "" where no job of the queue will compute it."""
        alive = [job for job in self.of_cell.get(path, ()) if (self.states or {}).get(job, "GONE") not in ENDED]
        return f"Slurm job {alive[0]}, {_queue_words((self.states or {})[alive[0]])}" if alive else ""

    def begins(self, path: str) -> bool:
        """Whether a job that has not begun, or not begun again, will compute a cell."""
        return any((self.states or {}).get(job) == "PENDING" for job in self.of_cell.get(path, ()))

    def ended(self, path: str) -> str:
        """How the job of a cell ended, as far as the queue remembers."""
        if self.states is None or not (jobs := self.of_cell.get(path)):
            return ""
        state = self.states[jobs[-1]]
        return f"Slurm job {jobs[-1]} " + ("is no longer in the queue" if state == "GONE" else f"ended as {state}")


def _queue_words(state: str) -> str:
    return "in the queue" if state == "PENDING" else state.lower()


def _state(store: Store, root: str, entry: dict[str, Any], queue: _Queue) -> CellState:
    place = (entry["model"], entry["accel"], benchmark_words(entry))
    if entry["state"] == "refused":
        return CellState(*place, "refused", entry["error"])
    folder = f"{root}/{entry['path']}"  # plain strings: ten thousand cells in well under a second
    if os.path.isfile(f"{folder}/cell.json") and os.path.isfile(f"{folder}/records.parquet"):
        return CellState(*place, "complete")
    ref = CellRef(entry["benchmark"], entry["model"], entry["accel"], entry["key"])
    owner = store.owner(ref)
    if owner is not None and owner.alive:
        chunks = store.n_chunks(ref)
        done = f", {chunks} chunks of answers done" if chunks else ""
        words = f"on {owner.host}, process {owner.pid}, seen {owner.heartbeat_s:.0f} s ago{done}"
        return CellState(*place, "running", words)
    failure = None if queue.begins(entry["path"]) else store.failure(ref)
    if failure:
        return CellState(*place, "failed", str(failure.get("error")))
    if waits := queue.waits(entry["path"]):
        return CellState(*place, "waiting", waits)
    gone = f"its process {owner.pid} on {owner.host} is gone" if owner else queue.ended(entry["path"])
    return CellState(*place, "missing", gone)


def _process(ledger: dict[str, Any]) -> str:
    """What became of the process that was typed."""
    process = ledger.get("process") or {}
    host, pid = process.get("host", "?"), process.get("pid", 0)
    if ledger["status"] != "running":
        return f"{ledger['status']}, ended {ledger.get('finished')}"
    if host != host_name():
        return f"started {ledger.get('created')} on {host}, process {pid}"
    import psutil  # type: ignore[import-untyped]

    if psutil.pid_exists(pid):
        return f"running since {ledger.get('created')}, process {pid}"
    return f"its process {pid} is gone without a word; the same line goes on: {ledger['command']}"
