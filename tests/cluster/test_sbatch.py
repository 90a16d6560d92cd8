"""What reaches sbatch, and how the queue's and the accounting's answers are read: on stand-ins for the commands."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from biaslab.launchers.queue import job_states, queued_states
from tests.cli.run import biaslab

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs tests/cluster/install.sh")


def commands(folder: Path, **scripts: str) -> str:
    """A PATH on which the commands are shell scripts of these words."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_partition_account_gpus_array_and_limits_reach_sbatch(tmp_path: Path) -> None:
    path = commands(
        tmp_path / "bin", srun="exit 1", sbatch=f"cp $1 {tmp_path}/submitted; echo Submitted batch job 77",
        squeue="exit 0", sacct="exit 1",
    )  # fmt: skip
    words = {
        "partition": "long", "account": "me", "qos": "high", "constraint": "a100", "gpus_per_node": "2",
        "cpus_per_task": "6", "mem_gb": "48", "timeout_min": "90", "signal_delay_s": "45", "array_parallelism": "1",
        "poll_s": "0.2", "comment": "bias", "exclude": "n7", "additional_parameters.mail_type": "FAIL",
    }  # fmt: skip
    line = [f"{'+' * ('.' in name)}hydra.launcher.{name}={value}" for name, value in words.items()]
    ended = biaslab(
        tmp_path, "-m", "hydra/launcher=slurm", *line, "accel=hqq4,hqq8", "benchmark=planted", "limit=4",
        "tracker=none", "analysis=skip", env={"PATH": path},
    )  # fmt: skip
    assert ended.code == 3, ended  # no such job is known to the queue: its cells are failures on record
    assert "hqq8 planted: failed job 1: Slurm job 77_1 is lost: it is no longer known to the queue" in ended.err
    assert re.search(
        r"^submitted 2 jobs \(3 cells\) as Slurm array 77 to partition long; to watch: squeue -j 77, "
        r"or python -m biaslab status outputs/sweeps/\S+$", ended.out, re.MULTILINE,
    ), ended  # fmt: skip
    assert "[3/3] ! job 1 (tiny_llama hqq8): Slurm job 77_1 is lost" in ended.out
    asked = {text.removeprefix("#SBATCH ") for text in (tmp_path / "submitted").read_text().splitlines()}
    assert asked >= {
        "--partition=long", "--account=me", "--qos=high", "--constraint=a100", "--gpus-per-node=2",
        "--cpus-per-task=6", "--mem=48GB", "--time=90", "--signal=USR2@45", "--array=0-1%1", "--comment=bias",
        "--exclude=n7", "--mail-type=FAIL", "--job-name=biaslab", "--open-mode=append",
    }  # fmt: skip
    assert not any("hydra" in text or "poll" in text for text in asked if text.startswith("--"))


REFUSED = (
    'echo "sbatch: error: invalid partition specified: gpus" >&2; '
    'echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2; exit 1'
)
LINE = ("-m", "hydra/launcher=slurm", "accel=hqq4,hqq8", "benchmark=planted", "limit=4", "tracker=none",
        "analysis=skip")  # fmt: skip


def test_what_sbatch_refuses_is_one_line_and_leaves_no_sweep(tmp_path: Path) -> None:
    path = commands(tmp_path / "bin", srun="exit 1", sbatch=REFUSED, squeue="exit 0", sacct="exit 1")
    kept = tmp_path / "outputs" / "sweeps" / "before" / "sweep.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    ended = biaslab(tmp_path, *LINE, "hydra.launcher.partition=gpus", env={"PATH": path})
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert ended.err.startswith(
        "biaslab: hydra/launcher=slurm: sbatch: error: invalid partition specified: gpus; Batch job submission failed: "
        "Invalid partition name specified; nothing was submitted: set hydra.launcher.partition, "
    )
    assert list(tmp_path.rglob("sweep.json")) == [kept]
    (log,) = tmp_path.rglob("biaslab.log")
    assert "Traceback" in log.read_text()
    assert "FailedJobError" in log.read_text()


