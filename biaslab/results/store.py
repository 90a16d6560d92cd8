"""The results folder: a cell is complete or absent, computed by one process at a time, never overwritten."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.errors import StoreError
from biaslab.results import claims
from biaslab.results.chunks import Chunks, place_of, progress
from biaslab.results.durable import discard, make_folders, publish, replace, sync
from biaslab.results.schema import RECORD_COLUMNS, SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CellRef:
    """Where a cell lives: three readable folders (labels already safe as names) and its key."""

    benchmark: str
    model: str
    accel: str
    key: str

    @property
    def path(self) -> str:
        """Relative to the results folder, with forward slashes."""
        return f"{self.benchmark}/{self.model}/{self.accel}/{self.key}"


class Store:
    """A results folder at `root`, created when first written to.

    A complete attempt of a cell is a folder holding `cell.json` and `records.parquet`: `<key>`, or
    `<key>-2`, `<key>-3` ... after forced re-runs. Both files are written and synced in a temporary folder
    that is then renamed, so no reader ever meets half a cell.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def attempts(self, ref: CellRef) -> list[Path]:
        """Complete attempts of the cell, oldest first."""
        first = self.root / ref.path
        found = [first] if _is_complete(first) else []
        numbered = sorted(
            (int(p.name.rsplit("-", 1)[1]), p)
            for p in first.parent.glob(f"{ref.key}-*")
            if p.name.rsplit("-", 1)[1].isdigit() and _is_complete(p)
        )
        return found + [path for _, path in numbered]

    def find(self, ref: CellRef) -> Path | None:
        """Folder of the cell's latest complete attempt, or None."""
        attempts = self.attempts(ref)
        return attempts[-1] if attempts else None

    def failure(self, ref: CellRef) -> dict[str, Any] | None:
        """The failure on record of a cell that is not complete, or None."""
        path = self.root / ref.path / "failure.json"
        if self.find(ref) is not None or not path.is_file():
            return None
        return read_json(path)

    @contextmanager
    def lock(self, ref: CellRef, *, wait: bool) -> Iterator[bool]:
        """Hold the cell for this process; yields False at once if another has it and `wait` is False.

        See claims: a claim ends with its owner, also where its host dies.
        """
        with claims.claim(self.root / ".locks", _name(ref), wait=wait) as mine:
            yield mine

    def owner(self, ref: CellRef) -> claims.Owner | None:
        """The process that computes the cell, by its lease, or None; only reads."""
        return claims.owner(self.root / ".locks", _name(ref))

    def is_locked(self, ref: CellRef) -> bool:
        """Whether a live process holds the cell; only reads, so it never gets in a worker's way."""
        return claims.held_elsewhere(self.root / ".locks", _name(ref))

    def write(self, ref: CellRef, records: pd.DataFrame, cell: Mapping[str, Any], attempt: int | None = None) -> Path:
        """Add a complete attempt and return its folder; the caller holds the cell's lock.

        records : columns RECORD_COLUMNS in any order, `detail` already JSON text.
        attempt : number it must get; if a complete one has it already, because the claim was lost meanwhile,
            that one stays and its folder is returned. None: the next free number.
        Raises StoreError when the disk is full or the folder is read-only; nothing complete is touched.
        """
        attempt = attempt or len(self.attempts(ref)) + 1
        target = self.root / _attempt_path(ref.path, attempt)
        content = {**cell, "schema_version": SCHEMA_VERSION, "key": ref.key, "status": "complete"}
        content["attempt"] = attempt
        with self._staging(ref) as staging:
            start = time.perf_counter()
            write_records(staging / "records.parquet", records)
            content["timings"] = {**content.get("timings", {}), "store_s": time.perf_counter() - start}
            content["records_bytes"] = (staging / "records.parquet").stat().st_size
            write_json(staging / "cell.json", content)
            _put(staging, target)
        return target

    def write_failure(self, ref: CellRef, failure: Mapping[str, Any]) -> Path:
        """Put a failure on record where the cell would be, replacing an earlier one."""
        content = {**failure, "schema_version": SCHEMA_VERSION, "key": ref.key, "status": "failed"}
        target = self.root / ref.path
        with self._staging(ref) as staging:
            write_json(staging / "failure.json", content)
            if self.find(ref) is None:
                _put(staging, target)
        return target

    def chunks(self, ref: CellRef, attempt: int, conditions: Mapping[str, Any]) -> Chunks:
        """The answers so far of a cell that is computed in chunks; the caller holds the cell's lock."""
        path = self.root / ".chunks" / f"{_name(ref)}-{attempt}.jsonl"
        return Chunks(path, _attempt_path(ref.path, attempt), conditions)

    def n_chunks(self, ref: CellRef) -> int:
        """How many chunks of a cell's first attempt are done; for showing only."""
        return progress(self.root / ".chunks" / f"{_name(ref)}-1.jsonl")

    def prepare(self) -> str:
        """Make the folder ready for a sweep; what its file system cannot do, in a sentence, or "".

        Removes what processes of this host that are gone left half written.
        Raises StoreError if nothing can be written there.
        """
        try:
            make_folders(self.root / ".tmp")
            note = claims.lock_note(self.root / ".locks")
        except OSError as error:
            raise StoreError(f"{self.root}: cannot be written ({error.strerror or error}); set outputs=DIR") from error
        for path in (self.root / ".tmp").iterdir():
            if _is_orphan(path.name):
                discard(path)
        for path in (self.root / ".chunks").glob("*.jsonl"):
            place = place_of(path)
            if place and ".." not in place and _is_complete(self.root / place):
                path.unlink(missing_ok=True)
        return note

    @contextmanager
    def _staging(self, ref: CellRef) -> Iterator[Path]:
        name = f"{ref.key}_{claims.host_name()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        staging = self.root / ".tmp" / name
        try:
            staging.mkdir(parents=True)
            yield staging
        except OSError as error:
            raise StoreError(f"{self.root / ref.path}: cannot be written ({error.strerror or error})") from error
        finally:
            discard(staging)


