"""Where a measurement goes: printed, and collected for docs/performance.md."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any

from tests.perf.side_by_side import race
from tests.perf.side_by_side.race import Side

#: Interleaved rounds of a race; the middle one is quoted.
ROUNDS = int(os.environ.get("BIASLAB_PERF_ROUNDS", "3"))
#: Where `make perf` collects its rows for docs/performance.md.
ROWS = os.environ.get("BIASLAB_PERF_ROWS")


def compared(
    work: str, model: str, ours: Side, theirs: Side, what: str, *, closest: float = 1e-4, same: float = 0.99
) -> dict[str, Any]:
    """A row of the page; AssertionError where the two did not answer the same.

    what : "cpu" or "wall". closest : largest |difference| of log p of a whole text. same : share of generated
    texts that must be equal; a tie of two tokens may fall either way.
    """
    values = list(zip(ours.values, theirs.values, strict=True))
    if isinstance(values[0][0], str):
        difference: float = sum(a != b for a, b in values)
        assert difference <= (1 - same) * len(values)
    else:
        difference = max(abs(a - b) for a, b in values)
        assert difference < closest
    mine, other = getattr(ours, what), getattr(theirs, what)
    return {
        "work": work, "parameters": model, "ours_s": statistics.median(mine), "theirs_s": statistics.median(other),
        "times": race.ratio(ours, theirs, what), "way": ours.way, "ours_mib": ours.peak_mib,
        "theirs_mib": theirs.peak_mib, "difference": difference,
    }  # fmt: skip


def record(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row, and add it as a line to the file that BIASLAB_PERF_ROWS names."""
    row = {**row, "rounds": ROUNDS}
    print("\n" + json.dumps(row))
    if ROWS:
        with Path(ROWS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return row
