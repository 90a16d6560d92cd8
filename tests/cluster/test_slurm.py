"""Whole sweeps on a real Slurm: a job killed, a node killed, queued again, out of time, no accounting."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.run import biaslab, environment
from tests.cluster.slurm import Slurm

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400), pytest.mark.xdist_group("slurm")]

#: A cell that lasts: the benchmark's items come after a pause, so that there is time to kill.
SLOW = """
import os, time
if os.environ.get("SLURM_JOB_ID"):
    from biaslab import cell
    inner = cell.compute
    def compute(spec, *args, **kwargs):
        pause = float(os.environ.get("PAUSE", "0"))
        mark = os.path.join(os.environ["MARKS"], spec.ref.accel + "-" + spec.ref.benchmark)
        with open(mark, "a") as file:
            number = os.environ["SLURM_JOB_ID"]
            if "SLURM_ARRAY_JOB_ID" in os.environ:  # a single job is no array
                number = os.environ["SLURM_ARRAY_JOB_ID"] + "_" + os.environ["SLURM_ARRAY_TASK_ID"]
            file.write(number + " " + os.environ.get("SLURM_RESTART_COUNT", "0") + "\\n")
        if spec.ref.accel == os.environ.get("SLOW_ACCEL") and spec.ref.benchmark == "planted_choices":
            time.sleep(pause if os.environ.get("SLURM_RESTART_COUNT", "0") == "0" else 0)
        return inner(spec, *args, **kwargs)
    cell.compute = compute
"""
LINE = (
    "-m", "hydra/launcher=slurm", "hydra.launcher.partition=loop", "hydra.launcher.poll_s=1",
    "hydra.launcher.cpus_per_task=2", "model=tiny_llama", "benchmark=[planted,planted_choices]", "limit=24",
    "tracker=none",
)  # fmt: skip


class Run:
    """A sweep in a process of its own, with the pausing hook in its jobs."""

    def __init__(self, slurm: Slurm, folder: Path, *words: str, slow: str = "", pause: float = 0.0) -> None:
        hook = folder / "hook"
        hook.mkdir(exist_ok=True)
        self.marks = folder / "marks"
        self.marks.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(SLOW)
        env = environment(MARKS=str(self.marks), SLOW_ACCEL=slow, PAUSE=str(pause)) | slurm.env
        env["PYTHONPATH"] = f"{hook}:{env['PYTHONPATH']}"
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "biaslab", *LINE, *words], cwd=folder, env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=300)
        return self.process.returncode, out, err

    def wait_for(self, mark: str) -> str:
        """Slurm's number of the job that began the cell of that mark."""
        path = self.marks / mark
        wait(lambda: path.is_file() and path.read_text().endswith("\n"))
        return path.read_text().split()[-2]

    def complete(self) -> set[tuple[str, str]]:
        found = (self.folder / "outputs" / "results").rglob("cell.json")
        return {(p.parts[-3], p.parts[-5]) for p in found}

    def states(self) -> dict[tuple[str, str], tuple[str, str]]:
        (path,) = (self.folder / "outputs" / "sweeps").glob("*/sweep.json")
        cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
        return {(c["accel"], c["benchmark"]): (c["state"], c["error"]) for c in cells}


def wait(ready: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.2)


ALL = {(accel, name) for accel in ("none", "hqq4", "hqq8") for name in ("planted", "planted_choices")}


def test_a_sweep_runs_as_an_array_and_is_analysed_once(slurm: Slurm, tmp_path: Path) -> None:
    run = Run(slurm, tmp_path, "accel=hqq4,hqq8")
    code, out, err = run.end()
    assert code == 0, out + err
    assert run.complete() == ALL
    assert len(list((tmp_path / "outputs" / "reports").iterdir())) == 1
    assert out.count("report.html") == 1
    numbers = {mark.read_text().split()[0] for mark in run.marks.iterdir()}
    assert len(numbers) == 2  # two jobs did the work
    (array,) = {number.split("_")[0] for number in numbers}
    assert f"submitted 2 jobs (6 cells) as Slurm array {array} to partition loop; to watch: squeue -j {array}" in out
    for job in ("job 0 (tiny_llama hqq4)", "job 1 (tiny_llama hqq8)"):
        assert f"/6] + {job}: ended, 4 of its 4 cells are complete" in out


def test_a_killed_job_fails_its_own_cells_on_record_and_the_line_again_mends_it(slurm: Slurm, tmp_path: Path) -> None:
    run = Run(slurm, tmp_path, "accel=hqq4,hqq8", "analysis=skip", slow="hqq8", pause=120)
    number = run.wait_for("hqq8-planted_choices")
    slurm.ask("scancel", "--signal=KILL", "--full", number)
    code, out, err = run.end()
    assert code == 3, out + err
    assert run.complete() == ALL - {("hqq8", "planted_choices")}
    state, error = run.states()["hqq8", "planted_choices"]
    assert state == "failed"
    assert "is lost: it" in error
    (record,) = tmp_path.rglob("failure.json")
    assert "Slurm job" in json.loads(record.read_text())["error"]
    assert "hqq8 planted_choices: failed job 1: Slurm job" in err
    assert "run the same line again" in err
    again = Run(slurm, tmp_path, "accel=hqq4,hqq8", "analysis=skip")
    assert again.end()[0] == 0
    assert again.complete() == ALL


