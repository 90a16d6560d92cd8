"""Aggregates that are no means of items (max - min, Gini): what noise alone gives them, and their errors.

A range grows with noise: groups that do not differ at all still get different means from finitely many
answers. So each stands beside two companions. `null` is its mean value when the groups' names are shuffled.
`corrected` asks which true pattern would be seen like this: the observed differences between groups are
shrunk by the factor at which pattern plus noise (the deviations of a cluster bootstrap) gives the observed
value on average; it is the value times that factor. Simulated in tests: nearly unbiased from no difference
to a large one, where subtracting squares is not.

Intervals are the delete-cluster jackknife's for clusters of unequal size (Efron & Stein 1981,
doi:10.1214/aos/1176345462; Busing, Meijer & van der Leeden 1999, doi:10.1023/A:1008800423698), with the noise held
fixed for `corrected`; see `_interval`. A percentile cluster bootstrap stands beside it, because neither a maximum
nor a median is smooth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biaslab.benchmarks.base import Metric
from biaslab.benchmarks.metrics import ROUNDING, SAME, counted, t_quantile, uncovered

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
#: Weights of the clusters, (draws, clusters) -> a statistic of each group under each, (draws, groups).
ByGroup = Callable[[Floats], Floats]
#: Statistics of groups, (..., groups) -> one number, (...,).
Summary = Callable[[Floats], Floats]

N_NULL = 200
N_BOOT = 400
CHUNK = 128
ALONE = "a group that it turns on rests on one cluster: no interval"
TIE = "two groups are too close to call which is the extreme one: do not trust the interval"


@dataclass(frozen=True)
class Sample:
    """What clusters a statistic is of. names : unique, in the order of the weights.

    sizes : answers of each cluster. strata : of each cluster, the group that all its answers belong to; None
        where groups share clusters.
    """

    names: Sequence[str]
    sizes: NDArray[np.intp]
    strata: NDArray[np.intp] | None = None


def resampled(by_group: ByGroup, summary: Summary, sample: Sample, nulls: Floats, *, unit: str) -> Metric:
    """`summary` of the groups at equal weights with its jackknife and bootstrap, and its companion values.

    nulls : the summary in shuffled data.
    """
    clusters = sample.names
    size = len(clusters)
    groups = by_group(np.ones((1, size)))[0]
    value = float(summary(groups))
    found = Metric(value, unit=unit, n_clusters=size, null=float(np.mean(nulls)) if len(nulls) else math.nan)
    if size < 2:
        return replace(found, reason="one cluster: no interval")
    left_out = summary(_in_chunks(by_group, size, lambda rows: 1.0 - np.eye(size)[rows]))
    if np.isfinite(left_out).all() and np.ptp(left_out) <= ROUNDING * abs(value):
        return replace(found, reason=SAME, leave_one_out=_named(clusters, left_out))
    low, high = _interval(value, left_out, sample)
    if math.isnan(low):
        found = replace(found, reason=ALONE)
    draws = np.random.default_rng(0).multinomial(size, np.full(size, 1 / size), N_BOOT).astype(float)
    boot_groups = _in_chunks(by_group, N_BOOT, lambda rows: draws[rows])
    boot_groups = boot_groups[np.isfinite(boot_groups).all(1)]
    if len(boot_groups) < N_BOOT / 2:  # a group of very few clusters is often not drawn at all
        return replace(found, ci_low=low, ci_high=high, leave_one_out=_named(clusters, left_out))
    boot = summary(boot_groups)
    less = _shrunk(np.append(left_out, value), groups, boot_groups - groups, summary)
    c_low, c_high = _interval(float(less[-1]), less[:-1], sample)
    return replace(
        found,
        ci_low=low,
        ci_high=high,
        corrected=float(less[-1]),
        corrected_low=c_low,
        corrected_high=c_high,
        boot_low=float(np.quantile(boot, 0.025)),
        boot_high=float(np.quantile(boot, 0.975)),
        leave_one_out=_named(clusters, left_out),
    )


def spread(groups: Floats) -> Floats:
    """Largest minus smallest of (..., groups), NaN ones left out; NaN where fewer than two are there."""
    there = np.isfinite(groups)
    low = np.where(there, groups, np.inf).min(-1)
    high = np.where(there, groups, -np.inf).max(-1)
    return np.where(there.sum(-1) >= 2, high - low, math.nan)


@dataclass(frozen=True)
class GroupTotals:
    """Sums and counts of values by cluster and group, both (clusters, groups)."""

    sums: Floats
    counts: Floats

    def means(self, weights: Floats) -> Floats:
        """Mean of each group under each draw of weights, (draws, groups); NaN where a group is empty."""
        counts = weights @ self.counts
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(counts > 0, (weights @ self.sums) / counts, math.nan)

    def ties(self) -> bool:
        """Whether leaving out one cluster changes which group is highest or lowest."""
        size = len(self.sums)
        means = self.means(np.vstack([np.ones((1, size)), 1.0 - np.eye(size)]))
        if not np.isfinite(means).any(1).all():
            return True
        return any(len(set(pick(means, axis=1))) > 1 for pick in (np.nanargmax, np.nanargmin))


def range_of_means(
    values: pd.Series, groups: pd.Series, clusters: pd.Series, outcomes: pd.Series, *, unit: str, coverage: float
) -> Metric:
    """Max - min over groups of the mean value, where a group is a property of whole clusters.

    The null shuffles the groups' names over the clusters.
    """
    reason = uncovered(values, coverage)
    kept = values.notna().to_numpy() & groups.notna().to_numpy()
    labels, code = np.unique(clusters[kept].to_numpy(dtype=str), return_inverse=True)
    names, group = np.unique(groups[kept].to_numpy(dtype=str), return_inverse=True)
    if not reason and len(names) < 2:
        reason = "fewer than two groups have an answer: no range"
    if reason:
        return _counted(Metric(math.nan, unit=unit, reason=reason, n_clusters=len(labels)), kept, outcomes)
    shape = (len(labels), len(names))
    totals = GroupTotals(np.zeros(shape), np.zeros(shape))
    np.add.at(totals.sums, (code, group), values[kept].to_numpy(dtype=float))
    np.add.at(totals.counts, (code, group), 1.0)
    rng = np.random.default_rng(0)
    equal = np.ones((1, len(labels)))
    nulls = np.concatenate([spread(_shuffled(totals, rng).means(equal)) for _ in range(N_NULL)])
    sample = Sample(labels.tolist(), totals.counts.sum(1).astype(np.intp), totals.counts.argmax(1))
    found = resampled(totals.means, spread, sample, nulls[np.isfinite(nulls)], unit=unit)
    return _counted(_with_tie(found, totals), kept, outcomes)


def range_of_shares(
    chosen: pd.Series, names: Sequence[str], clusters: pd.Series, outcomes: pd.Series, *, unit: str, coverage: float
) -> Metric:
    """Max - min over `names` of the share of answers that choose it; a name never chosen has share 0.

    chosen : one of `names`, NaN or None where there is no answer. The null shuffles the names within each
    cluster, all its answers alike: a model that picks by anything but the group.
    """
    reason = uncovered(chosen, coverage)
    kept = chosen.notna().to_numpy()
    labels, code = np.unique(clusters[kept].to_numpy(dtype=str), return_inverse=True)
    if reason:
        return _counted(Metric(math.nan, unit=unit, reason=reason, n_clusters=len(labels)), kept, outcomes)
    counts = np.zeros((len(labels), len(names)))
    position = {name: i for i, name in enumerate(names)}
    np.add.at(counts, (code, np.array([position[name] for name in chosen[kept]])), 1.0)
    answers = counts.sum(1)
    totals = GroupTotals(counts, np.repeat(answers[:, None], len(names), 1))
    rng = np.random.default_rng(0)
    equal = np.ones((1, len(labels)))
    shuffled = [replace(totals, sums=rng.permuted(counts, axis=1)) for _ in range(N_NULL)]
    nulls = np.concatenate([spread(one.means(equal)) for one in shuffled])
    found = resampled(totals.means, spread, Sample(labels.tolist(), answers.astype(np.intp)), nulls, unit=unit)
    return _counted(_with_tie(found, totals), kept, outcomes)


def gini(values: Floats) -> Floats:
    """Gini coefficient over the last axis: half the mean absolute difference of all n^2 pairs, over the mean.

    >>> [round(float(g), 4) for g in gini(np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 3.0]]))]
    [0.0, 0.6667]
    """
    ordered = np.sort(values, axis=-1)
    n = values.shape[-1]
    ranks = 2 * np.arange(1, n + 1) - n - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (ordered @ ranks) / (n * ordered.sum(-1))
    return found


def _shuffled(totals: GroupTotals, rng: np.random.Generator) -> GroupTotals:
    """Each cluster's totals under the groups of another cluster."""
    size, n_groups = totals.sums.shape
    home = totals.counts.argmax(1)[rng.permutation(size)]
    sums, counts = np.zeros((size, n_groups)), np.zeros((size, n_groups))
    rows = np.arange(size)
    sums[rows, home], counts[rows, home] = totals.sums.sum(1), totals.counts.sum(1)
    return GroupTotals(sums, counts)


