"""Intervals of eta squared, simple effects and interaction contrasts against R (r/effects.R)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.anova import rm_anova
from analysis.clusters import partition
from analysis.effects import (
    eta_interval,
    flip_effects,
    holm,
    interaction_contrasts,
    noncentrality,
    one_way,
    simple_effects,
)
from analysis.resampling import Flips
from tests.analysis.test_anova import DATA, R, read

QUICK = {"alpha": 0.05, "n_resamples": 199, "seed": 0}


@pytest.mark.parametrize("name", DATA)
def test_eta_squared_intervals_agree_with_r(name: str) -> None:
    expected = pd.read_csv(R / "eta_expected.csv").query("data == @name").set_index("source")
    for row in rm_anova(*read(name), unit="items").rows:
        theirs = expected.loc[row.source]
        for column in expected.columns.drop(["data", "effectsize_low", "effectsize_high"]):
            assert getattr(row, column) == pytest.approx(theirs[column], rel=1e-7, abs=1e-9), column
        # R's effectsize searches by a rough optimiser; it agrees as far as that goes.
        assert row.eta2_partial_low == pytest.approx(theirs["effectsize_low"], abs=1e-3)
        assert row.eta2_partial_high == pytest.approx(theirs["effectsize_high"], abs=1e-3)


@pytest.mark.parametrize(("f", "df1", "df2"), [(3.2, 2, 40), (0.9, 5.5, 300.1), (200.0, 8, 12_000), (4.0, 171, 1e7)])
def test_noncentrality_is_where_f_is_a_quantile(f: float, df1: float, df2: float) -> None:
    low, high = noncentrality(f, df1, df2)
    for ncp, p in ((low, 0.975), (high, 0.025)):
        if ncp > 0:
            assert stats.ncf.cdf(f, df1, df2, ncp) == pytest.approx(p, abs=1e-6)
        else:
            assert stats.f.cdf(f, df1, df2) <= p


def test_an_interval_of_eta_squared_covers_as_often_as_said() -> None:
    rng, n, covered = np.random.default_rng(0), 400, 0
    effect = np.array([0.0, 0.2, 0.5])
    true = float(((effect - effect.mean()) ** 2).sum()) * 20 / (float(((effect - effect.mean()) ** 2).sum()) * 20 + 38)
    for _ in range(n):
        f, df1, df2, _ = one_way(rng.normal(size=(20, 1)) + effect + rng.normal(size=(20, 3)))
        low, high = eta_interval(f * df1 / (f * df1 + df2), df1, df2)
        covered += low <= true <= high
    assert stats.binomtest(covered, n, 0.95).pvalue > 1e-4


def test_no_f_has_no_interval() -> None:
    assert all(math.isnan(x) for x in noncentrality(math.nan, 1, 2))
    assert all(math.isnan(x) for x in eta_interval(1.0, 1, 2))
    assert eta_interval(0.0, 2, 20) == (0.0, 0.0)


@pytest.mark.parametrize("name", DATA)
def test_simple_effects_agree_with_afex(name: str) -> None:
    scores, grid = read(name)
    expected = pd.read_csv(R / "simple_expected.csv").query("data == @name").set_index(["effect", "level"])
    found = simple_effects(scores, grid, partition(range(len(scores))), **QUICK)
    assert len(found) == len(expected)
    for row in found:
        theirs = expected.loc[(row.effect, row.level)]
        ours = (row.f, row.df1, row.df2, row.eps, row.p_gg)
        assert ours == pytest.approx(tuple(theirs[["f", "df1", "df2", "eps", "p_gg"]]), rel=1e-8)
        assert (row.f_clusters, row.p_gg_clusters) == pytest.approx(
            (row.f, row.p_gg)
        )  # every item a cluster of its own
        assert 0 < row.p <= row.p_holm <= 1


@pytest.mark.parametrize("name", DATA)
def test_interaction_contrasts_agree_with_emmeans(name: str) -> None:
    scores, grid = read(name)
    expected = pd.read_csv(R / "contrasts_expected.csv").query("data == @name").set_index(["models", "accels"])
    found, note = interaction_contrasts(scores, grid, partition(range(len(scores))), **QUICK)
    assert note == ""
    assert len(found) == len(expected)
    for row in found:
        key = (f"{row.model_1} - {row.model_2}", f"{row.accel_1} - {row.accel_2}")
        sign = 1.0
        if key not in expected.index:
            key, sign = (key[0], f"{row.accel_2} - {row.accel_1}"), -1.0
        theirs, e = expected.loc[key], row.estimate
        assert (sign * e.value, e.se, e.p, row.p_holm) == pytest.approx(
            tuple(theirs[["value", "se", "p", "p_holm"]]), rel=1e-9
        )
        assert sorted((sign * e.ci_low, sign * e.ci_high)) == pytest.approx([theirs["ci_low"], theirs["ci_high"]])
        assert e.n_clusters - 1 == theirs["df"]
        assert e.p_adjusted > 0


def test_cluster_means_and_clustered_contrasts() -> None:
    scores, grid = read("three_by_four")
    clusters = partition([i // 2 for i in range(14)])
    pairs = scores.reshape(7, 2, -1).mean(axis=1)
    row = simple_effects(scores, grid, clusters, **QUICK)[0]
    other = simple_effects(pairs, grid, partition(range(7)), **QUICK)[0]
    assert (row.f_clusters, row.p_gg_clusters) == pytest.approx((other.f, other.p_gg))
    assert row.p == other.p  # equal clusters: the sign flips see the same sums
    contrast = interaction_contrasts(scores, grid, clusters, **QUICK)[0][0].estimate
    value = interaction_contrasts(pairs, grid, partition(range(7)), **QUICK)[0][0].estimate
    assert (contrast.value, contrast.se, contrast.p_adjusted) == pytest.approx(
        (value.value, value.se, value.p_adjusted)
    )


def test_many_contrasts_are_cut_to_those_with_the_baseline() -> None:
    grid = [(f"m{i}", a) for i in range(6) for a in ("none", *(f"a{j}" for j in range(8)))]
    scores = np.random.default_rng(0).normal(size=(12, len(grid)))
    twice = [*grid, *((f"x{m}", a) for m, a in grid)]
    nothing = interaction_contrasts(np.tile(scores, 2), twice, partition(range(12)), **QUICK)
    assert nothing == ([], "528 interaction contrasts with the baseline are too many to tabulate")
    found, note = interaction_contrasts(scores, grid, partition(range(12)), **QUICK)
    assert note.startswith("540 interaction contrasts: only those")
    assert len(found) == math.comb(6, 2) * 8
    assert {c.accel_2 for c in found} == {"none"}


def test_a_constant_factor_has_no_f_but_words_or_a_p() -> None:
    rng = np.random.default_rng(0)
    grid = [(m, a) for m in "ab" for a in ("none", "q")]
    scores = np.repeat(rng.normal(size=(8, 2)), 2, axis=1)
    rows = [r for r in simple_effects(scores, grid, partition(range(8)), **QUICK) if r.effect == "accel"]
    assert all(math.isnan(r.f) and r.p == 1.0 and "exactly the same" in r.reason for r in rows)


def by_hand(x: NDArray[np.float64], n_contrasts: int) -> float:
    """The flip test of one effect written out: every sign pattern, sum of squares and Hotelling form, min-p."""
    g = len(x)
    rows = []
    for rest in itertools.product([1.0, -1.0], repeat=g - 1):
        s = np.array([1.0, *rest])[:, None] * x
        total = s.sum(0)
        row = [float(total @ total)]
        if g > 2 * n_contrasts:
            row.append(float(total @ np.linalg.pinv(s.T @ s) @ total))
        rows.append(row)
    table = np.array(rows)
    p = np.array([[(table[:, j] >= v * (1 - 1e-9)).mean() for j, v in enumerate(row)] for row in table]).min(axis=1)
    return float((p <= p[0] + 1e-9).mean())


@pytest.mark.parametrize("g", [6, 9])
def test_the_sign_flip_of_effects_agrees_with_the_test_written_out(g: int) -> None:
    rng = np.random.default_rng(g)
    codes = rng.permutation(np.repeat(np.arange(g), 3))
    clusters = partition([str(c) for c in codes])
    scores = rng.normal(size=(3 * g, 6)) + np.array([0, 0.5, 0.2, 0, 0, 0])
    effects = [[0, 1, 2], [3, 4, 5], [0, 3]]
    found = flip_effects(scores, effects, clusters, Flips(g, n_resamples=99, rng=np.random.default_rng(0)), batch=7)
    for columns, p in zip(effects, found, strict=True):
        part = scores[:, columns]
        contrasts = clusters.sums(part - part.mean(axis=1, keepdims=True))  # any basis gives the same figures
        assert p == pytest.approx(by_hand(contrasts, len(columns) - 1))


def test_the_sign_flip_of_effects_holds_its_level() -> None:
    n, rejected = 300, 0
    codes = np.repeat(np.arange(20), 5)
    clusters = partition([str(c) for c in codes])
    for seed in range(n):
        rng = np.random.default_rng(seed)
        x = np.array([0.1, 1.0, 2.0]) * (rng.normal(size=(20, 3))[codes] + rng.normal(size=(100, 3)))
        rejected += flip_effects(x, [[0, 1, 2]], clusters, Flips(20, n_resamples=199, rng=rng))[0] <= 0.05
    assert rejected <= stats.binom.ppf(0.9999, n, 0.05)


def test_holm_agrees_with_statsmodels() -> None:
    p = np.random.default_rng(0).random(9) ** 2
    assert holm(list(p)) == pytest.approx(multipletests(p, method="holm")[1])
    assert [math.isnan(x) for x in holm([0.01, math.nan])] == [False, True]
    assert holm([]) == []


def test_one_way_is_the_plain_formula() -> None:
    x: NDArray[np.float64] = np.random.default_rng(1).normal(size=(9, 4))
    f, df1, df2, eps = one_way(x)
    between = 9 * ((x.mean(0) - x.mean()) ** 2).sum() / 3
    residual = sum(
        (x[i, j] - x[i].mean() - x[:, j].mean() + x.mean()) ** 2 for i, j in itertools.product(range(9), range(4))
    )
    assert f == pytest.approx(between / (residual / 24))
    assert (df1, df2) == (3, 24)
    assert 1 / 3 <= eps <= 1
