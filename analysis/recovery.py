"""How well measured scores recover a planted truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.clusters import Clusters, Floats
from analysis.estimates import student_quantile
from analysis.frame import Frame
from analysis.study import Recovery


@dataclass(frozen=True)
class Slope:
    """Least-squares slope with its cluster-robust interval, NaN where it cannot be given."""

    value: float
    ci_low: float
    ci_high: float
    se: float


def cluster_slope(x: Floats, y: Floats, clusters: Clusters, *, alpha: float = 0.05) -> Slope:
    """Slope of y on x (n_items,), no NaN; t with G - 1 degrees of freedom.

    The sandwich carries the factor G / (G - 1) * (n - 1) / (n - 2), as ordinary least squares with clustered
    errors does elsewhere. NaN with fewer than 3 items or no spread of x; no interval with 1 cluster.
    """
    n, g = len(x), clusters.n_clusters
    centred = x - x.mean() if n else x
    spread = float((centred**2).sum())
    if n < 3 or spread <= 1e-24 * float((x**2).sum()):
        return Slope(math.nan, math.nan, math.nan, math.nan)
    slope = float((centred * y).sum()) / spread
    if g < 2:
        return Slope(slope, math.nan, math.nan, math.nan)
    residual = y - y.mean() - slope * centred
    scores = clusters.sums(centred * residual)
    se = math.sqrt(g / (g - 1) * (n - 1) / (n - 2) * float((scores**2).sum())) / spread
    half = student_quantile(1 - alpha / 2, g - 1) * se
    return Slope(slope, slope - half, slope + half, se)


def recoveries(frame: Frame, *, alpha: float = 0.05) -> list[Recovery]:
    """Recovery of every arm, over all items and by category; empty where nothing was planted."""
    out = []
    clusters, category = frame.clusters, frame.items["category"].to_numpy()
    names = sorted(set(category))
    for model, accel in frame.arms:
        truth = frame.truth[model].to_numpy(dtype=float)
        if np.isnan(truth).all():
            continue
        score = frame.score(model, accel)
        there = ~np.isnan(truth) & ~np.isnan(score)
        groups = [("all", there)] + [(c, there & (category == c)) for c in names if len(names) > 1]
        out += [_recovery(model, accel, c, truth, score, keep, clusters, alpha) for c, keep in groups]
    return out


def _recovery(
    model: str,
    accel: str,
    category: str,
    truth: Floats,
    score: Floats,
    keep: np.typing.NDArray[np.bool_],
    clusters: Clusters,
    alpha: float,
) -> Recovery:
    x, y = truth[keep], score[keep]
    slope = cluster_slope(x, y, clusters.take(keep), alpha=alpha)
    control = y[x == 0]
    return Recovery(
        model,
        accel,
        category,
        len(x),
        slope.value,
        slope.ci_low,
        slope.ci_high,
        _pearson(x, y),
        _mean(np.abs(y - x)),
        _mean(control),
        _mean(np.abs(control)),
        len(control),
    )


def _pearson(x: Floats, y: Floats) -> float:
    if len(x) < 3:
        return math.nan
    a, b = x - x.mean(), y - y.mean()
    norm = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / norm if norm > 0 else math.nan


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
