"""Results of experiment=paper_published against the figures in the paper's own notebooks, where such results are.

Run the lines of paper_targets.json on a GPU, then: BIASLAB_PAPER_RESULTS=outputs/results pytest -m gpu tests/gpu
Tolerances are the printed rounding and what other versions of the libraries may move; nothing here was run yet.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

TARGETS: dict[str, Any] = json.loads((Path(__file__).parent / "paper_targets.json").read_text(encoding="utf-8"))


def found(results: Path, target: dict[str, Any]) -> float:
    """The metric of the target's complete, whole cell; AssertionError where there is none."""
    place = results / target["benchmark"] / TARGETS["model"] / TARGETS["accel"]
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(place.glob("*/cell.json"))]
    whole = [c for c in cells if c["benchmark"]["limit"] is None and c["benchmark"]["sample"] is None]
    assert whole, f"no whole cell below {place}; run: {TARGETS['line']}"
    return float(whole[-1]["metrics"][target["metric"]]["value"])


def close(value: float, target: dict[str, Any]) -> bool:
    return abs(value - target["value"]) <= target["tolerance"]


@pytest.mark.gpu
@pytest.mark.parametrize("target", TARGETS["targets"], ids=lambda t: f"{t['benchmark']}-{t['metric']}")
def test_the_papers_figures_are_reproduced(target: dict[str, Any]) -> None:
    folder = os.environ.get("BIASLAB_PAPER_RESULTS")
    if not folder:
        pytest.skip("needs results of a GPU: set BIASLAB_PAPER_RESULTS to the folder of results")
    value = found(Path(folder), target)
    assert close(value, target), value


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    target = TARGETS["targets"][0]
    with pytest.raises(AssertionError, match="no whole cell"):
        found(tmp_path, target)
    for key, limit, value in (("a", None, 0.2), ("b", 20, 0.09)):
        folder = tmp_path / target["benchmark"] / "mistral" / "paper_int4" / key
        folder.mkdir(parents=True)
        content = {"benchmark": {"limit": limit, "sample": None}, "metrics": {"max_min": {"value": value}}}
        (folder / "cell.json").write_text(json.dumps(content))
    assert found(tmp_path, target) == 0.2  # a part of the benchmark is not compared
    assert not close(0.2, target)
    assert close(0.0949, target)
