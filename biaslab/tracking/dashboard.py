"""`python -m biaslab dashboard`: the project's W&B workspace and report, made or brought up to date.

A process of its own talks to the server, so that one that does not answer costs seconds and one line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biaslab.errors import BiaslabError, ConfigError
from biaslab.libraries import missing
from biaslab.results.ledger import read_ledger
from biaslab.tracking.base import HOST, TrackerConfig, logged_in

CONTACT_S = 15.0  # until the server has answered at all
WHOLE_S = 120.0  # until everything is saved


def dashboard(argv: Sequence[str]) -> int:
    """Make or update workspace and report: `dashboard [outputs/sweeps/ID] [tracker.project=...] [print=true]`."""
    from biaslab.status import sweep_folder

    words = [word for word in argv if "=" not in word]
    config, print_only = _options([word for word in argv if "=" in word])
    folder = sweep_folder("dashboard", words)
    outputs = Path(os.path.normpath(folder / read_ledger(folder)["results"])).parent
    report = outputs / "reports" / folder.name
    if not (report / "results.json").is_file():
        raise ConfigError(
            f"dashboard: sweep {folder.name} has no report; make it with: python -m analysis results={folder}"
        )
    if reason := missing(["wandb_workspaces"], "dashboard"):
        raise ConfigError(f"dashboard: {reason}")
    if print_only:
        print("\n".join(_outline(config, report)))
        return 0
    if not logged_in(os.environ):
        raise ConfigError("dashboard: not logged in to W&B: run `wandb login`, or set WANDB_API_KEY")
    done = _publish({"project": config.project, "entity": config.entity, "report": str(report)}, outputs)
    for kind in ("workspace", "report"):
        print(f"W&B {kind} {'made' if done[kind]['new'] else 'updated'}: {done[kind]['url']}")
    return 0


def load_board(report: Path, entity: str, project: str) -> Any:
    """The board of a report's folder."""
    from biaslab.tracking.board import Board

    results = json.loads((report / "results.json").read_text(encoding="utf-8"))
    figures = sorted(path.stem for path in (report / "figures").glob("*.png"))
    return Board(entity, project, report.name, results, figures)


def _options(words: Sequence[str]) -> tuple[TrackerConfig, bool]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    print_only = "print=true" in words
    keys = [word.removeprefix("tracker.") for word in words if word not in ("print=true", "print=false")]
    try:
        config = OmegaConf.merge(OmegaConf.structured(TrackerConfig()), OmegaConf.from_dotlist(keys))
        made: Any = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ConfigError(f"dashboard: {str(error).splitlines()[0]}") from error
    return made, print_only


def _outline(config: TrackerConfig, report: Path) -> list[str]:
    from biaslab.tracking.board import outline
    from biaslab.tracking.wandb import sender_environment

    os.environ.update(sender_environment(report.parent.parent))
    return list(outline(load_board(report, config.entity or "<your entity>", config.project)))


def _publish(settings: Mapping[str, Any], outputs: Path) -> dict[str, Any]:
    """Run the publisher within bounds and return what it made; BiaslabError says in a line why it did not."""
    from biaslab.tracking.wandb import sender_environment

    (outputs / "wandb").mkdir(parents=True, exist_ok=True)
    env = sender_environment(outputs)
    env.pop("WANDB_MODE", None)  # offline or online is a matter of runs
    with (outputs / "wandb" / "tracker.log").open("a", encoding="utf-8") as log_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "biaslab.tracking.publisher", json.dumps(settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            env=env,
            start_new_session=True,
        )
    said: list[dict[str, Any]] = []
    heard = threading.Event()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(json.loads(line))
            heard.set()
        heard.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        answered = heard.wait(CONTACT_S)
        if answered:
            listener.join(WHOLE_S)
    finally:
        _end(process)
    for message in said:
        if "error" in message:
            kind = ConfigError if message.get("config") else BiaslabError
            raise kind(f"dashboard: {message['error']}")
        if "made" in message:
            return dict(message["made"])
    where = os.environ.get("WANDB_BASE_URL") or HOST
    if not answered:
        raise BiaslabError(
            f"dashboard: no answer from {where} in {CONTACT_S:g} s; nothing was changed, try again later"
        )
    if process.returncode not in (0, -signal.SIGKILL):
        raise BiaslabError(f"dashboard: it ended without a word; see {outputs / 'wandb' / 'tracker.log'}")
    raise BiaslabError(f"dashboard: {where} did not finish in {WHOLE_S:g} s; the same line again goes on from there")


def _end(process: subprocess.Popen[str]) -> None:
    """The whole group: wandb starts a service of its own."""
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
