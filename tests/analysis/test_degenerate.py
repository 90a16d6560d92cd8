"""Degenerate studies: words, not NaN and not a traceback, from the command line to the report."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.__main__ import main
from analysis.analyse import analyse
from analysis.errors import AnalysisError
from analysis.report.terminal import render
from analysis.report.traces import answered
from analysis.settings import Settings
from analysis.study import BenchmarkResult, Study, to_json

QUICK = Settings(n_resamples=99)


def study_of(path: Path, frame: pd.DataFrame) -> Study:
    file = path / "t.csv"
    frame.to_csv(file, index=False)
    return analyse(file, QUICK)


def table(
    models: tuple[str, ...] = ("a", "b"),
    accels: tuple[str, ...] = ("none", "q", "w"),
    n: int = 24,
    per: int = 2,
    noise: float = 0.3,
    seed: int = 0,
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=n)
    rows = [
        (m, a, f"i{i:04d}", base[i] + (rng.normal(0, noise) if a != "none" and noise else 0.0), f"c{i // per:04d}")
        for m in models
        for a in accels
        for i in range(n)
    ]
    return pd.DataFrame(rows, columns=["model", "accel", "item", "score", "cluster"])


def said(study: Study) -> str:
    """Everything a reader sees in words; raises if a figure was written as NaN."""
    text = render(study) + " ".join(study.cautions) + study.methods
    text += " ".join(s.sentence for b in study.benchmarks for s in b.shifts)
    assert "nan" not in text.lower()
    json.dumps(to_json(study), allow_nan=False)
    return " ".join(text.split())


def only(study: Study) -> BenchmarkResult:
    assert len(study.benchmarks) == 1
    return study.benchmarks[0]


def test_one_model(tmp_path: Path) -> None:
    study = study_of(tmp_path, table(models=("a",)))
    assert "with one model nothing is said" in said(study)
    assert all(math.isfinite(s.estimate.value) for s in only(study).shifts)


def test_one_accelerator(tmp_path: Path) -> None:
    result = only(study := study_of(tmp_path, table(accels=("none", "q"))))
    assert 0 < result.omnibus.p <= 1
    said(study)


def test_the_baseline_alone(tmp_path: Path) -> None:
    assert "no accelerated cell has answers to compare with a baseline's" in said(
        study_of(tmp_path, table(accels=("none",)))
    )


def test_one_item(tmp_path: Path) -> None:
    result = only(study := study_of(tmp_path, table(n=1)))
    assert result.verdict == "cannot be tested"
    assert {s.verdict for s in result.shifts} == {"inconclusive"}
    assert "1 cluster: no error can be given" in said(study)


def test_one_cluster(tmp_path: Path) -> None:
    result = only(study := study_of(tmp_path, table(per=1000)))
    assert result.verdict == "cannot be tested"
    assert "it takes 6 clusters" in said(study)


def test_all_cells_alike(tmp_path: Path) -> None:
    result = only(study := study_of(tmp_path, table(noise=0.0)))
    assert {s.verdict for s in result.shifts} == {"exactly unchanged"}
    assert result.verdict == "additive"
    said(study)


def test_all_scores_are_one_number(tmp_path: Path) -> None:
    result = only(study := study_of(tmp_path, table().assign(score=0.5)))
    assert {s.verdict for s in result.shifts} == {"exactly unchanged"}
    assert result.verdict == "additive"
    said(study)


def test_a_constant_step_is_a_change_without_an_error(tmp_path: Path) -> None:
    frame = table(noise=0.0)
    frame.loc[(frame["accel"] == "q") & (frame["model"] == "b"), "score"] += 1.0
    said(study_of(tmp_path, frame))


def test_all_refused_in_a_cell_and_everywhere(tmp_path: Path) -> None:
    frame = table().assign(refused=False)
    frame.loc[(frame["model"] == "a") & (frame["accel"] == "q"), "refused"] = True
    result = only(study := study_of(tmp_path, frame))
    cell = next(s for s in result.shifts if (s.model, s.accel) == ("a", "q"))
    assert cell.verdict == "missing"
    assert next(c for c in result.coverage if (c.model, c.accel) == ("a", "q")).n_refused == 24
    said(study)
    said(study_of(tmp_path, frame.assign(refused=True)))


def test_an_arm_without_an_answer_takes_no_other_out_of_the_tests(tmp_path: Path) -> None:
    frame = table(n=40, noise=0.3).assign(refused=False)
    frame.loc[frame["accel"] == "w", "score"] += 2.0
    lost = (frame["model"] == "a") & (frame["accel"] == "q")
    result = only(study := study_of(tmp_path, frame.assign(refused=lost)))
    without = only(study_of(tmp_path, frame[~lost]))  # as if it had not been run
    assert result.omnibus == without.omnibus
    assert result.predictability == without.predictability
    assert (result.n_items, result.n_clusters) == (40, 20)
    assert "not shown to exceed their noise" not in study.predictable
    assert "No item is answered in q of a and its baseline: no test holds it." in result.cautions
    assert [(r.model, r.accel, r.rate) for r in result.refusals if r.rate and r.kind == "refused"] == [("a", "q", 1.0)]
    assert [(b.model, b.accel, b.verdict, b.changes) for b in result.bounds] == [("a", "q", "missing", True)]
    assert result.refusal_omnibus is not None
    assert result.refusal_omnibus.p <= 0.05
    said(study)


def test_the_clusters_of_a_study_are_those_of_its_items(tmp_path: Path) -> None:
    frame = table(n=40).assign(refused=False)
    frame.loc[(frame["model"] == "a") & (frame["accel"] == "q") & (frame["cluster"] < "c0012"), "refused"] = True
    result = only(study_of(tmp_path, frame))
    assert (result.n_items, result.n_clusters) == (16, 8)
    assert answered(result) == "n = 16 items in 8 clusters answered in every tested cell."


def test_scores_without_outcomes_say_nothing_of_flips(tmp_path: Path) -> None:
    result = only(study := study_of(tmp_path, table()))
    assert result.flips == result.flip_profile == result.examples == []
    assert all(math.isnan(s.flip_rate) for s in result.shifts)
    assert "whether those flipped is not known" in said(study)
    assert "flipped" not in study.methods.lower()
    named = only(study_of(tmp_path, table().assign(outcome=lambda t: np.where(t["score"] > 0, "yes", "no"))))
    assert any(s.flips_up + s.flips_down for s in named.shifts)
    assert named.flips


def test_a_whole_cell_missing(tmp_path: Path) -> None:
    frame = table()
    result = only(study := study_of(tmp_path, frame[~((frame["model"] == "b") & (frame["accel"] == "w"))]))
    assert 0 < result.omnibus.p <= 1
    said(study)


def test_unequal_items_are_paired_and_counted(tmp_path: Path) -> None:
    frame = table()
    gone = (frame["accel"] == "q") & frame["item"].isin(["i0000", "i0001", "i0002"])
    result = only(study := study_of(tmp_path, frame[~gone]))
    counts = {(s.model, s.accel): s.estimate.n_items for s in result.shifts}
    assert counts == {("a", "q"): 21, ("b", "q"): 21, ("a", "w"): 24, ("b", "w"): 24}
    assert "21 of 24 items" in said(study)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_very_few_items(tmp_path: Path, n: int) -> None:
    said(study_of(tmp_path, table(n=n, per=1)))


def test_no_item_in_common(tmp_path: Path) -> None:
    frame = table()
    frame.loc[frame["accel"] == "q", "item"] += "x"
    result = only(study := study_of(tmp_path, frame))
    assert {s.verdict for s in result.shifts if s.accel == "q"} == {"missing"}
    said(study)


VALUES = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 1e-300, 1e15]), st.floats(-3, 3), st.none())


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    """Tables with few models, accels, items and clusters, any of whose scores may be missing, equal or extreme."""
    models, accels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n, per = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    frame = table(
        tuple("abc"[:models]),
        ("none", "q", "w")[:accels],
        n,
        per,
        draw(st.sampled_from([0.0, 0.3])),
        draw(st.integers(0, 9)),
    )
    changed = draw(st.dictionaries(st.integers(0, len(frame) - 1), VALUES, max_size=8))
    for row, value in changed.items():
        frame.loc[row, "score"] = np.nan if value is None else value
    dropped = draw(st.sets(st.integers(0, len(frame) - 1), max_size=8))
    kept = frame.drop(index=[i for i in dropped if i])  # the first row holds the baseline
    return kept.assign(refused=draw(st.booleans())) if draw(st.booleans()) else kept


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(frames())
def test_whatever_comes_there_are_words(tmp_path: Path, frame: pd.DataFrame) -> None:
    with suppress(AnalysisError):  # a refusal is one line of words by construction
        said(study_of(tmp_path, frame))


def test_the_report_of_a_degenerate_study_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.csv"
    table(models=("a",), n=1).to_csv(file, index=False)
    assert main([f"results={file}", f"out={tmp_path / 'out'}", "n_resamples=99"]) == 0
    assert (tmp_path / "out" / "report.html").is_file()
    capsys.readouterr()
