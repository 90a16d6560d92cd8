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
from analysis.estimates import cluster_mean, without_rounding
from analysis.resampling import Flips, family_p, min_p, too_few
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
    places = [
        (effect, within, level, [j for j, arm in enumerate(grid) if arm[position] == level])
        for position, (effect, within) in enumerate((("accel", "model"), ("model", "accel")))
        for level in dict.fromkeys(arm[position] for arm in grid)
    ]
    flips = Flips(clusters.n_clusters, n_resamples=n_resamples, rng=np.random.default_rng(seed))
    p = flip_effects(scores, [columns for *_, columns in places], clusters, flips)
    means = clusters.means(scores)
    out: list[SimpleEffect] = []
    for (effect, within, level, columns), q in zip(places, p, strict=True):
        items, units = (_one_way_row(cube[:, columns]) for cube in (scores, means))
        still = q == 1 and math.isnan(units[0])
        reason = "exactly the same in every cluster" if still else too_few(clusters.n_clusters, alpha)
        out.append(
            SimpleEffect(effect, within, level, *items, units[0], units[2], units[3], units[4], q, reason=reason)
        )
    adjusted = [x for effect in ("accel", "model") for x in holm([r.p for r in out if r.effect == effect])]
    return [replace(row, p_holm=q) for row, q in zip(out, adjusted, strict=True)]


def flip_effects(
    scores: Floats, effects: Sequence[Sequence[int]], clusters: Clusters, flips: Flips, *, batch: int | None = None
) -> list[float]:
    """Sign-flip p of "these columns have one mean", for each set of columns, all from the same flips.

    Per set the sum of squares of the mean contrasts and, when clusters > 2 x contrasts, its Hotelling-type form,
    combined by the smallest p as in resampling.interaction_test; one product of signs and cluster sums serves all.
    """
    sums = clusters.sums(without_rounding(scores - scores.mean(axis=1, keepdims=True), scale=scores))
    parts = []
    for columns in effects:
        k = len(columns)
        basis = np.linalg.qr(np.eye(k) - 1 / k)[0][:, : k - 1]
        contrasts = without_rounding(sums[:, columns] @ basis, scale=sums)
        _, size, right = np.linalg.svd(contrasts, full_matrices=False)
        kept = size > 1e-10 * size.max(initial=0.0)
        whiten = right[kept].T / size[kept] if clusters.n_clusters > 2 * (k - 1) and kept.any() else None
        parts.append((columns, basis, whiten, bool(contrasts.any())))
    rows: list[list[Floats]] = [[] for _ in parts]
    for signs in flips.batches(batch):
        total = signs @ sums
        for row, (columns, basis, whiten, _) in zip(rows, parts, strict=True):
            flipped = total[:, columns] @ basis
            found = [(flipped**2).sum(axis=1)]
            found += [] if whiten is None else [((flipped @ whiten) ** 2).sum(axis=1)]
            row.append(np.column_stack(found))
    return [min_p(np.vstack(row))[0] if moved else 1.0 for row, (*_, moved) in zip(rows, parts, strict=True)]


def _one_way_row(cube: Floats) -> tuple[float, int, int, float, float]:
    from scipy.stats import f as fisher

    f, df1, df2, eps = one_way(cube)
    return f, df1, df2, eps, float(fisher.sf(f, eps * df1, eps * df2)) if f >= 0 else math.nan


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
    if len(places) > MOST_CONTRASTS:
        return [], f"{len(places)} interaction contrasts with the baseline are too many to tabulate"
    if not places:
        return [], ""
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
