from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from analysis.clusters import partition
from analysis.estimates import cluster_mean, difference_in_differences, interval, missing, satterthwaite

Floats = NDArray[np.float64]
R = Path(__file__).parent / "r"
SIZES = [2, 7, 1, 12, 5, 3, 3, 9]


def clustered(seed: int) -> tuple[Floats, list[str]]:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(SIZES)), SIZES)
    return 0.2 + rng.normal(0, 0.5, len(SIZES))[codes] + rng.normal(0, 1, len(codes)), [f"c{c}" for c in codes]


@pytest.mark.parametrize("seed", range(4))
def test_clusters_of_one_size_agree_with_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(9), 4)
    values, labels = 0.2 + rng.normal(0, 0.5, 9)[codes] + rng.normal(0, 1, 36), [f"c{c}" for c in codes]
    fit = sm.OLS(values, np.ones((36, 1))).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    estimate = cluster_mean(values, partition(labels))
    low, high = fit.conf_int()[0]
    ours = [estimate.value, estimate.se, estimate.p, estimate.ci_low, estimate.ci_high]
    assert ours == pytest.approx([fit.params[0], fit.bse[0], fit.pvalues[0], low, high], rel=1e-10)
    assert (estimate.n_items, estimate.n_clusters, estimate.df) == (36, 9, 8)


@pytest.mark.parametrize("k", range(4))
def test_errors_and_degrees_of_freedom_agree_with_clubsandwich(k: int) -> None:
    data = pd.read_csv(R / "mean_cr2_data.csv")
    expected = pd.read_csv(R / "mean_cr2_expected.csv").iloc[k]
    part = data[data["set"] == expected["set"]]
    estimate = cluster_mean(part["y"].to_numpy(), partition(part["cluster"].tolist()))
    assert (estimate.value, estimate.se) == pytest.approx((expected["mean"], expected["se"]), rel=1e-10)
    sizes = part["cluster"].value_counts().to_numpy()
    assert satterthwaite(sizes, icc=0) == pytest.approx(expected["df"], rel=1e-10)
    p = 2 * stats.t.sf(abs(estimate.value / estimate.se), satterthwaite(sizes, icc=0))
    assert p == pytest.approx(expected["p"], rel=1e-9)
    assert estimate.df == pytest.approx(satterthwaite(sizes))
    assert estimate.df <= expected["df"] + 1e-9  # the default is never bolder


@pytest.mark.parametrize("icc", [0.0, 0.3, 1.0])
def test_degrees_of_freedom_by_matrices(icc: float) -> None:
    """2 E(V)^2 / Var(V) of the quadratic form, from its matrix and the covariance of the cluster sums."""
    sizes = np.array([3, 9, 1, 20, 4])
    p = sizes / sizes.sum()
    centring = np.eye(5) - np.outer(p, np.ones(5))
    form = centring.T @ np.diag(1 / (1 - p)) @ centring @ np.diag(sizes * (1 + (sizes - 1) * icc))
    assert satterthwaite(sizes, icc=icc) == pytest.approx(np.trace(form) ** 2 / np.trace(form @ form), rel=1e-12)


def test_equal_clusters_are_a_t_test_of_their_means() -> None:
    values = np.random.default_rng(3).normal(0.3, 1, 40)
    clusters = partition([f"c{i % 8}" for i in range(40)])
    test = stats.ttest_1samp(clusters.means(values), 0)
    estimate = cluster_mean(values, clusters, alpha=0.1)
    assert estimate.p == pytest.approx(test.pvalue, rel=1e-10)
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx(tuple(test.confidence_interval(0.9)), rel=1e-10)


def test_singletons_are_the_paired_t_test() -> None:
    rng = np.random.default_rng(5)
    before, after = rng.normal(0, 1, 30), rng.normal(0.2, 1, 30)
    estimate = cluster_mean(after - before, partition(range(30)))
    assert estimate.p == pytest.approx(stats.ttest_rel(after, before).pvalue, rel=1e-10)


def test_missing_answers_are_left_out_and_counted() -> None:
    values = np.array([1.0, math.nan, 3.0, 2.0])
    clusters = partition(["a", "a", "b", "c"])
    assert cluster_mean(values, clusters) == cluster_mean(values[[0, 2, 3]], partition(["a", "b", "c"]))
    assert cluster_mean(values, clusters).n_items == 3


