"""An end to what hangs: an exception where Python can be interrupted, the process's end where it cannot."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from biaslab.errors import CellFailed

log = logging.getLogger(__name__)

#: How long, after the exception, native code that does not return is waited for.
GRACE_S = 60.0


@contextmanager
def deadline(seconds: float | None, what: str, on_stuck: Callable[[CellFailed, str], None]) -> Iterator[None]:
    """Raise CellFailed in the block when it takes longer than `seconds`; None sets no limit.

    The exception comes by a signal, so only in a main thread, and only once native code returns. Should the
    block still run GRACE_S later, `on_stuck` is called from another thread with the error and the block's
    traceback, and the process ends with code 3: a hung kernel or driver call cannot be ended otherwise.
    """
    if seconds is None:
        yield
        return
    error = CellFailed(f"{what}: no end after {seconds:g} s (cell_timeout); raise it, or find out why it hangs")
    thread = threading.get_ident()
    watchdog = threading.Timer(seconds + GRACE_S, _give_up, (error, thread, on_stuck))
    watchdog.daemon = True
    watchdog.start()
    try:
        with _alarm(seconds, error):
            yield
    finally:
        watchdog.cancel()


@contextmanager
def _alarm(seconds: float, error: CellFailed) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _give_up(error: CellFailed, thread: int, on_stuck: Callable[[CellFailed, str], None]) -> None:
    frame = sys._current_frames().get(thread)
    trace = "".join(traceback.format_stack(frame)) if frame else ""
    try:
        on_stuck(error, f"{trace}{type(error).__name__}: {error}\n")
    finally:
        print(f"biaslab: {error}; it cannot be interrupted, so this process ends", file=sys.stderr, flush=True)
        logging.shutdown()
        os._exit(error.exit_code)
