"""`python -m biaslab track`: hand a sweep that is on disk to the tracker, whatever became of it at the time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from biaslab.errors import ConfigError
from biaslab.results.store import CellRef, Store, read_json
from biaslab.tracking.base import Tracker, TrackerConfig, make_tracker

PATIENCE_S = 120.0  # who asks for this waits for it: without any progress this long, unlike at the end of a sweep


def track(argv: Sequence[str]) -> int:
    """Write and send every complete cell of a sweep and its report: `track outputs/sweeps/ID [tracker.key=value]`."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not argv or not (Path(argv[0]) / "sweep.json").is_file():
        raise ConfigError(f"track {' '.join(argv[:1])}: name a sweep folder like outputs/sweeps/<id>")
    if wrong := [word for word in argv[1:] if not word.startswith("tracker.")]:
        raise ConfigError(f"track {wrong[0]}: it sends to W&B; what may be said is tracker.KEY=value, such as "
                          "tracker.project=NAME")  # fmt: skip
    keys = [word.removeprefix("tracker.") for word in argv[1:]]
    base = OmegaConf.structured(TrackerConfig(name="wandb", timeout_s=PATIENCE_S))
    try:
        config: Any = OmegaConf.to_object(OmegaConf.merge(base, OmegaConf.from_dotlist(keys)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"track: {str(error).splitlines()[0]}") from error
    sweep = Path(argv[0])
    ledger = read_json(sweep / "sweep.json")
    results = Path(os.path.normpath(sweep / ledger["results"]))
    tracker = make_tracker(config, sweep, results.parent, hub=False, patient=True)
    cells = [entry | {"reused": False} for entry in ledger["cells"]]
    hand_over(tracker, results, cells)
    line = tracker.finish(results.parent / "reports" / sweep.name)
    print(line or "tracker: none (WANDB_MODE=disabled or tracker.name=none), so nothing was written")
    return 0 if line else 2


def hand_over(tracker: Tracker, results: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Tell a tracker of every cell that its sweep computed, and of those that are not there."""
    known = list(entries)
    for folder in found_cells(results, (entry for entry in known if not entry.get("reused"))):
        tracker.cell(folder)
    for entry in known:
        if entry["state"] not in ("complete", "elsewhere"):
            tracker.failed(entry)


def found_cells(results: Path, entries: Iterable[Mapping[str, Any]]) -> Iterator[Path]:
    """Folders of the latest attempts of the entries' complete cells."""
    store = Store(results)
    for entry in entries:
        if entry["state"] == "complete":
            folder = store.find(CellRef(entry["benchmark"], entry["model"], entry["accel"], entry["key"]))
            if folder is not None:
                yield folder
