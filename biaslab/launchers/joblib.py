"""Processes of one machine through joblib; a worker that dies costs its own cells, never the sweep."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher

from biaslab.launchers import Work, done, thread_share, works
from biaslab.sweep import job_ended, job_lost


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
        from joblib import cpu_count

        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        left = deque(works(self, job_overrides, initial_job_idx))
        while left:
            # A pool that breaks takes innocent jobs along: only what breaks a worker of its own is at fault.
            for suspect, _ in self._run(left, cpu_count() if self.n_jobs < 1 else self.n_jobs):
                for work, error in self._run(deque([suspect]), 1):
                    _lost(work, error)
        return [done() for _ in job_overrides]

    def _run(self, left: deque[Work], workers: int) -> list[tuple[Work, BaseException]]:
        """Run what is left until all is done or the pool breaks; returns what was in a worker's hands then.

        As many are handed over as there are workers, so that a broken pool makes no more suspects than that.
        """
        from joblib.externals.loky import get_reusable_executor

        pool = get_reusable_executor(max_workers=workers, kill_workers=True, env=thread_share(self.n_jobs))
        running: dict[Future[None], Work] = {}
        suspects: list[tuple[Work, BaseException]] = []
        while running or (left and not suspects):
            while left and not suspects and len(running) < workers:
                work = left.popleft()
                try:
                    running[pool.submit(work)] = work
                except BrokenProcessPool as broken:  # it broke between two jobs
                    suspects.append((work, broken))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                work, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    suspects.append((work, error))
                elif error is not None:
                    _lost(work, error)
                else:
                    job_ended(work.number)
        return suspects


def _lost(work: Work, error: BaseException) -> None:
    said = next(iter(str(error).splitlines()), "")
    job_lost(work.number, f"its worker died or raised ({type(error).__name__}: {said})\n{error}")
