"""The model-specific share against the plain formula written out, and against planted truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis.clusters import Clusters, partition
from analysis.estimates import cluster_mean
from analysis.predictability import Predictability, predictability, unknown, with_margins

Floats = NDArray[np.float64]


def study(
    seed: int, *, n_models: int = 3, n_accels: int = 4, common: float = 0.2, specific: float = 0.0, noise: float = 0.5
) -> tuple[Floats, list[tuple[str, str]], Clusters, Floats]:
    """Item shifts in 60 clusters of 5 with shared noise, their arms and clusters, and the true mean shifts."""
    rng = np.random.default_rng((7, seed))
    codes = np.repeat(np.arange(60), 5)
    true = np.linspace(-common, common, n_accels) + rng.normal(0, specific, (n_models, n_accels))
    k = n_models * n_accels
    errors = rng.normal(0, noise * 0.3**0.5, (60, k))[codes] + rng.normal(0, noise * 0.7**0.5, (300, k))
    arms = [(f"m{i}", f"a{j}") for i in range(n_models) for j in range(n_accels)]
    return true.ravel() + errors + rng.normal(0, 0.2, (300, 1)), arms, partition([str(c) for c in codes]), true


def by_hand(shifts: Floats, clusters: Clusters, n_models: int, n_accels: int) -> tuple[float, float, float]:
    """Mean square, share and leave-one-model-out R2, noise subtracted: loops over cells, a covariance at a time."""
    mean = shifts.mean(axis=0).reshape(n_models, n_accels)
    g = clusters.n_clusters
    e = clusters.sums(shifts - shifts.mean(axis=0)) / len(shifts)
    covariance = (g / (g - 1) * e.T @ e).reshape(n_models, n_accels, n_models, n_accels)
    squares, errors, specific = [], [], []
    for a in range(n_accels):
        v = covariance[:, a, :, a]
        for m in range(n_models):
            w = np.full(n_models, -1 / (n_models - 1))
            w[m] = 1.0
            squares.append(mean[m, a] ** 2 - v[m, m])
            errors.append((w @ mean[:, a]) ** 2 - w @ v @ w)
        centred = np.eye(n_models) - 1 / n_models
        specific.append((mean[:, a] @ centred @ mean[:, a] - np.trace(centred @ v)) / (n_models - 1))
    return (
        float(np.mean(squares)),
        float(np.mean(specific) / np.mean(squares)),
        1 - float(np.sum(errors) / sum(squares)),
    )


@pytest.mark.parametrize("n_models", [2, 3, 5])
def test_the_figures_are_those_of_the_formula_written_out(n_models: int) -> None:
    shifts, arms, clusters, _ = study(0, n_models=n_models, specific=0.2)
    found = predictability(shifts, arms, clusters)
    assert (found.mean_square, found.share, found.r2) == pytest.approx(by_hand(shifts, clusters, n_models, 4))
    assert found.share_low < found.share < found.share_high


def test_leaving_groups_out_is_leaving_their_clusters_out() -> None:
    shifts, arms, clusters, _ = study(1, specific=0.2)
    keep = clusters.codes < 30  # 30 clusters, fewer than the jackknife's groups: one cluster a group
    shifts, clusters = shifts[keep], clusters.take(keep)
    found = predictability(shifts, arms, clusters)
    left_out = [
        by_hand(shifts[clusters.codes != c], clusters.take(clusters.codes != c), 3, 4)[1]
        for c in range(clusters.n_clusters)
    ]
    se = math.sqrt(29 / 30 * float(((np.array(left_out) - np.mean(left_out)) ** 2).sum()))
    half = float(stats.t.ppf(0.975, 29)) * se
    assert (found.share_low, found.share_high) == pytest.approx((found.share - half, found.share + half))


def test_order_unit_and_sign_change_nothing() -> None:
    shifts, arms, clusters, _ = study(2, specific=0.2)
    one = predictability(shifts, arms, clusters)
    order = np.random.default_rng(0).permutation(len(arms))
    other = predictability(-7 * shifts[:, order], [arms[i] for i in order], clusters)
    assert (other.share, other.share_low, other.r2) == pytest.approx((one.share, one.share_low, one.r2))
    assert other.mean_square == pytest.approx(49 * one.mean_square)


def test_missing_answers_leave_a_column_its_own_items() -> None:
    shifts, arms, clusters, _ = study(3, specific=0.2)
    shifts[::5, 2] = math.nan
    found = predictability(shifts, arms, clusters)
    means = np.nanmean(shifts, axis=0).reshape(3, 4)
    assert [p.mean for p in found.predictions] == pytest.approx(means.mean(axis=0))
    variances = [cluster_mean(column, clusters).se ** 2 for column in shifts.T]
    assert found.mean_square == pytest.approx(float((means**2).mean() - np.mean(variances)))


def many(n: int, **options: float) -> list[tuple[Predictability, Floats]]:
    out = []
    for seed in range(n):
        shifts, arms, clusters, true = study(seed, **options)  # type: ignore[arg-type]
        out.append((predictability(shifts, arms, clusters), true))
    return out


def test_shifts_that_models_share_are_found_predictable() -> None:
    found = [p for p, _ in many(60)]
    assert sum(p.verdict == "predictable" for p in found) >= 55
    assert np.mean([p.share for p in found]) == pytest.approx(0.0, abs=0.02)
    assert np.mean([p.share_naive for p in found]) > 0.02  # biased by noise, as the docstring says
    assert np.mean([p.r2 for p in found]) == pytest.approx(1.0, abs=0.03)


def test_shifts_of_each_models_own_are_found_not_predictable() -> None:
    found = [p.verdict for p, _ in many(60, n_models=5, common=0.02, specific=0.3)]
    assert found.count("predictable") == 0
    assert found.count("not predictable") >= 50


def test_without_shifts_there_is_nothing_to_predict() -> None:
    found = [p for p, _ in many(60, common=0.0, specific=0.0)]
    assert sum(p.verdict == "nothing to predict" for p in found) >= 55
    assert all(math.isnan(p.share) and "noise" in p.reason for p in found if p.verdict == "nothing to predict")


def test_intervals_cover() -> None:
    covered, n, new, m = 0, 0, 0, 0
    rng = np.random.default_rng(9)
    for found, true in many(150, specific=0.15):
        share = float(true.var(axis=0, ddof=1).mean() / (true**2).mean())
        if not math.isnan(found.share):
            n, covered = n + 1, covered + (found.share_low <= share <= found.share_high)
        fresh = np.linspace(-0.2, 0.2, 4) + rng.normal(0, 0.15, 4)
        m, new = m + 4, new + sum(p.low <= x <= p.high for p, x in zip(found.predictions, fresh, strict=True))
    assert n > 140
    assert covered >= stats.binom.ppf(0.001, n, 0.93)
    assert new >= stats.binom.ppf(0.001, m, 0.94)


def test_what_cannot_be_said_is_said_so() -> None:
    shifts, arms, clusters, _ = study(0, n_models=2)
    assert "two models" in predictability(shifts[:, :4], arms[:4], clusters).reason
    few = predictability(shifts, arms, partition([str(i % 2) for i in range(len(shifts))]))
    assert "2 clusters: too few" in few.reason
    gappy = np.where((clusters.codes == 0)[:, None] | (np.arange(shifts.shape[1]) > 0), shifts, math.nan)
    one = predictability(gappy, arms, clusters)  # the first arm is answered in one cluster alone
    assert (one.verdict, one.reason) == ("undecided", "an arm is answered in too few clusters for an interval")
    assert few.predictions == []
    assert unknown("why").verdict == "undecided"
    alone = predictability(shifts[:, [0, 1, 4]], [arms[i] for i in (0, 1, 4)], clusters)
    assert [p.accel for p in alone.predictions] == ["a0"]  # a1 has one model


def test_predictions_are_judged_against_the_margin() -> None:
    shifts, arms, clusters, _ = study(0, n_models=5, common=0.0, noise=0.1)
    found = predictability(shifts, arms, clusters)
    assert [p.inside for p in found.predictions] == [None] * 4
    assert all(p.inside for p in with_margins(found, 1.0).predictions)
    assert not any(p.inside for p in with_margins(found, 1e-6).predictions)
