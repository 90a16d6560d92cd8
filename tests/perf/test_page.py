"""docs/performance.md is made of the rows alone; what a goal missed is said, with what bounds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.perf import growth, page

SHARES = {"matrix products": 0.5, "log-softmax": 0.25, "tokenizer": 0.125, "small operators": 0.0, "Python": 0.125}
ROW = {
    "table": "races", "work": "a", "parameters": "1M", "ours_s": 2.0, "theirs_s": 5.0, "times": 2.5, "goal": 2.0,
    "difference": 3e-5, "rounds": 1,
}  # fmt: skip
TEXTS = {
    **ROW, "work": "b", "times": 1.25, "difference": 3, "way": "packed", "ours_mib": 10.0, "theirs_mib": 20.0,
    "over_floor": 1.7, "floor_goal": 1.8, "gflop": 12.0, "gflop_per_s": 100.0, "shares": SHARES,
}  # fmt: skip
CLOCK = {**ROW, "table": "threads", "work": "c"}
HALF = ROW | {"table": "half", "work": "d"} | {
    f"{who}_{what}": value for who in ("alone", "packed", "placebo", "peer")
    for what, value in (("rms", 0.06), ("max", 0.2), ("flips", 2))
} | {"packs_move": 0.01, "placebo_moves": 0.02}  # fmt: skip
GROWTH = [
    {"table": "growth", "work": work, "points": [[10, 0.5], [100, 4.0]], "rounds": 1} for work in ("a cell", "all")
]


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(page, "peer_python", lambda: None)
    (tmp_path / "performance.md").write_text(f"head\n{page.BEGIN}\nold\n{page.END}\nfoot\n")
    return tmp_path


def written(docs: Path, *rows: dict[str, Any]) -> tuple[int, str]:
    (docs / "rows").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = page.main(docs / "rows", docs)
    return code, (docs / "performance.md").read_text()


def test_the_page_holds_the_rows(docs: Path) -> None:
    code, text = written(docs, ROW, TEXTS, CLOCK, HALF, *GROWTH)
    assert code == 1
    assert text.startswith("head\n")
    assert text.endswith("foot\n")
    assert "old" not in text
    assert "| a | 1M | 2.00 | 5.00 | **2.50** | 2 | - | - | - | - | 3.0e-05 nats | yes |" in text
    assert "| b | 1M | 2.00 | 5.00 | **1.25** | 2 | 1.70 | 1.8 | 10 / 20 | packed | 3 texts | no |" in text
    assert "| b | 1M | 50 % | 25 % | 12 % | 0 % | 12 % | 12 | 100 |" in text
    assert "| c | 1M | 2.00 | 5.00 | **2.50** | 3.0e-05 nats |" in text
    assert f"| d | 2.00 | 5.00 | **2.50** |{' 0.060, 0.20, 2 |' * 4} 0.0100 / 0.0200 |" in text
    assert "| 100 | 4.00 s, 40.00 ms an item | 4.00 s, 40.00 ms an item |" in text
    assert (docs / "growth.svg").read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"times": 2.0}, ""),
        ({}, "1.25 times as fast as the peer, the goal is 2. Its time goes into matrix products 50 %, log-softmax"),
        ({"times": 2.0, "over_floor": 1.9}, "1.90 times the floor, the goal is 1.8."),
        ({"times": 2.0, "floor_goal": 0, "over_floor": 9.9}, ""),
        ({"times": 2.0, "ours_mib": 21.0}, "a peak of 21 MiB, the peer's is 20."),
    ],
)  # fmt: skip
def test_a_goal_that_is_missed_is_said_with_what_bounds_it(docs: Path, change: dict[str, Any], words: str) -> None:
    code, text = written(docs, TEXTS, TEXTS | change)  # the later measurement counts
    assert code == int(bool(words))
    assert ("Goals that were not met" in text) == bool(words)
    assert words in text


def test_no_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows").touch()
    assert page.main(tmp_path / "rows", tmp_path) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "rows"]


def test_growth_is_measured_on_distinct_pairs(tmp_path: Path) -> None:
    rows = growth.write_pairs(tmp_path / "p.csv", 1000).read_text().splitlines()[1:]
    assert len(set(rows)) == 1000
    (n, seconds), (more, longer) = growth.measure(tmp_path, (20, 60))
    assert (n, more) == (20, 60)
    assert 0 < seconds < 20
    assert longer > 0


def test_steepness_is_the_cost_of_an_item_at_the_end_over_that_before() -> None:
    assert growth.steepness([(1, 9.0), (10, 1.0), (100, 10.0)]) == pytest.approx(1.0)
    assert growth.steepness([(10, 1.0), (100, 100.0)]) == pytest.approx(10.0)
