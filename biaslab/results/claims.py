"""Who may compute a cell: one process at a time, on one machine or on many that share the folder.

Two guards, both the library's (filelock). The operating system's lock on an open file ends with its owner,
however that ends, and a paused owner keeps it. A lease, a small file that names host, process and start time
and is touched every HEARTBEAT_S seconds, also works where a file system's locks do not reach other hosts: a
lease whose process is gone (seen at once on its own host) or whose heartbeat has stood still for LEASE_S
seconds of the waiter's own clock is free. No wall clock is compared, so clocks may jump and differ.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from biaslab.errors import StoreError

if TYPE_CHECKING:
    from filelock import SoftFileLease

log = logging.getLogger(__name__)

LEASE_S = 120.0
HEARTBEAT_S = 10.0
POLL_S = 0.2
BLANK_S = 3.0  # a lease is written right after it is made; one that stays without a word has lost its owner
FIRST_NAMESPACE = 0xEFFFFFFC  # Linux's number for a host's own process namespace
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
#: Mount options that keep locks on the host that takes them.
LOCAL_LOCKS = ("nolock", "local_lock=all", "local_lock=flock", "localflock", "noflock")
PROBE = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(7)
"""


@dataclass(frozen=True)
class Owner:
    """A lease's owner as its file names it. heartbeat_s : age of the last heartbeat by this host's clock."""

    host: str
    pid: int
    heartbeat_s: float

    @property
    def here(self) -> bool:
        """Whether it runs, or ran, on this host."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """For showing only: the process exists here, or its heartbeat elsewhere is not long overdue."""
        if self.here:
            import psutil  # type: ignore[import-untyped]

            return bool(psutil.pid_exists(self.pid))
        return self.heartbeat_s < 2 * LEASE_S


@contextmanager
def claim(folder: Path, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold `name` for this process; yields False at once if another has it and `wait` is False.

    Raises StoreError where neither a lock nor a lease can be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be created ({error.strerror}); set outputs=DIR") from error
    held = _Claim(folder, name)
    try:
        while not (mine := held.take()) and (wait or held.blank is not None):
            time.sleep(POLL_S)
    except OSError as error:
        raise StoreError(f"{folder / name}: cannot be locked ({error.strerror or error})") from error
    try:
        yield mine
    finally:
        held.release()


def owner(folder: Path, name: str) -> Owner | None:
    """Who holds `name` by its lease file, or None; only reads, so it disturbs nobody. It may be a dead one."""
    lease = _lease(folder, name)
    try:
        age = time.time() - Path(lease.lock_file).stat().st_mtime
    except OSError:
        return None
    record = lease.owner
    return None if record is None else Owner(record.hostname.split("?")[0], record.pid, max(0.0, age))


def held_elsewhere(folder: Path, name: str) -> bool:
    """Whether a live process holds `name`; only reads."""
    found = owner(folder, name)
    return found is not None and found.alive


def lock_note(folder: Path) -> str:
    """What a user must know of the folder's file system: "" where its locks keep processes apart.

    A second process tries a lock that this one holds; the table of mounts tells what reaches other hosts.
    """
    kind, options = mount(folder)
    local = next((option for option in LOCAL_LOCKS if option in options), "")
    if kind.startswith(("nfs", "lustre")) and local:
        why = f"is {kind} mounted with {local}, whose locks do not reach other hosts"
    elif not _locks_work(folder):
        why = f"({kind or 'unknown file system'}) has no working file locks"
    else:
        return ""
    return (
        f"{folder} {why}: cells are claimed by lease files alone, and a cell whose host died is free after "
        f"{LEASE_S:.0f} s without a heartbeat"
    )


def host_name() -> str:
    """Name of this host, and of the container within it where process numbers mean something else."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return socket.gethostname()
    return socket.gethostname() + (f"-{namespace:x}" if namespace != FIRST_NAMESPACE else "")


def mount(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Type and options of the file system that holds `folder`; ("", ()) where the system does not tell."""
    table = Path("/proc/self/mounts")
    if not table.is_file():
        return "", ()
    best: tuple[int, str, tuple[str, ...]] = (-1, "", ())
    place = str(folder.resolve())
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, kind, options, *_ = [*line.split(" "), "", "", "", ""]
        point = point.replace("\\040", " ")
        if (place == point or place.startswith(point.rstrip("/") + "/")) and len(point) >= best[0]:
            best = (len(point), kind, tuple(options.split(",")))
    return best[1], best[2]


def _locks_work(folder: Path) -> bool:
    """Whether an operating-system lock taken here keeps a second process out."""
    from filelock import FileLock

    path = folder / f"probe-{socket.gethostname()}-{os.getpid()}.lock"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(str(path), fallback_to_soft=False):
            command = [sys.executable, "-S", "-c", PROBE, str(path)]
            return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 7
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    finally:
        path.unlink(missing_ok=True)


class _Claim:
    """One name's lock and lease in this process."""

    def __init__(self, folder: Path, name: str) -> None:
        from filelock import FileLock

        self.lock = FileLock(str(folder / f"{name}.lock"), thread_local=False, fallback_to_soft=False)
        self.lease = _lease(folder, name)
        self.blank: tuple[tuple[int, int], float] | None = None  # a lease without an owner, and since when

    def take(self) -> bool:
        """One try; True when both guards are held (the lease alone where there are no locks)."""
        from filelock import Timeout

        free = self._take_lock()
        holder = self.lease.owner if free is False else None
        # A busy lock speaks for a live owner on this host. On a shared folder a server may keep the lock of a
        # host that died: there the lease, whose heartbeat is watched, decides.
        if free is False and (holder is None or holder.hostname.split("?")[0] == socket.gethostname()):
            return False
        try:
            self.lease.acquire(timeout=0)
        except Timeout:
            self._drop_blank()
            self.lock.release()
            return False
        self.blank = None
        return True

    def _drop_blank(self) -> None:
        """Remove a lease that nobody can be read from, once it has stood still for BLANK_S of our clock.

        A process killed between making and writing it leaves one, and the library would wait for ever.
        """
        path = Path(self.lease.lock_file)
        try:
            stat = path.stat()
        except OSError:
            stat = None
        if stat is None or self.lease.owner is not None:
            self.blank = None
            return
        seen, now = (stat.st_ino, stat.st_mtime_ns), time.monotonic()
        if self.blank is None or self.blank[0] != seen:
            self.blank = (seen, now)
        elif now - self.blank[1] > BLANK_S:
            log.warning("%s: a lease without an owner, left by a process that was killed; removed", path)
            path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let go of what is held."""
        self.lease.release()
        self.lock.release()

    def _take_lock(self) -> bool | None:
        """Whether the operating system's lock is ours; None where there are none."""
        from filelock import Timeout

        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise
        return True


def _lease(folder: Path, name: str) -> SoftFileLease:
    from filelock import SoftFileLease

    return SoftFileLease(
        str(folder / f"{name}.lease"),
        lease_duration=LEASE_S,
        heartbeat_interval=HEARTBEAT_S,
        thread_local=False,
        on_compromise=lambda lost: log.warning("the claim %s was lost: %s", lost.lock_file, lost.reason),
    )
