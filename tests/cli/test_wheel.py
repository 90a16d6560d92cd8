"""The wheel and the sdist build; the installed wheel works from any folder with its own conf."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.cli.run import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def build(folder: Path) -> Path:
    """The wheel of this checkout, built into a folder."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("*.whl"))


def install(wheel: Path, folder: Path) -> Path:
    """Python of a new environment in `folder` that holds the wheel alone; dependencies are borrowed from this one."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site / "zz_borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


def test_the_wheel_carries_conf_weights_and_text(built: Path) -> None:
    names = zipfile.ZipFile(built).namelist()
    for name in (
        "biaslab/conf/config.yaml", "biaslab/conf/accel/hqq4.yaml", "biaslab/conf/hydra/launcher/slurm.yaml",
        "biaslab/launchers/slurm.py", "biaslab/held_out.txt",
        "biaslab/models/embedded/tiny_llama/model.safetensors", "analysis/report/report.html.j2",
        "analysis/report/style.css", "analysis/report/script.js", "analysis/report/results.schema.json",
    ):  # fmt: skip
        assert name in names
    assert not any(name.startswith(("tests/", "outputs/", "docs/")) for name in names)
    assert built.stat().st_size < 4_000_000


def test_the_installed_wheel_runs_from_any_folder(built: Path, tmp_path: Path) -> None:
    python = install(built, tmp_path / "env")
    work = tmp_path / "elsewhere"
    work.mkdir()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"CI": "1", "OMP_NUM_THREADS": "1"}
    where = subprocess.run(
        [python, "-c", "import biaslab, biaslab.config as c; print(biaslab.__file__); print(c.conf_dir())"],
        cwd=work, env=env, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert all(str(tmp_path / "env") in path for path in where)
    done = subprocess.run(
        [python, "-m", "biaslab", "benchmark=planted", "limit=24"], cwd=work, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done
    assert list((work / "outputs" / "reports").glob("*/report.html"))


def test_the_sdist_builds(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="needs hatchling: pip install hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)], check=True, cwd=ROOT
    )
    names = tarfile.open(next(tmp_path.glob("*.tar.gz"))).getnames()
    assert any(name.endswith("/conf/config.yaml") for name in names)
    assert any(name.endswith("/tests/conftest.py") for name in names)
