"""What is exported is read back by the importer of the format with the very same scores, items and models."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analysis
from analysis.__main__ import main
from analysis.errors import AnalysisError
from analysis.exporters import MODULES, export
from analysis.exporters.arms import ALLOWED, safe
from analysis.load import load
from tests.analysis.fake import make_sweep

LABELS = ["model", "accel", "benchmark", "item"]


def back(out: Path) -> pd.DataFrame:
    """The records that the importers read; lm_eval's runs.csv named only where it is there."""
    runs = {"imports.runs": str(out / "runs.csv")} if (out / "runs.csv").is_file() else {}
    return analysis.load(out, **runs).records  # type: ignore[arg-type]


def by_item(records: pd.DataFrame) -> pd.DataFrame:
    """Mean over repeats, as frames have it, and what the item is made from."""
    named = {c: (c, "first") for c in ("cluster", "category", "group")}
    return records.groupby(LABELS).agg(score=("score", "mean"), **named).sort_index()  # type: ignore[call-overload]


@pytest.mark.parametrize("to", MODULES)
@pytest.mark.parametrize("options", [
    {}, {"repeats": 3}, {"missing": 0.2}, {"score_kind": "rate", "benchmarks": ("planted", "pairs(my,file)")},
])  # fmt: skip
def test_a_sweep_comes_back(tmp_path: Path, to: str, options: dict[str, Any]) -> None:
    sweep = make_sweep(tmp_path, n_clusters=6, items_per_cluster=3, **options)
    out = tmp_path / "out"
    assert main(["export", f"results={sweep}", f"to={to}", f"out={out}"]) == 0
    before, after = analysis.load(sweep).records, back(out)
    pd.testing.assert_frame_equal(by_item(before), by_item(after), check_exact=True)
    for records in (before, after):  # why there is no answer, and which answer there is
        records["arm"] = records["model"] + " " + records["accel"]
    if to == "every_eval_ever" or "repeats" not in options:
        counts = [r.groupby(["arm", "benchmark"])["outcome"].value_counts().sort_index() for r in (before, after)]
        pd.testing.assert_series_equal(*counts)


@pytest.mark.parametrize("to", MODULES)
def test_several_seeds_and_calibrations_are_tasks_of_their_own(tmp_path: Path, to: str) -> None:
    sweep = make_sweep(tmp_path, n_clusters=3, items_per_cluster=2, seeds=(0, 1), models=("a",), accels=("hqq4",))
    export(load(sweep), to, tmp_path / "out")
    found = back(tmp_path / "out")
    assert sorted(found["benchmark"].unique()) == ["planted(seed=0)", "planted(seed=1)"]
    before = analysis.load(sweep).records
    for seed in (0, 1):
        own = before[before["seed"] == seed].assign(benchmark=f"planted(seed={seed})")
        theirs = found[found["benchmark"] == f"planted(seed={seed})"]
        pd.testing.assert_frame_equal(by_item(own), by_item(theirs), check_exact=True)


#: Text as a file of somebody else's may hold it: no lone surrogates, which no UTF-8 file can hold.
ODD = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda t: bool(t.strip()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd")


@settings(max_examples=15, deadline=None)
@given(
    to=st.sampled_from(MODULES), model=ODD, accel=ODD.filter(lambda a: a != "none"),
    items=st.lists(ODD, min_size=1, max_size=4, unique=True), cluster=ODD,
    scores=st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=4, max_size=4),
)  # fmt: skip
def test_odd_labels_and_any_number_come_back(
    folder: Path, to: str, model: str, accel: str, items: list[str], cluster: str, scores: list[float]
) -> None:
    """From a table of somebody else's; file names come from the allow-list, whatever the labels hold."""
    rows = [(model, a, item, s + k, cluster) for k, a in enumerate(("none", accel)) for item, s in zip(items, scores)]  # noqa: B905
    with tempfile.TemporaryDirectory(dir=folder) as name:
        table = Path(name) / "own.parquet"
        pd.DataFrame(rows, columns=["model", "accel", "item", "score", "cluster"]).to_parquet(table)
        before = analysis.load(table).records
        out = Path(name) / "out"
        files = export(load(table), to, out)
        after = back(out)
        parts = {part for file in files for part in file.relative_to(out).parts}
    assert all(ALLOWED.fullmatch(part) for part in parts), parts
    keys = ["model", "accel", "item"]
    a, b = (r.sort_values(keys).reset_index(drop=True) for r in (before, after))
    pd.testing.assert_frame_equal(a[[*keys, "cluster"]], b[[*keys, "cluster"]])
    assert np.array_equal(a["score"], b["score"], equal_nan=True)


