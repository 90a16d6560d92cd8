"""Answers of a long cell while it grows: one file, one line a chunk, so that a cell goes on where it stopped.

The file is for the process that computes the cell and nobody else; it goes when the cell is complete. Its
first line says what the answers depend on beyond the cell's key (device, batch, versions): a file that was
written under anything else is thrown away, never mixed in.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biaslab.errors import StoreError
from biaslab.results.durable import make_folders, sync, sync_folder
from biaslab.results.schema import SCHEMA_VERSION


class Chunks:
    """The chunks at `path` that were computed under the same `conditions`; the caller holds the cell's lock.

    place : the cell's path and attempt, by which a file is known as left over. resumed : chunks found.
    """

    def __init__(self, path: Path, place: str, conditions: Mapping[str, Any]) -> None:
        self.path = path
        self._header = {"schema_version": SCHEMA_VERSION, "place": place, "conditions": dict(conditions)}
        self._found, self._good_bytes = self._read()
        self.resumed = len(self._found)

    def get(self, number: int) -> tuple[list[Any], float] | None:
        """Payload and seconds of a chunk that an earlier process finished, or None."""
        found = self._found.get(number)
        return None if found is None else (found["payload"], found["seconds"])

    def add(self, number: int, payload: list[Any], seconds: float) -> None:
        """Put a chunk on disk. Raises StoreError when the disk is full; what is there stays readable."""
        body = json.dumps({"chunk": number, "seconds": seconds, "payload": payload}, ensure_ascii=True)
        lines = [] if self._good_bytes else [json.dumps(self._header, sort_keys=True)]
        lines.append(f"{_digest(body)} {body}")
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            make_folders(self.path.parent)
            with self.path.open("r+b" if self._good_bytes else "wb") as file:
                file.truncate(self._good_bytes)  # a torn line that a killed process left
                file.seek(self._good_bytes)
                file.write(data)
                file.flush()
                sync(file.fileno())
            if not self._good_bytes:
                sync_folder(self.path.parent)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        self._good_bytes += len(data)

    def remove(self) -> None:
        """Forget the chunks: the cell is complete."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[int, dict[str, Any]], int]:
        """Chunks of whole lines, and how many bytes of the file they take; none if it is not ours."""
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except OSError:
            return {}, 0
        if not lines or lines[0] != (json.dumps(self._header, sort_keys=True) + "\n").encode():
            return {}, 0
        found: dict[int, dict[str, Any]] = {}
        size = len(lines[0])
        for line in lines[1:]:
            chunk = _parse(line)
            if chunk is None:
                break
            found.setdefault(int(chunk["chunk"]), chunk)
            size += len(line)
        return found, size


def place_of(path: Path) -> str:
    """The cell's path and attempt that a chunk file was written for, "" if it does not say."""
    try:
        with path.open(encoding="utf-8") as file:
            header = json.loads(file.readline())
        return str(header["place"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def progress(path: Path) -> int:
    """How many chunks a file holds, by its size in lines; for showing only."""
    try:
        return max(0, path.read_bytes().count(b"\n") - 1) if os.path.getsize(path) else 0
    except OSError:
        return 0


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _parse(line: bytes) -> dict[str, Any] | None:
    """A whole line's chunk; None for a torn or changed one."""
    if not line.endswith(b"\n"):
        return None
    try:
        digest, body = line[:-1].decode("ascii").split(" ", 1)
        chunk = json.loads(body) if digest == _digest(body) else None
    except (ValueError, RecursionError):
        return None
    return chunk if isinstance(chunk, dict) else None
