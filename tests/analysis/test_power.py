"""Power against statsmodels and simulation; plans reach what they promise, and no less would do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from analysis.clusters import partition
from analysis.estimates import cluster_mean
from analysis.power import Components, components, detectable, plan, power_of

PILOT = Components(between=0.02, within=0.4, repeat=0.6, icc=0.05, n_clusters=24, items_per_cluster=6.0, repeats=3)


@pytest.mark.parametrize("df", [1, 2, 5, 29, 400, 60_000])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.2])
def test_power_agrees_with_statsmodels(df: int, alpha: float) -> None:
    for effect in (0.0, 0.7, 2.5, 6.0):
        theirs = float(TTestPower().power(effect / math.sqrt(df + 1), df + 1, alpha, alternative="two-sided"))
        if not math.isnan(theirs):  # scipy's noncentral t gives none at the edges
            assert power_of(effect, se=1.0, df=df, alpha=alpha) == pytest.approx(theirs, abs=1e-8)


@pytest.mark.parametrize(("n", "power"), [(8, 0.8), (31, 0.8), (31, 0.95), (500, 0.5)])
def test_the_detectable_effect_agrees_with_statsmodels(n: int, power: float) -> None:
    theirs = TTestPower().solve_power(nobs=n, alpha=0.05, power=power, alternative="two-sided")
    ours = detectable(se=0.2 / math.sqrt(n), df=n - 1, power=power)
    assert ours == pytest.approx(0.2 * float(theirs), rel=1e-4)  # where their solver stops


def test_the_detectable_effect_is_detected_as_often_as_said() -> None:
    rng, n, found = np.random.default_rng(2), 600, 0
    codes = np.repeat(np.arange(30), 10)
    clusters = partition([str(c) for c in codes])
    se = math.sqrt((0.3 + 0.7 / 10) / 30)
    effect = detectable(se=se, df=29)
    for _ in range(n):
        x = effect + rng.normal(0, 0.3**0.5, 30)[codes] + rng.normal(0, 0.7**0.5, 300)
        found += cluster_mean(x, clusters).p <= 0.05
    assert stats.binomtest(found, n, 0.8).pvalue > 1e-4


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 20), st.integers(1, 200), st.floats(0.1, 0.99))
def test_detectable_and_power_are_inverses(se: float, df: int, power: float) -> None:
    assert power_of(detectable(se=se, df=df, power=power), se=se, df=df) == pytest.approx(power, abs=1e-6)
    assert power_of(-se, se=se, df=df) == power_of(se, se=se, df=df)


def test_where_there_is_no_error_there_is_no_power() -> None:
    assert math.isnan(power_of(1.0, se=math.nan, df=5))
    assert math.isnan(detectable(se=1.0, df=0))
    assert power_of(0.1, se=0.0, df=5) == 1.0
    assert detectable(se=0.0, df=5) == 0.0
    with pytest.raises(ValueError, match=r"power=0\.01"):
        detectable(se=1.0, df=5, power=0.01)


@pytest.mark.parametrize("size", [1, 4])
def test_components_give_back_the_error_of_the_pilot(size: int) -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(20), size)
    shift, clusters = rng.normal(0, 0.8, 20)[codes] + rng.normal(0, 1, len(codes)), partition([str(c) for c in codes])
    found = components(shift, clusters)
    assert found is not None
    assert found.se(20, size) == pytest.approx(cluster_mean(shift, clusters).se)  # equal sizes: exactly


def test_components_recover_what_made_the_data() -> None:
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 400, 8000)
    repeats = rng.normal(0, 0.9, (8000, 4)).mean(axis=1)
    shift = rng.normal(0, 0.5, 400)[codes] + rng.normal(0, 1, 8000) + repeats
    shift[::7] = math.nan
    found = components(shift, partition([str(c) for c in codes]), repeat_variance=0.81, repeats=4)
    assert found is not None
    assert found.between == pytest.approx(0.25, rel=0.15)
    assert found.within == pytest.approx(1.0, rel=0.05)
    assert found.icc == pytest.approx(0.25 / (0.25 + 1 + 0.81 / 4), rel=0.15)


def test_a_pilot_of_one_cluster_has_no_components() -> None:
    assert components(np.array([1.0, 2.0]), partition("aa")) is None


@pytest.mark.parametrize("target", [0.05, 0.12, 0.4])
def test_a_plan_is_the_least_that_reaches_the_power(target: float) -> None:
    found = plan(PILOT, target=target)

    def power(g: float, m: float, r: int) -> float:
        return power_of(target, se=PILOT.se(g, m, r), df=g - 1)

    assert found.n_clusters is not None
    assert power(found.n_clusters, 6, 3) >= 0.8 > power(found.n_clusters - 1, 6, 3)
    for n, more in ((found.items_per_cluster, lambda n: power(24, n, 3)), (found.repeats, lambda n: power(24, 6, n))):
        if n is not None:
            assert more(n) >= 0.8
            assert n == 1 or more(n - 1) < 0.8
    assert [p.n_clusters for p in found.curve] == sorted({p.n_clusters for p in found.curve})
    assert [p.power for p in found.curve] == sorted(p.power for p in found.curve)
    assert [p.detectable for p in found.curve] == sorted((p.detectable for p in found.curve), reverse=True)


def test_more_of_what_does_not_limit_never_helps() -> None:
    found = plan(replace(PILOT, between=2.0), target=0.1)
    assert (found.items_per_cluster, found.repeats) == (None, None)
    assert found.n_clusters is not None
    assert plan(replace(PILOT, repeat=math.nan), target=0.1).repeats is None
    assert plan(PILOT, target=1e-6).n_clusters is None
    with pytest.raises(ValueError, match="target=0"):
        plan(PILOT, target=0.0)
    with pytest.raises(ValueError, match="power=1"):
        plan(PILOT, target=0.1, power=1.0)
