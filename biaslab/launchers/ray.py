"""Ray: many GPUs or nodes, each job with its share; a worker or a head that dies costs cells, never the sweep.

Ray's client ends its own process when the cluster it talks to is gone for good. So it runs in a process of its
own, which tells of every job that ended; when it goes silent, another one sends what is left to the cluster again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher

from biaslab.errors import ConfigError
from biaslab.launchers import Work, done, works
from biaslab.sweep import job_ended, job_lost, withdraw

#: How long a head that went away is waited for before its jobs are given up.
RECONNECT_S = 60.0
FIRST_S = 10.0  # and one that is just being started, before anything was begun
LOOK_S = 5.0  # between two looks whether the cluster is there
LET_GO_S = 20.0
EVERY_JOB, REFUSED = -1, -2  # told instead of a job's number: every job ended so; no job was begun


class RayLauncher(Launcher):  # type: ignore[misc]  # Hydra ships no types
    """Runs every job as one Ray task, here or on a cluster, and waits for all of them, however they end."""

    def __init__(self, address: str | None, num_cpus: float, num_gpus: float, max_retries: int, init: Any) -> None:
        share = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": max_retries}
        self.client = _Client(address, dict(init), share)
        self.max_retries = max_retries
        self.config: Any = None
        self.hydra_context: Any = None
        self.task_function: Any = None

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep what Hydra gives."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Run all jobs; lost ones are reported to the sweep, not raised. ConfigError if Ray cannot be had at all."""
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        left = {work.number: work for work in works(self, job_overrides, initial_job_idx)}
        try:
            self._attempt(left, first=True)
        except ConfigError as error:
            withdraw(error)
            raise
        for _ in range(self.max_retries):
            if not left:
                break
            self._attempt(left, first=False)
        for number in left:
            job_lost(number, "the Ray cluster it ran on is gone")
        return [done() for _ in job_overrides]

    def _attempt(self, left: dict[int, Work], *, first: bool) -> None:
        """Run jobs on the cluster; those that ended, well or not, are taken out of `left`.

        first : nothing was begun yet, so a cluster that is not there is a wrong request.
        """
        from ray import cloudpickle

        context = multiprocessing.get_context("spawn")
        told, tell = context.Pipe(duplex=False)
        batch = [(number, cloudpickle.dumps(work)) for number, work in left.items()]
        process = context.Process(target=self.client, args=(batch, tell, first), daemon=True)
        process.start()
        tell.close()
        try:
            while True:
                number, trouble = told.recv()
                if number == REFUSED:
                    raise ConfigError(f"hydra/launcher=ray: {trouble}; nothing was begun")
                for ended in list(left) if number == EVERY_JOB else [number]:
                    del left[ended]
                    if trouble:
                        job_lost(ended, trouble)
                    else:
                        job_ended(ended)
        except EOFError:  # it has told everything, or its cluster is gone
            pass
        finally:
            _end(process)


def _end(process: Any) -> None:
    """Wait for the client to let go of its cluster; one that cannot is ended."""
    for end in (process.terminate, process.kill):
        process.join(LET_GO_S)
        if not process.is_alive():
            return
        end()
    process.join()


@dataclass
class _Client:
    """The process that talks to Ray. Tells (number of a job that ended, "" or why it is lost)."""

    address: str | None
    init: dict[str, Any]
    share: dict[str, float]

    def __call__(self, batch: list[tuple[int, bytes]], tell: Connection, first: bool = False) -> None:
        """Connect and run all jobs; ends early, with the other jobs untold, where the cluster is gone."""
        import ray

        connected = False
        try:
            self._connect(min(FIRST_S, RECONNECT_S) if first else RECONNECT_S)
            connected = True
            self._run(batch, tell)
        except (KeyboardInterrupt, ray.exceptions.RayError):  # the launching process says so, or tries again
            pass
        except Exception as error:  # ray raises many kinds: a wrong address, a refused option, no room
            where = f"hydra.launcher.address={self.address}" if self.address else "this machine"
            whom = REFUSED if first and not connected else EVERY_JOB
            tell.send((whom, f"Ray cannot be had at {where}: {' '.join(str(error).split())}"))
        finally:
            ray.shutdown()

    def _run(self, batch: list[tuple[int, bytes]], tell: Connection) -> None:
        import ray

        task = ray.remote(**self.share)(_task)
        waiting = {task.remote(pickled): number for number, pickled in batch}
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=LOOK_S)
            if not ready and _gone():
                return
            for reference in ready:
                trouble = _trouble(reference)
                if trouble and _gone():
                    return
                tell.send((waiting.pop(reference), trouble))

    def _connect(self, patience_s: float) -> None:
        import ray

        end = time.monotonic() + patience_s
        # "local": without a word Ray would join whatever runs, or ran, on this machine.
        here = {"address": "local", "include_dashboard": False}
        place = here if self.address is None else {"address": self.address}
        options = {**place, "logging_level": logging.ERROR, **self.init}
        if not sys.stdout.isatty():
            os.environ.setdefault("RAY_COLOR_PREFIX", "0")
        while True:
            try:
                _knock(self.address)
                ray.init(**options)
                if self.address is None:  # no other node will ever come
                    self._check_share(ray.cluster_resources())
                return
            except (ConnectionError, OSError, RuntimeError):
                if self.address is None or time.monotonic() > end:
                    raise
                time.sleep(2)

    def _check_share(self, there: Mapping[str, float]) -> None:
        """ValueError where one job is to have more than all that is there: it would wait for ever."""
        for name, kind in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
            if self.share[name] > there.get(kind, 0.0):
                raise ValueError(
                    f"hydra.launcher.{name}={self.share[name]:g} for each job, and there are {there.get(kind, 0.0):g}"
                )


def _knock(address: str | None) -> None:
    """OSError unless something listens at a host and port; Ray itself would ask for minutes."""
    if address == "auto":  # as Ray finds it; what it wrote down may have ended without a word
        note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"  # nosec B108
        address = os.environ.get("RAY_ADDRESS") or (note.read_text(encoding="utf-8").strip() if note.is_file() else "")
    if found := re.fullmatch(r"(?:ray://)?\[?([^\[\]]+)\]?:(\d+)", address or ""):
        with socket.create_connection((found[1], int(found[2])), timeout=LOOK_S):
            pass


def _trouble(reference: Any) -> str:
    """Why a task left no result, or ""."""
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return f"its Ray worker raised ({error.cause})\n{error}"
    except ray.exceptions.RayError as error:
        return f"its Ray worker is lost ({type(error).__name__})\n{error}"
    return ""


def _gone() -> bool:
    """Whether the cluster answers no more, or is another one at the same address."""
    import ray

    try:
        if ray.util.client.ray.is_connected():  # through ray://, a driver on the cluster's own side
            return not any(node["Alive"] for node in ray.nodes())
        context = ray.get_runtime_context()
        _knock(context.gcs_address)
        mine = context.get_node_id()
        return not any(node["Alive"] and node["NodeID"] == mine for node in ray.nodes())
    except Exception:  # ray raises many kinds when its head is gone
        return True


def _task(pickled: bytes) -> None:
    from ray import cloudpickle

    cloudpickle.loads(pickled)()
