"""Cluster sign flips: the omnibus test of the interaction, and max-|t| adjustment of a family.

Null: each cluster's contrasts are jointly symmetric about 0. Flipping the signs of whole clusters then leaves
their distribution as it is, whatever the items of a cluster have in common and however much arms differ in
variance. The flips that were drawn give p = (1 + b) / (1 + B), never 0 (Phipson & Smyth 2010,
doi:10.2202/1544-6115.1585); when few clusters make it cheap, all patterns are enumerated and p is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.clusters import Clusters, Floats
from analysis.study import Omnibus

EXACT_UP_TO = 2**14  # sign patterns; flipping all clusters at once changes no statistic, so 2**(G - 1)
TIES = 1e-10  # two statistics closer than this are equal: the order of a sum must not decide
BATCH_CELLS = 2**22  # signs held at once


@dataclass(frozen=True)
class Family:
    """Sums of a family of contrasts by cluster, each contrast over the items where it is there.

    sums, counts : (n_clusters, k): sum of the contrast, and number of its items, in each cluster.
    """

    sums: Floats
    counts: Floats

    @classmethod
    def of(cls, values: Floats, clusters: Clusters) -> Family:
        """From item values (n_items, k); NaN means that the item has no such contrast."""
        there = ~np.isnan(values)
        return cls(clusters.sums(np.where(there, values, 0.0)), clusters.sums(there.astype(float)))

    def abs_t(self, signs: Floats) -> Floats:
        """|cluster-robust t| of every contrast (b, k) under each row of `signs` (b, n_clusters).

        A contrast with no variance between clusters has |t| 0 if it is 0 and infinity otherwise.
        """
        total = signs @ self.sums
        alone = self.counts.max(initial=0) <= 1  # then the two products are the same
        crossed = total if alone else signs @ (self.counts * self.sums)
        n, squares = self.counts.sum(axis=0), (self.sums**2).sum(axis=0)
        g = (self.counts > 0).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / n
            residual = squares - 2 * mean * crossed + mean**2 * (self.counts**2).sum(axis=0)
            residual = np.where(residual <= 1e-12 * squares, 0.0, residual)
            t = np.abs(total) / np.sqrt(residual * g / (g - 1))
        moved = np.abs(total) > TIES * np.sqrt(squares)
        t = np.where(residual == 0, np.where(moved, math.inf, 0.0), t)
        return np.where(g > 1, t, 0.0)


def family_p(
    values: Floats,
    clusters: Clusters,
    *,
    n_resamples: int = 9999,
    rng: np.random.Generator,
    batch: int | None = None,
) -> Floats:
    """Max-|t| adjusted p (Westfall & Young 1993, single step) of each mean of `values` (n_items, k).

    values : NaN where an item has no such contrast. A column with fewer than 2 clusters gets NaN.
    Returns (k,), in (0, 1]. The result does not depend on `batch`.
    """
    if values.shape[1] == 0:
        return np.zeros(0)
    family = Family.of(values, clusters)
    testable = (family.counts > 0).sum(axis=0) > 1
    flips = Flips(clusters.n_clusters, n_resamples=n_resamples, rng=rng)
    observed = family.abs_t(np.ones((1, clusters.n_clusters)))[0]
    largest = np.concatenate([family.abs_t(signs).max(axis=1) for signs in flips.batches(batch)])
    p = (largest[:, None] >= observed * (1 - TIES)).mean(axis=0)
    out: Floats = np.where(testable, p, math.nan)
    return out


def interaction_test(
    contrasts: Floats,
    differences: Floats,
    clusters: Clusters,
    *,
    alpha: float = 0.05,
    n_resamples: int = 9999,
    rng: np.random.Generator,
    batch: int | None = None,
) -> Omnibus:
    """Combined cluster sign-flip test that every interaction contrast is 0.

    contrasts : (n_items, k) orthonormal interaction contrasts of each item, no NaN.
    differences : (n_items, j) difference-in-differences of the same items.
    clusters : of the items.

    Three statistics come from the same flips: the sum of squares of the mean contrasts; its Hotelling-type
    form T' (S'S)^-1 T over the cluster sums S, taken when clusters > 2 x contrasts (S'S is the same under
    every flip, and this form is a monotone function of Hotelling's T2); the largest |cluster-robust t| of the
    difference-in-differences. Each becomes its own p within the flips; the smallest is referred to the flips'
    smallest (min-p), so that the level of the combination is exact under the null.
    """
    if np.isnan(contrasts).any() or np.isnan(differences).any():
        raise ValueError("contrasts with NaN: keep the items that are complete in every tested cell")
    g, k = clusters.n_clusters, contrasts.shape[1]
    if k == 0 or g == 0:
        why = "no interaction contrast" if g else "no item is complete in every tested cell"
        return untestable(why, clusters)
    if not contrasts.any():
        reason = "every interaction contrast is exactly 0"
        return Omnibus(1.0, 1.0, math.nan, 1.0, g, clusters.n_items, k, 0, True, reason)
    flips = Flips(g, n_resamples=n_resamples, rng=rng)
    statistics = _statistics(contrasts, differences, clusters, flips, batch)
    ranks = np.column_stack([_p_within(column) for column in statistics.T])
    smallest = ranks.min(axis=1)
    p = float((smallest <= smallest[0] * (1 + TIES)).mean())
    parts = [float(x) for x in ranks[0]]
    hotelling = parts[2] if len(parts) > 2 else math.nan
    counts = (g, clusters.n_items, k, flips.n - 1)
    return Omnibus(p, parts[0], hotelling, parts[1], *counts, flips.exact, too_few(g, alpha))


def too_few(n_clusters: int, alpha: float) -> str:
    """Why no sign-flip test at level alpha exists with so few clusters, "" if one does."""
    smallest = 2.0 ** (1 - n_clusters)
    if smallest <= alpha:
        return ""
    return (
        f"{n_clusters} cluster{'s' * (n_clusters != 1)}: no sign-flip test at {alpha:.0%} exists "
        f"(the smallest possible p is {smallest:.3g}); it takes {1 + math.ceil(-math.log2(alpha))} clusters"
    )


def untestable(reason: str, clusters: Clusters | None = None) -> Omnibus:
    """The omnibus where nothing can be tested."""
    g, n = (clusters.n_clusters, clusters.n_items) if clusters else (0, 0)
    return Omnibus(math.nan, math.nan, math.nan, math.nan, g, n, 0, 0, False, reason)


class Flips:
    """Sign patterns over clusters, the observed one (no flip) first.

    exact : all 2 ** (n_clusters - 1) patterns are enumerated (the first cluster keeps its sign).
    n : patterns, the observed one included.
    """

    def __init__(self, n_clusters: int, *, n_resamples: int, rng: np.random.Generator) -> None:
        if n_resamples < 1:
            raise ValueError(f"n_resamples={n_resamples}: at least 1")
        self.n_clusters = n_clusters
        self.exact = n_clusters <= 1 + math.log2(EXACT_UP_TO)
        self.n = 2 ** max(n_clusters - 1, 0) if self.exact else n_resamples + 1
        self._rng = rng

    def batches(self, batch: int | None = None) -> Iterator[Floats]:
        """Rows of signs, at most `batch` at a time, shaped (b, n_clusters); the same rows for any batch."""
        size = batch or max(1, BATCH_CELLS // max(self.n_clusters, 1))
        for start in range(0, self.n, size):
            yield self._rows(start, min(start + size, self.n))

    def _rows(self, start: int, stop: int) -> Floats:
        if self.exact:
            bits = np.arange(start, stop)[:, None] >> np.arange(self.n_clusters - 1) & 1
            return np.hstack([np.ones((stop - start, 1)), 1.0 - 2.0 * bits])
        # One whole 64-bit draw for 64 clusters of one row, so that rows do not depend on the batch.
        words = self._rng.integers(0, 2**64, size=(stop - start, -(-self.n_clusters // 64)), dtype=np.uint64)
        drawn = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=self.n_clusters)
        signs: Floats = 1.0 - 2.0 * drawn.astype(np.float64)
        if start == 0:
            signs[0] = 1.0
        return signs


def _statistics(contrasts: Floats, differences: Floats, clusters: Clusters, flips: Flips, batch: int | None) -> Floats:
    """(patterns, 2 or 3): sum of squares, max |t|, and the Hotelling-type form where it is taken."""
    sums = clusters.sums(contrasts)
    family = Family.of(differences, clusters)
    left, size, _ = np.linalg.svd(sums, full_matrices=False)
    left = left[:, size > 1e-10 * size[0]]  # T'(S'S)^+T = |signs' left|^2
    rows = []
    for signs in flips.batches(batch):
        parts = [((signs @ sums) ** 2).sum(axis=1), family.abs_t(signs).max(axis=1, initial=0.0)]
        if clusters.n_clusters > 2 * contrasts.shape[1]:
            parts.append(((signs @ left) ** 2).sum(axis=1))
        rows.append(np.column_stack(parts))
    return np.vstack(rows)


def _p_within(statistic: Floats) -> Floats:
    """The p of every pattern if it were the observed one: share of patterns at least as extreme."""
    ordered = np.sort(statistic)
    below = np.searchsorted(ordered, statistic * (1 - TIES), side="left")
    p: Floats = (len(statistic) - below) / len(statistic)
    return p
