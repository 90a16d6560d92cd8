"""Where a measurement goes: printed, and collected for docs/performance.md."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

#: Interleaved rounds of a race; the middle one is quoted.
ROUNDS = int(os.environ.get("BIASLAB_PERF_ROUNDS", "3"))
#: Where `make perf` collects its rows for docs/performance.md.
ROWS = os.environ.get("BIASLAB_PERF_ROWS")


def record(row: dict[str, Any]) -> None:
    """Print a row, and add it as a line to the file that BIASLAB_PERF_ROWS names."""
    row = {**row, "rounds": ROUNDS}
    print("\n" + json.dumps(row))
    if ROWS:
        with Path(ROWS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
