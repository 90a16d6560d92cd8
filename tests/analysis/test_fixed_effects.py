"""Item fixed effects against statsmodels with a dummy for every item, against the paired analysis, and its level."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats

from analysis.clusters import Clusters, partition
from analysis.contrasts import ArmKey, apply_contrasts, difference_weights, interaction_basis
from analysis.estimates import cluster_mean
from analysis.fixed_effects import FixedEffects, fixed_effects
from analysis.resampling import interaction_test

Floats = NDArray[np.float64]
ARMS: list[ArmKey] = [(m, a) for m in "abc" for a in ("none", "q", "w")]
BASIS, WEIGHTS = interaction_basis(ARMS), difference_weights(ARMS)[1]


def data(seed: int, *, missing: str, g: int = 20, size: int = 6) -> tuple[Floats, Clusters]:
    """No interaction; items, items under each model, and clusters have effects; harsh and gentle arms."""
    rng = np.random.default_rng((3, seed))
    codes = np.repeat(np.arange(g), size)
    n = g * size
    own = rng.normal(size=(n, 1)) + np.repeat(rng.normal(0, 0.5, (n, 3)), 3, axis=1)
    noise = np.tile([0.2, 0.5, 1.0], 3)
    y = own + noise * (rng.normal(0, 0.5, (g, 9))[codes] + rng.normal(0, 0.8, (n, 9))) + np.tile([0.0, 0.2, 0.5], 3)
    if missing == "at random":
        y[rng.random(y.shape) < 0.08] = math.nan
    if missing == "by item":  # high-scoring items of the first model are refused under one accel
        y[rng.random(n) < 0.7 / (1 + np.exp(-3 * own[:, 0])), 1] = math.nan
    return y, partition([f"{c:03d}" for c in codes])


def fit(y: Floats) -> FixedEffects:
    found = fixed_effects(y, ARMS)
    assert isinstance(found, FixedEffects)
    return found


def shift_weights(accel: int) -> Floats:
    w = np.zeros((9, 1))
    w[accel], w[0] = 1.0, -1.0
    return w


@pytest.mark.parametrize("accel", [1, 2])
def test_estimate_and_error_agree_with_least_squares_on_dummies(accel: int) -> None:
    y, clusters = data(0, missing="by item")
    y[::4, 5] = math.nan
    cells = [(i, *ARMS[j], clusters.codes[i], y[i, j]) for i, j in zip(*np.nonzero(~np.isnan(y)), strict=True)]
    long = pd.DataFrame(cells, columns=["item", "model", "accel", "cluster", "score"])
    x = pd.get_dummies(long["item"].astype(str) + long["model"]).astype(float)
    for m in "abc":
        for a in ("q", "w"):
            x[f"{m} {a}"] = ((long["model"] == m) & (long["accel"] == a)).astype(float)
    options = {"groups": long["cluster"], "use_correction": False}
    theirs = sm.OLS(long["score"], x).fit(cov_type="cluster", cov_kwds=options)
    found = fit(y)
    ours = cluster_mean(found.contrasts(shift_weights(accel))[:, 0], clusters.take(found.used))
    g = clusters.n_clusters
    name = f"a {ARMS[accel][1]}"
    assert ours.value == pytest.approx(theirs.params[name], rel=1e-9)
    assert ours.se == pytest.approx(theirs.bse[name] * math.sqrt(g / (g - 1)), rel=1e-9)


def test_without_missing_answers_it_is_the_paired_analysis() -> None:
    y, clusters = data(1, missing="none")
    found = fit(y)
    assert found.used.all()
    assert found.null_contrasts(BASIS) == pytest.approx(apply_contrasts(y, BASIS))
    paired = cluster_mean(y[:, 1] - y[:, 0], clusters)
    ours = cluster_mean(found.contrasts(shift_weights(1))[:, 0], clusters)
    assert (ours.value, ours.se) == pytest.approx((paired.value, paired.se))


@pytest.mark.parametrize("n", [7, 55, 280, 1280, 9450])
@pytest.mark.parametrize("k", [3, 4, 9])
def test_no_size_lets_rounding_in(n: int, k: int) -> None:
    """The normal equations have an exact 0, which rounding turns into 1e-14: it must never be inverted."""
    arms = [(m, f"a{j}") for m in "ab" for j in range(k)]
    y = np.random.default_rng((n, k)).normal(size=(n, 2 * k))
    found = fixed_effects(y, arms)
    assert isinstance(found, FixedEffects)
    weights = interaction_basis(arms)
    assert found.null_contrasts(weights).mean(axis=0) == pytest.approx(y.mean(axis=0) @ weights, rel=1e-7, abs=1e-11)
    assert found.null_contrasts(weights) == pytest.approx(y @ weights, rel=1e-7, abs=1e-9)


def test_both_centrings_have_the_same_mean() -> None:
    y, _ = data(2, missing="at random")
    found = fit(y)
    assert found.null_contrasts(WEIGHTS).mean(axis=0) == pytest.approx(found.contrasts(WEIGHTS).mean(axis=0))


def test_an_item_with_one_answer_of_a_model_tells_that_model_nothing() -> None:
    y, _ = data(3, missing="none")
    y[0, 1:3], y[0, 4:6], y[0, 7:9] = math.nan, math.nan, math.nan
    found = fit(y)
    assert not found.used[0]
    assert found.used[1:].all()
    assert found.cells == pytest.approx(fit(y[1:]).cells)


def test_cells_that_no_item_pairs_have_no_fit() -> None:
    y, _ = data(4, missing="none")
    y[:40, 2] = math.nan
    y[40:, :2] = math.nan
    assert fixed_effects(y, ARMS) == "too few answers of a are paired to compare all its cells"


@pytest.mark.parametrize("missing", ["at random", "by item"])
def test_a_true_null_is_rejected_at_the_level_and_intervals_cover(missing: str) -> None:
    n, rejected, covered = 250, 0, 0
    for seed in range(n):
        y, clusters = data(seed, missing=missing)
        found = fit(y)
        used = clusters.take(found.used)
        rng = np.random.default_rng(seed)
        values = found.null_contrasts(BASIS), found.null_contrasts(WEIGHTS)
        rejected += interaction_test(*values, used, n_resamples=199, rng=rng).p <= 0.05
        shift = cluster_mean(found.contrasts(shift_weights(1))[:, 0], used)
        covered += shift.ci_low <= 0.2 <= shift.ci_high
    assert rejected <= stats.binom.ppf(0.9999, n, 0.05)
    assert n - covered <= stats.binom.ppf(0.9999, n, 0.05)


def test_averaging_what_is_there_would_be_wrong() -> None:
    """The harm that the item effects undo: the first model's shift, from cell means of whatever was answered."""
    wrong = [
        float(np.nanmean(y[:, 1]) - np.nanmean(y[:, 0])) for y, _ in (data(s, missing="by item") for s in range(40))
    ]
    assert np.mean(wrong) < 0.0  # the true shift is 0.2


def test_an_interaction_behind_missing_answers_is_found() -> None:
    found = 0
    for seed in range(40):
        y, clusters = data(seed, missing="at random")
        y[:, 4] += 0.5
        kernel = fit(y)
        values = kernel.null_contrasts(BASIS), kernel.null_contrasts(WEIGHTS)
        rng = np.random.default_rng(seed)
        found += interaction_test(*values, clusters.take(kernel.used), n_resamples=199, rng=rng).p <= 0.05
    assert found > 30
