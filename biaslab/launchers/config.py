"""Schemas of the launchers' config groups: a misspelt key fails by name before anything is submitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class SlurmQueue:
    """What is asked of Slurm for each job (one model and accelerator stack, all its benchmarks).

    timeout_min : time limit of a job; a job that meets it is queued again, at most max_num_timeout times, and
        goes on where it was. signal_delay_s : seconds before the limit at which it is told.
    array_parallelism : jobs that run at once. poll_s : seconds between two questions to the queue.
    additional_parameters : any further option of sbatch by its name.
    """

    _target_: str = "hydra_plugins.biaslab.SlurmLauncher"
    submitit_folder: str = "${hydra.sweep.dir}/.submitit/%j"
    name: str = "biaslab"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    comment: str | None = None
    gres: str | None = None
    timeout_min: int = 240
    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: int | None = None
    signal_delay_s: int = 120
    max_num_timeout: int = 20
    array_parallelism: int = 256
    stderr_to_stdout: bool = False
    setup: list[str] | None = None
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    poll_s: float = 30.0


@dataclass
class RayShare:
    """What Ray gives each job.

    address : of a running cluster ("auto" for this machine's); null starts Ray here. num_cpus, num_gpus : the
    share of each job (a GPU may be shared: 0.5). max_retries : how often a job whose worker died starts again.
    init : further arguments of ray.init.
    """

    _target_: str = "hydra_plugins.biaslab.RayLauncher"
    address: str | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    max_retries: int = 2
    init: dict[str, Any] = field(default_factory=dict)


@dataclass
class JoblibPool:
    """Processes of this machine. n_jobs : how many; -1 for one per core."""

    _target_: str = "hydra_plugins.biaslab.JoblibLauncher"
    n_jobs: int = 2


def register() -> None:
    """Put the schemas where the YAML files of conf/hydra/launcher find them."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # an installed plug-in registers a choice `ray` or `joblib` of its own: ours replaces it
    store = ConfigStore.instance()
    for name, node in (("slurm", SlurmQueue), ("ray", RayShare), ("joblib", JoblibPool)):
        store.repo.get("hydra", {}).get("launcher", {}).pop(f"{name}.yaml", None)
        store.store(name, node=node, group="schema/launcher")