def test_one_cluster_has_a_mean_and_no_error() -> None:
    estimate = cluster_mean(np.array([1.0, 2.0]), partition(["a", "a"]))
    assert estimate.value == 1.5
    assert math.isnan(estimate.se)
    assert math.isnan(estimate.p)
    assert "1 cluster" in estimate.reason
    assert all(map(math.isnan, interval(estimate, alpha=0.1)))


def test_no_variance_is_said_exactly() -> None:
    zero = cluster_mean(np.zeros(5), partition("abcde"))
    assert zero.exact_zero
    assert (zero.value, zero.se, zero.ci_low, zero.p) == (0.0, 0.0, 0.0, 1.0)
    same = cluster_mean(np.full(5, 0.1), partition("abcde"))
    assert (same.se, same.ci_low, same.ci_high) == (0.0, same.value, same.value)
    assert math.isnan(same.p)
    assert "the same value in all 5 items" in same.reason
    assert not same.exact_zero
    balanced = cluster_mean(np.array([1.0, -1.0, 1.0, -1.0]), partition("aabb"))
    assert (balanced.value, balanced.se, balanced.p) == (0.0, 0.0, 1.0)
    assert "every cluster" in balanced.reason


def test_one_cluster_of_zeros_is_exactly_zero() -> None:
    assert cluster_mean(np.zeros(3), partition("aaa")).exact_zero


def test_no_values_and_infinite_values() -> None:
    nothing = cluster_mean(np.full(3, math.nan), partition("abc"))
    assert math.isnan(nothing.value)
    assert nothing.reason
    with pytest.raises(ValueError, match="infinite"):
        cluster_mean(np.array([1.0, math.inf]), partition("ab"))
    with pytest.raises(ValueError, match="one value an item"):
        cluster_mean(np.array([1.0]), partition("ab"))


def test_an_interval_at_another_level() -> None:
    values, labels = clustered(9)
    estimate = cluster_mean(values, partition(labels), alpha=0.05)
    wide = cluster_mean(values, partition(labels), alpha=0.2)
    assert interval(estimate, alpha=0.2) == pytest.approx((wide.ci_low, wide.ci_high))


def test_differences_by_hand() -> None:
    shifts = np.array([[0.5, 0.1, 0.3], [1.0, math.nan, 0.0]])
    result = difference_in_differences(shifts)
    assert result[0] == pytest.approx([0.3, -0.3, 0.0])
    assert np.isnan(result[1]).all()
    assert np.isnan(difference_in_differences(shifts[:, :1])).all()


def test_equal_shifts_differ_by_exactly_nothing() -> None:
    rng = np.random.default_rng(0)
    shifts = np.repeat(rng.normal(size=(50, 1)), 3, axis=1)
    assert (difference_in_differences(shifts) == 0).all()


def test_two_models_mirror_each_other() -> None:
    result = difference_in_differences(np.random.default_rng(1).normal(size=(20, 2)))
    assert result[:, 0] == pytest.approx(-result[:, 1])


def test_missing_has_its_reason() -> None:
    assert missing("why").reason == "why"


finite = st.floats(-100, 100).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(st.lists(st.tuples(st.integers(0, 4), finite), min_size=2, max_size=30), st.randoms())
def test_order_and_names_of_clusters_change_nothing(rows: list[tuple[int, float]], random: object) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def estimate(data: list[tuple[int, float]], name: str) -> Floats:
        e = cluster_mean(np.array([v for _, v in data]), partition([f"{name}{c}" for c, _ in data]))
        return np.array([e.value, e.se])

    one, other = estimate(rows, "x"), estimate(shuffled, "y")
    assert one == pytest.approx(other, rel=1e-6, abs=1e-9, nan_ok=True)


@given(st.lists(finite, min_size=3, max_size=20), st.sampled_from([-4.0, -1.0, 0.5, 8.0]))
def test_scale_and_sign(values: list[float], factor: float) -> None:
    clusters = partition([str(i // 2) for i in range(len(values))])
    one = cluster_mean(np.array(values), clusters)
    other = cluster_mean(factor * np.array(values), clusters)
    assert other.value == pytest.approx(factor * one.value)
    assert other.se == pytest.approx(abs(factor) * one.se, nan_ok=True)
    ends = sorted([factor * one.ci_low, factor * one.ci_high])
    assert [other.ci_low, other.ci_high] == pytest.approx(ends, nan_ok=True)
    assert other.p == pytest.approx(one.p, nan_ok=True)