def write_records(path: Path, records: pd.DataFrame) -> None:
    """Write records as Parquet with exactly RECORD_COLUMNS and their types, checksums in it, synced to disk.

    Raises ValueError if a column is missing or an (item, repeat) pair occurs twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    missing = [name for name in RECORD_COLUMNS if name not in records.columns]
    if missing:
        raise ValueError(f"records lack the columns {', '.join(missing)}")
    if records.duplicated(["item", "repeat"]).any():
        raise ValueError("an item occurs twice in one repeat")
    types = {"string": pa.string(), "float64": pa.float64(), "int32": pa.int32(), "bool": pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, (kind, _) in RECORD_COLUMNS.items()])
    arrays = [pa.array(records[field.name].tolist(), type=field.type) for field in schema]
    with path.open("wb") as file:
        table = pa.Table.from_arrays(arrays, schema=schema)
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        sync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON (NaN and infinities become null), synced to disk."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(finite(content), file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        sync(file.fileno())


def replace_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON beside `path`, then rename over it: a reader sees the old file or the new one."""
    staging = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        make_folders(path.parent)
        write_json(staging, content)
        replace(staging, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            staging.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a known schema version; StoreError names the file and what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise StoreError(f"{path}: schema_version {version}, this biaslab reads {SCHEMA_VERSION}")
    return dict(content)


def finite(value: Any) -> Any:
    """`value` with every NaN and infinity replaced by None, as strict JSON needs."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _is_complete(folder: Path) -> bool:
    return (folder / "cell.json").is_file() and (folder / "records.parquet").is_file()


def _name(ref: CellRef) -> str:
    """Of the claim's files. The key alone: accel labels may be long, file names may not."""
    return f"{ref.benchmark}-{ref.key}"


def _attempt_path(path: str, attempt: int) -> str:
    return path if attempt == 1 else f"{path}-{attempt}"


def _put(staging: Path, target: Path) -> None:
    """Publish a finished attempt or failure, unless a complete attempt has the place already.

    Whatever else is there (a failure on record, a half copied cell) is moved aside first, never deleted in
    place: should it turn out to be complete after all, it is put back.
    """
    aside = staging.with_name(f"{staging.name}_old")
    try:
        if target.is_dir() and not _is_complete(target):
            target.rename(aside)
            if _is_complete(aside):
                aside.rename(target)
        if not _is_complete(target):
            publish(staging, target)
    finally:
        discard(aside)


def _is_orphan(name: str) -> bool:
    """Whether a staging folder belongs to a process of this host that is gone."""
    import psutil  # type: ignore[import-untyped]

    owner, pid, *_ = [*name.removesuffix("_old").rsplit("_", 2), "", ""]
    host = owner.partition("_")[2]
    return host == claims.host_name() and pid.isdigit() and not psutil.pid_exists(int(pid))
