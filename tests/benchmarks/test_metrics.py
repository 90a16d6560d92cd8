"""Aggregates against statsmodels and scipy, and what they say when they cannot be given."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.clusters import partition
from analysis.estimates import cluster_mean as estimate
from biaslab.benchmarks import metrics


def clustered(seed: int, n_clusters: int = 13, missing: float = 0.0) -> pd.DataFrame:
    """Unequal clusters whose members share a deviation; `score` depends on `truth` with slope .8."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n_clusters), rng.integers(1, 20, n_clusters))
    truth = rng.normal(size=len(cluster))
    score = 0.3 + 0.8 * truth + rng.normal(size=n_clusters)[cluster] + rng.normal(size=len(cluster))
    score[rng.random(len(cluster)) < missing] = np.nan
    return pd.DataFrame({"cluster": [f"c{c}" for c in cluster], "truth": truth, "score": score})


def reference(frame: pd.DataFrame, regressors: np.ndarray) -> tuple[float, float, float]:
    """Last coefficient and its interval from statsmodels' cluster-robust OLS, t with G - 1 df."""
    kept = frame["score"].notna().to_numpy()
    codes = pd.factorize(frame["cluster"][kept])[0]
    fitted = sm.OLS(frame["score"][kept].to_numpy(), regressors[kept]).fit(
        cov_type="cluster", cov_kwds={"groups": codes}, use_t=True
    )
    low, high = fitted.conf_int()[-1]
    return float(fitted.params[-1]), float(low), float(high)


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_cluster_mean_of_clusters_of_one_size_agrees_with_statsmodels(seed: int, missing: float) -> None:
    frame = clustered(seed)
    frame = frame.groupby("cluster").head(4).groupby("cluster").filter(lambda part: len(part) == 4)
    absent = (
        frame.groupby("cluster").sample(n=1, random_state=seed).index
    )  # of each cluster one, so that sizes stay alike
    frame.loc[absent if missing else [], "score"] = np.nan
    found = metrics.cluster_mean(frame["score"], frame["cluster"], unit="log-odds", coverage=0.7)
    expected = reference(frame, np.ones((len(frame), 1)))
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(expected, rel=1e-10)
    assert (found.n, found.n_clusters, found.unit, found.reason) == (
        frame["score"].notna().sum(),
        frame["cluster"].nunique(),
        "log-odds",
        "",
    )


def test_cluster_mean_of_unequal_clusters_is_the_one_of_the_analysis() -> None:
    # Which is held to clubSandwich's coef_test(vcov = "CR2", test = "Satterthwaite") in tests/analysis.
    frame = clustered(1, missing=0.1)
    there = frame[frame["score"].notna()]
    expected = estimate(there["score"].to_numpy(), partition(there["cluster"].tolist()))
    found = metrics.cluster_mean(frame["score"], frame["cluster"])
    assert (found.value, found.ci_low, found.ci_high) == (expected.value, expected.ci_low, expected.ci_high)
    assert expected.df < expected.n_clusters - 1


def test_one_cluster_that_holds_most_items_makes_no_narrow_interval() -> None:
    # 400 studies of one cluster of 100 and 19 of 3, true mean 0: with G - 1 degrees of freedom 52 % were covered.
    sizes, covered = np.array([100] + [3] * 19), 0
    for seed in range(400):
        values = np.repeat(np.random.default_rng(seed).normal(size=20), sizes)
        found = metrics.cluster_mean(pd.Series(values), pd.Series(np.repeat(np.arange(20), sizes)))
        covered += found.ci_low <= 0 <= found.ci_high
    assert covered / 400 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400)


@pytest.mark.parametrize("seed", range(3))
def test_slope_agrees_with_statsmodels(seed: int) -> None:
    frame = clustered(seed, missing=0.1)
    found = metrics.slope(frame["truth"], frame["score"], frame["cluster"])
    expected = reference(frame, sm.add_constant(frame["truth"].to_numpy()))
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(expected, rel=1e-10)


