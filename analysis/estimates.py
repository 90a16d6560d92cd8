"""Means with cluster-robust intervals: of scores, of shifts, of difference-in-differences.

The variance of a mean over n items in G clusters of n_g is sum_g e_g^2 / (1 - n_g / n) / n^2, where e_g is the sum
of the residuals of cluster g (the CR2 estimate of Bell & McCaffrey 2002 for ordinary least squares on a constant).
With clusters of one size it is the usual cluster-robust variance, with one item a cluster the usual standard error.

It is referred to t with the degrees of freedom of Satterthwaite's approximation (`satterthwaite`), which are G - 1
for clusters of one size and fewer otherwise: with G - 1 an interval over unequal clusters covers 52 to 94 % instead
of 95 (docs/statistics.md).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis.clusters import Clusters, Floats
from analysis.study import Estimate

#: A standard error under this share of the root mean square is rounding of exactly 0.
ROUNDING = 1e-12


def cluster_mean(values: Floats, clusters: Clusters, *, alpha: float = 0.05, reach: float = 0.0) -> Estimate:
    """Mean of `values` with its cluster-robust interval and the two-sided p for mean = 0.

    values : (n_items,); NaN means no answer and is left out (n_items and n_clusters count what is there).
    alpha : complement of the interval's coverage.

    reach : how far a value may be from 0 where only few are, as with answers that change or do not; 0 for scores
        that any change of the model moves.

    Values that are all exactly 0 give 0 without error and p = 1, and the interval that `unseen` gives. With one
    cluster the mean is given, its error is NaN, and `reason` says so; with no values everything is NaN. With no
    variance between clusters the interval has no width and p is NaN (1 for a mean of 0): t has no value there.

    Raises ValueError for an infinite value or a wrong length.

    >>> from analysis.clusters import partition
    >>> e = cluster_mean(np.array([1.0, 2.0, 3.0]), partition("abc"))
    >>> round(e.value, 3), round(e.se, 3)   # the standard error of three numbers: 1 / sqrt(3)
    (2.0, 0.577)
    """
    values, codes = _there(values, clusters)
    sizes = np.bincount(codes)
    n, g = len(values), int(np.count_nonzero(sizes))
    if n == 0:
        return missing("no item has an answer in every cell of the comparison")
    mean = float(values.mean())
    if not values.any():
        half = reach * unseen(n, g, alpha / 2)
        return Estimate(0.0, 0.0, -half, half, 1.0, n, g, reason=f"exactly 0 in all {n} items", reach=reach)
    if g == 1:
        alone = missing(f"1 cluster: no error can be given ({n} items)")
        return replace(alone, value=mean, n_items=n, n_clusters=1)
    residuals = np.bincount(codes, weights=values - mean)
    # Sums of squares, not dot products: on a busy machine BLAS threads cost a vector of this length 50 times more.
    se = math.sqrt(float((residuals**2 / (1 - sizes / n)).sum())) / n
    if se <= ROUNDING * math.sqrt(float((values**2).sum()) / n):
        return _exact(values, mean, n, g)
    from scipy.special import stdtr

    df = satterthwaite(sizes[sizes > 0])
    half = student_quantile(1 - alpha / 2, df) * se
    p = 2 * float(stdtr(df, -abs(mean) / se))
    return Estimate(mean, se, mean - half, mean + half, p, n, g, df=df)


def unseen(n_items: int, n_clusters: int, alpha: float) -> float:
    """The largest share of items that may change although none of these did, with chance `alpha` of not one.

    The exact binomial bound of independent items (Clopper & Pearson 1934), about 3 / n at 5 %, and never less than
    the interval would reach had one of the items changed. 1 with one cluster.

    >>> round(unseen(100, 100, 0.05), 4)
    0.0295
    """
    if n_clusters < 2:
        return 1.0
    as_if_one = (1 + student_quantile(1 - alpha, n_clusters - 1)) / n_items
    return min(1.0, max(float(1 - alpha ** (1 / n_items)), as_if_one))


def satterthwaite(sizes: NDArray[np.intp], *, icc: float = 1.0) -> float:
    """Degrees of freedom of the CR2 variance of a mean over clusters of these sizes (G,), at least two.

    icc : of the working model in which they are worked out. 1, the default, lets the items of a cluster move
        together: the fewest degrees of freedom, so that the interval is safe whatever the ICC is. 0 is the
        convention of Bell & McCaffrey (2002), under which intervals cover up to .6 points too little.

    2 E(V)^2 / Var(V) of the quadratic form V under normality; G - 1 for equal sizes, at any icc.

    >>> satterthwaite(np.array([10, 10, 10]))
    2.0
    """
    if (sizes == sizes[0]).all():
        return float(len(sizes) - 1)
    n = float(sizes.sum())
    p, v = sizes / n, sizes * (1 + (sizes - 1) * icc) / n
    c, total = 1 / (1 - p), float(v.sum())
    off, own = p**2 * total - 2 * p * v, p**2 * total - 2 * p * v + v  # of the covariance of e: as if g != h, and g = h
    pp, vv, pv = (float((c * x).sum()) for x in (p**2, v**2, p * v))
    squares = total**2 * pp**2 + 2 * pp * vv - 4 * total * pp * pv + 2 * pv**2  # sum of c_g c_h off_gh^2
    squares += float((c**2 * (own**2 - off**2)).sum())
    return float((c * own).sum()) ** 2 / squares


def interval(estimate: Estimate, *, alpha: float) -> tuple[float, float]:
    """The interval of coverage 1 - alpha of an estimate, whatever alpha it was made with."""
    if estimate.exact_zero:
        half = estimate.reach * unseen(estimate.n_items, estimate.n_clusters, alpha / 2)
        return -half, half
    if not math.isfinite(estimate.se) or estimate.n_clusters < 2:
        return math.nan, math.nan
    half = student_quantile(1 - alpha / 2, estimate.dof) * estimate.se
    return estimate.value - half, estimate.value + half


def student_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t; what scipy.stats.t.ppf calls, a hundred times faster for one number."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def difference_in_differences(shifts: Floats) -> Floats:
    """Per item, each model's shift minus the mean shift of the other models.

    shifts : (n_items, n_models), one accelerator; NaN in any model makes the item's whole row NaN, so that
        every contrast stays within one item.
    Returns (n_items, n_models); all NaN with fewer than 2 models.

    >>> difference_in_differences(np.array([[0.5, 0.1, 0.3]])).round(3).tolist()
    [[0.3, -0.3, 0.0]]
    """
    m = shifts.shape[1]
    if m < 2:
        return np.full(shifts.shape, math.nan)
    others = (shifts.sum(axis=1, keepdims=True) - shifts) / (m - 1)
    return without_rounding(shifts - others, scale=shifts)


def without_rounding(values: Floats, *, scale: Floats) -> Floats:
    """`values` with what is mere rounding of 0, given the size of `scale`, set to exactly 0."""
    largest = float(np.nanmax(np.abs(scale), initial=0.0)) if scale.size else 0.0
    out: Floats = np.where(np.abs(values) <= ROUNDING * largest, 0.0, values)
    return out


def missing(reason: str) -> Estimate:
    """An estimate that cannot be given, and why."""
    return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, 0, 0, reason=reason)


def _there(values: Floats, clusters: Clusters) -> tuple[Floats, NDArray[np.intp]]:
    """The values that are there, and the cluster codes of their items."""
    values = np.asarray(values, dtype=float)
    if values.shape != (clusters.n_items,):
        raise ValueError(f"{values.shape} values for {clusters.n_items} items: give one value an item")
    if np.isinf(values).any():
        raise ValueError("an infinite value has no mean: score it or leave it out as NaN")
    keep = ~np.isnan(values)
    return (values, clusters.codes) if keep.all() else (values[keep], clusters.codes[keep])


def _exact(values: Floats, mean: float, n: int, g: int) -> Estimate:
    same = np.ptp(values) <= ROUNDING * abs(mean)
    reason = f"the same value in all {n} items" if same else "the same mean in every cluster"
    p = 1.0 if mean == 0 else math.nan
    return Estimate(mean, 0.0, mean, mean, p, n, g, reason=f"{reason}: no variance to test against")
