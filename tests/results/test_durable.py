"""Power-loss order: every byte and name is on disk before the step that relies on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from biaslab.errors import StoreError
from biaslab.results import durable
from biaslab.results.store import Store, replace_json
from tests.cli.run import environment
from tests.results.test_store import REF, records


class Log:
    """What was asked of the system, in order: ("sync", path) and ("rename", from, to)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, ...]] = []
        fsync, rename, replace = os.fsync, Path.rename, Path.replace

        def logged_sync(descriptor: int) -> None:
            self.steps.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
            fsync(descriptor)

        def logged_rename(path: Path, target: Path) -> Path:
            self.steps.append(("rename", str(path), str(target)))
            return rename(path, target)

        def logged_replace(path: Path, target: Path) -> Path:
            self.steps.append(("rename", str(path), str(target)))
            return replace(path, target)

        monkeypatch.setattr(os, "fsync", logged_sync)
        monkeypatch.setattr(Path, "rename", logged_rename)
        monkeypatch.setattr(Path, "replace", logged_replace)


def test_a_cell_is_on_disk_before_its_name_and_every_new_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(monkeypatch)
    root = tmp_path / "outputs" / "results"
    target = Store(root).write(REF, records(), {})
    (place,) = [i for i, step in enumerate(log.steps) if step[0] == "rename" and step[2] == str(target)]
    staging = log.steps[place][1]
    before = [step[1] for step in log.steps[:place]]
    for path in (f"{staging}/records.parquet", f"{staging}/cell.json", staging):
        assert path in before
    assert before.index(staging) > before.index(f"{staging}/cell.json")
    for folder in (root / "planted", root / "planted" / "tiny_llama"):  # the names of the new folders
        assert str(folder) in before
    assert ("sync", str(target.parent)) in log.steps[place + 1 :]


def test_a_ledger_is_on_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch)
    replace_json(tmp_path / "sweep" / "sweep.json", {"schema_version": 1})
    kinds = [(step[0], Path(step[1]).name[:12]) for step in log.steps]
    assert kinds == [
        ("sync", tmp_path.name[:12]), ("sync", ".sweep.json."), ("rename", ".sweep.json."), ("sync", "sweep"),
    ]  # fmt: skip


def test_a_complete_cell_is_never_replaced_even_if_the_claim_was_lost(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.write(REF, records(score=1.0), {}, attempt=1)
    before = (first / "records.parquet").read_bytes()
    assert store.write(REF, records(score=2.0), {}, attempt=1) == first
    assert (first / "records.parquet").read_bytes() == before
    assert len(store.attempts(REF)) == 1


def test_a_half_copied_cell_gives_way_to_a_whole_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    half = tmp_path / REF.path
    half.mkdir(parents=True)
    (half / "records.parquet").write_bytes(b"")
    assert store.write(REF, records(), {}) == half
    assert store.find(REF) == half
    assert list((tmp_path / ".tmp").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_really_full_leaves_what_is_complete(small_disk: Path) -> None:
    store = Store(small_disk / "results")
    folder = store.write(REF, records(), {})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (small_disk / "filler").write_bytes(os.urandom(900_000))
    big = records(9000).assign(response=[os.urandom(24).hex() for _ in range(9000)])
    with pytest.raises(StoreError, match="No space left"):
        store.write(REF, big, {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list((small_disk / "results" / ".tmp").iterdir()) == []
    (small_disk / "filler").unlink()
    assert store.write(REF, records(), {}).name.endswith("-2")


def test_a_read_only_folder_is_refused_in_one_line_before_anything_loads(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = [sys.executable, "-m", "biaslab", "accel=none", "benchmark=planted", f"outputs={small_disk}/o"]
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done
    said = r"biaslab: \S+: (cannot be written \()?Read-only file system\)?; set outputs=DIR.*\n"
    assert re.fullmatch(said, done.stderr), done


def test_a_disk_full_from_the_start_ends_in_one_line(small_disk: Path, tmp_path: Path) -> None:
    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"0" * 4096)
    line = [sys.executable, "-m", "biaslab", "accel=none", "benchmark=planted", f"outputs={small_disk}/o"]
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done
    assert "No space left" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_folders_are_made_from_the_top(tmp_path: Path) -> None:
    durable.make_folders(tmp_path / "a" / "b" / "c")
    durable.make_folders(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
