"""Two scales: against statsmodels' GEE, on truths additive on one of them, and on orders that turn round."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats

from analysis.clusters import Clusters, partition
from analysis.contrasts import ArmKey, apply_contrasts, interaction_basis
from analysis.resampling import interaction_test
from analysis.scales import additive_rates, find_crossings, logit_interaction, scale_differences, scales, yes_or_no

Floats = NDArray[np.float64]
GRID: list[ArmKey] = [(m, a) for m in "ab" for a in ("none", "q", "w")]
QUICK = {"alpha": 0.05, "n_resamples": 199, "seed": 0}
ADDITIVE = np.array([0.2, 0.4, 0.6, 0.35, 0.55, 0.75])  # in probability
LOGITS = np.array([-2.0, -0.6, 0.9, -0.5, 0.9, 2.4])  # additive in log-odds


def expit(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def answers(seed: int, rates: Floats, *, g: int = 100, size: int = 4) -> tuple[Floats, Clusters]:
    """Yes-or-no answers with these rates; items of a cluster share half of what decides them."""
    rng = np.random.default_rng((5, seed))
    codes = np.repeat(np.arange(g), size)
    z = rng.normal(0, 0.5**0.5, (g, 1))[codes] + rng.normal(0, 0.5**0.5, (g * size, len(rates)))
    return (z < stats.norm.ppf(rates)).astype(float), partition([f"{c:03d}" for c in codes])


def gee(x: Floats, clusters: Clusters) -> tuple[Any, pd.DataFrame]:
    cells = [(i, *GRID[j], clusters.codes[i], x[i, j]) for i in range(len(x)) for j in range(x.shape[1])]
    long = pd.DataFrame(cells, columns=["item", "model", "accel", "cluster", "y"]).sort_values("cluster", kind="stable")
    return sm.families.Binomial(), long


def test_the_additive_fit_is_statsmodels() -> None:
    x, clusters = answers(0, ADDITIVE)
    family, long = gee(x, clusters)
    fit = sm.GEE.from_formula("y ~ C(model) + C(accel)", "cluster", long, family=family).fit()
    long["fitted"] = fit.fittedvalues
    theirs = long.groupby(["model", "accel"])["fitted"].first()
    ours = additive_rates(x.mean(axis=0), GRID)
    assert ours is not None
    assert ours == pytest.approx([theirs[arm] for arm in GRID], rel=1e-6)


def test_the_hotelling_form_of_the_scores_is_statsmodels_score_test() -> None:
    """The GEE score test is U' V^-1 U with V the sum of squares of the clusters' effective scores: our S'S."""
    x, clusters = answers(1, ADDITIVE)
    family, long = gee(x, clusters)
    small = sm.GEE.from_formula("y ~ C(model) + C(accel)", "cluster", long, family=family)
    large = sm.GEE.from_formula("y ~ C(model) * C(accel)", "cluster", long, family=family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = large.compare_score_test(small.fit())
    rates = additive_rates(x.mean(axis=0), GRID)
    assert rates is not None
    sums = clusters.sums(apply_contrasts((x - rates) / (rates * (1 - rates)), interaction_basis(GRID)))
    ours = sums.sum(0) @ np.linalg.solve(sums.T @ sums, sums.sum(0))
    assert ours == pytest.approx(float(theirs["statistic"]), rel=1e-6)


def test_each_truth_is_an_interaction_on_the_other_scale_only() -> None:
    n = 60
    rejected = {}
    for name, rates in (("probability", ADDITIVE), ("logit", expit(LOGITS))):
        plain = logit = 0
        for seed in range(n):
            x, clusters = answers(seed, rates)
            basis = interaction_basis(GRID)
            rng = np.random.default_rng(seed)
            test = interaction_test(
                apply_contrasts(x, basis), np.zeros((len(x), 0)), clusters, n_resamples=199, rng=rng
            )
            plain += test.p <= 0.05
            logit += logit_interaction(x, GRID, clusters, **QUICK)[0] <= 0.05
        rejected[name] = (plain, logit)
    most = stats.binom.ppf(0.9999, n, 0.05)
    assert rejected["probability"][0] <= most
    assert rejected["logit"][1] <= most
    assert rejected["logit"][0] > 0.8 * n
    far = np.array([0.02, 0.12, 0.22, 0.4, 0.5, 0.6])  # additive in probability, far from it in log-odds
    assert (
        sum(logit_interaction(*(lambda d: (d[0], GRID, d[1]))(answers(s, far)), **QUICK)[0] <= 0.05 for s in range(20))
        > 15
    )


def verdict(x: Floats, clusters: Clusters) -> str:
    basis = interaction_basis(GRID)
    rng = np.random.default_rng(0)
    p = interaction_test(apply_contrasts(x, basis), apply_contrasts(x, basis), clusters, n_resamples=199, rng=rng).p
    return scales(x - 0.3, x, GRID, clusters, p=p, **QUICK).word


def test_words() -> None:
    assert verdict(*answers(0, expit(LOGITS), g=300)) == "removable"
    assert verdict(*answers(0, np.array([0.3, 0.4, 0.5, 0.3, 0.8, 0.9]), g=300)) == "robust"
    assert verdict(*answers(0, np.array([0.5, 0.3, 0.5, 0.5, 0.8, 0.5]), g=300)) == "crossover"
    assert verdict(*answers(0, np.full(6, 0.4), g=300)) == "none shown"


def test_an_open_scale_has_crossovers_only() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(200, 6)) * 0.3
    clusters = partition(range(200))
    grows = scales(base + np.array([0, 0.1, 0.2, 0, 0.3, 0.9]), None, GRID, clusters, p=0.001, **QUICK)
    assert (grows.word, math.isnan(grows.p_logit), grows.differences) == ("may be removable", True, [])
    turns = scales(base + np.array([0, 0.5, 0, 0, -0.5, 0]), None, GRID, clusters, p=0.001, **QUICK)
    assert turns.word == "crossover"
    assert "no monotone change of scale removes it" in turns.sentence
    first = next(c for c in turns.crossings if (c.factor, c.first, c.second) == ("accel", "q", "none"))
    assert (first.above, first.below) == ("a", "b")
    assert first.value_above == pytest.approx(0.5, abs=0.1)
    assert scales(base, None, GRID, clusters, p=0.7, **QUICK).word == "none shown"
    assert scales(base, None, GRID, clusters, p=math.nan, **QUICK).word == "not tested"


