"""Claims: one process at a time, on working locks, on none, across hosts; clocks do not matter."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biaslab.errors import StoreError
from biaslab.results import claims
from biaslab.results.store import CellRef, Store, read_json
from tests.cli.run import environment

REF = CellRef("planted", "tiny_llama", "none", "1" * 32)


def foreign_lease(folder: Path, host: str = "another-host", pid: int = 1) -> Path:
    """A lease as a process of another host writes it, made by the library and given another host's name."""
    lease = claims._lease(folder, "cell")
    folder.mkdir(parents=True, exist_ok=True)
    lease.acquire()
    path = Path(lease.lock_file)
    text = path.read_text()
    lease.release()
    lines = [f"host={host}" if line.startswith("host=") else line for line in text.splitlines()]
    lines = [f"pid={pid}" if line.startswith("pid=") else line for line in lines if not line.startswith("start=")]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_claim_leaves_no_lease_behind(tmp_path: Path) -> None:
    with claims.claim(tmp_path, "cell", wait=False) as mine:
        assert mine
        found = claims.owner(tmp_path, "cell")
        assert found is not None
        assert (found.here, found.pid, found.alive) == (True, os.getpid(), True)
    assert claims.owner(tmp_path, "cell") is None


def test_a_dead_hosts_claim_is_free_when_its_heartbeat_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LEASE_S", 1.0)
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.3)
    path = foreign_lease(tmp_path)
    for jump in (-1e6, 1e6):  # whatever the other host's clock, or ours, says
        os.utime(path, (time.time() + jump, time.time() + jump))
        with claims.claim(tmp_path, "cell", wait=False) as mine:
            assert not mine
    start = time.monotonic()
    with claims.claim(tmp_path, "cell", wait=True) as mine:
        assert mine
    assert 1.0 <= time.monotonic() - start < 10


def test_a_living_hosts_claim_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE_S", 1.0)
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.3)
    path = foreign_lease(tmp_path)
    held = claims._Claim(tmp_path, "cell")
    end = time.monotonic() + 2.5
    while time.monotonic() < end:  # its heartbeat goes on, with a clock that runs backwards
        os.utime(path, (end - time.monotonic(),) * 2)
        assert not held.take()
        time.sleep(0.2)


def _hold_without_locks(root: str, held: Any, release: Any) -> None:
    fcntl.flock = _no_locks
    with Store(Path(root)).lock(REF, wait=True) as mine:
        assert mine
        held.set()
        release.wait(30)


def _no_locks(*_args: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_without_file_locks_leases_keep_processes_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", _no_locks)
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold_without_locks, args=(str(tmp_path), held, release))
    other.start()
    assert held.wait(60)
    store = Store(tmp_path)
    with store.lock(REF, wait=False) as mine:
        assert not mine
    assert store.is_locked(REF)
    other.kill()
    other.join()
    with store.lock(REF, wait=True) as mine:  # its process is gone: free at once
        assert mine


def test_locks_that_do_not_work_are_detected_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert claims.lock_note(tmp_path) == ""
    monkeypatch.setattr(claims, "PROBE", "")  # the second process gets what the first one holds
    assert "no working file locks: cells are claimed by lease files alone" in claims.lock_note(tmp_path)
    monkeypatch.setattr(fcntl, "flock", _no_locks)
    assert "no working file locks" in claims.lock_note(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("nfs", "rw,local_lock=all,vers=3", "is nfs mounted with local_lock=all"),
        ("lustre", "rw,localflock", "is lustre mounted with localflock"),
        ("nfs4", "rw,local_lock=none", ""),
    ],
)
def test_mounts_whose_locks_stay_on_one_host_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: str, said: str
) -> None:
    monkeypatch.setattr(claims, "mount", lambda _: (kind, tuple(options.split(","))))
    note = claims.lock_note(tmp_path)
    assert said in note
    assert bool(note) == bool(said)


def test_the_mount_of_a_folder_is_the_deepest(tmp_path: Path) -> None:
    assert claims.mount(Path("/proc/self"))[0] == "proc"
    kind, options = claims.mount(tmp_path)
    assert kind not in ("", "proc")
    assert options


