"""Reading a sweep.json that may be somebody else's: every field is checked before it is used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from biaslab.errors import StoreError
from biaslab.results.store import read_json

WORDS = ("model", "accel", "benchmark", "key", "path", "state", "error")


def read_ledger(folder: Path) -> dict[str, Any]:
    """The sweep.json of a sweep's folder; StoreError names the field that is not what it should be."""
    path = folder / "sweep.json"
    ledger = read_json(path)
    for name in ("id", "command", "results", "status"):
        if not isinstance(ledger.get(name), str):
            raise StoreError(f"{path}: {name} is {ledger.get(name)!r}, not text; the file is broken")
    cells = ledger.get("cells")
    if not isinstance(cells, list):
        raise StoreError(f"{path}: cells is {type(cells).__name__}, not a list; the file is broken")
    if PurePosixPath(ledger["results"]).is_absolute() or "\0" in ledger["results"]:
        raise StoreError(f"{path}: results {ledger['results']!r} is not a relative path")
    process = ledger.get("process")
    if not isinstance(process, dict) or not isinstance(process.get("pid"), int) or not 0 <= process["pid"] < 2**31:
        ledger["process"] = {"host": "an unknown host", "pid": 0}
    for cell in cells:
        _check_cell(cell, path)
    _check_submitted(ledger.get("submitted"), path)
    return ledger


def submitted_jobs(ledger: Mapping[str, Any]) -> dict[str, list[str]]:
    """Paths of the cells of each job that the sweep gave to Slurm, by Slurm's number; empty for any other sweep."""
    jobs: dict[str, list[str]] = (ledger.get("submitted") or {}).get("jobs", {})
    return jobs


def benchmark_words(entry: Mapping[str, Any]) -> str:
    """Benchmark of a ledger's cell, with decoding and seed where they are not the default."""
    decoding, seed = entry.get("decoding"), entry.get("seed")
    beside = [decoding] if decoding not in ("greedy", None) else []
    beside += [f"seed={seed}"] if seed else []
    return " ".join(map(str, [entry["benchmark"], *beside]))


def entry_words(entry: Mapping[str, Any]) -> str:
    """A ledger's cell by its name."""
    return f"{entry['model']} {entry['accel']} {benchmark_words(entry)}"


def reasons(cells: Iterable[Mapping[str, Any]], root: Path | None = None) -> list[str]:
    """Why cells are not there: a line for each model, state and reason, which names the cells or counts them.

    root : the results folder; a line then ends in the record of its first failure, which holds the traceback.
    """
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        found.setdefault((cell["model"], cell["state"], cell["error"]), []).append(cell)
    lines = []
    for (model, state, error), alike in found.items():
        accels = ", ".join(dict.fromkeys(cell["accel"] for cell in alike))
        words = entry_words(alike[0]) if len(alike) == 1 else f"{model} {accels}, {len(alike)} cells"
        record = root / alike[0]["path"] / "failure.json" if root and state == "failed" else None
        kept = f"; traceback: {record}" if record and record.is_file() else ""
        lines.append(f"{words}: {state} {error}".rstrip() + kept)
    return lines


def _check_submitted(submitted: Any, path: Path) -> None:
    """The numbers become words of a command: digits, and a place in an array."""
    if submitted is None:
        return
    if not isinstance(submitted, dict) or not isinstance(submitted.get("partition"), str):
        raise StoreError(f"{path}: submitted is not what was given to a queue; the file is broken")
    jobs = submitted.get("jobs")
    if not isinstance(jobs, dict) or not all(re.fullmatch(r"[0-9]+(_[0-9]+)?", number) for number in jobs):
        raise StoreError(f"{path}: submitted.jobs is not a table of Slurm's jobs; the file is broken")
    if not all(isinstance(cells, list) and all(isinstance(cell, str) for cell in cells) for cells in jobs.values()):
        raise StoreError(f"{path}: submitted.jobs does not list the cells of each job; the file is broken")


def _check_cell(cell: Any, path: Path) -> None:
    if not isinstance(cell, dict) or not all(isinstance(cell.get(name), str) for name in WORDS):
        raise StoreError(f"{path}: a cell lacks one of {', '.join(WORDS)}; the file is broken")
    place = PurePosixPath(cell["path"])
    if cell["state"] == "refused":
        return
    names = (cell["benchmark"], cell["model"], cell["accel"], cell["key"])
    inside = not place.is_absolute() and ".." not in place.parts and not any("/" in name for name in names)
    if not inside or "\0" in cell["path"] + "".join(names) or ".." in names:
        raise StoreError(f"{path}: the path {cell['path']!r} does not stay inside the results folder")
