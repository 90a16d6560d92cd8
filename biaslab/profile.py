"""Where the time of a sweep's cells went, from the timings that their cell.json files hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from biaslab.console import visible
from biaslab.errors import StoreError
from biaslab.results.ledger import read_ledger
from biaslab.results.store import CellRef, Store, read_json
from biaslab.status import sweep_folder
from biaslab.tracking.seconds import tracked_seconds

#: What an arm costs once, and its cells share: several cell.json repeat one and the same measurement.
OF_THE_ARM = ("load", "accelerate", "measure")
#: tokenize and forward are the two parts of engine_s; store is the records' file, written and synced; track is
#: of the tracker's own process, which runs beside the cells to come.
PARTS = (*OF_THE_ARM, "items", "tokenize", "forward", "score", "store", "track")
#: What of forward was in batches, by what was done and the tokens of the longest row, to the next power of two.
BUCKET = re.compile(r"(scored|written)_(\d+)_s")
WORDS = ("model", "accel", "benchmark")


@dataclass(frozen=True)
class Row:
    """Seconds of one cell by part; a part that an earlier row counts already, or nobody measured, is absent.

    buckets : (scored or written, longest row's tokens) -> seconds of such batches, a part of forward.
    """

    words: tuple[str, ...]
    seconds: Mapping[str, float]
    buckets: Mapping[tuple[str, int], float] = field(default_factory=dict)


def profile(argv: Sequence[str]) -> int:
    """Print where the time of the cells went that a sweep computed; 3 if none of its cells is complete."""
    folder = sweep_folder("profile", argv)
    ledger = read_ledger(folder)
    own, n_before = complete_cells(folder, ledger)
    found, n = rows(own), len(ledger["cells"])
    lines = [f"sweep {ledger['id']}: {ledger['command']}"]
    if found:
        lines += [*table(found), *by_bucket(found)]
    elif n_before:
        lines.append("nothing was computed in this sweep, so there is nothing to count")
    if n_before:
        lines.append(
            f"{n_before} of {n} cells were complete already: the sweep that computed them counts their seconds"
        )
    if left := n - len(found) - n_before:
        lines.append(f"{left} of {n} cells are not complete and not counted")
    if (wall := _wall(ledger)) is not None:
        lines.append(f"from the sweep's start to its end: {wall:.0f} s, with planning, active checks, report")
    print("\n".join(visible(line) for line in lines))
    return 0 if found or n_before else 3


def complete_cells(
    folder: Path, ledger: Mapping[str, Any]
) -> tuple[list[tuple[tuple[str, ...], dict[str, float]]], int]:
    """(model, accel, benchmark) and timings in seconds of every cell that this sweep computed, in the ledger's order.

    And how many complete cells it did not compute.
    """
    store, found, tracked = Store(folder / ledger["results"]), [], tracked_seconds(folder)
    n_before = 0
    for entry in ledger["cells"]:
        if entry["state"] == "refused":
            continue
        place = store.find(CellRef(entry["benchmark"], entry["model"], entry["accel"], entry["key"]))
        if place is not None and _is_older(entry, place, ledger):
            n_before += 1
        elif place is not None:
            timings = _timings(place / "cell.json")
            if (seconds := tracked.get(place.name)) is not None:
                timings["track_s"] = seconds
            found.append((tuple(entry[w] for w in WORDS), timings))
    return found, n_before


def _is_older(entry: Mapping[str, Any], place: Path, ledger: Mapping[str, Any]) -> bool:
    """Whether a complete cell is not this sweep's. The ledger says so, but of a sweep that runs only its end will."""
    if ledger.get("status") != "running":
        return bool(entry.get("reused"))
    try:
        ended, began = (
            datetime.fromisoformat(text) for text in (read_json(place / "cell.json")["finished"], ledger["created"])
        )
    except (KeyError, TypeError, ValueError):
        return False
    return ended < began


def _timings(path: Path) -> dict[str, float]:
    """The file's timings; it may be somebody else's, so StoreError unless they are numbers with an engine_s."""
    timings = read_json(path).get("timings")
    if (
        not isinstance(timings, dict)
        or "engine_s" not in timings
        or not all(isinstance(value, int | float) for value in timings.values())
    ):
        raise StoreError(f"{path}: timings is {timings!r}, not seconds by name with engine_s; the file is broken")
    return dict(timings)


def rows(cells: Iterable[tuple[tuple[str, ...], Mapping[str, float]]]) -> list[Row]:
    """One row a cell. An arm's seconds are in the first row of those that share the measurement."""
    counted: set[tuple[str, str, float]] = set()
    found = []
    for words, timings in cells:
        seconds = {name: timings[f"{name}_s"] for name in PARTS if f"{name}_s" in timings}
        seconds["forward"] = timings["engine_s"] - timings.get("tokenize_s", 0.0)
        for name in OF_THE_ARM:
            measurement = (name, words[0], seconds.get(name, 0.0))  # two that agree to the last bit are one
            if measurement in counted or not measurement[2]:
                seconds.pop(name, None)
            counted.add(measurement)
        found.append(Row(words, seconds, buckets(timings)))
    return found


def buckets(timings: Mapping[str, float]) -> dict[tuple[str, int], float]:
    """Seconds of a cell's batches by kind and length."""
    matches = {name: BUCKET.fullmatch(name) for name in timings}
    return {(m[1], int(m[2])): timings[name] for name, m in matches.items() if m}


def by_bucket(rows: Sequence[Row]) -> list[str]:
    """The forward of each cell by length of its batches, and the rest of it (the trial of ways, packing weights)."""
    names = sorted({name for row in rows for name in row.buckets})
    if not names:
        return []
    head = [f"{kind} to {tokens}" for kind, tokens in names]
    lines = [["forward by the longest row of a batch, in tokens", *(f"{text} s" for text in (*head, "between"))]]
    for row in (*rows, _sum(rows)):
        between = row.seconds.get("forward", 0.0) - sum(row.buckets.values())
        values = [f"{row.buckets[name]:.3f}" if name in row.buckets else "-" for name in names]
        lines.append([" ".join(row.words), *values, f"{between:.3f}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        f"  {line[0].ljust(widths[0])}" + "".join(f"{v:>{w + 2}}" for v, w in zip(line[1:], widths[1:], strict=True))
        for line in lines
    ]


def _sum(rows: Sequence[Row]) -> Row:
    """All rows that were measured by bucket, as one."""
    told = [row for row in rows if row.buckets]
    names = {name for row in told for name in row.buckets}
    whole = {name: sum(row.buckets.get(name, 0.0) for row in told) for name in names}
    return Row(("total",), {"forward": sum(row.seconds["forward"] for row in told)}, whole)


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as aligned text, with a total and each part's share of it."""
    total = {name: sum(row.seconds.get(name, 0.0) for row in rows) for name in PARTS}
    whole = sum(total.values())
    widths = [max([len(name), *(len(row.words[i]) for row in rows)]) for i, name in enumerate(WORDS)]

    head = [*(f"{name} s" for name in PARTS), "all s"]
    columns = [max(11, len(name) + 2) for name in head]

    def line(words: Sequence[str], values: Iterable[str]) -> str:
        left = " ".join(word.ljust(width) for word, width in zip(words, widths, strict=True))
        return f"  {left}" + "".join(f"{value:>{width}}" for value, width in zip(values, columns, strict=True))

    def cells(seconds: Mapping[str, float]) -> list[str]:
        values = [f"{seconds[name]:.3f}" if name in seconds else "-" for name in PARTS]
        return [*values, f"{sum(seconds.values()):.3f}"]

    shares = [f"{100 * value / whole:.1f} %" if whole else "-" for value in (*total.values(), whole)]
    return [
        line(WORDS, head),
        *(line(row.words, cells(row.seconds)) for row in rows),
        line(("total", "", ""), cells(total)),
        line(("share", "", ""), shares),
    ]


def _wall(ledger: Mapping[str, Any]) -> float | None:
    """Seconds between the sweep's start and end; None while it runs."""
    try:
        start, end = (datetime.fromisoformat(ledger[name]) for name in ("created", "finished"))
    except (KeyError, TypeError, ValueError):
        return None
    return (end - start).total_seconds()
