"""The sender: reads folders from its input, writes each as an offline W&B run, and syncs it where asked.

Run by WandbTracker as `python -m biaslab.tracking.sender SETTINGS`; says what it did as JSON lines.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biaslab.tracking import runs

_SAY = threading.Lock()


def main(settings: Mapping[str, Any]) -> None:
    """Handle every line of standard input, then wait until the last sync is over."""
    say = sys.stdout
    sys.stdout = sys.stderr  # whatever the library prints is no message

    def tell(**message: Any) -> None:
        with _SAY:
            print(json.dumps(message), file=say, flush=True)

    waiting: queue.Queue[str | None] = queue.Queue()
    syncer = threading.Thread(target=_sync_all, args=(waiting, settings, tell), daemon=True)
    syncer.start()
    for line in sys.stdin:
        message = json.loads(line)
        try:
            folder = _write(message, settings)
        except Exception as error:  # one run that cannot be written must not cost the others
            tell(failed=True, error=_first_line(error))
        else:
            tell(written=folder)
            waiting.put(folder)
    waiting.put(None)
    syncer.join()


def _write(message: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    if "cell" in message:
        return runs.write_cell(Path(message["cell"]), settings)
    return runs.write_report(Path(message["report"]), settings)


def _sync_all(waiting: queue.Queue[str | None], settings: Mapping[str, Any], tell: Any) -> None:
    """Sync what is waiting, all of it at once; after the first failure nothing more: the rest would fail too."""
    over = not settings["online"]
    ended = False
    while not ended:
        folders = [waiting.get()]
        while not waiting.empty():
            folders.append(waiting.get())
        ended = None in folders
        there = [folder for folder in folders if folder is not None]
        if there and not over:
            over = not _sync(there, settings, tell)


def _sync(folders: list[str], settings: Mapping[str, Any], tell: Any) -> bool:
    """Run `wandb sync`; whether every folder carries its mark of success afterwards."""
    command = [sys.executable, "-m", "wandb", "sync", *folders]
    env = os.environ | {"WANDB_SILENT": "false"}  # its words carry the address, or the reason
    limit = settings["timeout_s"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=limit, env=env)
    except subprocess.TimeoutExpired:
        tell(error=f"no answer in {limit:g} s")
        return False
    print(done.stdout, done.stderr, file=sys.stderr)
    synced = [folder for folder in folders if any(Path(folder).glob("*.wandb.synced"))]
    for folder in synced:
        tell(synced=folder, url=_url(done.stdout + done.stderr))
    if len(synced) == len(folders):
        return True
    tell(error=_reason(done.stdout + done.stderr))
    return False


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


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
