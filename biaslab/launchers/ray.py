"""Ray: many GPUs or nodes, each job with its share; a worker or a head that dies costs cells, never the sweep."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher

from biaslab.launchers import Work, done, works
from biaslab.sweep import job_lost

#: How long a head that went away is waited for before its jobs are given up.
RECONNECT_S = 60.0


class RayLauncher(Launcher):  # type: ignore[misc]  # Hydra ships no types
    """Runs every job as one Ray task, here or on a cluster, and waits for all of them, however they end."""

    def __init__(self, address: str | None, num_cpus: float, num_gpus: float, max_retries: int, init: Any) -> None:
        self.address, self.max_retries, self.init = address, max_retries, dict(init)
        self.share = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self.config: Any = None
        self.hydra_context: Any = None
        self.task_function: Any = None

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep what Hydra gives."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Run all jobs; lost ones are reported to the sweep, not raised."""
        import ray

        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        left, tries = works(self, job_overrides, initial_job_idx), 0
        while left:
            try:
                self._connect()
                left = self._run(left, tries)
            finally:
                ray.shutdown()
            tries += 1
        return [done() for _ in job_overrides]

    def _run(self, left: list[Work], tries: int) -> list[Work]:
        """Run jobs; those to start again, because the cluster they ran on is gone."""
        import ray

        task = ray.remote(max_retries=self.max_retries, **self.share)(_task)
        waiting = {task.remote(work): work for work in left}
        again: list[Work] = []
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=5)
            for reference in ready:
                work = waiting.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    if self._gone() and tries < self.max_retries:
                        return [*again, work, *waiting.values()]
                    job_lost(work.number, f"its Ray worker is lost ({type(error).__name__})\n{error}")
            if not ready and self._gone():
                if tries >= self.max_retries:
                    for work in waiting.values():
                        job_lost(work.number, "the Ray cluster it ran on is gone")
                    return []
                return list(waiting.values())
        return again

    def _gone(self) -> bool:
        """Whether the cluster answers no more."""
        import ray

        try:
            return not any(node["Alive"] for node in ray.nodes())
        except Exception:  # ray raises many kinds when its head is gone
            return True

    def _connect(self) -> None:
        import ray

        end = time.monotonic() + RECONNECT_S
        options = {"include_dashboard": False, "log_to_driver": True, **self.init}
        if self.address is not None:
            options = {"address": self.address, **self.init}
        while True:
            try:
                ray.init(**options)
                return
            except (ConnectionError, OSError, RuntimeError):
                if self.address is None or time.monotonic() > end:
                    raise
                time.sleep(2)


def _task(work: Work) -> None:
    work()
