from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.analyse import analyse
from analysis.errors import AnalysisError
from analysis.frame import make_frames
from analysis.load import load, number
from analysis.settings import Settings
from tests.analysis.fake import make_sweep

SMALL: dict[str, Any] = {"n_clusters": 6, "items_per_cluster": 2, "accels": ("hqq4",)}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return make_sweep(tmp_path, **SMALL)


def cell_folder(sweep: Path, model: str = "tiny_llama", accel: str = "hqq4") -> Path:
    (folder,) = (sweep.parents[1] / "results" / "planted" / model / accel).iterdir()
    return folder


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_records(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = folder / "records.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def refused(path: Path, match: str) -> None:
    with pytest.raises(AnalysisError, match=match) as caught:
        make_frames(load(path).cells)
    assert "\n" not in str(caught.value)


def test_a_sweep_its_file_its_results_and_their_parent_hold_the_same_cells(sweep: Path) -> None:
    outputs = sweep.parents[1]
    paths = [sweep, sweep / "sweep.json", outputs / "results", outputs]
    found = [{(c.model, c.accel, c.key) for c in load(p).cells} for p in paths]
    assert len(found[0]) == 4
    assert all(keys == found[0] for keys in found)
    assert load(sweep).name == "fake"
    assert "accel=hqq4" in load(sweep).command


def test_outputs_can_be_moved(sweep: Path, tmp_path: Path) -> None:
    shutil.move(sweep.parents[1], tmp_path / "elsewhere")
    assert len(load(tmp_path / "elsewhere" / "sweeps" / "fake").cells) == 4


def test_a_sweep_without_its_results_says_so(sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep, tmp_path / "alone" / "sweeps" / "fake")
    refused(tmp_path / "alone" / "sweeps" / "fake", "its results folder .* is not there; copy outputs/results")


def test_the_latest_complete_attempt_counts(sweep: Path) -> None:
    first = cell_folder(sweep)
    for number_, score in [(2, 2.0), (10, 10.0)]:
        later = first.with_name(f"{first.name}-{number_}")
        shutil.copytree(first, later)
        edit_records(later, lambda r, s=score: r.assign(score=s))
    half = first.with_name(f"{first.name}-11")
    half.mkdir()
    (half / "cell.json").write_text("{}")
    (frame,) = make_frames(load(sweep).cells)
    assert (frame.score("tiny_llama", "hqq4") == 10.0).all()


@pytest.mark.parametrize(
    ("path", "match"),
    [("nothing", "no such folder"), (".", "neither results of biaslab nor one of these")],
)
def test_nothing_to_read(tmp_path: Path, path: str, match: str) -> None:
    refused(tmp_path / path, match)


def test_failed_missing_and_computed_elsewhere_are_told_apart(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, **SMALL, failed=[("tiny_llama", "hqq4")])
    shutil.rmtree(cell_folder(sweep, "tiny_mistral"))
    found = {(m.model, m.accel): m for m in load(sweep).missing}
    failed, gone = found["tiny_llama", "hqq4"], found["tiny_mistral", "hqq4"]
    assert (failed.state, failed.reason) == ("failed", "RuntimeError: logits hold NaN")
    assert (gone.state, gone.reason) == ("missing", "its files are gone from the results folder")
    edit(sweep / "sweep.json", lambda s: s["cells"][-1].update(state="elsewhere"))
    assert load(sweep).missing[-1].reason == "another process was computing it"
    edit(sweep / "sweep.json", lambda s: s["cells"][-1].update(state="refused", error="no\nGPU"))
    assert (load(sweep).missing[-1].state, load(sweep).missing[-1].reason) == ("refused", "no GPU")


def test_a_results_folder_lists_its_failures(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, **SMALL, failed=[("tiny_llama", "hqq4")])
    (failure,) = load(sweep.parents[1] / "results").missing
    assert (failure.model, failure.accel, failure.benchmark, failure.state) == (
        "tiny_llama",
        "hqq4",
        "planted",
        "failed",
    )


def test_a_sweep_where_everything_failed(tmp_path: Path) -> None:
    arms = [(m, a) for m in ("tiny_llama", "tiny_mistral") for a in ("none", "hqq4")]
    refused(make_sweep(tmp_path, **SMALL, failed=arms), "no complete cell in it .*logits hold NaN")


@pytest.mark.parametrize("version", [0, 2, None, "1"])
@pytest.mark.parametrize("name", ["sweep.json", "cell.json"])
def test_another_schema_version_is_refused_by_name(sweep: Path, name: str, version: object) -> None:
    path = sweep / name if name == "sweep.json" else cell_folder(sweep) / name
    edit(path, lambda c: c.update(schema_version=version))
    advice = "use a newer biaslab" if version == 2 else "run the line again"
    refused(sweep, f"{name}: schema_version {version!r}, this analysis reads 1: {advice}")


def test_two_cells_of_one_place_name_what_differs(sweep: Path, tmp_path: Path) -> None:
    first = cell_folder(sweep)
    second = first.with_name("f" * 32)
    shutil.copytree(first, second)
    results = sweep.parents[1] / "results"
    edit(second / "cell.json", lambda c: c.update(key="f" * 32))
    refused(
        results,
        "model tiny_llama, accel hqq4, benchmark planted, greedy: two cells differ in their keys alone",
    )
    edit(second / "cell.json", lambda c: c.update(identity={"benchmark": {"code": "b"}, "seed": 9}))
    refused(results, "differ in identity.benchmark.code (None and 'b')".replace("(", r"\(").replace(")", r"\)"))
    edit(second / "cell.json", lambda c: c.update(identity="of another kind"))
    refused(results, "two cells differ in their keys alone")
    edit(second / "cell.json", lambda c: c["benchmark"].update(limit=20))
    refused(results, r"differ in benchmark.limit \((20 and None|None and 20)\)")
    edit(second / "cell.json", lambda c: (c["benchmark"].update(limit=None), c.update(seed=1)))
    assert len(load(results).cells) == 5  # a seed is a replicate


def test_benchmarks_of_two_versions_are_not_compared(sweep: Path) -> None:
    edit(cell_folder(sweep) / "cell.json", lambda c: c["benchmark"].update(version=2))
    refused(sweep, "benchmark planted: version is")


def test_hostile_paths_in_a_sweep_are_refused(sweep: Path) -> None:
    for path in ["/etc", "../../../../etc", "a/../../b", "", 3, "C:\\x"]:
        edit(sweep / "sweep.json", lambda s, p=path: s["cells"][0].update(path=p))
        refused(sweep, "is not a relative path inside the results folder")
    edit(sweep / "sweep.json", lambda s: s.update(results="/etc"))
    refused(sweep, "'/etc' is not a relative path")


@pytest.mark.parametrize(
    ("text", "match"),
    [("", "cannot be read as JSON"), ('{"a": 1', "cannot be read as JSON"), ("[]", "no JSON object"),
     ("[" * 100_000, "cannot be read as JSON"), ("\xff\xfe", "cannot be read as JSON")],
)  # fmt: skip
def test_broken_json_is_one_line(sweep: Path, text: str, match: str) -> None:
    (cell_folder(sweep) / "cell.json").write_bytes(text.encode("latin-1"))
    refused(sweep, match)


@pytest.mark.parametrize("field", ["model", "accel", "benchmark", "decoding", "environment", "seed", "key"])
def test_a_cell_without_a_field_names_it(sweep: Path, field: str) -> None:
    edit(cell_folder(sweep) / "cell.json", lambda c: c.pop(field))
    refused(sweep, f"cell.json: {field}.* is None")


@pytest.mark.parametrize("field", ["active", "coverage", "efficiency", "metrics"])
def test_a_part_of_the_wrong_type_is_named(sweep: Path, field: str) -> None:
    edit(cell_folder(sweep) / "cell.json", lambda c: c.update({field: ["x"]}))
    refused(sweep, f"cell.json: {field} is \\['x'\\], not dict")


def test_an_unknown_kind_and_a_sweep_without_cells(sweep: Path) -> None:
    edit(cell_folder(sweep) / "cell.json", lambda c: c["accel"].update(kind="magic"))
    refused(sweep, "accel.kind is 'magic', not one of baseline, accelerated, placebo")
    edit(sweep / "sweep.json", lambda s: s.update(cells="all"))
    refused(sweep, "cells is no list")


def test_a_name_cannot_write_to_the_terminal(sweep: Path) -> None:
    edit(cell_folder(sweep) / "cell.json", lambda c: c["accel"].update(kind="\x1b[2Jgone\n\u202e"))
    with pytest.raises(AnalysisError) as caught:
        load(sweep)
    assert str(caught.value).isprintable()


RECORDS: list[tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = [
    (lambda r: pd.concat([r, r.iloc[[3]]]), "item t01-01 occurs twice in repeat 0"),
    (lambda r: r.assign(score=[np.inf, *r["score"][1:]]), "item t00-00 has an infinite score"),
    (lambda r: r.assign(score=[np.nan, *r["score"][1:]]), "item t00-00 has score nan but outcome"),
    (lambda r: r.assign(outcome="refused"), "has score .* but outcome 'refused'"),
    (lambda r: r.assign(cluster=["", *r["cluster"][1:]]), "row 0 has no cluster"),
    (lambda r: r.assign(item=[None, *r["item"][1:]]), "row 0 has no item"),
    (lambda r: r.drop(columns="score"), "records.parquet: unreadable"),
    (lambda r: r.assign(score="high"), "must be numbers"),
    (lambda r: r.iloc[:0], "holds no records"),
    (lambda r: r.assign(cluster=["other", *r["cluster"][1:]]), "item t00-00: its cluster is"),
    (lambda r: r.assign(category=["other", *r["category"][1:]]), "item t00-00: its category is"),
]


@pytest.mark.parametrize(("change", "match"), RECORDS, ids=[match for _, match in RECORDS])
def test_broken_records_are_one_line(sweep: Path, change: Callable[[pd.DataFrame], pd.DataFrame], match: str) -> None:
    edit_records(cell_folder(sweep), change)
    refused(sweep, match)


def test_a_truncated_records_file_is_one_line(sweep: Path) -> None:
    path = cell_folder(sweep) / "records.parquet"
    path.write_bytes(path.read_bytes()[:200])
    refused(sweep, "records.parquet: unreadable .*; delete the cell and run it again")


@pytest.mark.parametrize(("value", "expected"), [(1, 1.0), (0.5, 0.5)])
def test_numbers(value: object, expected: float) -> None:
    assert number(value) == expected


@pytest.mark.parametrize("value", [None, "1", True, float("inf"), float("nan"), [1]])
def test_what_is_no_number_is_nan(value: object) -> None:
    assert number(value) != number(value)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("decoding", {"mode": "greedy", "repeats": "x"}, "decoding.repeats is 'x', not int"),
        ("coverage", {"n_records": "q"}, "coverage.n_records is 'q', not int"),
        ("accel", {"label": "hqq4", "kind": "accelerated", "facts": 3}, "accel.facts is 3, not list"),
        ("accel", {"label": "hqq4", "kind": "accelerated", "facts": [{"values": [1]}], "steps": [{"config": 3}]}, ""),
        ("efficiency", {"perplexity": 10**400}, ""),
    ],
)
def test_a_cell_of_odd_types_is_refused_or_read(tmp_path: Path, part: str, value: object, words: str) -> None:
    sweep = make_sweep(tmp_path, accels=("hqq4",), overrides={("tiny_llama", "hqq4"): {part: value}})
    if words:
        with pytest.raises(AnalysisError, match=re.escape(words)):
            analyse(sweep, Settings(n_resamples=99))
    else:
        assert len(analyse(sweep, Settings(n_resamples=99)).benchmarks[0].shifts) == 2
