"""Cost grows linearly with items, of a cell and of its analysis: `make perf` draws both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.perf import growth
from tests.perf.side_by_side.rows import record

pytestmark = [pytest.mark.perf, pytest.mark.timeout(1200)]


def test_a_cell_grows_with_its_items(tmp_path: Path) -> None:
    points = growth.measure(tmp_path)
    record({"table": "growth", "work": "a cell", "points": points})
    assert growth.steepness(points) < 1.3


def test_the_analysis_grows_with_its_items(tmp_path: Path) -> None:
    points = growth.measure_analysis(tmp_path)
    record({"table": "growth", "work": "the analysis", "points": points})
    assert growth.steepness(points) < 1.3
