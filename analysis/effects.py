"""Size of an effect of the ANOVA with its interval, and what the table's interaction is made of.

Intervals of eta squared come from the noncentral F distribution (Steiger 2004, doi:10.1037/1082-989X.9.2.164),
with the Greenhouse-Geisser corrected degrees of freedom. Like the ANOVA they take units as independent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from analysis.clusters import Clusters, Floats
from analysis.contrasts import BASELINE, ArmKey, apply_contrasts
from analysis.estimates import cluster_mean
from analysis.resampling import family_p, interaction_test
from analysis.study import InteractionContrast, SimpleEffect

MOST_CONTRASTS = 300  # interaction contrasts; beyond it only those against the baseline


def noncentrality(f: float, df1: float, df2: float, *, alpha: float = 0.05) -> tuple[float, float]:
    """Noncentrality parameters at which `f` is the upper and the lower alpha / 2 point of F; NaN without an F.

    0 where no noncentrality makes F that small, so that an interval can end at 0 (even both of its ends, for an
    F far below 1).
    """
    if not (f >= 0 and df1 > 0 and df2 > 0) or math.isinf(f):
        return math.nan, math.nan
    from scipy.special import ncfdtr

    def at(p: float) -> float:
        return _root(lambda x: float(ncfdtr(df1, df2, x, f)) - p, f * df1 + df1)

    return at(1 - alpha / 2), at(alpha / 2)


def _root(falling: Callable[[float], float], start: float) -> float:
    """Where a falling function of x >= 0 crosses 0; 0 if it starts below, NaN if it never does."""
    from scipy.optimize import brentq

    if not falling(0.0) > 0:
        return 0.0
    high = start
    while falling(high) > 0:
        high *= 2
        if high > 1e12:
            return math.nan
    if not math.isfinite(falling(high)):
        return math.nan
    return float(brentq(falling, 0.0, high, xtol=1e-10 * max(1.0, start), rtol=1e-12))


def eta_interval(eta2: float, df1: float, df2: float, *, alpha: float = 0.05) -> tuple[float, float]:
    """Interval of a partial or generalized eta squared: that of F = (eta2 / df1) / ((1 - eta2) / df2).

    A noncentrality of x is eta squared of x / (x + df2), as R's effectsize has it.
    """
    if not 0 <= eta2 < 1:
        return math.nan, math.nan
    low, high = noncentrality(eta2 / df1 / ((1 - eta2) / df2), df1, df2, alpha=alpha)
    return low / (low + df2), high / (high + df2)


def one_way(cube: Floats) -> tuple[float, int, int, float]:
    """F, its degrees of freedom and the Greenhouse-Geisser epsilon of the columns of `cube` (n_units, k).

    NaN for F where units leave no error; for epsilon too.
    """
    n, k = cube.shape
    df1, df2 = k - 1, (k - 1) * (n - 1)
    if n < 2 or k < 2:
        return math.nan, df1, df2, math.nan
    centred = cube - cube.mean(axis=1, keepdims=True)
    means = centred.mean(axis=0)
    deviations = centred - means
    error = float((deviations**2).sum())
    if error <= 1e-24 * max(1.0, float((cube**2).sum())):
        return math.nan, df1, df2, math.nan
    covariance = deviations.T @ deviations  # of the contrasts, up to a rotation: same trace, same squares
    eps = float(np.trace(covariance)) ** 2 / (df1 * float((covariance**2).sum()))
    return n * float(means @ means) / df1 / (error / df2), df1, df2, min(1.0, eps)


def simple_effects(
    scores: Floats, grid: Sequence[ArmKey], clusters: Clusters, *, alpha: float, n_resamples: int, seed: int
) -> list[SimpleEffect]:
    """The effect of accel within each model, and of model within each accel.

    scores : (n_items, n_arms), no NaN, columns as in `grid`, which is full. Each effect has its own error term
    (a one-way repeated-measures ANOVA of its columns), on items and on cluster means, and the calibrated cluster
    sign-flip test; p_holm is the latter's, adjusted (Holm) over the effects of the same kind.
    """
    out: list[SimpleEffect] = []
    for position, (effect, within) in enumerate((("accel", "model"), ("model", "accel"))):
        levels = list(dict.fromkeys(arm[position] for arm in grid))
        rows = [
            _simple(effect, within, level, [j for j, a in enumerate(grid) if a[position] == level], scores, clusters,
                    alpha, n_resamples, seed)
            for level in levels
        ]  # fmt: skip
        adjusted = holm([row.p for row in rows])
        out += [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]
    return out


def _simple(
    effect: str, within: str, level: str, columns: Sequence[int], scores: Floats, clusters: Clusters, alpha: float,
    n_resamples: int, seed: int,
) -> SimpleEffect:  # fmt: skip
    from scipy.stats import f as fisher

    part = scores[:, columns]
    k = len(columns)
    tables = []
    for cube in (part, clusters.means(part)):
        f, df1, df2, eps = one_way(cube)
        tables.append((f, df1, df2, eps, float(fisher.sf(f, eps * df1, eps * df2)) if f >= 0 else math.nan))
    basis = np.linalg.qr(np.eye(k) - 1 / k)[0][:, : k - 1]
    pairs = np.array([np.eye(k)[i] - np.eye(k)[0] for i in range(1, k)]).T.reshape(k, k - 1)
    test = interaction_test(
        apply_contrasts(part, basis), apply_contrasts(part, pairs), clusters, alpha=alpha, n_resamples=n_resamples,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    items, means = tables
    return SimpleEffect(
        effect, within, level, *items, f_clusters=means[0], df2_clusters=means[2], eps_clusters=means[3],
        p_gg_clusters=means[4], p=test.p, reason=test.reason,
    )  # fmt: skip


def interaction_contrasts(
    scores: Floats, grid: Sequence[ArmKey], clusters: Clusters, *, alpha: float, n_resamples: int, seed: int
) -> tuple[list[InteractionContrast], str]:
    """Every (model - model) x (accel - accel) contrast of a full grid, the baseline one of the accels.

    scores : as in `simple_effects`. Cluster-robust, with max-|t| p over all of them and Holm's p beside it. With
    more than MOST_CONTRASTS only accel minus baseline is taken; the text says so.
    """
    models, accels = (list(dict.fromkeys(arm[i] for arm in grid)) for i in (0, 1))
    pairs = [(a, b) for b, a in itertools.combinations(sorted(accels, key=lambda a: a != BASELINE), 2)]
    models_2 = list(itertools.combinations(models, 2))
    note = ""
    if len(models_2) * len(pairs) > MOST_CONTRASTS:
        note = f"{len(models_2) * len(pairs)} interaction contrasts: only those of an accelerator with the baseline"
        pairs = [pair for pair in pairs if pair[1] == BASELINE]
    column = {arm: j for j, arm in enumerate(grid)}
    places = [(m1, m2, a1, a2) for m1, m2 in models_2 for a1, a2 in pairs]
    if not places or len(places) > 10 * MOST_CONTRASTS:
        return [], f"{len(places)} interaction contrasts are too many to tabulate" if places else ""
    weights = np.zeros((len(grid), len(places)))
    for k, (m1, m2, a1, a2) in enumerate(places):
        for model, sign in ((m1, 1.0), (m2, -1.0)):
            weights[column[model, a1], k] += sign
            weights[column[model, a2], k] -= sign
    values = apply_contrasts(scores, weights)
    adjusted = family_p(values, clusters, n_resamples=n_resamples, rng=np.random.default_rng(seed))
    estimates = [cluster_mean(v, clusters, alpha=alpha) for v in values.T]
    return [
        InteractionContrast(*place, replace(e, p_adjusted=float(p)), p_holm)
        for place, e, p, p_holm in zip(places, estimates, adjusted, holm([e.p for e in estimates]), strict=True)
    ], note


def holm(p: Sequence[float]) -> list[float]:
    """Holm (1979) step-down adjusted p values in the given order; NaN stays NaN and is not counted.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    known = sorted((x, i) for i, x in enumerate(p) if math.isfinite(x))
    out, largest = [math.nan] * len(p), 0.0
    for rank, (x, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * x))
        out[i] = largest
    return out
