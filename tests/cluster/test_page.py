"""docs/clusters.md: its lines as typed, on a real Slurm of nodes with a GPU and on joblib; Ray's is in test_ray.py."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.cli.run import Ended, biaslab
from tests.cluster.slurm import Slurm
from tests.docs import pages

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400), pytest.mark.xdist_group("slurm")]

LINES = [c.text for c in pages.commands(pages.ROOT / "docs" / "clusters.md") if c.block and "-m biaslab" in c.text]
#: Words of the reader's in place of the page's, and what keeps it short.
OWN = {"model=a,b": "model=tiny_llama,tiny_mistral"}
FEW = ("benchmark=planted", "limit=12", "tracker=none", "analysis.n_resamples=199")


def line_of(launcher: str) -> list[str]:
    (found,) = [line for line in LINES if f"hydra/launcher={launcher} " in line]
    return [OWN.get(word, word) for word in shlex.split(found)[3:]] + list(FEW)


def whole(ended: Ended, folder: Path, accels: set[str]) -> None:
    """The sweep ended well, with every cell of both models and one report."""
    assert ended.code == 0, ended
    assert ended.err == "", ended
    (ledger,) = (folder / "outputs" / "sweeps").glob("*/sweep.json")
    cells = json.loads(ledger.read_text())["cells"]
    assert {(c["model"], c["accel"]) for c in cells} == {
        (model, accel) for model in ("tiny_llama", "tiny_mistral") for accel in accels | {"none"}
    }
    assert len(list((folder / "outputs" / "results").rglob("cell.json"))) == 2 * (1 + len(accels))
    assert len(list((folder / "outputs" / "reports").glob("*/report.html"))) == 1


def test_the_page_has_a_line_for_each_launcher() -> None:
    assert len(LINES) == 3
    assert all(line_of(launcher) for launcher in ("slurm", "ray", "joblib"))


def test_slurm_as_typed(slurm: Slurm, tmp_path: Path) -> None:
    ended = biaslab(tmp_path, *line_of("slurm"), "hydra.launcher.poll_s=1", env=slurm.env, timeout=350)
    whole(ended, tmp_path, {"hqq4", "wanda50"})
    mine = [job for job in slurm.ask("scontrol", "show", "job", "-o").splitlines() if str(tmp_path) in job]
    assert mine
    for job in mine:
        assert "Partition=gpu " in job
        assert "TimeLimit=04:00:00" in job
        assert "gres:gpu:1" in job


def test_joblib_as_typed(tmp_path: Path) -> None:
    pytest.importorskip("joblib", reason="needs the extra joblib: tests/cluster/install.sh")
    whole(biaslab(tmp_path, *line_of("joblib"), timeout=350), tmp_path, {"hqq4"})