def test_a_machine_without_slurm_is_said_in_one_line(tmp_path: Path) -> None:
    ended = biaslab(tmp_path, *LINE, env={"PATH": commands(tmp_path / "bin").partition(":")[0]})
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert "hydra/launcher=slurm: no sbatch and no srun on this machine; type the line where jobs are" in ended.err
    assert not list(tmp_path.rglob("sweep.json"))


def test_a_lost_job_is_told_by_its_last_words(tmp_path: Path) -> None:
    from biaslab.launchers.slurm import _obituary

    log = tmp_path / "log.err"
    job = SimpleNamespace(job_id="7_1", paths=SimpleNamespace(stderr=log))
    assert _obituary(job, "NODE_FAIL") == "Slurm job 7_1 is lost: it ended as NODE_FAIL\n"
    log.write_text("Traceback (most recent call last):\n  ...\nModuleNotFoundError: No module named 'biaslab'\n\n")
    first, *rest = _obituary(job, "FAILED").splitlines()
    assert first == "Slurm job 7_1 is lost: it ended as FAILED (ModuleNotFoundError: No module named 'biaslab')"
    assert rest[0] == "Traceback (most recent call last):"
    assert _obituary(job, "CANCELLED").splitlines()[0] == "Slurm job 7_1 is lost: it ended as CANCELLED"


def test_a_job_that_raised_is_told_by_what_it_raised_not_by_the_path_of_its_log() -> None:
    from biaslab.launchers.slurm import _cause

    last = "submitit.core.utils.UncompletedJobError: Job not requeued because: timed-out too many times."
    trace = f"Traceback (most recent call last):\n  File x, line 1\n    checkpoint()\n{last}\n"
    line = 22 * "-"
    words = f"Job (task=0) failed during processing with trace:\n{line}\n{trace}\n{line}\n"  # as submitit 1.5 has it
    words += "You can check full logs with 'job.stderr(0)' and 'job.stdout(0)'or at paths:\n  - /x.err\n  - /x.out"
    assert _cause(words) == "Job not requeued because: timed-out too many times."
    assert _cause("Job 7 (task: 0) with path /x has not produced any output (state: FAILED)").endswith("FAILED)")


@pytest.mark.parametrize(
    ("squeue", "sacct", "expected"),
    [
        ('echo "7_0|RUNNING"; echo "7_1|NODE_FAIL"', "echo never asked; exit 1", ["RUNNING", "NODE_FAIL"]),
        ('echo "7_0|RUNNING"', 'echo "7_1|CANCELLED by 0"', ["RUNNING", "CANCELLED"]),  # forgotten by the queue
        ('echo "7_0|RUNNING"', 'echo "Slurm accounting storage is disabled" >&2; exit 1', ["RUNNING", "GONE"]),
        ('echo "slurm_load_jobs error: Invalid job id" >&2; exit 1', "exit 1", ["GONE", "GONE"]),
        ('echo "7_0|RUNNING"; echo "7_1|COMPLETED"', 'echo "7_1|FAILED"', ["RUNNING", "COMPLETED"]),
    ],
)
def test_states_come_from_the_queue_and_of_forgotten_jobs_from_the_accounting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeue: str, sacct: str, expected: list[str]
) -> None:
    monkeypatch.setenv("PATH", commands(tmp_path / "bin", squeue=squeue, sacct=sacct))
    assert job_states(["7_0", "7_1"]) == dict(zip(["7_0", "7_1"], expected, strict=True))


@pytest.mark.parametrize(
    ("squeue", "expected"),
    [
        ('echo "7_0|PENDING"', {"7_0": "PENDING", "7_1": "GONE"}),
        ('echo "slurm_load_jobs error: Invalid job id" >&2; exit 1', {"7_0": "GONE", "7_1": "GONE"}),
        ('echo "Unable to contact slurm controller" >&2; exit 1', None),
    ],
)
def test_a_queue_that_does_not_answer_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeue: str, expected: dict[str, str] | None
) -> None:
    monkeypatch.setenv("PATH", commands(tmp_path / "bin", squeue=squeue))
    assert queued_states(["7_0", "7_1"]) == expected
