"""What Slurm says of jobs, asked of squeue and, for jobs that the queue has forgotten, of sacct."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable

#: States from which a job does not come back by itself.
ENDED = frozenset(
    ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL", "GONE")
)


def job_states(jobs: Iterable[str]) -> dict[str, str]:
    """State of each job by its number; GONE for one that neither the queue nor the accounting knows any more."""
    names = list(jobs)
    told = _queue(names)
    if told is None or not set(names) <= set(told):
        told = (_ask(["sacct", "-X", "-n", "-P", "-j", arrays(names), "-o", "JobID,State"]) or {}) | (told or {})
    return {name: told.get(name, "GONE") for name in names}


def queued_states(jobs: Iterable[str]) -> dict[str, str] | None:
    """State of each job as the queue alone knows it, GONE for one it has forgotten; None if it cannot be asked."""
    names = list(jobs)
    told = _queue(names)
    return None if told is None else {name: told.get(name, "GONE") for name in names}


def arrays(jobs: Iterable[str]) -> str:
    """The jobs as Slurm's commands take them, each array once.

    >>> arrays(["7_0", "7_1", "8"])
    '7,8'
    """
    return ",".join(dict.fromkeys(name.partition("_")[0] for name in jobs))


def _queue(names: list[str]) -> dict[str, str] | None:
    return _ask(["squeue", "-h", "-r", "-t", "all", "-j", arrays(names), "-o", "%i|%T"])


def _ask(command: list[str]) -> dict[str, str] | None:
    """Lines "id|STATE ..." as a table; None if the command is not there or failed."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode and not re.search("Invalid job id", answer.stderr):
        return None
    pairs = (line.split("|", 1) for line in answer.stdout.splitlines() if "|" in line)
    return {name.strip(): state.split()[0].rstrip("+") for name, state in pairs if state.strip()}
