"""What the tests take for granted, measured. Shown, never a gate: the verdict's test needs the fewest of them.

A test of an assumption that decides which test is run next spoils the level of both, and with many items every
assumption is violated "significantly"; so each row gives a size, and says which figures lean on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.clusters import Clusters, Floats
from analysis.contrasts import BASELINE, ArmKey, apply_contrasts, difference_weights, interaction_basis
from analysis.power import components
from analysis.study import Anova


@dataclass(frozen=True)
class Assumption:
    """One assumption of one layer.

    measure : what `value` is. p : of a test that it holds, NaN where there is none. reading : what it means here.
    """

    assumption: str
    subject: str
    measure: str
    value: float
    p: float
    reading: str


def assumptions(scores: Floats, grid: Sequence[ArmKey], clusters: Clusters, anova: Sequence[Anova]) -> list[Assumption]:
    """Sphericity, independence of items, equal variances, normal residuals, symmetry of the cluster contrasts.

    scores : (n_items, n_arms), no NaN, columns as in `grid`.
    """
    out = _sphericity(anova)
    contrasts = apply_contrasts(scores, interaction_basis(grid))
    if len(scores) < 3 or not contrasts.any():
        return out
    if 1 < clusters.n_clusters < clusters.n_items:
        out.append(_clustering(contrasts, clusters))
    out += _variances({arm: scores[:, j] - scores[:, grid.index((arm[0], BASELINE))]
                       for j, arm in enumerate(grid) if arm[1] != BASELINE})  # fmt: skip
    out.append(_normality((contrasts - contrasts.mean(axis=0)) @ interaction_basis(grid).T))
    out.append(_symmetry(clusters.sums(apply_contrasts(scores, difference_weights(grid)[1]))))
    return out


def intraclass(values: Floats, clusters: Clusters) -> tuple[float, float]:
    """Intraclass correlation pooled over the columns of `values` (n_items, k), and the design effect.

    The one-way analysis of variance estimate, negative ones as 0. Design effect: by how much the variance of a
    mean is larger than with independent items, 1 + (n0 - 1) ICC.
    """
    parts = [components(column, clusters) for column in values.T]
    known = [p for p in parts if p is not None]
    between, within = sum(p.between for p in known), sum(p.within for p in known)
    if not known or between + within == 0:
        return math.nan, math.nan
    icc = between / (between + within)
    return icc, 1 + (known[0].items_per_cluster - 1) * icc


def _sphericity(anova: Sequence[Anova]) -> list[Assumption]:
    return [
        Assumption(
            "sphericity",
            f"{row.source}, {table.unit}",
            "Greenhouse-Geisser epsilon",
            row.eps,
            row.p_sphericity,
            f"1 is perfect, {1 / row.df1:.2g} the least possible; p_gg allows for it, the sign flip does not need it",
        )
        for table in anova
        for row in table.rows
        if row.df1 > 1
    ]


def _clustering(contrasts: Floats, clusters: Clusters) -> Assumption:
    icc, effect = intraclass(contrasts, clusters)
    reading = (
        f"the variance of a mean is {effect:.2g} times that of independent items; "
        "figures over items (ANOVA, McNemar) take it as 1, cluster means and sign flips do not"
    )
    return Assumption("independent items", "interaction contrasts", "intraclass correlation", icc, math.nan, reading)


def _variances(shifts: Mapping[ArmKey, Floats]) -> list[Assumption]:
    sizes = {arm: float(values.var(ddof=1)) for arm, values in shifts.items()}
    sizes = {arm: v for arm, v in sizes.items() if v > 0}
    if len(sizes) < 2:
        return []
    most, least = max(sizes, key=lambda a: sizes[a]), min(sizes, key=lambda a: sizes[a])
    subject = f"shifts: {most[1]} of {most[0]} over {least[1]} of {least[0]}"
    reading = (
        "1 is equal; a large ratio costs the ANOVA and the raw sum of squares power, and permuted labels their level"
    )
    return [Assumption("equal variances", subject, "largest variance over smallest", sizes[most] / sizes[least],
                       math.nan, reading)]  # fmt: skip


def _normality(residuals: Floats) -> Assumption:
    from scipy.stats import kurtosis, skew

    spread = residuals.std(axis=0)
    kept = spread > 1e-12 * max(1e-300, float(np.abs(residuals).max()))
    flat = (residuals[:, kept] / spread[kept]).ravel()
    size = f"{float(np.abs(skew(residuals[:, kept], axis=0)).max()):.2g}"
    reading = (
        f"0 is normal; skewness is at most {size} in a cell. With many units F hardly needs it, and nothing else does"
    )
    return Assumption("normal residuals", "interaction residuals of items, each cell scaled", "excess kurtosis",
                      float(kurtosis(flat)), math.nan, reading)  # fmt: skip


def _symmetry(sums: Floats) -> Assumption:
    from scipy.stats import skew, skewtest

    kept = sums[:, sums.std(axis=0) > 1e-12 * np.abs(sums).max(initial=0.0)]
    reading = "0 is symmetric; the sign flip takes symmetry for granted, and hardly minds with 20 clusters or more"
    values, p = np.zeros(0) if not kept.size else np.asarray(skew(kept, axis=0)), math.nan
    worst = int(np.abs(values).argmax()) if len(values) else -1
    if len(values) and len(sums) >= 8:  # scipy's test wants 8; Bonferroni over the contrasts
        p = min(1.0, float(skewtest(kept[:, worst]).pvalue) * len(values))
    value = float(values[worst]) if len(values) else math.nan
    return Assumption("symmetric clusters", "difference-in-differences, sums of clusters", "most extreme skewness",
                      value, p, reading)  # fmt: skip
