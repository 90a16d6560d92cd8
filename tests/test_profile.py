"""Where a sweep's time went: each second of an arm is counted once, and the total is that of its parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biaslab.errors import StoreError
from biaslab.profile import complete_cells, rows, table

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
    assert total.split()[1:] == ["8.000", "3.000", "3.500", "3.000", "6.000", "29.000", "1.500", "0.750", "54.750"]
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
