"""`python -m biaslab track`: hand a sweep that is on disk to the tracker, whatever became of it at the time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from biaslab.errors import ConfigError
from biaslab.results.store import CellRef, Store, read_json
from biaslab.tracking.base import TrackerConfig, make_tracker


def track(argv: Sequence[str]) -> int:
    """Write and send every complete cell of a sweep and its report: `track outputs/sweeps/ID [tracker.key=value]`."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not argv or not (Path(argv[0]) / "sweep.json").is_file():
        raise ConfigError(f"track {' '.join(argv[:1])}: name a sweep folder like outputs/sweeps/<id>")
    keys = [word.removeprefix("tracker.") for word in argv[1:]]
    base = OmegaConf.structured(TrackerConfig(name="wandb"))
    try:
        config: Any = OmegaConf.to_object(OmegaConf.merge(base, OmegaConf.from_dotlist(keys)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"track: {str(error).splitlines()[0]}") from error
    sweep = Path(argv[0])
    ledger = read_json(sweep / "sweep.json")
    results = sweep / ledger["results"]
    tracker = make_tracker(config, sweep, results.parent, hub=False)
    cells = [entry | {"reused": False} for entry in ledger["cells"]]
    for folder in computed_cells(results, cells):
        tracker.cell(folder)
    line = tracker.finish(results.parent / "reports" / sweep.name)
    print(line or "tracker: none (WANDB_MODE=disabled or tracker.name=none), so nothing was written")
    return 0 if line else 2


def computed_cells(results: Path, entries: Iterable[Mapping[str, Any]]) -> Iterator[Path]:
    """Folders of the latest attempts of the complete cells that this sweep computed itself."""
    store = Store(results)
    for entry in entries:
        if entry["state"] == "complete" and not entry.get("reused"):
            folder = store.find(CellRef(entry["benchmark"], entry["model"], entry["accel"], entry["key"]))
            if folder is not None:
                yield folder