@given(text=st.text(max_size=200))
def test_a_safe_name_is_allowed_and_different_texts_have_different_names(text: str) -> None:
    assert ALLOWED.fullmatch(safe(text))
    assert safe(text) != safe(text + "/")
    if ALLOWED.fullmatch(text):
        assert safe(text) == text


def test_missing_answers_are_no_scores_in_either_format(tmp_path: Path) -> None:
    """every_eval_ever has no missing number: `error` says that its 0 is none. lm_eval has null."""
    sweep = make_sweep(tmp_path, missing=0.3, n_clusters=4, items_per_cluster=3)
    for to in MODULES:
        export(load(sweep), to, tmp_path / to)
    lines = [json.loads(x) for f in (tmp_path / "every_eval_ever").rglob("*.jsonl") for x in f.read_text().splitlines()]
    gone = [x for x in lines if x["metadata"]["outcome"] == "refused"]
    assert gone
    assert all(x["error"] == "refused" for x in gone)
    assert all(x["error"] is None for x in lines if x not in gone)
    lines = [json.loads(x) for f in (tmp_path / "lm_eval").rglob("samples_*.jsonl") for x in f.read_text().splitlines()]
    assert {x["outcome"] for x in lines if x["score"] is None} == {"refused"}


def test_means_and_errors_are_those_of_the_report(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, n_clusters=8)
    for to in MODULES:
        export(load(sweep), to, tmp_path / to)
    means = analysis.load(sweep, n_resamples=99).table("means").set_index(["model", "accel"])
    for (model, accel), row in means.iterrows():  # type: ignore[misc]
        (file,) = (tmp_path / "lm_eval" / model / accel).glob("results_*.json")
        found = json.loads(file.read_text())["results"]["planted"]
        assert (found["score,none"], found["score_stderr,none"]) == pytest.approx((row["value"], row["se"]))
    aggregates = [json.loads(f.read_text()) for f in (tmp_path / "every_eval_ever").rglob("*.json")]
    assert len(aggregates) == len(means)
    for found in aggregates:
        row = means.loc[(found["model_info"]["name"], found["model_info"]["additional_details"]["accel"])]
        details = found["evaluation_results"][0]["score_details"]
        assert details["score"] == pytest.approx(row["value"])
        assert details["uncertainty"]["standard_error"]["value"] == pytest.approx(row["se"])


def test_an_aggregate_names_its_instances(tmp_path: Path) -> None:
    import hashlib

    export(load(make_sweep(tmp_path, n_clusters=3, items_per_cluster=2)), "every_eval_ever", tmp_path / "out")
    for file in (tmp_path / "out").rglob("*.json"):
        found = json.loads(file.read_text())
        detailed = found["detailed_evaluation_results"]
        instances = tmp_path / "out" / detailed["file_path"]
        lines = instances.read_bytes()
        assert hashlib.sha256(lines).hexdigest() == detailed["checksum"]
        records = [json.loads(line) for line in lines.splitlines()]
        assert len(records) == detailed["total_rows"] == 6
        assert {r["evaluation_id"] for r in records} == {found["evaluation_id"]}
        assert {r["evaluation_result_id"] for r in records} == {found["evaluation_results"][0]["evaluation_result_id"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "to= is needed: every_eval_ever, lm_eval"),
        (["to=helm", "out=x"], "to=helm: choose one of every_eval_ever, lm_eval"),
        (["to=lm_eval"], "out= is needed"),
        (["to=lm_eval", "out=full"], "out=full: is there already; name a new folder"),
    ],
)
def test_a_wrong_request_is_one_line(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(tmp_path, n_clusters=3, items_per_cluster=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    assert main(["export", f"results={sweep}", *words]) == 2
    assert re.search(re.escape(message), capsys.readouterr().err)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    loaded = load(make_sweep(tmp_path, n_clusters=3, items_per_cluster=2))
    with pytest.raises(AnalysisError, match=r"out=.*cannot be written"):
        export(loaded, "lm_eval", tmp_path / "file" / "below")


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.exporters import lm_eval

    loaded = load(make_sweep(tmp_path, n_clusters=3, items_per_cluster=2))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lm_eval, "_results", full)
    with pytest.raises(AnalysisError, match=r"out=.*cannot be written \(No space left on device\)"):
        export(loaded, "lm_eval", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["outputs"]
    (tmp_path / "out").mkdir()  # an empty folder may be named
    monkeypatch.undo()
    assert all(file.is_file() for file in export(loaded, "lm_eval", tmp_path / "out"))
