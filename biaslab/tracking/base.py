"""What a tracker is: it is told of finished cells and of the report, and can neither slow nor break a sweep.

Results are on disk before a tracker hears of them. It works in a process of its own, and whatever it has not
done when its time is up can be done later from the same files: `python -m biaslab track outputs/sweeps/ID`.
"""

from __future__ import annotations

import netrc
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HOST = "https://api.wandb.ai"


@dataclass
class TrackerConfig:
    """Where runs are tracked.

    name : "none"; "wandb"; or "auto": wandb where you are logged in, WANDB_MODE is set or the model comes from
        the hub, else none, without a word; "custom": the class `target`, with the fields `params`.
    project, entity : of W&B; an empty entity is your default one. tags : more of them, on every run.
    mode : online, offline, or auto (WANDB_MODE, else online where you are logged in, else offline).
    timeout_s : how long the end of a sweep waits for a tracker that makes no progress, in seconds.
    table_rows : records shown in a run's table, evenly spaced; 0 for none. artifact_mib : files of a cell or a
        report that are larger than this are left out of its artifact, and said so.
    progress_s : seconds between two looks at a running sweep, for its own run; 0 for only one at the end.
    """

    name: str = "auto"
    project: str = "biaslab"
    entity: str = ""
    mode: str = "auto"
    tags: list[str] = field(default_factory=list)
    timeout_s: float = 15.0
    table_rows: int = 2000
    artifact_mib: float = 100.0
    progress_s: float = 120.0
    target: str = ""
    params: Any = None


class Tracker(ABC):
    """Hears of what is on disk already; no method raises, none but `finish` waits."""

    def check(self) -> str | None:
        """What is wrong with its fields, beginning with the field ("file=x: ..."), or None. Nothing is sent."""
        return None

    @abstractmethod
    def begin(self) -> None:
        """The sweep's cells are planned and none has begun. Returns at once."""

    @abstractmethod
    def cell(self, folder: Path) -> None:
        """A cell is complete in `folder`. Returns at once."""

    @abstractmethod
    def failed(self, entry: Mapping[str, Any]) -> None:
        """A cell, by its entry in sweep.json, is not there and will not be. Returns at once."""

    @abstractmethod
    def finish(self, report: Path | None) -> str:
        """Hand over the report's folder, wait within bounds; a line for the terminal, "" for nothing to say."""

    @abstractmethod
    def stop(self) -> None:
        """End at once: the sweep was interrupted."""


class NoTracker(Tracker):
    """Tracks nothing."""

    def begin(self) -> None:
        """See Tracker.begin."""

    def cell(self, folder: Path) -> None:
        """See Tracker.cell."""

    def failed(self, entry: Mapping[str, Any]) -> None:
        """See Tracker.failed."""

    def finish(self, report: Path | None) -> str:
        """See Tracker.finish."""
        return ""

    def stop(self) -> None:
        """See Tracker.stop."""


def make_tracker(config: TrackerConfig, sweep: Path, outputs: Path, *, hub: bool, patient: bool = False) -> Tracker:
    """The tracker of one sweep. hub : one of its models comes from the hub. patient : sending may take its time."""
    if config.name == "custom":
        from biaslab.tracking.custom import Guarded, own_tracker

        return Guarded(own_tracker(config))
    mode = resolve_mode(config, os.environ, hub=hub)
    if mode == "none":
        return NoTracker()
    from biaslab.tracking.wandb import WandbTracker

    return WandbTracker(config, sweep, outputs, online=mode == "online", patient=patient)


def resolve_mode(config: TrackerConfig, env: Mapping[str, str], *, hub: bool) -> str:
    """Return "none", "online" or "offline"; see TrackerConfig."""
    asked = env.get("WANDB_MODE", "").lower()
    known = logged_in(env)
    if config.name == "none" or asked == "disabled":
        return "none"
    if config.name == "auto" and not (known or asked or hub):
        return "none"
    if config.mode != "auto":
        return config.mode
    if asked in ("online", "offline"):
        return asked
    return "online" if known else "offline"


def logged_in(env: Mapping[str, str]) -> bool:
    """Whether W&B's own key is somewhere it looks; the key itself is not read into anything of ours."""
    if env.get("WANDB_API_KEY") or env.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(env.get("WANDB_BASE_URL") or HOST).netloc
    home = Path(env.get("HOME") or env.get("USERPROFILE") or "~").expanduser()
    named = [Path(env["NETRC"])] if env.get("NETRC") else [home / ".netrc", home / "_netrc"]
    for path in named:
        try:
            if netrc.netrc(path).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
