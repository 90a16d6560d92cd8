"""Aggregates through pseudo-values: a mean gives back its own analysis, a ratio that of the delta method."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.aggregates import Aggregate, aggregates, pseudo_values
from analysis.anova import rm_anova
from analysis.clusters import partition
from analysis.estimates import cluster_mean
from analysis.frame import Frame, make_frames
from analysis.load import load
from analysis.omnibus import omnibus
from analysis.settings import Settings
from tests.analysis.fake import make_sweep

FAST = Settings(n_resamples=199)
ARMS = [(m, a) for m in ("tiny_llama", "tiny_mistral") for a in ("hqq4", "wanda50")]
GRID = [("tiny_llama", "none"), ("tiny_mistral", "none"), *ARMS]


def mean(records: pd.DataFrame) -> float:
    return float(records["score"].mean())


def mean_of_cluster_means(records: pd.DataFrame) -> float:
    return float(records.groupby("cluster")["score"].mean().mean())


def ratio(records: pd.DataFrame) -> float:
    return float((records["score"] > 0).sum() / (records["score"].abs() > 0.3).sum())


def study(
    root: Path, statistic: Any, *, key: str = "leave_one_out", reason: str = "", uneven: bool = False, **options: Any
) -> Frame:
    """A fake sweep whose cells store `statistic` with its values without each cluster.

    uneven : the clusters have 1 to 6 items.
    """
    sweep = make_sweep(root, **options)
    for path in (root / "outputs" / "results").rglob("cell.json"):
        records = pd.read_parquet(path.with_name("records.parquet"))
        if uneven:
            records = records[records["item"].str[-1].astype(int) <= records["cluster"].str[-1].astype(int) % 6]
            records.to_parquet(path.with_name("records.parquet"), index=False)
        left_out = {str(c): statistic(records[records["cluster"] != c]) for c in records["cluster"].unique()}
        cell = json.loads(path.read_text())
        cell["metrics"]["stat"] = {"value": statistic(records), key: left_out, "unit": "share", "reason": reason}
        path.write_text(json.dumps(cell))
    return make_frames(load(sweep).cells)[0]


def only(frame: Frame) -> Aggregate:
    found = aggregates(frame, ARMS, FAST)
    assert [a.metric for a in found] == ["stat"]
    return found[0]


@pytest.mark.parametrize("key", ["leave_one_out", "loo"])
def test_a_mean_of_cluster_means_gives_back_the_analysis_of_cluster_means(tmp_path: Path, key: str) -> None:
    frame = study(tmp_path, mean_of_cluster_means, key=key, interaction=0.4)
    found = only(frame)
    means = frame.clusters.means(frame.matrix(GRID))
    theirs = rm_anova(means, GRID, unit="pseudo-values")
    for ours, row in zip(found.anova.rows, theirs.rows, strict=True):
        assert (ours.f, ours.p_gg, ours.eps) == pytest.approx((row.f, row.p_gg, row.eps))
    units = partition([f"{i:02d}" for i in range(20)])
    for shift in found.shifts:
        column = GRID.index((shift.model, shift.accel))
        expected = cluster_mean(means[:, column] - means[:, GRID.index((shift.model, "none"))], units)
        assert (shift.estimate.value, shift.estimate.se) == pytest.approx((expected.value, expected.se))
        assert shift.value == pytest.approx(expected.value)
    assert found.omnibus.p == pytest.approx(omnibus(frame, GRID, FAST).p)  # clusters of equal size
    assert (found.unit, found.n_clusters, found.cautions) == ("share", 20, [])


def test_the_mean_of_items_has_the_cluster_robust_error(tmp_path: Path) -> None:
    frame = study(tmp_path, mean)
    for shift in only(frame).shifts:
        paired = cluster_mean(frame.shift(shift.model, shift.accel), frame.clusters)
        assert shift.estimate.value == pytest.approx(paired.value)
        assert shift.estimate.se == pytest.approx(paired.se)


def test_over_uneven_clusters_the_mean_of_items_gives_back_the_paired_shift_and_its_test(tmp_path: Path) -> None:
    frame = study(tmp_path, mean, uneven=True, interaction=0.2)
    assert len(set(frame.clusters.sizes.tolist())) > 3
    found = only(frame)
    for shift in found.shifts:
        paired = cluster_mean(frame.shift(shift.model, shift.accel), frame.clusters)
        ours = shift.estimate
        assert (ours.value, ours.se, ours.df, ours.p) == pytest.approx((paired.value, paired.se, paired.df, paired.p))
    assert found.omnibus.p == pytest.approx(omnibus(frame, GRID, FAST).p)


def test_a_ratio_has_the_error_of_the_delta_method(tmp_path: Path) -> None:
    frame = study(tmp_path, ratio, n_clusters=60)
    shift = only(frame).shifts[0]
    scores = {a: frame.score(shift.model, a) for a in ("none", shift.accel)}
    influence = 0.0
    for accel, sign in ((shift.accel, 1.0), ("none", -1.0)):
        up, sure = (scores[accel] > 0).astype(float), (np.abs(scores[accel]) > 0.3).astype(float)
        influence = influence + sign * (up - up.mean() / sure.mean() * sure) / sure.mean()
    delta = cluster_mean(influence, frame.clusters)
    assert shift.estimate.se == pytest.approx(delta.se, rel=0.1)
    assert shift.value == pytest.approx(shift.estimate.value, abs=0.2 * delta.se)


def test_the_difference_is_against_the_other_models(tmp_path: Path) -> None:
    found = only(study(tmp_path, mean, interaction=1.0))
    by_arm = {(s.model, s.accel): s for s in found.shifts}
    one, other = by_arm["tiny_mistral", "hqq4"], by_arm["tiny_llama", "hqq4"]
    assert one.difference.value == pytest.approx(one.estimate.value - other.estimate.value)
    assert one.difference.value == pytest.approx(-other.difference.value)
    assert found.omnibus.p <= 0.05


def test_pseudo_values_of_a_true_null_reject_at_the_level() -> None:
    """A ratio over clusters of 6: the paired shift of its pseudo-values, whose true value is 0."""
    rng, n, rejected = np.random.default_rng(0), 400, 0
    for _ in range(n):
        common = rng.normal(0, 0.6, (25, 1, 2))
        x = rng.normal(size=(25, 6, 2)) + common
        up, sure = (x > 0).sum(axis=1), (np.abs(x) > 0.3).sum(axis=1)
        total = up.sum(0) / sure.sum(0)
        left = (up.sum(0) - up) / (sure.sum(0) - sure)
        pseudo = [pseudo_values(float(total[k]), left[:, k]) for k in (0, 1)]
        rejected += cluster_mean(pseudo[1] - pseudo[0], partition([f"{i:02d}" for i in range(25)])).p <= 0.05
    assert rejected <= stats.binom.ppf(0.9999, n, 0.05)


def test_what_a_cell_says_against_its_aggregate_is_passed_on(tmp_path: Path) -> None:
    found = only(study(tmp_path, mean, reason="two groups tie"))
    assert len(found.cautions) == 1
    assert found.cautions[0].endswith("of tiny_mistral: two groups tie")


def test_a_doubted_aggregate_has_an_interval_and_no_p(tmp_path: Path) -> None:
    frame = study(tmp_path, mean, interaction=0.4)
    frame.cells["tiny_llama", "hqq4"][0].content["metrics"]["stat"]["reason"] = "two groups tie"
    found = only(frame)
    doubted = [(s.model, s.accel) for s in found.shifts if math.isnan(s.estimate.p)]
    assert doubted == [("tiny_llama", "hqq4")]
    for s in found.shifts:
        assert math.isfinite(s.estimate.ci_low)
        assert math.isnan(s.estimate.p_adjusted) == ((s.model, s.accel) in doubted)
        assert math.isnan(s.difference.p) == (s.accel == "hqq4")  # one side of the difference is in doubt
        assert (s.difference.reason == "two groups tie") == (s.accel == "hqq4")
    assert (math.isnan(found.omnibus.p), found.anova.rows) == (True, [])
    assert found.omnibus.reason == found.anova.reason == "hqq4 of tiny_llama: two groups tie"


def test_cells_without_a_value_or_without_it_left_out_are_left_out(tmp_path: Path) -> None:
    frame = study(tmp_path, mean)
    assert aggregates(frame, [], FAST) == []
    gone = frame.cells["tiny_llama", "hqq4"][0]
    gone.content["metrics"]["stat"]["value"] = None  # type: ignore[index]
    left_out = frame.cells["tiny_mistral", "hqq4"][0].content["metrics"]["stat"]["leave_one_out"]
    left_out[next(iter(left_out))] = None
    found = only(frame)
    assert [(s.model, s.accel) for s in found.shifts] == [("tiny_llama", "wanda50"), ("tiny_mistral", "wanda50")]
    assert found.cautions == ["hqq4 of tiny_mistral: not to be had without some cluster, so left out"]


def test_a_cluster_without_an_answer_changes_nothing_when_left_out(tmp_path: Path) -> None:
    frame = study(tmp_path, mean)
    cell = frame.cells["tiny_llama", "hqq4"][0]
    left_out = cell.content["metrics"]["stat"]["leave_one_out"]
    value = cell.content["metrics"]["stat"]["value"]
    name = next(iter(left_out))
    left_out[name] = value
    one = only(frame)
    del left_out[name]
    assert repr(only(frame)) == repr(one)