def test_crossovers_survive_any_monotone_scale_and_false_ones_are_rare() -> None:
    rng = np.random.default_rng(1)
    base = np.array([0.0, 0.5, 0.0, 0.0, -0.5, 0.0]) + rng.normal(0, 0.3, (100, 6))
    clusters = partition(range(100))
    for change in (lambda v: v, lambda v: np.exp(2 * v), lambda v: np.arctan(3 * v)):
        assert find_crossings(change(base), GRID, clusters, **QUICK)
    false = 0
    for seed in range(150):
        noise = np.random.default_rng(seed).normal(size=(60, 6)) + np.array([0, 0.3, 0.6, 0, 0.3, 0.6])
        false += bool(find_crossings(noise, GRID, partition(range(60)), **QUICK))
    assert false <= stats.binom.ppf(0.9999, 150, 0.05)


def test_differences_on_log_odds_are_the_plain_figure_with_a_bootstrap_sized_error() -> None:
    x, clusters = answers(3, ADDITIVE)
    rows = scale_differences(x, GRID, clusters, alpha=0.05)
    odds = np.log(x.mean(0) / (1 - x.mean(0)))
    by_hand = (odds[1] - odds[0]) - (odds[4] - odds[3])
    assert (rows[0].model, rows[0].accel) == ("a", "q")
    assert rows[0].logit.value == pytest.approx(by_hand, abs=0.02)  # the jackknife takes off a bias of order 1 / G
    rng = np.random.default_rng(0)
    boot = []
    groups = [np.flatnonzero(clusters.codes == c) for c in range(clusters.n_clusters)]
    for _ in range(400):
        part = x[np.concatenate([groups[c] for c in rng.integers(0, len(groups), len(groups))])]
        o = np.log(part.mean(0) / (1 - part.mean(0)))
        boot.append((o[1] - o[0]) - (o[4] - o[3]))
    assert rows[0].logit.se == pytest.approx(np.std(boot), rel=0.15)


def test_rates_of_zero_have_words() -> None:
    x, clusters = answers(4, ADDITIVE, g=20)
    x[:, :3] = 0.0
    p, reason = logit_interaction(x, GRID, clusters, **QUICK)
    assert math.isnan(p)
    assert "exactly 0 or 1" in reason
    assert all("exactly 0 or 1" in d.logit.reason for d in scale_differences(x, GRID, clusters, alpha=0.05))
    assert scales(x, x, GRID, clusters, p=0.5, **QUICK).word == "not tested"


def test_what_counts_as_yes_or_no() -> None:
    yes = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    share = np.array([[0.5], [0.2], [0.0]])
    assert yes_or_no(yes - share, yes)
    assert yes_or_no(
        np.array([[0.5, math.nan], [-0.2, 0.8], [math.nan, math.nan]]),
        np.array([[1, math.nan], [0, 1], [math.nan] * 2]),
    )
    graded = np.array([[0.3, -0.4], [1.2, 0.1]])
    assert not yes_or_no(graded, (graded > 0).astype(float))
    assert not yes_or_no(np.full((2, 2), math.nan), np.full((2, 2), math.nan))
