"""Fetching one URL into a partial file: resumed where it stopped, with a progress bar on a terminal."""

from __future__ import annotations

import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

TIMEOUT_S = 30
CHUNK = 1 << 18
ATTEMPTS = 3


def fetch(url: str, part: Path, name: str) -> None:
    """Make `part` the whole of what `url` gives, continuing what is there already.

    A connection that breaks is taken up again, up to ATTEMPTS times without progress.
    Raises OSError (HTTPError among them) when it cannot; what came so far stays in `part`.
    """
    left = ATTEMPTS
    while True:
        before = _size(part)
        try:
            _continue(url, part, name)
        except HTTPError:
            raise
        except (OSError, HTTPException) as error:
            left = ATTEMPTS if _size(part) > before else left - 1
            if left == 0:
                raise error if isinstance(error, OSError) else OSError(f"{type(error).__name__}: {error}") from error
        else:
            return


def _continue(url: str, part: Path, name: str) -> None:
    """One connection's worth; OSError if it ends before the length it announced."""
    start = _size(part)
    headers = {"User-Agent": "biaslab", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        # Every URL is built from a pinned https source.
        answer = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)  # nosec B310
    except HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        part.unlink()  # the partial file is no beginning of what is there now
        raise ConnectionError(f"{name}: the server has fewer bytes than were here already") from error
    with answer:
        resumed = answer.status == 206
        length = answer.headers.get("Content-Length")
        expected = None if length is None else int(length) + (start if resumed else 0)
        with part.open("ab" if resumed else "wb") as out, _Bar(name, expected, start if resumed else 0) as advance:
            while chunk := answer.read(CHUNK):
                out.write(chunk)
                advance(len(chunk))
    if expected is not None and _size(part) != expected:
        raise ConnectionError(f"{name}: only {_size(part)} of {expected} bytes came")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


class _Bar:
    """Shows progress on a terminal, and nothing elsewhere; gives a function that takes bytes."""

    def __init__(self, name: str, total: int | None, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.progress = Progress(
            *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        )
        self.task = self.progress.add_task(name, total=total, completed=done)

    def __enter__(self) -> Any:
        self.progress.start()
        return lambda n: self.progress.advance(self.task, n)

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()
