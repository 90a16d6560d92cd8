"""How a sweep stands, from its ledger and the results folder alone: on any machine, at any time, only reading."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biaslab.console import visible
from biaslab.errors import ConfigError
from biaslab.results.claims import host_name
from biaslab.results.ledger import benchmark_words, read_ledger
from biaslab.results.store import CellRef, Store

#: A longer sweep shows only the cells that are not complete, at most so many of them.
LINES = 60
ORDER = ("failed", "refused", "running", "missing", "complete")


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

    def line(self) -> str:
        """One line for the terminal."""
        return f"  {self.state:9} {self.model:16} {self.accel:20} {self.benchmark:18} {self.words}".rstrip()


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
    store = Store(folder / ledger["results"])
    root = str(store.root)
    return [_state(store, root, entry) for entry in ledger["cells"]]


def report(folder: Path, *, everything: bool = False) -> tuple[list[str], list[CellState]]:
    """Lines that tell how a sweep stands, and the states they were made from."""
    ledger = read_ledger(folder)
    states = cell_states(folder, ledger)
    counts = Counter(state.state for state in states)
    shown = states
    if not everything and len(states) > LINES:
        rest = sorted((s for s in states if s.state != "complete"), key=lambda s: ORDER.index(s.state))
        shown = rest[:LINES]
    lines = [f"sweep {ledger['id']}: {ledger['command']}", f"  {_process(ledger)}"]
    lines += [state.line() for state in shown]
    left_out = len(states) - len(shown)
    if left_out:
        lines.append(f"  ... and {left_out} more, most of them complete or alike (status all=true shows every cell)")
    lines.append(f"{len(states)} cells: " + ", ".join(f"{counts[name]} {name}" for name in ORDER if counts[name]))
    return [visible(line) for line in lines], states


def _state(store: Store, root: str, entry: dict[str, Any]) -> CellState:
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
    failure = store.failure(ref)
    if failure:
        return CellState(*place, "failed", str(failure.get("error")))
    gone = f"its process {owner.pid} on {owner.host} is gone" if owner else ""
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
