"""Does one shift foretell another? From benchmark to benchmark, from accel to accel, from perplexity to bias.

A point is one (model, accel) cell, or one (model, benchmark) for accels; shifts are measured in margins, so that
benchmarks of different units can be compared. Points share models and accelerators and each carries sampling
noise, which pulls r towards 0: figures describe, they are not tests, and no p is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.clusters import Floats

Key = tuple[str, str]  # (model, accel) or (model, benchmark)


@dataclass(frozen=True)
class Transfer:
    """How well `source` foretells `target` over n points.

    r : Pearson, with a delete-one-point jackknife interval of its Fisher z (t, n - 1 df); rank_r : Spearman.
    same_sign : share of the points where both have one sign.
    r2 : 1 - mean squared error of predicting the target of each model by slope x source, the slope (through 0,
    for no change foretells no change) fitted on the other models, over the mean square of the targets. 0 is as
    good as predicting no change; below 0 is worse.
    """

    kind: str  # "benchmark", "accel" or "perplexity"
    source: str
    target: str
    n: int
    n_models: int
    r: float
    r_low: float
    r_high: float
    rank_r: float
    same_sign: float
    slope: float
    r2: float
    note: str = ""
    reason: str = ""


def transfer(
    source: Floats,
    target: Floats,
    models: Sequence[str],
    *,
    alpha: float = 0.05,
    names: tuple[str, str, str],
    note: str = "",
) -> Transfer:
    """How well source (n,) foretells target (n,); `models` says which model each point is of.

    names : kind, source and target. Points with a NaN are left out; too few, or no spread, is said in `reason`.
    """
    there = np.isfinite(source) & np.isfinite(target)
    x, y = source[there], target[there]
    whose = np.array(list(models), dtype=object)[there]
    n, n_models = len(x), len(set(whose))
    nan = math.nan
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        why = f"{n} points are too few" if n < 3 else "no spread to compare"
        return Transfer(*names, n, n_models, nan, nan, nan, nan, nan, nan, nan, note, why)
    from scipy.stats import spearmanr

    r = _pearson(x, y)
    low, high = _jackknife(x, y, alpha)
    slope, r2 = float(x @ y / (x @ x)), _left_out_models(x, y, whose)
    same = float((x * y > 0).mean())
    return Transfer(*names, n, n_models, r, low, high, float(spearmanr(x, y).statistic), same, slope, r2, note)


def transfer_matrix(
    columns: Mapping[str, Mapping[Key, float]], *, kind: str, alpha: float, notes: Mapping[tuple[str, str], str]
) -> list[Transfer]:
    """Every ordered pair of columns over the points that both have.

    columns : name -> (model, other) -> value. notes : (source, target) -> what is special about the pair.
    """
    out = []
    for source in columns:
        for target in columns:
            keys = [k for k in columns[source] if k in columns[target]]
            if source == target or not keys:
                continue
            x, y = (np.array([columns[name][k] for k in keys]) for name in (source, target))
            note = notes.get((source, target), "")
            out.append(transfer(x, y, [m for m, _ in keys], alpha=alpha, names=(kind, source, target), note=note))
    return out


def _pearson(x: Floats, y: Floats) -> float:
    a, b = x - x.mean(), y - y.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return max(-1.0, min(1.0, float(a @ b) / norm)) if norm > 0 else math.nan


def _jackknife(x: Floats, y: Floats, alpha: float) -> tuple[float, float]:
    """Interval of r on Fisher's z; NaN with fewer than 5 points or a perfect line."""
    n = len(x)
    left_out = np.array([_pearson(np.delete(x, i), np.delete(y, i)) for i in range(n)])
    r = _pearson(x, y)
    if n < 5 or not (np.abs(left_out) < 1 - 1e-12).all() or abs(r) > 1 - 1e-12:
        return math.nan, math.nan
    from scipy.stats import t as student

    z = np.arctanh(left_out)
    se = math.sqrt((n - 1) / n * float(((z - z.mean()) ** 2).sum()))
    half = float(student.ppf(1 - alpha / 2, n - 1)) * se
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def _left_out_models(x: Floats, y: Floats, models: Floats) -> float:
    """R2 of predicting each model's targets with the slope of the others; NaN with one model."""
    names = list(dict.fromkeys(models))
    error = 0.0
    for name in names:
        own = models == name
        square = float(x[~own] @ x[~own])
        if len(names) < 2 or square == 0:
            return math.nan
        error += float(((y[own] - float(x[~own] @ y[~own]) / square * x[own]) ** 2).sum())
    return 1 - error / float(y @ y)
