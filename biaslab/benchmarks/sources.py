"""Pinned data files: where each comes from, its checksum and licence, and how it gets here.

A file is taken from BIASLAB_DATA_DIR if that is set, else from the cache (BIASLAB_CACHE_DIR, or
~/.cache/biaslab), else downloaded once from its pinned commit. Whatever the way, its sha256 must fit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from biaslab.errors import DataMismatch, DataUnavailable

TIMEOUT_S = 30
CHUNK = 1 << 20


@dataclass(frozen=True)
class PinnedFile:
    r"""One file of a public GitHub repository at a commit.

    local : its path below BIASLAB_DATA_DIR and below the cache.
    sha256 : of its bytes; "" where only the id git gave them is known, and that is checked then.
    git_blob : sha1 of "blob <size>\0" and the bytes, as the repository's tree has it.
    """

    local: str
    repository: str
    commit: str
    path: str
    sha256: str
    licence: str
    git_blob: str = ""

    @property
    def url(self) -> str:
        """Where the bytes are published."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


def cache_dir() -> Path:
    """The folder of downloaded files."""
    given = os.environ.get("BIASLAB_CACHE_DIR")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "biaslab"


def is_here(file: PinnedFile) -> bool:
    """Whether the file is on this machine already (its checksum is not looked at)."""
    folders = [cache_dir()]
    if data_dir := os.environ.get("BIASLAB_DATA_DIR"):
        folders.append(Path(data_dir).expanduser())
    return any((folder / file.local).is_file() for folder in folders)


def locate(file: PinnedFile) -> Path:
    """Path of the checked file, downloading it if need be.

    Raises DataMismatch if the bytes found are not the pinned ones, DataUnavailable if there are none.
    """
    data_dir = os.environ.get("BIASLAB_DATA_DIR")
    if data_dir:
        path = Path(data_dir).expanduser() / file.local
        if path.is_file():
            return checked(path, file)
    path = cache_dir() / file.local
    if not path.is_file():
        _download(file, path)
    return checked(path, file)


def checked(path: Path, file: PinnedFile) -> Path:
    """`path` itself, if its bytes are the pinned ones by sha256 or git's id; DataMismatch otherwise."""
    sha256, git_blob = hashes(path)
    kind, found, pinned = ("sha256", sha256, file.sha256) if file.sha256 else ("git blob", git_blob, file.git_blob)
    if found != pinned:
        raise DataMismatch(
            f"{path}: {kind} {found[:12]}... is not the pinned {pinned[:12]}... of {file.repository}"
            f"@{file.commit[:8]}:{file.path}; delete it to fetch it again, or fix BIASLAB_DATA_DIR"
        )
    return path


def data_sha256(files: Iterable[PinnedFile]) -> str:
    """One hash for the checked bytes of several files, in order. Raises as `locate` does."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.local}\0{hashes(locate(file))[0]}\n".encode())
    return digest.hexdigest()


def hashes(path: Path) -> tuple[str, str]:
    """The sha256 and the git blob id of a file's bytes."""
    stat = path.stat()
    return _hashes(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _hashes(path: str, size: int, mtime_ns: int) -> tuple[str, str]:
    """Size and time are there so that a changed file is hashed again."""
    sha256, git_blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK):
            sha256.update(chunk)
            git_blob.update(chunk)
    return sha256.hexdigest(), git_blob.hexdigest()


def _download(file: PinnedFile, path: Path) -> None:
    """Fetch into a temporary file beside `path`, check, rename: a present file is a whole one."""
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.is_file():  # another process was faster
                return
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            try:
                _fetch(file.url, part)
                checked(part, file)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise DataUnavailable(
            f"{file.local}: not here, and {file.url} could not be fetched ({error}); put the file at "
            f"{path} by hand, or set BIASLAB_DATA_DIR to a folder that holds {file.local}"
        ) from error


def _fetch(url: str, target: Path) -> None:
    import urllib.request

    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, target.open("wb") as out:
        while chunk := answer.read(CHUNK):
            out.write(chunk)
