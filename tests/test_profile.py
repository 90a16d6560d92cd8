"""Where a sweep's time went: each second of an arm is counted once, and the total is that of its parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biaslab.errors import StoreError
from biaslab.profile import by_bucket, complete_cells, profile, rows, table
from biaslab.tracking.seconds import note_seconds, tracked_seconds

OWN = {"items_s": 1.0, "engine_s": 10.0, "tokenize_s": 2.0, "score_s": 0.5, "store_s": 0.25}
CELLS = [
    (("m", "none", "a"), {"load_s": 4.0, "accelerate_s": 0.0, "measure_s": 1.0, **OWN}),
    (("m", "none", "b"), {"load_s": 4.0, "accelerate_s": 0.0, "measure_s": 1.0, **OWN}),
    (("m", "q", "a"), {"load_s": 4.0, "accelerate_s": 3.0, "measure_s": 1.5, **OWN}),
    (("n", "none", "a"), {"load_s": 4.0, "accelerate_s": 0.0, "measure_s": 1.0, "engine_s": 5.0}),
]


def cell_of(folder: Path, name: str, finished: str = "2026-01-01T00:00:00+00:00") -> dict[str, object]:
    """A complete cell on disk, and its line of the ledger."""
    place = folder / "results" / "b" / "m" / name / "k"
    place.mkdir(parents=True)
    (place / "records.parquet").touch()
    timings = OWN | {"load_s": 4.0}
    (place / "cell.json").write_text(json.dumps({"schema_version": 1, "timings": timings, "finished": finished}))
    words = {"model": "m", "accel": name, "benchmark": "b", "key": "k", "path": f"b/m/{name}/k"}
    return words | {"state": "complete", "reused": False, "error": ""}


def ledger_of(folder: Path, cells: list[dict[str, object]], status: str = "complete") -> None:
    times = {"created": "2026-01-02T00:00:00+00:00", "finished": None}
    (folder / "sweep.json").write_text(
        json.dumps(
            {"schema_version": 1, "id": "s", "command": "c", "status": status, "results": "results", "cells": cells}
            | times
        )
    )


def test_a_sweep_that_computed_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger_of(tmp_path, [cell_of(tmp_path, name) | {"reused": True} for name in ("none", "q")])
    assert profile([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "sweep s: c",
        "nothing was computed in this sweep, so there is nothing to count",
        "2 of 2 cells were complete already: the sweep that computed them counts their seconds",
    ]


def test_only_what_the_sweep_computed_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger_of(tmp_path, [cell_of(tmp_path, "none") | {"reused": True}, cell_of(tmp_path, "q")])
    assert profile([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert " q " in out
    assert "none" not in out
    assert "1 of 2 cells were complete already" in out
    (total,) = [line for line in out.splitlines() if line.split()[:1] == ["total"]]
    assert total.split()[-1] == "15.750"


def test_of_a_sweep_that_runs_older_cells_are_told_by_their_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = cell_of(tmp_path, "q", "2026-01-02T00:00:05+00:00")
    ledger_of(tmp_path, [c | {"state": "missing"} for c in (cell_of(tmp_path, "none"), new)], "running")
    assert profile([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "none" not in out
    assert "1 of 2 cells were complete already" in out


def test_the_heads_of_columns_stand_apart() -> None:
    head = table(rows(CELLS))[0]
    assert "load s" in head
    assert all(f"  {name} s" in head for name in ("load", "accelerate", "measure", "forward"))
    assert len({len(line) for line in table(rows(CELLS))}) == 1


def test_what_cells_share_is_counted_once_and_the_engine_is_split() -> None:
    found = rows(CELLS)
    own = {"items": 1.0, "tokenize": 2.0, "forward": 8.0, "score": 0.5, "store": 0.25}
    assert found[0].seconds == {"load": 4.0, "measure": 1.0, **own}
    assert found[1].seconds == own
    assert found[2].seconds == {"accelerate": 3.0, "measure": 1.5, **own}
    assert found[3].seconds == {"load": 4.0, "measure": 1.0, "forward": 5.0}  # an older cell, another model


def test_the_total_is_the_sum_and_the_shares_are_of_it() -> None:
    *_, total, share = table(rows(CELLS))
    sums = ["8.000", "3.000", "3.500", "3.000", "6.000", "29.000", "1.500", "0.750", "0.000", "54.750"]
    assert total.split()[1:] == sums
    assert share.split()[-2:] == ["100.0", "%"]
    assert share.split()[1::2][5] == "53.0"  # 29 of 54.75


@pytest.mark.parametrize("timings", ['{"engine_s": "long"}', '{"load_s": 1}', "[]", "null"])
def test_timings_that_are_none_are_refused_by_name(tmp_path: Path, timings: str) -> None:
    place = tmp_path / "results/b/m/none/k"
    place.mkdir(parents=True)
    (place / "records.parquet").touch()
    (place / "cell.json").write_text(f'{{"schema_version": 1, "timings": {timings}}}')
    entry = {"model": "m", "accel": "none", "benchmark": "b", "key": "k", "path": "b/m/none/k", "state": "complete"}
    with pytest.raises(StoreError, match="timings is"):
        complete_cells(tmp_path, json.loads(json.dumps({"results": "results", "cells": [entry]})))


def test_the_forward_is_split_by_the_length_of_batches_and_what_is_between_them() -> None:
    cells = [
        (("m", "none", "a"), OWN | {"scored_16_s": 3.0, "scored_128_s": 4.0}),
        (("m", "q", "a"), OWN | {"scored_16_s": 1.0, "written_64_s": 6.5}),
        (("m", "old", "a"), OWN),  # of before batches were timed: its forward is all between, and in no sum
    ]
    head, first, second, old, total = (line.split() for line in by_bucket(rows(cells)))
    assert " ".join(head[10:]) == "scored to 16 s scored to 128 s written to 64 s between s"
    assert first[3:] == ["3.000", "4.000", "-", "1.000"]
    assert second[3:] == ["1.000", "-", "6.500", "0.500"]
    assert old[3:] == ["-", "-", "-", "8.000"]
    assert total[1:] == ["4.000", "4.000", "6.500", "1.500"]
    assert by_bucket(rows([(("m", "old", "a"), OWN)])) == []


def test_the_trackers_seconds_are_kept_beside_the_cells(tmp_path: Path) -> None:
    assert tracked_seconds(tmp_path) == {}
    for name, seconds in (("a", 1.5), ("b", 2.0), ("a", 0.5)):
        note_seconds(tmp_path, tmp_path / "results/x" / name, seconds)
    assert tracked_seconds(tmp_path) == {"a": 0.5, "b": 2.0}
    for line in ("{}", "[1]", '{"cell": "a", "seconds": "long"}', '{"cell": "a", "seconds": NaN}'):
        (tmp_path / "tracking.jsonl").write_text(line + "\n")
        with pytest.raises(StoreError, match="the file is broken"):
            tracked_seconds(tmp_path)
