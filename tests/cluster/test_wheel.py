"""The installed wheel, with no checkout in sight, finds its launchers and runs sweeps on them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_wheel import build, install
from tests.cluster.slurm import Slurm

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400), pytest.mark.xdist_group("slurm")]
WORDS = {
    "slurm": ("hydra.launcher.partition=loop", "hydra.launcher.poll_s=1", "hydra.launcher.cpus_per_task=1"),
    "ray": ("+hydra.launcher.init.num_cpus=2",),
    "joblib": ("hydra.launcher.n_jobs=2",),
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return install(build(folder), folder / "env")


@pytest.mark.parametrize("launcher", WORDS)
def test_the_installed_wheel_launches_a_sweep(python: Path, slurm: Slurm, tmp_path: Path, launcher: str) -> None:
    pytest.importorskip({"slurm": "submitit"}.get(launcher, launcher), reason="needs tests/cluster/install.sh")
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "BIASLAB_DATA_DIR")}
    env |= slurm.env | {"HF_HUB_OFFLINE": "1", "CI": "1", "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    line = ("-m", f"hydra/launcher={launcher}", *WORDS[launcher], "accel=hqq4,hqq8", "benchmark=planted", "limit=24")
    done = subprocess.run(
        [python, "-m", "biaslab", *line, "tracker=none", "analysis=skip"], cwd=tmp_path, env=env, text=True,
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    cells = (tmp_path / "outputs" / "results").rglob("cell.json")
    assert {path.parts[-3] for path in cells} == {"none", "hqq4", "hqq8"}
