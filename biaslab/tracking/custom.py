"""A tracker of the user's own, named by its class. It cannot break a sweep: what it raises is told at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from biaslab.errors import ConfigError
from biaslab.own_class import own_object
from biaslab.own_code import raised_in
from biaslab.tracking.base import Tracker, TrackerConfig


def own_tracker(config: TrackerConfig) -> Tracker:
    """The class that `config` names, made from its params. Raises ConfigError, one line, for what is wrong with it."""
    try:
        tracker: Tracker = own_object(config.target, config.params, Tracker)
        return tracker
    except ConfigError as error:
        raise ConfigError(f"tracker.{error}") from error


class Guarded(Tracker):
    """Passes each thing on to a tracker of the user's once; an exception of its own never reaches the sweep."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.errors: list[str] = []
        self.told: set[str] = set()

    def begin(self) -> None:
        """See Tracker.begin."""
        self._guarded(self.tracker.begin)

    def cell(self, folder: Path) -> None:
        """See Tracker.cell. At a sweep's end all cells are handed over again, for those that workers computed."""
        if str(folder) not in self.told:
            self.told.add(str(folder))
            self._guarded(lambda: self.tracker.cell(folder))

    def failed(self, entry: Mapping[str, Any]) -> None:
        """See Tracker.failed."""
        self._guarded(lambda: self.tracker.failed(entry))

    def finish(self, report: Path | None) -> str:
        """See Tracker.finish; what went wrong is added to its line."""
        line = str(self._guarded(lambda: self.tracker.finish(report)) or "")
        if not self.errors:
            return line
        name, n = type(self.tracker).__name__, len(self.errors)
        wrong = f"tracker {name}: {n} call{'s' * (n > 1)} failed ({self.errors[0]}); no result is lost"
        return f"{line}\n{wrong}".lstrip()

    def stop(self) -> None:
        """See Tracker.stop."""
        self._guarded(self.tracker.stop)

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # the user's own code
            place = f" in {where}" if (where := raised_in(error)) else ""
            self.errors.append(f"{type(error).__name__}: {error}{place}")
            return None
