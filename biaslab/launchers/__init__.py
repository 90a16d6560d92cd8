"""Launchers beyond one process, made to outlive a lost job.

Hydra's own plug-ins raise at the first job without a result, which ends the sweep; and its Ray plug-in pins
cloudpickle below what joblib needs. So ours submit through submitit (with Hydra's plug-in as base), Ray and
joblib themselves. Hydra takes launchers from its namespace `hydra_plugins` only: ours are registered under a
name in it when a line starts, so a checkout, an editable install and a wheel need nothing more.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from biaslab.errors import ConfigError

NAMESPACE = "hydra_plugins.biaslab"
#: our launcher -> (module and class here, library it needs, extra that brings it)
LAUNCHERS = {
    "SlurmLauncher": ("biaslab.launchers.slurm", "hydra_plugins.hydra_submitit_launcher", "slurm"),
    "RayLauncher": ("biaslab.launchers.ray", "ray", "ray"),
    "JoblibLauncher": ("biaslab.launchers.joblib", "joblib", "joblib"),
}


@dataclass
class Work:
    """One job as a worker runs it: everything Hydra needs to compose it and to call the task function.

    folder : where the line was typed; a worker of a running cluster starts elsewhere, and paths are relative.
    """

    hydra_context: Any
    task_function: Any
    config: Any
    overrides: tuple[str, ...]
    number: int
    state: dict[type, Any]
    folder: str

    def __call__(self) -> None:
        """Compose the job and run it; its results are in the store and in its own ledger."""
        from hydra.core.singleton import Singleton
        from hydra.core.utils import run_job, setup_globals
        from omegaconf import open_dict

        from biaslab.config import register, register_resolvers
        from biaslab.console import outlive_reader

        outlive_reader()  # a worker of this machine may print where the typed line does
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: not to be entered on {socket.gethostname()} ({error.strerror}); type the line in a "
                "folder that all workers see"
            ) from error
        register()
        register_resolvers()
        Singleton.set_state(self.state)
        setup_globals()
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(self.overrides))
        with open_dict(composed.hydra.job):
            composed.hydra.job.num, composed.hydra.job.id = self.number, str(self.number)
        run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=composed,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


def works(launcher: Any, job_overrides: Any, first: int) -> list[Work]:
    """The jobs of a batch, as pickles can carry them to a worker."""
    from hydra.core.singleton import Singleton

    state = Singleton.get_state()
    return [
        Work(
            launcher.hydra_context, launcher.task_function, launcher.config, tuple(words), first + i, state, os.getcwd()
        )
        for i, words in enumerate(job_overrides)
    ]


def thread_share(n_jobs: int) -> dict[str, str]:
    """What a worker's environment gets, so that all workers together have one thread a processor.

    What you have set yourself stays, and `threads=` of the line wins in the worker.
    """
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = str(max(1, n_cpus // n_jobs) if n_jobs > 0 else 1)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    return {name: share for name in names if name not in os.environ}


def done() -> Any:
    """What Hydra gets for every job, lost ones too: the sweep itself keeps the account of what is there."""
    from hydra.core.utils import JobReturn, JobStatus

    return JobReturn(_return_value=[], status=JobStatus.COMPLETED)


def register_launchers(target: str) -> None:
    """Make the launcher that a config names known to Hydra.

    target : hydra.launcher._target_ of the composed config; anything that is not ours is left alone.
    Raises ConfigError if the library it needs is not installed.
    """
    name = target.removeprefix(f"{NAMESPACE}.")
    if target == name or name not in LAUNCHERS:
        return
    module, plugin, extra = LAUNCHERS[name]
    try:
        present = find_spec(plugin) is not None
    except ModuleNotFoundError:
        present = False
    if not present:
        raise ConfigError(
            f"hydra/launcher={extra}: needs the extra of that name: pip install -c constraints.txt 'biaslab[{extra}]'"
        )
    _register(getattr(import_module(module), name))  # never pickled: workers get a Work


def register_sweeper(target: str) -> bool:
    """Make our sweeper known to Hydra if it is `target`, hydra.sweeper._target_ of the composed config."""
    if target != f"{NAMESPACE}.Sweeper":
        return False
    from hydra.core.plugins import Plugins

    from biaslab.sweeper import sweeper

    Plugins.instance()  # it loads Hydra's own sweeper once more
    _register(sweeper())
    return True


def _register(cls: type) -> None:
    from hydra.core.plugins import Plugins

    cls.__module__ = NAMESPACE
    setattr(_namespace(), cls.__name__, cls)
    Plugins.instance().register(cls)


def check_multirun(choice: str, target: str, line: str) -> None:
    """ConfigError where a line without -m chooses a launcher: Hydra would run it in this process, without a word.

    choice, target : hydra/launcher as it was chosen, and hydra.launcher._target_. line : what was typed.
    """
    if target.endswith(".BasicLauncher"):
        return
    with_m = line.replace("python -m biaslab", "python -m biaslab -m", 1)
    raise ConfigError(f"hydra/launcher={choice}: launches only what is typed with -m; add it: {with_m}")


def _namespace() -> ModuleType:
    """The module NAMESPACE, by which Hydra finds the class; made here, for no file has that name."""
    package, _, name = NAMESPACE.partition(".")
    try:
        parent = import_module(package)
    except ModuleNotFoundError:  # no plug-in is installed
        parent = sys.modules[package] = ModuleType(package)
    ours = sys.modules.setdefault(NAMESPACE, ModuleType(NAMESPACE))
    setattr(parent, name, ours)
    return ours
