"""Aggregates of records with honest intervals: clusters are the unit, and too few answers give no number."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from biaslab.benchmarks.base import NO_ANSWER, Metric

if TYPE_CHECKING:
    import pandas as pd

#: Least share of records with an answer for a metric to be given.
COVERAGE = 0.8
LEVEL = 0.95
#: A width of 0 would read as certainty: a refusal that was not met in 50 answers may be met in the next.
SAME = "nothing varies between clusters: no interval"
ROUNDING = 1e-12  # of the largest value: smaller standard errors are sums that should have been 0


def cluster_mean(
    values: pd.Series,
    clusters: pd.Series,
    *,
    unit: str = "",
    coverage: float = COVERAGE,
    outcomes: pd.Series | None = None,
) -> Metric:
    """Mean of the values that are there, with a 95 % interval robust to clusters.

    values : float, NaN where there is no answer. clusters : label of each value's cluster. outcomes : of the
    same records, to count the answers that are missing by their reason.
    The interval is `analysis.estimates.cluster_mean`'s: CR2 error, t with Satterthwaite's degrees of freedom, G - 1
    for clusters of one size and fewer otherwise. One cluster, or clusters of one mean, give no interval; under
    `coverage` there is no value, and the reason says so.
    """
    from analysis.clusters import Clusters
    from analysis.estimates import cluster_mean as estimate

    valid = values.notna().to_numpy()
    n = int(valid.sum())
    n_clusters = int(clusters[valid].nunique())
    if reason := uncovered(values, coverage):
        return counted(Metric(math.nan, n=n, n_clusters=n_clusters, unit=unit, reason=reason), outcomes)
    x = values.to_numpy(dtype=float)[valid]
    mean = float(x.mean())
    if n_clusters < 2:
        return counted(Metric(mean, n=n, n_clusters=n_clusters, unit=unit, reason="one cluster: no interval"), outcomes)
    codes = np.unique(clusters[valid].to_numpy(dtype=str), return_inverse=True)[1]
    found = estimate(x, Clusters(codes), alpha=1 - LEVEL)
    if found.se <= ROUNDING * np.abs(x).max():
        return counted(Metric(mean, n=n, n_clusters=n_clusters, unit=unit, reason=SAME), outcomes)
    return counted(Metric(mean, found.ci_low, found.ci_high, n, n_clusters, unit), outcomes)


def counted(metric: Metric, outcomes: pd.Series | None) -> Metric:
    """The metric with how many of its records have no answer, by reason; as it is without `outcomes`."""
    if outcomes is None:
        return metric
    refused, unparsed, too_long = (int((outcomes == reason).sum()) for reason in NO_ANSWER)
    return replace(metric, n_refused=refused, n_unparsed=unparsed, n_too_long=too_long)


def from_detail(records: pd.DataFrame, key: str) -> pd.Series:
    """One number of every record's `detail`, NaN where it is not there."""
    import pandas as pd

    return pd.Series([detail.get(key, math.nan) for detail in records["detail"]], index=records.index, dtype=float)


def answer_rates(records: pd.DataFrame) -> dict[str, Metric]:
    """What a mean score must stand beside: the rates of refusals and unparsable answers, and repetition.

    repetition : share of an answer's three-word sequences that it has said before (biaslab.benchmarks.parsing),
    over the records whose detail has it.
    """
    clusters = records["cluster"]
    rates = {
        "refusal_rate": records["refused"].astype(float),
        "unparsed_rate": (records["outcome"] == "unparsed").astype(float),
        "repetition_rate": from_detail(records, "repetition"),
    }
    return {name: cluster_mean(rate, clusters, unit="share", coverage=0.0) for name, rate in rates.items()}


def slope(truth: pd.Series, score: pd.Series, clusters: pd.Series, *, unit: str = "") -> Metric:
    """Least-squares slope of score on truth with a cluster-robust 95 % interval, t with G - 1 df.

    The covariance is the clustered sandwich with the usual small-sample factor (Cameron & Miller 2015,
    doi:10.3368/jhr.50.2.317, eq. 11-12), meant for clusters of like size; under COVERAGE there is no value, and
    where every item lies on the line no interval.
    """
    valid = score.notna().to_numpy()
    x, y = truth.to_numpy(dtype=float)[valid], score.to_numpy(dtype=float)[valid]
    labels = clusters[valid].to_numpy()
    n_clusters = len(np.unique(labels))
    reason = uncovered(score)
    if not reason and (len(x) < 3 or np.ptp(x) == 0 or n_clusters < 3):
        reason = "fewer than 3 items or clusters, or all of one truth: no slope"
    if reason:
        return Metric(math.nan, n=len(x), n_clusters=n_clusters, unit=unit, reason=reason)
    centred = x - x.mean()
    value = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - value * centred
    sums = _cluster_sums(centred * residual, labels)
    factor = n_clusters / (n_clusters - 1) * (len(x) - 1) / (len(x) - 2)
    se = math.sqrt(factor * float(sums @ sums)) / float(centred @ centred)
    if se <= ROUNDING * np.ptp(y) / np.ptp(x):
        return Metric(value, n=len(x), n_clusters=n_clusters, unit=unit, reason=SAME)
    half = t_quantile(n_clusters - 1) * se
    return Metric(value, value - half, value + half, len(x), n_clusters, unit)


def recovery(records: pd.DataFrame) -> dict[str, Metric]:
    """How well the scores of a cell recover the planted truth, over items and controls.

    recovery_slope, recovery_r (Pearson), recovery_mae (mean |score - truth|) over items with a planted
    effect; control_mae (mean |score|) over items whose truth is exactly 0.
    """
    control = records["truth"] == 0
    planted, controls = records[~control], records[control]
    error = (planted["score"] - planted["truth"]).abs()
    return {
        "recovery_slope": slope(planted["truth"], planted["score"], planted["cluster"]),
        "recovery_r": _correlation(planted["truth"], planted["score"]),
        "recovery_mae": cluster_mean(error, planted["cluster"]),
        "control_mae": cluster_mean(controls["score"].abs(), controls["cluster"]),
    }


def uncovered(values: pd.Series, coverage: float = COVERAGE) -> str:
    """Why `values` (NaN where there is no answer) have too few answers for a metric, or ""."""
    n_all, n = len(values), int(values.notna().sum())
    if n_all == 0:
        return "no such records"
    if n == 0 and coverage == 0:
        return f"none of {n_all} records has an answer"
    if n < coverage * n_all:
        return f"only {n} of {n_all} records have an answer, less than {coverage:.0%}"
    return ""


def t_quantile(df: float) -> float:
    """Two-sided 95 % quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.5 + LEVEL / 2, df))


def _correlation(truth: pd.Series, score: pd.Series) -> Metric:
    valid = score.notna()
    x, y = truth[valid].to_numpy(dtype=float), score[valid].to_numpy(dtype=float)
    reason = uncovered(score)
    if not reason and (len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0):
        reason = "fewer than 3 items, or constant: no correlation"
    if reason:
        return Metric(math.nan, n=len(x), reason=reason)
    return Metric(float(np.corrcoef(x, y)[0, 1]), n=len(x), reason="no interval: items share clusters")


def _cluster_sums(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    _, codes = np.unique(labels, return_inverse=True)
    return np.bincount(codes, weights=values)
