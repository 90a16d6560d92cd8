"""Models that are made on this machine once and kept in the user's cache: a folder is complete or absent."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from biaslab.errors import CellFailed


def user_cache() -> Path:
    """Where they are kept: BIASLAB_CACHE_DIR, or ~/.cache/biaslab."""
    given = os.environ.get("BIASLAB_CACHE_DIR")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "biaslab"


def keep(folder: Path, marker: str, write: Callable[[Path], object]) -> None:
    """Make `folder`, unless it is there: by one process, though several ask at once, and whole or not at all.

    marker : name of a file that `write` writes; a folder without it has lost something, and is made again.
    write : fills the folder it is given, a new one beside `folder`; what it raises leaves nothing behind.
    Raises CellFailed if the cache cannot be written.
    """
    from filelock import FileLock

    if (folder / marker).is_file():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{folder.name}.lock"):
            if (folder / marker).is_file():
                return
            made = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
            try:
                write(made)
                shutil.rmtree(folder, ignore_errors=True)  # one that lost a file
                made.rename(folder)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        what = error.strerror or error
        raise CellFailed(f"{folder.parent}: {what}; set BIASLAB_CACHE_DIR to where there is room") from error
