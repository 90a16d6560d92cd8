"""cell_timeout: Python is interrupted; native code that cannot be is put on record and ends with the process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from biaslab.deadline import deadline
from biaslab.errors import CellFailed
from tests.cli.run import environment


def never(error: CellFailed, trace: str) -> None:
    raise AssertionError("it could be interrupted")


def test_what_hangs_is_interrupted() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with (
        pytest.raises(CellFailed, match=r"tiny x: no end after 0\.2 s \(cell_timeout\)"),
        deadline(0.2, "tiny x", never),
    ):
        time.sleep(20)
    assert signal.getsignal(signal.SIGALRM) == before


def test_what_ends_in_time_is_left_alone_and_no_limit_is_no_limit() -> None:
    for seconds in (0.3, None):
        with deadline(seconds, "x", never):
            pass
    time.sleep(0.4)  # no alarm comes later
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


STUCK = """
import ctypes, sys
from biaslab import deadline
deadline.GRACE_S = 0.3
def stuck(error, trace):
    print("RECORDED", error, "nanosleep_for_ever" in trace, flush=True)
def nanosleep_for_ever():
    libc = ctypes.CDLL(None)  # releases Python's lock and, unlike time.sleep, runs no signal handler
    while True:
        libc.usleep(1_000_000 * 30)
import signal
with deadline.deadline(0.3, "cell", stuck):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    nanosleep_for_ever()
"""


def test_native_code_that_never_returns_is_recorded_and_the_process_ends(tmp_path: Path) -> None:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, env=environment(), cwd=tmp_path, timeout=60
    )
    assert done.returncode == 3, done
    assert done.stdout == (
        "RECORDED cell: no end after 0.3 s (cell_timeout); raise it, or find out why it hangs True\n"
    )
    assert "cannot be interrupted" in done.stderr
    assert time.monotonic() - start < 20
