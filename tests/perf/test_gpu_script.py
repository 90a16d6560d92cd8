"""The races of `make perf-gpu`, on small shapes and a CPU; where there is no GPU it says so and measures nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tests.perf import gpu
from tests.perf.side_by_side.folders import Shape


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_measured_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main() == 2
    said = capsys.readouterr()
    assert said.err == "no GPU here that torch can use: nothing was measured\n"
    assert said.out == ""


@pytest.mark.extras
@pytest.mark.timeout(900)
def test_the_same_races_run_on_small_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness (make test-extras installs it)")
    monkeypatch.setenv("BIASLAB_PEER_PYTHON", sys.executable)
    rows = list(gpu.measure(tmp_path, "cpu", {"tiny": Shape(32, 64, 2, 4, 600, 2)}, size=4, rounds=1))
    assert [row["work"] for row in rows] == list(gpu.jobs(4))
    assert all(row["times"] > 0 and row["ours_s"] > 0 and row["theirs_s"] > 0 for row in rows)
    assert [row["difference"] < 0.5 for row in rows[:3]] == [True] * 3
    assert [row.get("over_floor", 2) > 1 for row in rows] == [True] * 4
    assert gpu.table(rows).count("tiny") == 4
