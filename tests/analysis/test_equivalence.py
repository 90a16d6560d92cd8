"""Two one-sided tests against statsmodels and pingouin, and their agreement with the interval."""

from __future__ import annotations

import math

import numpy as np
import pingouin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from analysis.clusters import partition
from analysis.equivalence import equivalence, equivalence_of
from analysis.estimates import cluster_mean


@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.1, 0.28])
def test_items_of_their_own_agree_with_statsmodels_and_pingouin(mean: float) -> None:
    x = np.random.default_rng(3).normal(mean, 1, 80)
    found = equivalence(x, partition(range(80)), margin=0.3)
    p, (_, p_lower, _), (_, p_upper, _) = ttost_paired(x, np.zeros(80), -0.3, 0.3)
    assert (found.p, found.p_lower, found.p_upper) == pytest.approx((p, p_lower, p_upper), rel=1e-10)
    theirs = pingouin.tost(x, np.zeros(80), bound=0.3, paired=True)
    assert found.p == pytest.approx(float(theirs["pval"].iloc[0]), rel=1e-10)


def test_clusters_of_equal_size_are_tested_as_their_means() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(12), 5)
    x = rng.normal(0, 0.3, 12)[codes] + rng.normal(0.05, 0.2, 60)
    found = equivalence(x, partition([str(c) for c in codes]), margin=0.25)
    means = x.reshape(12, 5).mean(axis=1)
    theirs = max(
        stats.ttest_1samp(means, -0.25, alternative="greater").pvalue,
        stats.ttest_1samp(means, 0.25, alternative="less").pvalue,
    )
    assert found.p == pytest.approx(theirs, rel=1e-10)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 2.0), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_p_and_the_interval_say_the_same(seed: int, margin: float, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    found = equivalence(
        rng.normal(0.1, 0.5, 24), partition([str(i % 8) for i in range(24)]), margin=margin, alpha=alpha
    )
    assert found.equivalent == (found.p < alpha) == (found.smallest_margin < margin)


def test_sign_and_unit_change_nothing() -> None:
    x = np.random.default_rng(1).normal(0.1, 0.4, 30)
    clusters = partition([str(i % 10) for i in range(30)])
    one = equivalence(x, clusters, margin=0.3)
    other = equivalence(-100 * x, clusters, margin=30.0)
    assert other.p == pytest.approx(one.p)
    assert (other.p_lower, other.p_upper) == pytest.approx((one.p_upper, one.p_lower))
    assert other.smallest_margin == pytest.approx(100 * one.smallest_margin)


def test_what_has_no_error_is_equivalent_only_if_exactly_zero() -> None:
    same = equivalence(np.zeros(3), partition(range(3)), margin=0.1)
    assert same.equivalent
    assert (same.p, same.smallest_margin) == (0.0, 0.0)
    alone = equivalence(np.array([0.01, 0.02]), partition("aa"), margin=0.1)
    assert not alone.equivalent
    assert math.isnan(alone.p)
    few = equivalence(np.array([0.01, 0.02, 0.0, 0.01, 0.01]), partition("abcde"), margin=0.5)
    assert few.p < 0.05
    assert not few.equivalent  # no sign-flip test exists with 5 clusters
    with pytest.raises(ValueError, match="margin=0"):
        equivalence_of(cluster_mean(np.zeros(3), partition(range(3))), margin=0.0)


@pytest.mark.parametrize("n", [40, 148, 149, 400])
def test_answers_none_of_which_changed_are_shown_within_a_margin_by_the_exact_binomial_bound(n: int) -> None:
    """With a true share of changes at the margin, none is seen with chance at most alpha (scipy's binomial test)."""
    estimate = cluster_mean(np.zeros(n), partition(range(n)), reach=1.0)
    found = equivalence_of(estimate, margin=0.02)  # with n clusters the binomial bound is the wider one
    expected = stats.binomtest(0, n, 0.02, alternative="less")
    assert found.p >= 0.999999 * expected.pvalue
    assert found.equivalent == (expected.pvalue < 0.05) == (n >= 149)
    assert found.ci_high == pytest.approx(stats.binomtest(0, n).proportion_ci(0.9).high)
    assert estimate.ci_high == pytest.approx(stats.binomtest(0, n).proportion_ci(0.95).high)


def test_no_change_says_no_more_than_one_change_would() -> None:
    """Fewer changes may not give a surer claim than the t interval of one, whatever the clusters."""
    for n_clusters in (2, 6, 20, 60):
        clusters = partition([i % n_clusters for i in range(120)])
        one = np.zeros(120)
        one[0] = 1.0
        none, some = (cluster_mean(x, clusters, reach=1.0) for x in (np.zeros(120), one))
        assert none.ci_high >= 0.99 * some.ci_high
        assert none.ci_low == -none.ci_high
        margin = 0.9 * none.ci_high
        assert equivalence_of(none, margin=margin, alpha=0.025).p > 0.025
        assert equivalence_of(none, margin=none.ci_high / 0.999, alpha=0.025).p < 0.025
    assert cluster_mean(np.zeros(9), partition("a" * 9), reach=1.0).ci_high == 1.0


@pytest.mark.parametrize(("n_clusters", "claimed"), [(8, 0.22), (20, 0.17)])
def test_skewed_shifts_in_few_clusters_are_called_equivalent_too_often(n_clusters: int, claimed: float) -> None:
    """What docs/statistics.md says of the limit of t: lognormal shifts whose mean lies at the margin."""
    rng = np.random.default_rng(7)
    margin, clusters = 1.0, partition(range(n_clusters))
    draws = rng.lognormal(size=(4000, n_clusters)) - math.exp(0.5) + margin
    found = [equivalence(x, clusters, margin=margin).equivalent for x in draws]
    assert float(np.mean(found)) == pytest.approx(claimed, abs=0.02)


def test_a_shift_at_the_margin_is_called_equivalent_at_most_at_the_level() -> None:
    """The false-equivalence rate with items that share templates: cluster errors hold it, item errors do not."""
    codes = np.repeat(np.arange(40), 8)
    clusters, items = partition([str(c) for c in codes]), partition(range(len(codes)))
    rng, n, wrong, naive = np.random.default_rng(5), 400, 0, 0
    for _ in range(n):
        x = 0.3 + rng.normal(0, 0.5, 40)[codes] + rng.normal(0, 0.5, len(codes))
        wrong += equivalence(x, clusters, margin=0.3).equivalent
        naive += equivalence(x, items, margin=0.3).equivalent
    most = stats.binom.ppf(0.9999, n, 0.05)
    assert wrong <= most < naive