def _with_tie(metric: Metric, totals: GroupTotals) -> Metric:
    return replace(metric, reason=TIE) if not metric.reason and totals.ties() else metric


def _counted(metric: Metric, kept: NDArray[np.bool_], outcomes: pd.Series) -> Metric:
    return counted(replace(metric, n=int(kept.sum())), outcomes)


def _shrunk(values: Floats, groups: Floats, noise: Floats, summary: Summary) -> Floats:
    """Each value times the factor f in [0, 1] at which f * pattern + noise has that summary on average.

    groups : (groups,), whose differences are the pattern. noise : (draws, groups), deviations by chance.
    """
    centre = groups.mean()
    factors = np.linspace(0, 1, 41)
    expected = np.array([np.mean(summary(centre + f * (groups - centre) + noise)) for f in factors])
    expected = np.maximum.accumulate(expected)
    return values * np.interp(values, expected, factors)


def _named(clusters: Sequence[str], values: Floats) -> dict[str, float]:
    return dict(zip(clusters, map(float, values), strict=True))


def _interval(value: float, left_out: Floats, sample: Sample) -> tuple[float, float]:
    """95 % interval from the values without each cluster; NaN where one of them, or its error, cannot be had.

    In a group of n answers, a cluster with the share p = n_g / n has the pseudo-value v + (v - v_g) (1 - p) / p
    (delete-m_j jackknife, eq. 2.8 of Busing et al.). As in `analysis.estimates`, the variance is the sum of
    p^2 / (1 - p) (pseudo-value - their mean)^2, for clusters of one size Busing et al.'s own, and t has the degrees
    of freedom of Satterthwaite under clusters that each move together, those of groups joined in the same way.
    Groups that move the value by nothing (neither the largest nor the smallest) take no part.
    """
    from analysis.estimates import satterthwaite

    if not np.isfinite(left_out).all():
        return math.nan, math.nan
    strata = np.zeros(len(left_out)) if sample.strata is None else sample.strata
    variance = total = squares = 0.0
    for stratum in np.unique(strata):
        mine = strata == stratum
        moved = value - left_out[mine]
        if np.abs(moved).max() <= ROUNDING * abs(value):
            continue
        if mine.sum() < 2:
            return math.nan, math.nan
        p = sample.sizes[mine] / sample.sizes[mine].sum()
        pseudo = moved * (1 - p) / p
        variance += float((p**2 / (1 - p) * (pseudo - p @ pseudo) ** 2).sum())
        expected = float((p**2).sum())
        total += expected
        squares += expected**2 / satterthwaite(sample.sizes[mine])
    if not squares:
        return math.nan, math.nan
    half = t_quantile(total**2 / squares) * math.sqrt(variance)
    return value - half, value + half


def _in_chunks(estimate: ByGroup, n: int, weights: Callable[[slice], Floats]) -> Floats:
    parts = [estimate(weights(slice(i, min(i + CHUNK, n)))) for i in range(0, n, CHUNK)]
    return np.concatenate(parts)
