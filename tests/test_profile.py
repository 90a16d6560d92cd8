"""Where a sweep's time went: each second of an arm is counted once, and the total is that of its parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biaslab.errors import StoreError
from biaslab.profile import by_bucket, complete_cells, rows, table
from biaslab.tracking.seconds import note_seconds, tracked_seconds

OWN = {"items_s": 1.0, "engine_s": 10.0, "tokenize_s": 2.0, "score_s": 0.5, "store_s": 0.25}
CELLS = [
    (("m", "none", "a"), {"load_s": 4.0, "accelerate_s": 0.0, "measure_s": 1.0, **OWN}),
    (("m", "none", "b"), {"load_s": 4.0, "accelerate_s": 0.0, "measure_s": 1.0, **OWN}),
    (("m", "q", "a"), {"load_s": 4.0, "accelerate_s": 3.0, "measure_s": 1.5, **OWN}),
    (("n", "none", "a"), {"load_s": 4.0, "accelerate_s": 0.0, "measure_s": 1.0, "engine_s": 5.0}),
]


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