def test_a_dead_nodes_job_is_queued_again_and_goes_on_elsewhere(slurm: Slurm, tmp_path: Path) -> None:
    run = Run(slurm, tmp_path, "accel=hqq4,hqq8", "analysis=skip", slow="hqq8", pause=180)
    number = run.wait_for("hqq8-planted_choices")
    node = slurm.ask("squeue", "-h", "-j", number, "-o", "%N")
    try:
        slurm.kill_node(int(node.removeprefix("loop")))
        code, out, err = run.end()
    finally:
        slurm.start_node(int(node.removeprefix("loop")))
    assert code == 0, out + err
    assert run.complete() == ALL
    begun = (run.marks / "hqq8-planted_choices").read_text().splitlines()
    assert len(begun) == 2
    assert len((run.marks / "hqq8-planted").read_text().splitlines()) == 1  # what was complete was not done again


def test_a_job_that_may_not_be_queued_again_is_lost_with_its_node(slurm: Slurm, tmp_path: Path) -> None:
    words = ("accel=hqq4,hqq8", "analysis=skip", "+hydra.launcher.additional_parameters.no_requeue=true")
    run = Run(slurm, tmp_path, *words, slow="hqq8", pause=180)
    number = run.wait_for("hqq8-planted_choices")
    node = int(slurm.ask("squeue", "-h", "-j", number, "-o", "%N").removeprefix("loop"))
    try:
        slurm.kill_node(node)
        code, out, err = run.end()
    finally:
        slurm.start_node(node)
    assert code == 3, out + err
    assert run.complete() == ALL - {("hqq8", "planted_choices")}
    assert "NODE_FAIL" in run.states()["hqq8", "planted_choices"][1]


def test_a_preempted_job_queues_itself_again_and_finishes(slurm: Slurm, tmp_path: Path) -> None:
    run = Run(slurm, tmp_path, "accel=hqq4,hqq8", "analysis=skip", slow="hqq8", pause=180)
    number = run.wait_for("hqq8-planted_choices")
    slurm.ask("scancel", "--signal=USR2", number)
    code, out, err = run.end()
    assert code == 0, out + err
    assert run.complete() == ALL
    restarts = [line.split()[1] for line in (run.marks / "hqq8-planted_choices").read_text().splitlines()]
    assert restarts == ["0", "1"]


def test_a_job_that_meets_its_time_limit_goes_on_in_a_second_one(slurm: Slurm, tmp_path: Path) -> None:
    # Slurm may send its signal a minute early: no job of this test may still be starting then.
    words = ("accel=hqq8", "analysis=skip", "hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=60")
    run = Run(slurm, tmp_path, *words, slow="hqq8", pause=180)
    code, out, err = run.end()
    assert code == 0, out + err
    restarts = [line.split()[1] for line in (run.marks / "hqq8-planted_choices").read_text().splitlines()]
    assert restarts == ["0", "1"]
    assert run.complete() == {(a, b) for a, b in ALL if a != "hqq4"}


def test_out_of_time_too_often_ends_the_job_and_is_a_failure_on_record(slurm: Slurm, tmp_path: Path) -> None:
    # A limit of less than ten minutes is met by any signal.
    words = ("accel=hqq8", "analysis=skip", "hydra.launcher.timeout_min=9", "hydra.launcher.signal_delay_s=5")
    run = Run(slurm, tmp_path, *words, "hydra.launcher.max_num_timeout=0", slow="hqq8", pause=180)
    slurm.ask("scancel", "--signal=USR2", run.wait_for("hqq8-planted_choices"))
    code, out, err = run.end()
    assert code == 3, out + err
    assert run.complete() == {(a, b) for a, b in ALL if a != "hqq4"} - {("hqq8", "planted_choices")}
    assert "timed-out too many times" in run.states()["hqq8", "planted_choices"][1]
    (failure,) = tmp_path.rglob("failure.json")
    assert "timed-out too many times" in json.loads(failure.read_text())["error"]


def test_interrupting_the_line_leaves_the_jobs_and_says_how_to_end_them(slurm: Slurm, tmp_path: Path) -> None:
    run = Run(slurm, tmp_path, "accel=hqq8", "analysis=skip", slow="hqq8", pause=6)
    run.wait_for("hqq8-planted_choices")
    run.process.send_signal(signal.SIGINT)
    code, out, err = run.end()
    assert code == 130, out + err
    assert "the jobs stay in the queue; scancel " in out
    seen = biaslab(tmp_path, "status", env=slurm.env)
    assert re.search(r"1 Slurm job \(\d+, partition loop\): 1 running; scancel \d+ ends it", seen.out), seen
    assert "missing" not in seen.out
    wait(lambda: ("hqq8", "planted_choices") in run.complete())
