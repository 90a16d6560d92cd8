"""The mission's line, word for word: two models of a hub, CrowS-Pairs, baselines, report, W&B runs, on a CPU.

The hub and the W&B server are on loopback; the two hub ids serve small checkpoints trained on real text.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.run import Ended, biaslab
from tests.models import hub_server
from tests.models.hub_server import Hub
from tests.tracking import recorder
from tests.tracking.recorder import Recorder

pytestmark = [pytest.mark.data, pytest.mark.timeout(600)]

LINE = "-m model=llama,mistral accel=hqq4,wanda50"
SERVED = {
    "meta-llama/Llama-3.1-8B-Instruct": "stories260K-hf",
    "mistralai/Mistral-7B-Instruct-v0.3": "tinystories-656k",
}


@dataclass(frozen=True)
class Mission:
    folder: Path
    ended: Ended
    again: Ended
    hub: Hub
    wandb: Recorder

    def cells(self) -> dict[tuple[str, str], dict[str, Any]]:
        found = [json.loads(path.read_text()) for path in (self.folder / "outputs/results").rglob("cell.json")]
        return {(cell["model"]["label"], cell["accel"]["label"]): cell for cell in found}


@pytest.fixture(scope="module")
def mission(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mission]:
    folder = tmp_path_factory.mktemp("mission")
    with hub_server.serve() as hub, recorder.serve() as wandb:
        for repo_id, name in SERVED.items():
            hub.add(repo_id, data_dir / "models" / name, gated=True)
        env = hub.env(tmp_path_factory.mktemp("home"), HF_TOKEN=hub_server.TOKEN, BIASLAB_DATA_DIR=str(data_dir))
        ended = biaslab(folder, *LINE.split(), env=env | wandb.env(), timeout=500)
        again = biaslab(folder, *LINE.split(), env=env | wandb.env(), timeout=200)
        yield Mission(folder, ended, again, hub, wandb)


def test_it_ends_well_and_prints_verdicts_report_and_runs(mission: Mission) -> None:
    print(mission.ended.out)
    assert (mission.ended.code, mission.ended.err) == (0, "")
    lines = mission.ended.out.splitlines()
    assert [line.split()[0] for line in lines if "fetching" in line] == ["llama:", "mistral:"]
    assert lines[-1].startswith("W&B: 14 runs sent, group ")
    report, _again = sorted((mission.folder / "outputs" / "reports").glob("*/report.html"))
    assert f"Report: {report.relative_to(mission.folder)}" in lines
    results = json.loads((report.parent / "results.json").read_text())
    (benchmark,) = results["benchmarks"]
    assert benchmark["name"] == "crows_pairs"
    assert benchmark["n_items_all"] == 1508
    assert {(s["model"], s["accel"]) for s in benchmark["shifts"]} == {
        (model, accel) for model in ("llama", "mistral") for accel in ("hqq4", "wanda50")
    }
    assert 0 < benchmark["omnibus"]["p"] <= 1


def test_every_cell_is_there_on_the_commit_the_hub_gave(mission: Mission) -> None:
    cells = mission.cells()
    assert set(cells) == {(m, a) for m in ("llama", "mistral") for a in ("none", "hqq4", "wanda50")}
    for (model, accel), cell in cells.items():
        repo_id = next(name for name in SERVED if model in name.lower())
        assert cell["model"]["identity"] == f"{repo_id}@{mission.hub.repos[repo_id].commit}"
        assert cell["coverage"]["n_records"] == 1508
        assert cell["dtype"] == "float32"
        assert accel == "none" or cell["active"]["max_logit_change"] > 0


def test_the_hub_was_asked_for_nothing_it_does_not_have_and_each_file_once(mission: Mission) -> None:
    assert mission.hub.unknown == []
    whole = [a.path for a in mission.hub.sent(".safetensors") if a.range == ""]
    assert len(whole) == len(set(whole)) == 2


def test_the_runs_are_in_wandb_with_their_report(mission: Mission) -> None:
    server = mission.wandb
    assert server.unknown == []
    assert sorted(run.job_type for run in server.runs.values()) == ["analysis", *["arm"] * 6, *["cell"] * 6, "sweep"]
    assert len({run.group for run in server.runs.values()}) == 1
    for run in server.runs.values():
        if run.job_type == "cell":
            model, accel, _ = run.display_name.split()
            metrics = mission.cells()[model, accel]["metrics"]
            name = next(iter(metrics))
            assert run.summary[f"metrics/{name}/value"] == pytest.approx(metrics[name]["value"])


def test_the_same_line_again_computes_and_fetches_nothing(mission: Mission) -> None:
    assert mission.again.code == 0, mission.again
    assert "fetching" not in mission.again.out
    assert len(mission.wandb.runs) == 14


@pytest.mark.slow
def test_without_a_login_the_runs_wait_offline(data_dir: Path, tmp_path: Path) -> None:
    with hub_server.serve() as hub:
        for repo_id, name in SERVED.items():
            hub.add(repo_id, data_dir / "models" / name)
        env = hub.env(tmp_path / "home", BIASLAB_DATA_DIR=str(data_dir), WANDB_MODE="", HOME=str(tmp_path))
        ended = biaslab(tmp_path, *LINE.split(), "limit=60", env=env, timeout=500)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == (
        "W&B: 14 runs written offline; send them with: python -m biaslab sync outputs/wandb"
    )
    shutil.rmtree(tmp_path / "outputs" / "wandb")
