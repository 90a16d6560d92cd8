"""The files of a hub model: which ones transformers reads, and fetching them whole into the hub's own cache.

Only JSON, the tokenizer, and the safetensors weights that the index names are fetched. What was fetched is
loaded from its folder, so that nothing is asked of the hub while loading.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biaslab.errors import ConfigError, DataMismatch, DataUnavailable
from biaslab.models.base import ModelInfo
from biaslab.models.folders import PICKLED, TOKENIZER_FILES, check_files
from biaslab.models.hub_errors import hub_errors, offline, offline_forced

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
#: Everything beside the weights that transformers may read. Code only where it was trusted by name.
SMALL = re.compile(r"[^/]+\.(json|jinja|txt|model|tiktoken)|chat_template[^/]*|additional_chat_templates/[^/]+\.jinja")
CODE = re.compile(r"[^/]+\.py")
CONNECTIONS = 4
LEFT_S = 3600.0

#: begin(total bytes, files) -> called with the bytes that came since the last call.
Progress = Callable[[int, int], Callable[[int], None]]


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. sha256 : of its content, "" where the hub tells none (small files)."""

    name: str
    size: int
    sha256: str


def fetch(info: ModelInfo, *, trust_remote_code: bool = False, progress: Progress | None = None) -> Path:
    """The folder of a described model with all its files; those not on this machine are downloaded.

    A connection that breaks is taken up where it broke; a later process keeps every file that came whole and
    begins the broken one again (huggingface_hub keeps no part of it; what a killed process left of one is removed).
    A weight file that came is held to the hub's sha256 once.
    Raises DataUnavailable as `describe_hub`, or for a full disk; DataMismatch for a file that is not the hub's.
    """
    repo_id, _, commit = info.identity.rpartition("@")
    with hub_errors(repo_id, commit):
        folder = _snapshot(repo_id, commit)
        if (folder, trust_remote_code) not in _FETCHED:
            if not offline_forced():
                _download(repo_id, commit, trust_remote_code, progress)
            _check_whole(repo_id, folder)
            _FETCHED.add((folder, trust_remote_code))
    return folder


_FETCHED: set[tuple[Path, bool]] = set()  # folders this process has checked


def named_weights(folder: Path) -> list[Path]:
    """The weight files a local folder's index names, or its single one; empty where neither is there."""
    if (folder / INDEX).is_file():
        return [folder / name for name in _index_names((folder / INDEX).read_text(encoding="utf-8"), str(folder))]
    return [folder / SINGLE] if (folder / SINGLE).is_file() else []