def test_one_item_a_cluster_gives_the_classical_interval() -> None:
    values = pd.Series(np.random.default_rng(0).normal(size=30))
    found = metrics.cluster_mean(values, pd.Series(range(30)))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    # 400 draws of clustered data with mean .3: 95 % +- 3 binomial errors (a plain t interval: 57 %).
    frames = [clustered(seed, n_clusters=30) for seed in range(400)]
    covered = 0
    for frame in frames:
        found = metrics.cluster_mean(frame["score"] - 0.8 * frame["truth"], frame["cluster"])
        covered += found.ci_low <= 0.3 <= found.ci_high
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400) <= covered / 400 <= 1


@given(st.floats(0.1, 10), st.floats(-5, 5), st.permutations(range(40)))
def test_scaling_shifting_and_reordering(factor: float, offset: float, order: list[int]) -> None:
    frame = clustered(4).head(40)
    one = metrics.cluster_mean(frame["score"], frame["cluster"])
    moved = frame.iloc[order]
    two = metrics.cluster_mean(moved["score"] * factor + offset, moved["cluster"])
    for name in ("value", "ci_low", "ci_high"):
        assert getattr(two, name) == pytest.approx(getattr(one, name) * factor + offset, abs=1e-9)


def test_too_few_answers_give_no_number_and_say_so() -> None:
    frame = clustered(1)
    frame.loc[: int(0.25 * len(frame)), "score"] = np.nan
    n, n_all = int(frame["score"].notna().sum()), len(frame)
    for found in metrics.recovery(frame).values():
        assert math.isnan(found.value)
    found = metrics.cluster_mean(frame["score"], frame["cluster"])
    assert math.isnan(found.value)
    assert found.reason == f"only {n} of {n_all} records have an answer, less than 80%"
    assert not math.isnan(metrics.cluster_mean(frame["score"], frame["cluster"], coverage=0.5).value)


def test_one_cluster_gives_a_value_without_an_interval() -> None:
    found = metrics.cluster_mean(pd.Series([1.0, 2.0]), pd.Series(["a", "a"]))
    assert found.value == 1.5
    assert math.isnan(found.ci_low)
    assert found.reason == "one cluster: no interval"


@pytest.mark.parametrize("values", [[0.0] * 6, [100.0] * 6, [0.1] * 6, [0.0, 1.0] * 3])
def test_clusters_that_do_not_differ_give_no_interval_of_width_zero(values: list[float]) -> None:
    found = metrics.cluster_mean(pd.Series(values), pd.Series(list("aabbcc")))
    assert found.value == pytest.approx(np.mean(values))
    assert math.isnan(found.ci_low)
    assert math.isnan(found.ci_high)
    assert found.reason == metrics.SAME
    values[0] += 1e-3
    assert metrics.cluster_mean(pd.Series(values), pd.Series(list("aabbcc"))).reason == ""


def test_a_perfect_line_gives_no_interval_of_width_zero() -> None:
    x, clusters = pd.Series(np.arange(6.0)), pd.Series(list("aabbcc"))
    found = metrics.slope(x, 0.3 * x + 1, clusters)
    assert found.value == pytest.approx(0.3)
    assert (math.isnan(found.ci_low), found.reason) == (True, metrics.SAME)
    assert metrics.slope(x, 0.3 * x + 1 + 1e-3 * (x == 2), clusters).reason == ""


def test_no_records_and_one_truth_say_so() -> None:
    empty = clustered(0).head(0)
    assert metrics.cluster_mean(empty["score"], empty["cluster"]).reason == "no such records"
    frame = clustered(0).assign(truth=1.0)
    found = metrics.recovery(frame)
    assert found["recovery_slope"].reason == "fewer than 3 items or clusters, or all of one truth: no slope"
    assert found["recovery_r"].reason == "fewer than 3 items, or constant: no correlation"
    assert found["control_mae"].reason == "no such records"


def test_recovery_keeps_controls_apart() -> None:
    frame = clustered(2)
    controls = frame.assign(truth=0.0)
    found = metrics.recovery(pd.concat([frame, controls], ignore_index=True))
    assert found["recovery_slope"].value == pytest.approx(metrics.recovery(frame)["recovery_slope"].value)
    assert found["recovery_r"].value == pytest.approx(stats.pearsonr(frame["truth"], frame["score"])[0])
    assert found["recovery_mae"].value == pytest.approx((frame["score"] - frame["truth"]).abs().mean())
    assert found["control_mae"].value == pytest.approx(controls["score"].abs().mean())
