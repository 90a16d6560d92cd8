"""Equivalence: is a mean shown to be within a margin? Two one-sided tests on cluster-robust errors.

The tests take t with the degrees of freedom of the estimate. On items that share templates, item-level errors
claim equivalence falsely about three times too often; these do not (docs/statistics.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.clusters import Clusters, Floats
from analysis.estimates import cluster_mean, interval
from analysis.resampling import too_few
from analysis.study import Estimate


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests (Schuirmann 1987) of |mean| >= margin.

    p_lower : of the null mean <= -margin; p_upper : of mean >= +margin; p : the larger, in [0, 1]. All NaN
        where the estimate has no error.
    ci_low, ci_high : interval of coverage 1 - 2 alpha; inside the margin exactly when p < alpha.
    equivalent : p < alpha, or every value exactly 0 where nothing could have gone unseen; never with fewer clusters
        than a sign-flip test at alpha takes.
    smallest_margin : the least margin at which these data would show equivalence, NaN without an interval.
    """

    estimate: Estimate
    margin: float
    p_lower: float
    p_upper: float
    p: float
    ci_low: float
    ci_high: float
    equivalent: bool
    smallest_margin: float


def equivalence(values: Floats, clusters: Clusters, *, margin: float, alpha: float = 0.05) -> Equivalence:
    """Two one-sided tests that the mean of `values` (n_items,) lies within +-margin.

    values : NaN means no answer and is left out. margin : in the unit of the values, above 0.
    alpha : chance of a false claim of equivalence for a mean at the margin.

    >>> import numpy as np
    >>> from analysis.clusters import partition
    >>> equivalence(np.array([0.1, -0.1, 0.0, 0.05, 0.02, -0.04]), partition("abcdef"), margin=0.5).equivalent
    True
    """
    return equivalence_of(cluster_mean(values, clusters, alpha=alpha), margin=margin, alpha=alpha)


def equivalence_of(estimate: Estimate, *, margin: float, alpha: float = 0.05) -> Equivalence:
    """The same tests from an estimate that is there already.

    Raises ValueError for a margin that is not above 0.
    """
    if not margin > 0 and not math.isnan(margin):
        raise ValueError(f"margin={margin}: must be above 0")
    low, high = interval(estimate, alpha=2 * alpha)
    lower, upper = _one_sided(estimate, margin)
    widest = max(abs(low), abs(high))  # NaN without an interval
    inside = low > -margin and high < margin and enough(estimate, alpha)
    return Equivalence(estimate, margin, lower, upper, max(lower, upper), low, high, inside, widest)


def enough(estimate: Estimate, alpha: float) -> bool:
    """Whether there are clusters enough for any claim: t takes their means as normal, and so few cannot show it."""
    return (estimate.exact_zero and not estimate.reach) or not too_few(estimate.n_clusters, alpha)


def _one_sided(estimate: Estimate, margin: float) -> tuple[float, float]:
    if estimate.exact_zero:
        p = _none_changed(estimate, margin)
        return p, p
    if not estimate.se > 0 or estimate.n_clusters < 2 or math.isnan(margin):
        return math.nan, math.nan
    from scipy.stats import t as student

    df = estimate.dof
    lower = float(student.sf((estimate.value + margin) / estimate.se, df))
    return lower, float(student.cdf((estimate.value - margin) / estimate.se, df))


def _none_changed(estimate: Estimate, margin: float) -> float:
    """The level at which `unseen` meets the margin: the chance to see no change, were the mean at the margin."""
    from scipy.special import stdtr

    if not estimate.reach > margin:
        return 0.0
    if estimate.n_clusters < 2:
        return 1.0
    share, n = margin / estimate.reach, estimate.n_items
    return max((1 - share) ** n, float(stdtr(estimate.n_clusters - 1, 1 - share * n)))
