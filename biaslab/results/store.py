"""The results folder: a cell is complete or absent, computed by one process at a time, never overwritten."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.errors import StoreError
from biaslab.results.schema import RECORD_COLUMNS, SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd
    from filelock import BaseFileLock


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

        The lock is the operating system's on an open file, so it ends with its owner, however that ends.
        """
        from filelock import Timeout

        lock = self._file_lock(ref)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        except OSError as error:
            raise StoreError(f"{lock.lock_file}: cannot be locked ({error.strerror or error})") from error
        try:
            yield True
        finally:
            lock.release()

    def is_locked(self, ref: CellRef) -> bool:
        """Whether another process holds the cell at this moment."""
        with self.lock(ref, wait=False) as mine:
            return not mine

    def write(self, ref: CellRef, records: pd.DataFrame, cell: Mapping[str, Any]) -> Path:
        """Add a complete attempt and return its folder; the caller holds the cell's lock.

        records : columns RECORD_COLUMNS in any order, `detail` already JSON text.
        Raises StoreError when the disk is full or the folder is read-only; nothing complete is touched.
        """
        attempt = len(self.attempts(ref)) + 1
        target = self.root / ref.path
        target = target if attempt == 1 else target.with_name(f"{ref.key}-{attempt}")
        content = {**cell, "schema_version": SCHEMA_VERSION, "key": ref.key, "status": "complete"}
        content["attempt"] = attempt
        with self._staging(ref) as staging:
            write_records(staging / "records.parquet", records)
            content["records_bytes"] = (staging / "records.parquet").stat().st_size
            write_json(staging / "cell.json", content)
            if target.is_dir():  # only a failure on record can be here
                shutil.rmtree(target)
            _publish(staging, target)
        return target

    def write_failure(self, ref: CellRef, failure: Mapping[str, Any]) -> Path:
        """Put a failure on record where the cell would be, replacing an earlier one."""
        content = {**failure, "schema_version": SCHEMA_VERSION, "key": ref.key, "status": "failed"}
        target = self.root / ref.path
        with self._staging(ref) as staging:
            write_json(staging / "failure.json", content)
            if self.find(ref) is None:
                if target.is_dir():
                    shutil.rmtree(target)
                _publish(staging, target)
        return target

    def _file_lock(self, ref: CellRef) -> BaseFileLock:
        from filelock import FileLock

        folder = self.root / ".locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder}: cannot be created ({error.strerror}); set outputs=DIR") from error
        # The key alone: accel labels may be long, file names may not.
        return FileLock(str(folder / f"{ref.benchmark}-{ref.key}.lock"), thread_local=False)

    @contextmanager
    def _staging(self, ref: CellRef) -> Iterator[Path]:
        name = f"{ref.key}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        staging = self.root / ".tmp" / name
        try:
            staging.mkdir(parents=True)
            yield staging
        except OSError as error:
            raise StoreError(f"{self.root / ref.path}: cannot be written ({error.strerror or error})") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def write_records(path: Path, records: pd.DataFrame) -> None:
    """Write records as Parquet with exactly RECORD_COLUMNS and their types, synced to disk.

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
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), file, compression="zstd")
        _sync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON (NaN and infinities become null), synced to disk."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(finite(content), file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        _sync(file.fileno())


def replace_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON beside `path`, then rename over it: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        write_json(staging, content)
        staging.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        staging.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a known schema version; StoreError names the file and what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
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


def _publish(staging: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
