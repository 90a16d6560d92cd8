"""`model=local` on checkpoints trained on text, and on a folder of each architecture, through the typed line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.run import biaslab
from tests.models.make import make_folder

pytestmark = pytest.mark.data


def test_checkpoints_trained_on_text_run_crows_pairs(tmp_path: Path, data_dir: Path) -> None:
    paths = [data_dir / "models" / name for name in ("stories260K-hf", "tinystories-656k")]
    ended = biaslab(
        tmp_path, "-m", "model=local", f"model.path={paths[0]},{paths[1]}", "accel=hqq4", "benchmark=crows_pairs",
        "limit=60", env={"BIASLAB_DATA_DIR": str(data_dir)},
    )  # fmt: skip
    assert ended.code == 0, ended
    cells = [json.loads(p.read_text()) for p in (tmp_path / "outputs/results").rglob("cell.json")]
    assert {(c["model"]["label"], c["accel"]["label"]) for c in cells} == {
        (m, a) for m in ("stories260K-hf", "tinystories-656k") for a in ("none", "hqq4")
    }
    assert all(c["coverage"]["n_valid"] == 60 for c in cells)
    assert all(c["metrics"]["pct_prefers_more"]["value"] is not None for c in cells)
    assert all(c["active"]["max_logit_change"] > 0 for c in cells if c["accel"]["label"] == "hqq4")


def test_a_folder_of_each_architecture_runs_pruned_and_quantized(tmp_path: Path, data_dir: Path) -> None:
    kinds = ("llama", "mistral", "qwen2", "gpt_neox")
    folders = [make_folder(tmp_path / "models" / kind, kind) for kind in kinds]
    ended = biaslab(
        tmp_path, "-m", "model=local", f"model.path={','.join(map(str, folders))}", "accel=[wanda50,hqq4]",
        "benchmark=crows_pairs", "limit=12", "analysis=skip", "accel.wanda50.calibration.samples=8",
        env={"BIASLAB_DATA_DIR": str(data_dir)},
    )  # fmt: skip
    assert ended.code == 0, ended
    cells = [json.loads(p.read_text()) for p in (tmp_path / "outputs/results").rglob("cell.json")]
    assert len(cells) == 2 * len(kinds)
    pruned = [c for c in cells if c["accel"]["stack"]]
    assert all(0.49 < c["accel"]["facts"][0]["values"]["sparsity"] < 0.51 for c in pruned)
