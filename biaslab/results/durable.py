"""Files that survive a power cut: content on disk before its name, the name before the next step."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def sync(descriptor: int) -> None:
    """Have the system put a file or folder on disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Create a folder and its parents, each one's name on disk."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def publish(staging: Path, target: Path) -> None:
    """Give a finished folder its name in one step. Raises OSError if a folder with files has that name."""
    sync_folder(staging)
    make_folders(target.parent)
    staging.rename(target)
    sync_folder(target.parent)


def replace(staging: Path, target: Path) -> None:
    """Put a finished file in the place of another in one step."""
    staging.replace(target)
    sync_folder(target.parent)


def discard(folder: Path) -> None:
    """Remove a folder and what is in it, as far as the system lets us."""
    shutil.rmtree(folder, ignore_errors=True)
