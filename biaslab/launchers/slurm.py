"""Slurm through submitit: a job that is killed or whose node dies costs its own cells, never the sweep.

submitit's launcher raises at the first job without a result, and asks sacct how jobs are, which clusters
without accounting lack. This one asks squeue, then sacct if need be, and reports a lost job to the sweep.
A job that meets its time limit, or is pre-empted, queues itself again under its own number (submitit's
checkpoint) and finds in the store what it had finished, chunks of a long cell among it.
"""

from __future__ import annotations

import io
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

from biaslab.errors import ConfigError
from biaslab.launchers import Work, done, works
from biaslab.launchers.queue import ENDED, arrays, job_states
from biaslab.sweep import job_ended, job_lost, jobs_submitted, withdraw

#: How long a shared file system may take to show the result of a job that has ended.
GRACE_S = 20.0
TAIL = 4000
SAID = 160  # letters of a lost job's last line that are shown
UNEXPLAINED = ("FAILED", "COMPLETED", "GONE")  # states that do not tell why a job left no result
OURS = ("submitit_folder", "max_num_timeout", "poll_s")
SHARED = ("timeout_min", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb", "name",
          "stderr_to_stdout")  # fmt: skip


class Ended(BaseException):
    """submitit gives a job up: passes the boundary of the cell that runs, so that the next one does not begin."""


class Requeued:
    """A job as submitit pickles it; queued again, it is the same job."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self) -> None:
        """Run the job; what submitit raises at a time limit ends it, and no cell takes it for its own failure."""
        from submitit.core.job_environment import JobEnvironment

        number = JobEnvironment._usr_sig()
        inner = signal.getsignal(number)

        def told(*words: Any) -> None:
            assert callable(inner)
            try:
                inner(*words)
            except Exception as error:
                raise Ended from error

        if callable(inner):
            signal.signal(number, told)
        try:
            self.work()
        except Ended as ended:
            raise ended.__cause__ or ended from None

    def checkpoint(self) -> Any:
        """What submitit queues again at a time limit or pre-emption: the store holds what was finished."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class SlurmLauncher(BaseSubmititLauncher):  # type: ignore[misc]  # the plug-in ships no types
    """Submits the jobs of a sweep as one array and waits for all of them, however they end."""

    _EXECUTOR = "slurm"

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Run all jobs; lost ones are reported to the sweep, not raised. ConfigError if sbatch takes none."""
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        batch = works(self, job_overrides, initial_job_idx)
        try:
            jobs = self._submit(batch)
        except ConfigError as error:
            withdraw(error)
            raise
        waiting = {job: work.number for job, work in zip(jobs, batch, strict=True)}
        jobs_submitted({number: job.job_id for job, number in waiting.items()}, str(self.params["partition"] or ""))
        try:
            self._wait(waiting)
        except KeyboardInterrupt:
            ids = arrays(job.job_id for job in jobs)
            print(f"biaslab: the jobs stay in the queue; scancel {ids} ends them", flush=True)
            raise
        return [done() for _ in jobs]

    def _submit(self, batch: Sequence[Work]) -> list[Any]:
        import submitit

        if absent := [program for program in ("sbatch", "srun") if shutil.which(program) is None]:
            raise ConfigError(
                f"hydra/launcher=slurm: no {' and no '.join(absent)} on this machine; type the line where jobs are "
                "submitted from (a login node), or leave hydra/launcher out to compute here"
            )
        executor = submitit.AutoExecutor(
            folder=self.params["submitit_folder"],
            cluster="slurm",
            slurm_max_num_timeout=self.params["max_num_timeout"],
        )
        asked = {k: v for k, v in self.params.items() if k not in OURS and v not in (None, {}, [])}
        executor.update_parameters(**{k if k in SHARED else f"slurm_{k}": v for k, v in asked.items()})
        try:
            with redirect_stderr(io.StringIO()) as twice:  # submitit prints what it raises
                with executor.batch():
                    jobs = [executor.submit(Requeued(work)) for work in batch]
        except submitit.core.utils.FailedJobError as error:
            raise ConfigError(
                f"hydra/launcher=slurm: {_words(str(error))}; nothing was submitted: set hydra.launcher.partition, "
                f"account, gpus_per_node, ... to what this cluster has (sinfo shows it)"
            ) from error
        print(twice.getvalue(), end="", file=sys.stderr)
        return jobs

    def _wait(self, waiting: dict[Any, int]) -> None:
        """Until every job has a result or is lost."""
        ended: dict[Any, float] = {}
        asked = float("-inf")
        while waiting:
            for job in [job for job in waiting if job.paths.result_pickle.exists()]:
                number = waiting.pop(job)
                if (error := job.exception()) is not None:
                    job_lost(number, f"Slurm job {job.job_id}: {_cause(str(error))}\n{error}")
                else:
                    job_ended(number)
            if time.monotonic() - asked >= self.params["poll_s"]:
                asked = time.monotonic()
                states = job_states(job.job_id for job in waiting)
                for job, state in [(job, states[job.job_id]) for job in waiting]:
                    if state not in ENDED:
                        ended.pop(job, None)  # queued again
                    elif asked - ended.setdefault(job, asked) >= min(GRACE_S, 4 * self.params["poll_s"]):
                        job_lost(waiting.pop(job), _obituary(job, state))
            time.sleep(min(1.0, self.params["poll_s"]))


def _obituary(job: Any, state: str) -> str:
    """Why a job left no result: its state, and what it said last."""
    words = {
        "GONE": "it is no longer known to the queue",
        "COMPLETED": "it ended without a result",
    }.get(state, f"it ended as {state}")
    try:
        text = Path(job.paths.stderr).read_text(encoding="utf-8", errors="replace")[-TAIL:]
    except OSError:
        text = ""
    said = f" ({_last_line(text)[:SAID]})" if text.strip() and state in UNEXPLAINED else ""
    return f"Slurm job {job.job_id} is lost: {words}{said}\n{text}"


def _words(refusal: str) -> str:
    r"""What sbatch said, in one line.

    >>> _words("sbatch: error: invalid partition specified: gpus\nsbatch: error: Batch job submission failed")
    'sbatch: error: invalid partition specified: gpus; Batch job submission failed'
    """
    lines = [line.strip() for line in refusal.splitlines() if line.strip()]
    return "; ".join([*lines[:1], *(line.removeprefix("sbatch: error: ") for line in lines[1:])]) or "sbatch failed"


def _cause(failure: str) -> str:
    r"""What ended a job, of submitit's words: the last line of the traceback, which paths of logs follow.

    >>> _cause("failed with trace:\n-----------\n  line 7\nbiaslab.errors.ConfigError: no room\n-----------\nlogs: /x")
    'no room'
    """
    trace = re.search(r"^-{9,}\n(.*)^-{9,}$", failure, re.DOTALL | re.MULTILINE)
    return re.sub(r"^(submitit|biaslab)[\w.]*: ", "", _last_line(trace[1] if trace else failure))


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it failed")