def _index_names(text: str, asked: str) -> list[str]:
    try:
        names = sorted(set(json.loads(text)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{asked}: {INDEX} cannot be read ({error})") from error
    if not names or not all(isinstance(name, str) and re.fullmatch(r"[\w.-]+\.safetensors", name) for name in names):
        raise ConfigError(f"{asked}: {INDEX} names files that are no safetensors of this folder")
    return names


def listing_of(repo_id: str, commit: str) -> dict[str, RemoteFile]:
    """The repository's files at a commit, by name."""
    from huggingface_hub import HfApi

    found = {}
    for file in HfApi().model_info(repo_id, revision=commit, files_metadata=True).siblings or []:
        sha256 = file.lfs.sha256 if file.lfs is not None else ""
        found[file.rfilename] = RemoteFile(file.rfilename, int(file.size or 0), sha256)
    return found


def weight_files(repo_id: str, commit: str, listing: Mapping[str, RemoteFile]) -> list[str]:
    """Names of the weight files transformers would load: not every *.safetensors of a repository is one."""
    from huggingface_hub import hf_hub_download

    asked = f"model.id={repo_id}"
    if INDEX in listing:
        path = hf_hub_download(repo_id, INDEX, revision=commit, tqdm_class=Silent)
        names = _index_names(Path(path).read_text(encoding="utf-8"), asked)
    else:
        names = [SINGLE]
    missing = [name for name in names if name not in listing]
    if not missing:
        return names
    endings = tuple(pattern[1:] for pattern in PICKLED)
    pickled = next((name for name in listing if name.endswith(endings)), "")
    if INDEX not in listing and pickled:
        raise ConfigError(
            f"{asked}: only pickled weights there ({pickled}), which can run code when they are read; choose a "
            "revision with safetensors, or convert them where you trust them and use model=local model.path=DIR"
        )
    raise ConfigError(f"{asked}: {missing[0]} is not among its files; choose a model with safetensors weights")


def _download(repo_id: str, commit: str, trust: bool, progress: Progress | None) -> None:
    """Everything missing of the model's files, the weights last: where they are, the rest is as well."""
    from concurrent.futures import ThreadPoolExecutor

    import httpx
    from huggingface_hub import try_to_load_from_cache

    try:
        listing = listing_of(repo_id, commit)
    except (httpx.ConnectError, httpx.TimeoutException):
        return  # no network: what is here must do, and the caller looks whether it is whole
    weights = weight_files(repo_id, commit, listing)
    small = [n for n in listing if n not in weights and (SMALL.fullmatch(n) or (trust and CODE.fullmatch(n)))]
    wanted = [
        listing[name]
        for name in (*small, *weights)
        if not isinstance(try_to_load_from_cache(repo_id, name, revision=commit), str)
    ]
    if not wanted:
        return
    _drop_left_over(_snapshot(repo_id, commit).parents[1])
    _check_disk(repo_id, sum(file.size for file in wanted))
    advance = progress(sum(f.size for f in wanted), len(wanted)) if progress else (lambda _: None)
    for group in (small, weights):
        with without_notes(), ThreadPoolExecutor(CONNECTIONS) as pool:
            jobs = [pool.submit(_get, repo_id, commit, f, advance) for f in wanted if f.name in group]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _drop_left_over(repo: Path) -> None:
    """Remove the parts of files that killed processes left in a repository's folder of the cache.

    Each has a name of its own that nobody reads again. One whose file's lock is held, or that grew within LEFT_S
    (where a file system's locks do not work), is still being fetched.
    """
    from filelock import FileLock, Timeout

    for part in repo.glob("blobs/*.incomplete"):
        lock = repo.parent / ".locks" / repo.name / f"{part.name.split('.')[0]}.lock"
        with suppress(OSError, Timeout):
            if time.time() - part.stat().st_mtime > LEFT_S:
                lock.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(lock, timeout=0):
                    part.unlink(missing_ok=True)


def _get(repo_id: str, commit: str, file: RemoteFile, advance: Callable[[int], None]) -> None:
    """One file into the hub's cache, compared with its hash."""
    import hashlib

    from huggingface_hub import hf_hub_download

    bar = type("Bar", (Silent,), {"advance": staticmethod(advance)})
    path = Path(hf_hub_download(repo_id, file.name, revision=commit, tqdm_class=bar))
    if not file.sha256:
        return
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != file.sha256:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise DataMismatch(
            f"{repo_id}: {file.name} came corrupt (sha256 {found[:12]}..., the hub says {file.sha256[:12]}...); it was "
            "deleted, run the same line again"
        )


@contextmanager
def without_notes() -> Iterator[None]:
    """Without huggingface_hub's warning at each connection that broke: it goes on by itself, or raises."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


class Silent:
    """What huggingface_hub takes for a progress bar: it hands the bytes on and draws nothing."""

    advance: Callable[[int], None] = staticmethod(lambda _n: None)

    def __init__(self, *_args: Any, initial: int = 0, **_options: Any) -> None:
        if initial:
            self.advance(initial)

    def update(self, n: float | None = 1) -> None:
        """`n` more bytes came."""
        self.advance(int(n or 0))

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_exc: object) -> None:
        return None

    def close(self) -> None:
        """Nothing is open."""


def _check_disk(repo_id: str, missing: int) -> None:
    """DataUnavailable if the disk of the hub's cache has no room for `missing` bytes."""
    folder = Path(cache_dir())
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise DataUnavailable(
            f"{repo_id}: {missing / 2**30:.1f} GiB are to be fetched and {free / 2**30:.1f} GiB are free below "
            f"{folder}; make room, or set HF_HOME to a larger disk"
        )


def _check_whole(repo_id: str, folder: Path) -> None:
    """DataUnavailable or ConfigError unless weights, tokenizer and config are all in the folder and intact."""
    weights = named_weights(folder)
    if not weights or not all(file.is_file() for file in weights):
        raise offline(repo_id)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ConfigError(f"model.id={repo_id}: no tokenizer among its files ({' or '.join(TOKENIZER_FILES[:2])})")
    check_files(weights)


def _snapshot(repo_id: str, commit: str) -> Path:
    from huggingface_hub.file_download import repo_folder_name

    name: str = repo_folder_name(repo_id=repo_id, repo_type="model")
    return Path(cache_dir()) / name / "snapshots" / commit


def cache_dir() -> str:
    """Where the hub's own library keeps its files."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)
