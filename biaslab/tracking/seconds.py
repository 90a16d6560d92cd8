"""What writing each cell's runs cost the tracker: lines of tracking.jsonl in the sweep's folder.

A cell.json is complete before a tracker hears of it, and stays as it is; so these seconds are kept beside it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from biaslab.errors import StoreError

NAME = "tracking.jsonl"


def note_seconds(sweep: Path, cell: Path, seconds: float) -> None:
    """Add the seconds of one cell's runs, in the tracker's own process; `cell` is its folder."""
    with (sweep / NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"cell": cell.name, "seconds": seconds}) + "\n")


def tracked_seconds(sweep: Path) -> dict[str, float]:
    """Name of a cell's folder -> seconds; of a cell that was tracked again, the last. Empty if none was tracked.

    Raises StoreError for a line that is something else: the file may be somebody else's.
    """
    path = sweep / NAME
    found: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            said = json.loads(line)
            seconds = float(said["seconds"])
            found[str(said["cell"])] = seconds
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: {line[:60]!r} is not a cell and its seconds; the file is broken") from error
        if not math.isfinite(seconds):
            raise StoreError(f"{path}: {line[:60]!r} is not a cell and its seconds; the file is broken")
    return found