CONTEND = """
import sys, time
from pathlib import Path
from biaslab.results import claims
from biaslab.results.store import CellRef, Store, read_json
from tests.results.test_store import records
claims.POLL_S = 0.005
root, n, me, other = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
store, frame, wrote, lost_race = Store(root), records(2), 0, 0
for k in range(n):
    ref = CellRef("planted", "m", "none", f"{k:032x}")
    before = len(store.attempts(ref))
    with me.open("a") as file:
        file.write(".")
    while not other.is_file() or other.stat().st_size <= k:  # both have looked before either goes on
        time.sleep(0.0005)
    with store.lock(ref, wait=True):
        if len(store.attempts(ref)) == before:
            store.write(ref, frame, {"seed": k}, attempt=before + 1)
            wrote += 1
        else:
            lost_race += 1
print(wrote, lost_race)
"""


def contend(folder: Path, n_cells: int) -> list[tuple[int, int]]:
    """Two processes that both want each of `n_cells`; how many each of them wrote, and found written after waiting.

    Every cell must be there, complete and readable, once.
    """
    store = Store(folder / "results")
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", CONTEND, str(store.root), str(n_cells)]
    pairs = [("a", "b"), ("b", "a")]
    writers = [
        subprocess.Popen(
            [*command, *(str(folder / name) for name in pair)], stdout=subprocess.PIPE, text=True, env=environment()
        )
        for pair in pairs
    ]
    told = [writer.communicate(timeout=600)[0].split() for writer in writers]
    for k in range(n_cells):
        (attempt,) = store.attempts(CellRef("planted", "m", "none", f"{k:032x}"))
        assert read_json(attempt / "cell.json")["seed"] == k
        assert len(pd.read_parquet(attempt / "records.parquet")) == 2
    assert list((store.root / ".tmp").iterdir()) == []
    assert list((store.root / ".locks").glob("*.lease*")) == []
    return [(int(wrote), int(lost_race)) for wrote, lost_race in told]


def test_two_writers_write_each_cell_once(tmp_path: Path) -> None:
    (a, lost_a), (b, lost_b) = contend(tmp_path, 40)
    assert (a + b, lost_a, lost_b) == (40, b, a)  # each cell was wanted by both, and written by one


@pytest.mark.slow
def test_two_writers_lose_none_of_a_thousand_contended_cells(tmp_path: Path) -> None:
    (a, lost_a), (b, lost_b) = contend(tmp_path, 1000)
    assert (a + b, lost_a, lost_b) == (1000, b, a)


def test_what_dead_processes_left_half_written_is_removed_and_what_the_living_write_is_not(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host = claims.host_name()
    names = {pid: f"{'0' * 32}_{host}_{pid}_abcd" for pid in (child.pid, os.getpid())}
    foreign = f"{'0' * 32}_elsewhere_{child.pid}_abcd"
    for name in (*names.values(), foreign, names[child.pid] + "_old"):
        (tmp_path / ".tmp" / name).mkdir(parents=True)
    assert Store(tmp_path).prepare() == ""
    assert sorted(p.name for p in (tmp_path / ".tmp").iterdir()) == sorted([names[os.getpid()], foreign])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="cannot be created"),
        claims.claim(tmp_path / "file" / "locks", "cell", wait=False),
    ):
        pass
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file").prepare()


def test_host_names_tell_containers_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert claims.host_name().startswith(socket.gethostname())
    monkeypatch.setattr(claims, "FIRST_NAMESPACE", -1)
    assert claims.host_name() != socket.gethostname()


@pytest.mark.parametrize("content", ["", "no owner\n"])
@pytest.mark.parametrize("wait", [True, False])
def test_a_lease_whose_owner_was_killed_before_writing_it_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, wait: bool
) -> None:
    monkeypatch.setattr(claims, "BLANK_S", 0.5)
    (tmp_path / "cell.lease").write_text(content)
    start = time.monotonic()
    with claims.claim(tmp_path, "cell", wait=wait) as mine:
        assert mine
        assert 0.5 < time.monotonic() - start < 10
        with claims.claim(tmp_path, "cell", wait=False) as other:
            assert not other
