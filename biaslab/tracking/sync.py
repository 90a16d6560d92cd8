"""Sending written runs by `wandb sync`, in order; and `python -m biaslab sync`, which does so later.

`wandb sync` takes many runs at once, in no order. Whoever made an artifact should be there before those that
use it, so runs are sent in stages: arms of untouched models, other arms, cells, analyses.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from biaslab.errors import BiaslabError, ConfigError
from biaslab.tracking.runs import read_mark, remove_superseded

TIMEOUT_S = 300.0  # of one call, sent by hand
CONTACT_S = 10.0
AT_ONCE = 20  # runs a call: one that stops is noticed soon, and what went before is known to be sent


@dataclass
class Sent:
    """What a call of `wandb sync` did. error : why a folder was not sent, or ""."""

    folders: list[Path] = field(default_factory=list)
    url: str = ""
    error: str = ""


def in_stages(folders: Sequence[Path]) -> Iterator[list[Path]]:
    """The folders in the order in which they must be sent, those of one call together."""

    def stage(folder: Path) -> int:
        return int(read_mark(folder)["stage"])

    for _, group in groupby(sorted(folders, key=lambda folder: (stage(folder), folder.name)), stage):
        same = list(group)
        yield from (same[i : i + AT_ONCE] for i in range(0, len(same), AT_ONCE))


def send(folders: Sequence[Path], timeout_s: float, *, one_by_one: bool) -> Sent:
    """Run `wandb sync`; what carries its mark of success afterwards was sent.

    one_by_one : for the arms, several of which may name one model that nobody has sent yet.
    """
    command = [sys.executable, "-m", "wandb", "sync", "-n", "1" if one_by_one else "5", *map(str, folders)]
    env = os.environ | {"WANDB_SILENT": "false"}  # its words carry the address, or the reason
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout_s, env=env
        )
    except subprocess.TimeoutExpired:
        return Sent([folder for folder in folders if is_sent(folder)], error=f"no answer in {timeout_s:g} s")
    said = done.stdout + done.stderr
    print(said, file=sys.stderr)
    sent = [folder for folder in folders if is_sent(folder)]
    return Sent(sent, _url(said), "" if len(sent) == len(folders) else _reason(said))


def send_all(folders: Sequence[Path], timeout_s: float, tell: Callable[[Sent], None]) -> bool:
    """Send folders stage by stage, the older of one run dropped; after a failure nothing more: it would fail too."""
    for folder in folders:
        remove_superseded(folder)
    for stage in in_stages([folder for folder in folders if folder.is_dir()]):
        done = send(stage, timeout_s, one_by_one=read_mark(stage[0])["stage"] < 2)
        tell(done)
        if done.error:
            return False
    return True


def is_sent(folder: Path) -> bool:
    """Whether `wandb sync` marked a run's folder as sent."""
    return any(folder.glob("*.wandb.synced"))


def sync(argv: Sequence[str]) -> int:
    """Send every run below a folder (default: outputs/wandb) that was not sent yet, in order, each once."""
    from biaslab.tracking.base import HOST, logged_in
    from biaslab.tracking.wandb import sender_environment

    root = Path(argv[0] if argv else "outputs/wandb")
    found = sorted(path.parent for path in root.glob("offline-run-*/*.wandb"))
    if len(argv) > 1 or not found:
        raise ConfigError(f"sync {' '.join(argv) or root}: no run there; name a folder of runs like outputs/wandb")
    if not logged_in(os.environ):
        raise ConfigError("sync: not logged in to W&B: run `wandb login`, or set WANDB_API_KEY")
    todo = [folder for folder in found if not is_sent(folder)]
    if not todo:
        print(f"W&B: nothing to send; {len(found)} runs below {root} were sent already")
        return 0
    if reason := unreachable(os.environ.get("WANDB_BASE_URL") or HOST):
        raise BiaslabError(f"sync: {reason}; {len(todo)} runs wait, try again later")
    os.environ.update(sender_environment(root.resolve().parent))
    results: list[Sent] = []
    with (root / "tracker.log").open("a", encoding="utf-8") as log:
        stderr, sys.stderr = sys.stderr, log
        try:
            send_all(todo, TIMEOUT_S, results.append)
        finally:
            sys.stderr = stderr
    n_sent = sum(len(result.folders) for result in results)
    n_todo = len({folder for folder in todo if folder.is_dir()})
    if n_sent < n_todo:
        raise BiaslabError(f"sync: {n_todo - n_sent} of {n_todo} runs were not sent ({results[-1].error}); try again")
    print(f"W&B: {n_sent} runs sent{f' to {results[-1].url}' if results[-1].url else ''}")
    return 0


def unreachable(address: str) -> str:
    """Why a W&B server cannot be asked now, or "": `wandb sync` itself would try for many minutes, without a word."""
    query = urllib.request.Request(f"{address.rstrip('/')}/graphql", b'{"query": "query Viewer { viewer { id } }"}')
    query.add_header("Content-Type", "application/json")
    try:
        urllib.request.urlopen(query, timeout=CONTACT_S).close()  # nosec B310: the user's own setting
    except urllib.error.HTTPError as error:  # an answer: without a key, the server may refuse this one
        return f"{address} answers with error {error.code}" if error.code >= 500 else ""
    except (OSError, ValueError) as error:
        return f"no answer from {address} ({' '.join(str(error).split())[:100]})"
    return ""


def _url(text: str) -> str:
    """The address of a run's project as `wandb sync` prints it, or ""."""
    words = [word for word in text.split() if word.startswith("http") and "/runs/" in word]
    return words[-1].split("/runs/")[0] if words else ""


def _reason(text: str) -> str:
    """The last line of `wandb sync` that tells an error, without its prefix."""
    words = ("error", "failed", "not authenticated")
    lines = [line.strip() for line in text.splitlines() if any(word in line.lower() for word in words)]
    return (
        lines[-1].removeprefix("wandb:").strip().removeprefix("ERROR").strip()[:200] if lines else "wandb sync failed"
    )
