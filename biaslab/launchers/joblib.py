"""Processes of one machine through joblib; a worker that dies costs its own cells, never the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher

from biaslab.launchers import Work, done, thread_share, works
from biaslab.sweep import job_lost


class JoblibLauncher(Launcher):  # type: ignore[misc]  # Hydra ships no types
    """Runs jobs in a pool of joblib's loky workers, which is made anew when a worker dies."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs
        self.config: Any = None
        self.hydra_context: Any = None
        self.task_function: Any = None

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep what Hydra gives."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Run all jobs; lost ones are reported to the sweep, not raised."""
        from joblib.externals.loky import get_reusable_executor

        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        left = works(self, job_overrides, initial_job_idx)
        tried: set[int] = set()
        while left:
            pool = get_reusable_executor(
                max_workers=None if self.n_jobs < 1 else self.n_jobs, kill_workers=True, env=thread_share(self.n_jobs)
            )
            futures = {pool.submit(work): work for work in left}
            left = []
            for future in as_completed(futures):
                left += self._settle(future, futures[future], tried)
        return [done() for _ in job_overrides]

    def _settle(self, future: Future[None], work: Work, tried: set[int]) -> list[Work]:
        """A pool that broke takes innocent jobs along: each is tried once more; twice is its own fault."""
        error = future.exception()
        if error is None:
            return []
        if isinstance(error, BrokenProcessPool) and work.number not in tried:
            tried.add(work.number)
            return [work]
        job_lost(work.number, f"its worker died or raised ({type(error).__name__})\n{error}")
        return []
