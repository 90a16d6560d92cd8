"""Pinned data files: where each comes from, its checksum and licence, and how it gets here.

A file is taken from BIASLAB_DATA_DIR if that is set, else from the cache (BIASLAB_CACHE_DIR, or
~/.cache/biaslab), else downloaded once from its pinned commit. Whatever the way, its bytes must fit: the
sha256, or the git blob id of the commit; where neither could be known beforehand, the file's own check of
schema and counts, and from the first time on the sha256 it had then.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from biaslab.benchmarks.download import fetch
from biaslab.errors import DataMismatch, DataUnavailable

CHUNK = 1 << 20


@dataclass(frozen=True)
class PinnedFile:
    """One file of a public repository at a commit.

    local : its path below BIASLAB_DATA_DIR and below the cache.
    sha256, git_blob : at least one where it is known beforehand; "" otherwise.
    host : "github", "hub" (a data set of the Hugging Face hub), or "" for a file that is published nowhere
        and can only come from BIASLAB_DATA_DIR.
    check : raises DataMismatch if a file without a checksum is not what it should be.
    """

    local: str
    repository: str
    commit: str
    path: str
    sha256: str
    licence: str
    git_blob: str = ""
    host: str = "github"
    check: Callable[[Path], None] | None = None

    @property
    def url(self) -> str:
        """Where the bytes are published ("" for nowhere)."""
        if self.host == "hub":
            hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
            return f"{hub.rstrip('/')}/datasets/{self.repository}/resolve/{self.commit}/{self.path}"
        if self.host == "github":
            return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"
        return ""


def cache_dir() -> Path:
    """The folder of downloaded files."""
    given = os.environ.get("BIASLAB_CACHE_DIR")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "biaslab"


def where(file: PinnedFile) -> Path:
    """Where the file lies, or where a download would put it: BIASLAB_DATA_DIR first, then the cache."""
    if data_dir := os.environ.get("BIASLAB_DATA_DIR"):
        path = Path(data_dir).expanduser() / file.local
        if path.is_file():
            return path
    return cache_dir() / file.local


def is_here(file: PinnedFile) -> bool:
    """Whether the file is on this machine already (its checksum is not looked at)."""
    return where(file).is_file()


def locate(file: PinnedFile) -> Path:
    """Path of the checked file, downloading it if need be.

    Raises DataMismatch if the bytes found are not the pinned ones, DataUnavailable if there are none.
    """
    path = where(file)
    if not path.is_file():
        _download(file, path)
    return checked(path, file)


def data_sha256(files: Iterable[PinnedFile]) -> str:
    """One hash for the checked bytes of several files, in order. Raises as `locate` does."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.local}\0{hashes(locate(file))[0]}\n".encode())
    return digest.hexdigest()


def checked(path: Path, file: PinnedFile) -> Path:
    """`path` itself, if its bytes are the pinned ones; DataMismatch otherwise."""
    sha256, blob = hashes(path)
    place = f"{file.repository}@{file.commit[:8]}:{file.path}" if file.host else "the file that was recorded"
    if file.sha256:
        _compare(path, "sha256", sha256, file.sha256, f"the pinned {{}} of {place}")
    elif file.git_blob:
        _compare(path, "git blob", blob, file.git_blob, f"the pinned {{}} of {place}")
    else:
        _first_seen(path, file, sha256)
    return path


def _compare(path: Path, what: str, found: str, expected: str, owner: str) -> None:
    if found != expected:
        owner = owner.format(f"{expected[:12]}...")
        raise DataMismatch(
            f"{path}: {what} {found[:12]}... is not {owner}; delete it to fetch it again, or fix BIASLAB_DATA_DIR"
        )


def _first_seen(path: Path, file: PinnedFile, sha256: str) -> None:
    """Hold a file to the checksum it had when its schema and counts were first found right."""
    note = cache_dir() / "checksums" / f"{file.local}.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = {}
    except (OSError, ValueError) as error:
        raise DataMismatch(f"{note}: cannot be read ({error}); delete it to check {path} anew") from error
    if known.get("commit") == file.commit:
        _compare(path, "sha256", sha256, str(known.get("sha256")), f"the {{}} that was seen first ({note})")
        return
    if file.check is not None:
        file.check(path)
    content = {"sha256": sha256, "repository": file.repository, "commit": file.commit, "path": file.path}
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        staging = note.with_name(f".{note.name}.{os.getpid()}")
        staging.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        staging.replace(note)
    except OSError as error:
        raise DataUnavailable(f"{note}: the checksum cannot be kept ({error}); set BIASLAB_CACHE_DIR") from error


def hashes(path: Path) -> tuple[str, str]:
    """The sha256 and the git blob id (sha1 of its size and bytes) of a file."""
    stat = path.stat()
    return _hashes(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _hashes(path: str, size: int, mtime_ns: int) -> tuple[str, str]:
    """Size and time are there so that a changed file is hashed again."""
    sha256 = hashlib.sha256()
    blob = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK):
            sha256.update(chunk)
            blob.update(chunk)
    return sha256.hexdigest(), blob.hexdigest()


def _download(file: PinnedFile, path: Path) -> None:
    """Fetch into a partial file beside `path`, check, rename: a present file is a whole one.

    The partial file stays after an interruption and is resumed; after a wrong checksum it goes.
    """
    from filelock import FileLock

    by_hand = f"put the file at {path} by hand, or set BIASLAB_DATA_DIR to a folder that holds {file.local}"
    if not file.url:
        raise DataUnavailable(f"{file.local}: not here, and published nowhere; {by_hand}")
    if file.host == "hub" and os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise DataUnavailable(f"{file.local}: not here, and HF_HUB_OFFLINE forbids to fetch {file.url}; {by_hand}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.is_file():  # another process was faster
                return
            part = path.with_name(f".{path.name}.{file.commit[:12]}.part")
            resumed = part.is_file()
            fetch(file.url, part, path.name)
            try:
                checked(part, file)
            except DataMismatch:
                part.unlink()
                if not resumed:
                    raise
                fetch(file.url, part, path.name)  # the wrong bytes may be those of the earlier attempt
                checked(part, file)
            part.replace(path)
    except OSError as error:
        raise DataUnavailable(
            f"{file.local}: not here, and {file.url} could not be fetched ({error}); {by_hand}"
        ) from error
