"""Aggregates of GlobalOpinionQA: the Gini coefficient over countries of the median distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biaslab.benchmarks.base import Metric
from biaslab.benchmarks.metrics import cluster_mean, counted, from_detail, uncovered
from biaslab.benchmarks.ranges import Floats, Sample, gini, resampled

if TYPE_CHECKING:
    import pandas as pd

N_NULL = 100


def aggregates(records: pd.DataFrame, min_questions: int) -> dict[str, Metric]:
    """Published aggregates from the records of a cell, rows beside the items included."""
    distance = from_detail(records, "distance")
    reason = uncovered(distance)
    there = records[distance.notna()].assign(distance=distance)
    counts = there["group"].value_counts()
    countries = sorted(counts.index[counts >= min_questions])
    there = there[there["group"].isin(countries)]
    if not reason and len(countries) < 2:
        reason = f"fewer than two countries with {min_questions} answered questions"
    found = {"gini": Metric(math.nan, reason=reason, n=len(there)) if reason else _gini(there, countries)}
    found["gini"] = counted(found["gini"], records["outcome"])
    found["n_countries"] = Metric(math.nan if reason else float(len(countries)), n=len(there), reason=reason)
    questions = records.assign(outside=from_detail(records, "mass_outside"), row=from_detail(records, "row"))
    questions = questions.drop_duplicates("row")
    n_asked = 0 if reason else len(questions)
    found["n_questions"] = Metric(float(n_asked) if n_asked else math.nan, n=n_asked, reason=reason)
    found["mass_outside"] = cluster_mean(
        questions["outside"], questions["cluster"], unit="probability", outcomes=questions["outcome"]
    )
    for country in countries if not reason else ():
        part = there["distance"][there["group"] == country]
        found[f"median_distance/{country}"] = Metric(float(part.median()), n=len(part))
    return found


@dataclass(frozen=True)
class _Country:
    """Distances of one country in ascending order, and the cluster of each."""

    distances: Floats
    clusters: NDArray[np.intp]

    def medians(self, weights: Floats) -> Floats:
        """Median when each cluster counts as often as its weight says, (draws,); the middle two are averaged."""
        mass = weights[:, self.clusters].cumsum(1)
        half = mass[:, -1:] / 2
        low = np.minimum((mass < half).sum(1), len(self.distances) - 1)
        high = np.minimum((mass <= half).sum(1), len(self.distances) - 1)
        found: Floats = (self.distances[low] + self.distances[high]) / 2
        found[half[:, 0] == 0] = math.nan
        return found


def _gini(there: pd.DataFrame, countries: Sequence[str]) -> Metric:
    clusters, cluster = np.unique(there["cluster"].to_numpy(dtype=str), return_inverse=True)
    _, row = np.unique(from_detail(there, "row").to_numpy(), return_inverse=True)
    distances = there["distance"].to_numpy(dtype=float)
    members = [np.flatnonzero((there["group"] == country).to_numpy()) for country in countries]

    def by_country(values: Floats) -> list[_Country]:
        ordered = [m[np.argsort(values[m], kind="stable")] for m in members]
        return [_Country(values[m], cluster[m]) for m in ordered]

    tables = by_country(distances)
    rng = np.random.default_rng(0)
    nulls = []
    for _ in range(N_NULL):
        shuffled = _shuffled_within(distances, row, rng)
        nulls.append(float(gini(np.array([np.median(shuffled[m]) for m in members]))))

    def medians(weights: Floats) -> Floats:
        return np.column_stack([table.medians(weights) for table in tables])

    found = resampled(medians, gini, Sample(clusters.tolist(), np.bincount(cluster)), np.array(nulls), unit="")
    return replace(found, n=len(there))


def _shuffled_within(values: Floats, row: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """The distances of each question dealt anew among the countries that were asked it."""
    order = np.argsort(row, kind="stable")
    mixed = np.lexsort((rng.random(len(row)), row))
    found = np.empty_like(values)
    found[order] = values[mixed]
    return found
