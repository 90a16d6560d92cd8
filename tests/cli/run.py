"""Runs `python -m biaslab` as a user does: in a process of its own, in an empty folder, offline."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def environment(**extra: str) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if k not in ("BIASLAB_DATA_DIR", "BIASLAB_CACHE_DIR")}
    return env | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "CI": "1", "OMP_NUM_THREADS": "1"} | extra


def biaslab(folder: Path, *args: str, env: Mapping[str, str] | None = None, timeout: float = 240) -> Ended:
    return _run("biaslab", folder, args, env, timeout)


def analysis(folder: Path, *args: str) -> Ended:
    return _run("analysis", folder, args, None, 120)


def _run(package: str, folder: Path, args: Sequence[str], env: Mapping[str, str] | None, timeout: float) -> Ended:
    command = [sys.executable, "-m", package, *args]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=timeout, env=environment(**(env or {}))
    )
    return Ended(done.returncode, done.stdout, done.stderr)
