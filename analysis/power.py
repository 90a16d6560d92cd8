"""Power: the smallest shift a study can detect, and what a new study needs, planned from a pilot.

Everything refers to the two-sided cluster-robust t test of one mean at level alpha, with n_clusters - 1
degrees of freedom, and takes its error as the true one. Multiplicity is left out: with a family of k cells,
alpha / k gives a safe answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from analysis.clusters import Clusters, Floats
from analysis.study import Estimate

NODES, WEIGHTS = np.polynomial.legendre.leggauss(96)
MOST_CLUSTERS = 1_000_000  # beyond it a plan says that no study of this kind is large enough


def power_of(effect: float, *, se: float, df: float, alpha: float = 0.05) -> float:
    """Chance that a two-sided t test at level alpha finds `effect` (in the unit of `se`), both tails counted.

    1 for se = 0 and an effect; NaN without an error or df < 1.

    >>> round(power_of(0.0, se=1.0, df=10), 3)   # no effect: the level
    0.05
    """
    if not se >= 0 or not df >= 1 or math.isnan(effect):
        return math.nan
    if se == 0:
        return 1.0 if effect else alpha
    return _power(abs(effect) / se, float(df), alpha)


def detectable(*, se: float, df: float, alpha: float = 0.05, power: float = 0.80) -> float:
    """Minimum detectable effect: the smallest |mean| found with chance `power`; NaN as in `power_of`.

    Raises ValueError unless alpha < power < 1.

    >>> round(detectable(se=1.0, df=10_000), 2)   # 1.96 + 0.84 standard errors
    2.8
    """
    if not alpha < power < 1:
        raise ValueError(f"power={power}: must be above alpha ({alpha}) and below 1")
    if not se >= 0 or not df >= 1:
        return math.nan
    return _detectable(float(df), alpha, power) * se


@lru_cache(maxsize=4096)
def _detectable(df: float, alpha: float, power: float) -> float:
    from scipy.optimize import brentq

    top = 1.0
    while _power(top, df, alpha) < power:
        top *= 2
    return float(brentq(lambda x: _power(x, df, alpha) - power, 0.0, top, xtol=1e-10))


def _power(delta: float, df: float, alpha: float) -> float:
    """P(|T| > critical) for T noncentral t: the normal tails, averaged over s = sqrt(chi2 / df).

    scipy.stats.nct gives NaN for few degrees of freedom and large effects, so the integral is done here, by
    Gauss-Legendre on five pieces about the step of the integrand.
    """
    from scipy.special import ndtr
    from scipy.stats import chi
    from scipy.stats import t as student

    critical = float(student.ppf(1 - alpha / 2, df))
    spread = chi(df, scale=1 / math.sqrt(df))
    low, middle, high = (float(x) for x in spread.ppf([1e-14, 0.5, 1 - 1e-14]))
    steps = [(delta - 8) / critical, delta / critical, (delta + 8) / critical, middle]
    edges = np.array([low, *sorted(min(max(x, low), high) for x in steps), high])
    half = np.diff(edges)[:, None] / 2
    s = edges[:-1, None] + half * (1 + NODES)
    tails = ndtr(delta - critical * s) + ndtr(-delta - critical * s)
    return min(1.0, float((half * WEIGHTS * tails * spread.pdf(s)).sum()))


@dataclass(frozen=True)
class Components:
    """Variance of an item's shift: between clusters, between items of one cluster, between repeats of one item.

    between, within, repeat : variances in the unit squared; `within` excludes what repeats add. repeat is NaN
        with one repeat, and is then inside `within`. icc : between / (between + within + repeats' part).
    n_clusters, items_per_cluster (the size that an equal design would need for the same error), repeats : of
        the pilot.
    """

    between: float
    within: float
    repeat: float
    icc: float
    n_clusters: int
    items_per_cluster: float
    repeats: int

    def se(self, n_clusters: float, items_per_cluster: float, repeats: int | None = None) -> float:
        """Standard error of the mean shift of a design; `repeats` None means the pilot's."""
        items = self.within + (0.0 if math.isnan(self.repeat) else self.repeat / (repeats or self.repeats))
        return math.sqrt((self.between + items / items_per_cluster) / n_clusters)


def components(
    shift: Floats, clusters: Clusters, *, repeat_variance: float = math.nan, repeats: int = 1
) -> Components | None:
    """Variance components of a pilot's shift by the one-way analysis of variance; None with nothing to estimate.

    shift : (n_items,), means over `repeats`; NaN is left out.
    repeat_variance : variance of one repeat's shift about its item's mean (that of both cells added); NaN with
        one repeat. Negative components are set to 0 (Searle, Casella & McCulloch 1992, section 3.6).
    """
    there = ~np.isnan(shift)
    values, parts = shift[there], clusters.take(there)
    n, g = parts.n_items, parts.n_clusters
    if g < 2:
        return None
    sizes = parts.sizes.astype(float)
    means = parts.means(values)
    typical = (n - float(sizes @ sizes) / n) / (g - 1)
    ms_between = float(sizes @ (means - values.mean()) ** 2) / (g - 1)
    ms_within = float(((values - means[parts.codes]) ** 2).sum()) / (n - g) if n > g else 0.0
    between = max(0.0, (ms_between - ms_within) / typical)
    if n == g:  # one item a cluster: the two cannot be told apart, and need not be
        between, ms_within = 0.0, ms_between
    own = 0.0 if math.isnan(repeat_variance) else repeat_variance / repeats
    total = between + ms_within
    icc = between / total if total > 0 else 0.0
    return Components(between, max(0.0, ms_within - own), repeat_variance, icc, g, typical, repeats)


@dataclass(frozen=True)
class PlanPoint:
    """One design of a curve: its minimum detectable effect, and its power for the target."""

    n_clusters: int
    items_per_cluster: float
    repeats: int
    detectable: float
    power: float


@dataclass(frozen=True)
class Plan:
    """What a new study needs to find `target` with chance `power`.

    n_clusters : least number of clusters at the pilot's items per cluster and repeats; None if beyond reach.
    items_per_cluster : least number of items at the pilot's number of clusters; None if more items of the same
        clusters can never do it (clusters differ too much), or nothing is known of them.
    repeats : least number of repeats at the pilot's clusters and items; None if repeats can never do it, or the
        pilot had only one.
    curve : designs over a range of clusters.
    """

    target: float
    alpha: float
    power: float
    components: Components
    n_clusters: int | None
    items_per_cluster: int | None
    repeats: int | None
    curve: list[PlanPoint]


def plan(
    pilot: Components, *, target: float, alpha: float = 0.05, power: float = 0.80, clusters: Sequence[int] = ()
) -> Plan:
    """Plan a study from a pilot's variance components.

    target : the mean shift to be found, in the score's unit, not 0.
    clusters : numbers of clusters of the curve; empty for a range about the answer.

    Raises ValueError for a target of 0 or a power outside (alpha, 1).
    """
    if not abs(target) > 0 or not math.isfinite(target):
        raise ValueError(f"target={target}: give the size of the shift to be found, not 0")
    if not alpha < power < 1:
        raise ValueError(f"power={power}: must be above alpha ({alpha}) and below 1")
    size = pilot.items_per_cluster

    def reached(g: float, m: float, r: int) -> bool:
        return power_of(target, se=pilot.se(g, m, r), df=g - 1, alpha=alpha) >= power

    g = _least(lambda n: n >= 2 and reached(n, size, pilot.repeats))
    m = _least(lambda n: reached(pilot.n_clusters, n, pilot.repeats)) if pilot.within > 0 else None
    r = None if math.isnan(pilot.repeat) else _least(lambda n: reached(pilot.n_clusters, size, n))
    points = [_point(pilot, n, target, alpha, power) for n in clusters or _range(g or pilot.n_clusters)]
    return Plan(target, alpha, power, pilot, g, m, r, points)


def clusters_until(estimate: Estimate, chance: Callable[[float, float], float], power: float) -> int | None:
    """Clusters of the present size, more than there are, at which `chance` reaches `power`; None beyond MOST_CLUSTERS.

    chance : of what is hoped for, given a standard error and its degrees of freedom, the estimate taken as the
    truth. The error shrinks with the square root of the clusters.
    """
    n = estimate.n_clusters

    def reached(more: int) -> bool:
        grown = (n + more) / n
        return chance(estimate.se / math.sqrt(grown), estimate.dof * grown) >= power

    more = _least(reached) if estimate.se > 0 else None  # NaN is not
    return None if more is None else n + more


def chance_in_or_out(value: float, se: float, *, inside: float, outside: float) -> float:
    """Chance that a normal estimate about `value` lies within +-inside or beyond +-outside.

    >>> round(chance_in_or_out(0.0, 1.0, inside=0.0, outside=1.96), 3)
    0.05
    """
    from scipy.special import ndtr

    if inside >= outside:
        return 1.0
    beyond = ndtr((value - outside) / se) + ndtr((-value - outside) / se)
    within = ndtr((inside - value) / se) - ndtr((-inside - value) / se) if inside > 0 else 0.0
    return float(beyond + within)


def _point(pilot: Components, n: int, target: float, alpha: float, power: float) -> PlanPoint:
    size, repeats = pilot.items_per_cluster, pilot.repeats
    se = pilot.se(n, size, repeats)
    smallest = detectable(se=se, df=n - 1, alpha=alpha, power=power)
    return PlanPoint(n, size, repeats, smallest, power_of(target, se=se, df=n - 1, alpha=alpha))


def _range(middle: int) -> list[int]:
    return sorted({max(2, round(middle * x)) for x in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)})


def _least(reached: Callable[[int], bool]) -> int | None:
    """The least whole number at which a rising condition holds; None beyond MOST_CLUSTERS."""
    high = 1
    while not reached(high):
        high *= 2
        if high > MOST_CLUSTERS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
