"""Names of a ledger's cells: cells that differ in seed or decoding alone can be told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biaslab.errors import ConfigError, StoreError
from biaslab.results.ledger import benchmark_words, entry_words, read_ledger, reasons, submitted_jobs
from biaslab.status import sweep_folder

ENTRY = {"model": "m", "accel": "hqq4", "benchmark": "bbq", "decoding": "greedy", "seed": 0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "bbq"),
        ({"seed": 3}, "bbq seed=3"),
        ({"decoding": "sampled"}, "bbq sampled"),
        ({"decoding": "sampled", "seed": 1}, "bbq sampled seed=1"),
    ],
)
def test_what_is_not_the_default_is_named(changes: dict[str, object], words: str) -> None:
    assert benchmark_words({**ENTRY, **changes}) == words
    assert entry_words({**ENTRY, **changes}) == f"m hqq4 {words}"


def test_a_ledger_of_before_names_its_cells_too() -> None:
    assert entry_words({"model": "m", "accel": "none", "benchmark": "bbq"}) == "m none bbq"


def test_a_sweep_is_found_by_its_folder_by_all_sweeps_and_by_the_outputs_folder(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / "sweeps" / name).mkdir(parents=True)
        (tmp_path / "sweeps" / name / "sweep.json").write_text("{}")
    newest = tmp_path / "sweeps" / "new"
    assert sweep_folder("status", [str(tmp_path)]) == newest
    assert sweep_folder("status", [str(tmp_path / "sweeps")]) == newest
    assert sweep_folder("status", [str(tmp_path / "sweeps" / "old")]) == tmp_path / "sweeps" / "old"
    with pytest.raises(ConfigError, match=r"retry .*: no sweep in .*; name an outputs folder"):
        sweep_folder("retry", [str(newest)[:-1]])


def ledger(folder: Path, submitted: object) -> Path:
    content = {"schema_version": 1, "id": "x", "command": "", "results": "r", "status": "running", "cells": []}
    (folder / "sweep.json").write_text(json.dumps(content | {"submitted": submitted}))
    return folder


def test_the_jobs_of_a_queue_are_read_with_their_cells(tmp_path: Path) -> None:
    jobs = {"7_0": ["a", "b"], "8": []}
    assert submitted_jobs(read_ledger(ledger(tmp_path, {"partition": "", "jobs": jobs}))) == jobs
    assert submitted_jobs(read_ledger(ledger(tmp_path, None))) == {}


@pytest.mark.parametrize(
    "submitted",
    [
        [], {"jobs": {}}, {"partition": "", "jobs": []}, {"partition": "", "jobs": {"7;rm": []}},
        {"partition": "", "jobs": {"--help": []}}, {"partition": "", "jobs": {"7": [1]}},
        {"partition": 1, "jobs": {}},
    ],
)  # fmt: skip
def test_numbers_that_are_none_never_reach_a_command(tmp_path: Path, submitted: object) -> None:
    with pytest.raises(StoreError, match=r"submitted.*the file is broken"):
        read_ledger(ledger(tmp_path, submitted))


def test_one_reason_is_one_line_with_the_number_of_its_cells() -> None:
    lost = {"state": "failed", "error": "job 1: it was cancelled"}
    cells = [{**ENTRY, **lost, "accel": accel, "benchmark": name} for accel in ("none", "hqq4") for name in "ab"]
    other = {**ENTRY, "state": "failed", "error": "NaN"}
    gone = {**ENTRY, "state": "missing", "error": ""}
    assert reasons([*cells, other, gone]) == [
        "m none, hqq4, 4 cells: failed job 1: it was cancelled", "m hqq4 bbq: failed NaN", "m hqq4 bbq: missing",
    ]  # fmt: skip
