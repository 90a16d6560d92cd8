"""docs/performance.md is made of the rows alone; what a goal missed is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.perf import page

ROW = {
    "work": "a", "parameters": "1M", "ours_s": 2.0, "theirs_s": 5.0, "times": 2.5, "goal": 2.0, "difference": 3e-5,
    "rounds": 1,
}  # fmt: skip
TEXTS = {**ROW, "work": "b", "times": 1.25, "difference": 3, "way": "packed", "ours_mib": 10.0, "theirs_mib": 20.0}


@pytest.mark.parametrize(("rows", "code"), [([ROW], 0), ([ROW, TEXTS], 1), ([TEXTS, {**TEXTS, "times": 2.0}], 0)])
def test_the_page_holds_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], code: int
) -> None:
    measured = [(10, 0.5), (100, 4.0)]
    monkeypatch.setattr(page.growth, "measure", lambda _: measured)
    monkeypatch.setattr(page, "peer_python", lambda: None)
    (tmp_path / "rows").write_text("".join(json.dumps(row) + "\n" for row in rows))
    docs = tmp_path / "performance.md"
    docs.write_text(f"head\n{page.BEGIN}\nold\n{page.END}\nfoot\n")
    assert page.main(tmp_path / "rows", tmp_path) == code
    text = docs.read_text()
    assert text.startswith("head\n")
    assert text.endswith("foot\n")
    assert "old" not in text
    assert "| 100 | 4.00 | 40.00 |" in text
    assert ("| a | 1M | 2.00 | 5.00 | **2.50** | 2 | yes | - | - | 3.0e-05 nats |" in text) == (ROW in rows)
    if rows == [ROW, TEXTS]:
        assert "| b | 1M | 2.00 | 5.00 | **1.25** | 2 | no | packed | 10 / 20 | 3 texts |" in text
    assert (tmp_path / "growth.svg").read_text().lstrip().startswith("<?xml")


def test_no_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows").touch()
    assert page.main(tmp_path / "rows", tmp_path) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "rows"]


def test_growth_is_measured_on_distinct_pairs(tmp_path: Path) -> None:
    rows = page.growth.write_pairs(tmp_path / "p.csv", 1000).read_text().splitlines()[1:]
    assert len(set(rows)) == 1000
    (n, seconds), (more, longer) = page.growth.measure(tmp_path, (20, 60))
    assert (n, more) == (20, 60)
    assert 0 < seconds < 20
    assert longer > 0
