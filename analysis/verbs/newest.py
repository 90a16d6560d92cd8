"""Which results a verb reads where the line names none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analysis.errors import AnalysisError

SWEEPS = Path("outputs") / "sweeps"


def results_of(own: Mapping[str, str], *, needed: str) -> tuple[Path, list[str]]:
    """The folder that `results=` names, or the newest sweep here with a line that says so.

    needed : what to say of `results=` where it is lacking and no sweep is here.

    Raises AnalysisError where there is neither.
    """
    if own.get("results"):
        return Path(own["results"]), []
    found = sorted(SWEEPS.glob("*/sweep.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise AnalysisError(f"results= is needed{needed}: no sweep below {SWEEPS}")
    folder = found[-1].parent
    return folder, [f"{folder} is the newest sweep here; results=... names another."]
