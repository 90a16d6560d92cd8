"""Whole sweeps on Ray, here and on a cluster's address: a worker killed, the head restarted; and on joblib."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.run import biaslab, environment
from tests.cluster.test_page import line_of, whole

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400), pytest.mark.xdist_group("ray")]

#: Writes the worker's number when it begins the cell; pauses there once.
HOOK = """
import os, time
if os.environ.get("MARKS"):
    from biaslab import cell
    inner = cell.compute
    def compute(spec, *args, **kwargs):
        path = os.path.join(os.environ["MARKS"], spec.ref.accel + "-" + spec.ref.benchmark)
        first = not os.path.exists(path)
        with open(path, "a") as file:
            file.write(str(os.getpid()) + "\\n")
        if spec.ref.accel == os.environ["SLOW_ACCEL"] and (first or os.environ["ALWAYS"] == "1"):
            time.sleep(float(os.environ["PAUSE"]))
        return inner(spec, *args, **kwargs)
    cell.compute = compute
if os.environ.get("RECONNECT_S"):
    from biaslab.launchers import ray
    ray.RECONNECT_S = float(os.environ["RECONNECT_S"])
"""
Sweep = subprocess.Popen[str]
LINE = ("-m", "model=tiny_llama", "accel=hqq4,hqq8", "benchmark=planted", "limit=24", "analysis=skip", "tracker=none")


def start(
    folder: Path, *words: str, slow: str = "-", pause: float = 0.0, always: bool = False, reconnect: str = ""
) -> subprocess.Popen[str]:
    hook, marks = folder / "hook", folder / "marks"
    hook.mkdir(exist_ok=True)
    marks.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(HOOK)
    env = environment(
        MARKS=str(marks), SLOW_ACCEL=slow, PAUSE=str(pause), ALWAYS=str(int(always)), RAY_AUTH_MODE="disabled",
        RECONNECT_S=reconnect,
    )  # fmt: skip
    env["PYTHONPATH"] = f"{hook}:{env['PYTHONPATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "biaslab", *LINE, *words], cwd=folder, env=env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def worker_of(folder: Path, mark: str) -> int:
    path, end = folder / "marks" / mark, time.monotonic() + 150
    while not path.is_file() or not path.read_text().endswith("\n"):
        assert time.monotonic() < end, "the cell never began"
        time.sleep(0.2)
    return int(path.read_text().split()[-1])


def complete(folder: Path) -> set[str]:
    return {p.parts[-3] for p in (folder / "outputs" / "results").rglob("cell.json")}


RAY = ("hydra/launcher=ray", "+hydra.launcher.init.num_cpus=2")


def test_a_sweep_runs_on_ray_here(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray: tests/cluster/install.sh")
    process = start(tmp_path, *RAY)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert complete(tmp_path) == {"none", "hqq4", "hqq8"}
    assert "[3/3] + job " in out
    assert "\x1b" not in out + err
    assert " INFO " not in out + err


def test_a_killed_ray_worker_costs_nothing_but_its_time(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray: tests/cluster/install.sh")
    process = start(tmp_path, *RAY, slow="hqq8", pause=60)
    os.kill(worker_of(tmp_path, "hqq8-planted"), signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert complete(tmp_path) == {"none", "hqq4", "hqq8"}


def test_a_worker_that_may_not_start_again_fails_its_cells_on_record(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray: tests/cluster/install.sh")
    process = start(tmp_path, *RAY, "hydra.launcher.max_retries=0", slow="hqq8", pause=60)
    os.kill(worker_of(tmp_path, "hqq8-planted"), signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 3, out + err
    assert complete(tmp_path) == {"none", "hqq4"}
    assert "hqq8 planted: failed job 1: its Ray worker is lost" in err


def test_a_restarted_head_is_found_again(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray: tests/cluster/install.sh")
    port = 20000 + os.getpid() % 9000
    ray = Path(sys.executable).with_name("ray")
    env = environment(
        RAY_AUTH_MODE="disabled", MARKS=str(tmp_path / "marks"), SLOW_ACCEL="hqq8", PAUSE="40", ALWAYS="0"
    )
    env["PYTHONPATH"] = f"{tmp_path / 'hook'}:{env['PYTHONPATH']}"

    def head() -> subprocess.Popen[bytes]:
        options = ("--num-cpus=2", "--include-dashboard=false", "--block", f"--temp-dir=/tmp/ray-{os.getpid()}")
        command = [str(ray), "start", "--head", f"--port={port}", *options]
        return subprocess.Popen(
            command, env=env, cwd=elsewhere, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def end(running: subprocess.Popen[bytes]) -> None:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(60)

    elsewhere = tmp_path / "elsewhere"  # the cluster's workers do not start where the line is typed
    elsewhere.mkdir()
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    first = head()
    process = start(tmp_path, "hydra/launcher=ray", f"hydra.launcher.address=127.0.0.1:{port}", slow="hqq8", pause=40)
    try:
        worker_of(tmp_path, "hqq8-planted")
        end(first)
        first = head()
        out, err = process.communicate(timeout=300)
    finally:
        end(first)
    assert process.returncode == 0, out + err
    assert complete(tmp_path) == {"none", "hqq4", "hqq8"}
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("hydra.launcher.address=127.0.0.1:1", "Ray cannot be had at hydra.launcher.address=127.0.0.1:1: "),
        ("hydra.launcher.address=auto", "Ray cannot be had at hydra.launcher.address=auto: "),
        ("hydra.launcher.num_gpus=3", "hydra.launcher.num_gpus=3 for each job, and there are "),
    ],
)
def test_a_ray_that_cannot_be_had_is_one_line_and_leaves_no_sweep(tmp_path: Path, word: str, words: str) -> None:
    pytest.importorskip("ray", reason="needs the extra ray: tests/cluster/install.sh")
    process = start(tmp_path, "hydra/launcher=ray", word)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1), out + err
    assert err.startswith("biaslab: hydra/launcher=ray: ")
    assert words in err
    assert err.endswith("; nothing was begun\n")
    assert not list(tmp_path.rglob("sweep.json"))


def test_the_pages_line_as_typed(tmp_path: Path) -> None:
    """On a cluster of this machine that counts one GPU, which `address=auto` finds."""
    pytest.importorskip("ray", reason="needs the extra ray: tests/cluster/install.sh")
    env = environment(RAY_AUTH_MODE="disabled")
    options = ("--head", "--port=0", "--num-cpus=2", "--num-gpus=1", "--include-dashboard=false", "--block")
    head = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), "start", *options], env=env, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    folder = tmp_path / "typed"
    folder.mkdir()
    try:
        time.sleep(5)
        ended = biaslab(folder, *line_of("ray"), env={"RAY_AUTH_MODE": "disabled"}, timeout=350)
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait(60)
    whole(ended, folder, {"hqq4"})
    assert "\x1b" not in ended.out


JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def test_a_killed_joblib_worker_is_replaced(tmp_path: Path) -> None:
    pytest.importorskip("joblib", reason="needs the extra joblib: tests/cluster/install.sh")
    process = start(tmp_path, *JOBLIB, slow="hqq8", pause=60)
    os.kill(worker_of(tmp_path, "hqq8-planted"), signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert complete(tmp_path) == {"none", "hqq4", "hqq8"}


def test_a_job_that_kills_its_joblib_worker_twice_fails_on_record(tmp_path: Path) -> None:
    pytest.importorskip("joblib", reason="needs the extra joblib: tests/cluster/install.sh")
    process = start(tmp_path, *JOBLIB, slow="hqq8", pause=60, always=True)
    killed = worker_of(tmp_path, "hqq8-planted")
    os.kill(killed, signal.SIGKILL)
    while worker_of(tmp_path, "hqq8-planted") == killed:
        time.sleep(0.2)
    os.kill(worker_of(tmp_path, "hqq8-planted"), signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 3, out + err
    assert complete(tmp_path) == {"none", "hqq4"}
    assert "hqq8 planted: failed job 1: its worker died" in err
