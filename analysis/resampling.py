"""Cluster sign flips: the omnibus test of the interaction, and max-|t| adjustment of a family.

Null: each cluster's contrasts are jointly symmetric about 0. Flipping the signs of whole clusters then leaves
their distribution as it is, whatever the items of a cluster have in common and however much arms differ in
variance. The flips that were drawn give p = (1 + b) / (1 + B), never 0 (Phipson & Smyth 2010,
doi:10.2202/1544-6115.1585); when few clusters make it cheap, all patterns are enumerated and p is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.clusters import Clusters, Floats
from analysis.study import Omnibus

EXACT_UP_TO = 2**14  # sign patterns; flipping all clusters at once changes no statistic, so 2**(G - 1)
TIES = 1e-10  # two statistics closer than this are equal: the order of a sum must not decide
#: The signs that the 8 bits of a byte stand for: looked up, they cost a twentieth of unpacking bits and converting.
SIGNS: Floats = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)
BATCH_CELLS = 2**19  # signs held at once: 4 MB stay in the cache and are not given back to the system
BATCH_ROWS = 64  # but at least so many patterns, for the sake of the products


@dataclass(frozen=True)
class Family:
    """Sums of a family of contrasts by cluster, each contrast over the items where it is there.

    sums, counts : (n_clusters, k): sum of the contrast, and number of its items, in each cluster.
    rows : the clusters they are about, where the contrasts live in some of all clusters only; None for all.
    """

    sums: Floats
    counts: Floats
    rows: NDArray[np.intp] | None = None

    @classmethod
    def of(cls, values: Floats, clusters: Clusters, keep: NDArray[np.bool_] | None = None) -> Family:
        """From item values (n_items, k); NaN means that the item has no such contrast.

        keep : (all items,) the items that `values` is about, where it is about some of them only.
        """
        rows = None if keep is None else np.unique(clusters.codes[keep])
        clusters = clusters if keep is None else clusters.take(keep)
        there = ~np.isnan(values)
        return cls(clusters.sums(np.where(there, values, 0.0)), clusters.sums(there.astype(float)), rows)

    @property
    def testable(self) -> NDArray[np.bool_]:
        """(k,) whether a contrast has items in at least 2 clusters."""
        return np.asarray((self.counts > 0).sum(axis=0) > 1)

    def abs_t(self, signs: Floats) -> Floats:
        """|cluster-robust t| of every contrast (b, k) under each row of `signs` (b, n_clusters).

        A contrast with no variance between clusters has |t| 0 if it is 0 and infinity otherwise.
        """
        signs = signs if self.rows is None else signs[:, self.rows]
        total = signs @ self.sums
        return self.abs_t_of(total, self.crossed(signs, total))

    def crossed(self, signs: Floats, total: Floats) -> Floats:
        """Signed sums with the weight of each cluster; `total` are those without, and spare a product if they can."""
        weights, largest = self._weights
        if largest is not None:
            return total * largest
        return np.asarray(signs @ (weights * self.sums), dtype=np.float64)

    @cached_property
    def _weights(self) -> tuple[Floats, Floats | None]:
        """(n_clusters, k) n_g / (1 - n_g / n), and (k,) the same where it is one number for all clusters there."""
        weights = self.counts / self._rest
        largest = weights.max(axis=0, initial=0)
        alike = np.allclose(weights, np.where(self.counts > 0, largest, 0.0), rtol=1e-14, atol=0)
        return weights, largest if alike else None

    @cached_property
    def _rest(self) -> Floats:
        """1 - n_g / n of every cluster and contrast, as in `estimates`; 1 where a cluster is all there is."""
        share = self.counts / np.maximum(self.counts.sum(axis=0), 1.0)
        return np.asarray(np.where(share < 1, 1 - share, 1.0), dtype=np.float64)

    @cached_property
    def _squares(self) -> tuple[Floats, Floats]:
        return (self.sums**2 / self._rest).sum(axis=0), (self.counts**2 / self._rest).sum(axis=0)

    def abs_t_of(self, total: Floats, crossed: Floats) -> Floats:
        """As `abs_t`, from the signed sums of the contrasts and their `crossed`: the t of `estimates`."""
        n, g = self.counts.sum(axis=0), (self.counts > 0).sum(axis=0)
        squares, sizes = self._squares
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / n
            residual = squares - 2 * mean * crossed + mean**2 * sizes
            residual = np.where(residual <= 1e-12 * squares, 0.0, residual)
            t = np.abs(total) / np.sqrt(residual)
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
    flips = Flips(clusters.n_clusters, n_resamples=n_resamples, rng=rng)
    return blocks_p([Family.of(values, clusters)], flips, batch=batch)[0]


def blocks_p(blocks: Sequence[Family], flips: Flips, *, batch: int | None = None) -> list[Floats]:
    """Max-|t| adjusted p of every contrast of one family that comes in blocks, each over clusters of its own.

    Categories of a benchmark are such blocks: flipping all clusters in each of them would cost as many times
    more as there are categories, and give the same figures.
    """
    first = np.ones((1, flips.n_clusters))
    observed = [block.abs_t(first)[0] for block in blocks]
    largest = [
        np.max([block.abs_t(signs).max(axis=1, initial=0.0) for block in blocks], axis=0)
        for signs in flips.batches(batch)
    ]
    ordered = np.sort(np.concatenate(largest))
    out = []
    for block, t in zip(blocks, observed, strict=True):
        p = (len(ordered) - np.searchsorted(ordered, t * (1 - TIES), side="left")) / len(ordered)
        out.append(np.where(block.testable, p, math.nan))
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
    p, parts = min_p(statistics)
    hotelling = parts[2] if len(parts) > 2 else math.nan
    counts = (g, clusters.n_items, k, flips.n - 1)
    return Omnibus(p, parts[0], hotelling, parts[1], *counts, flips.exact, too_few(g, alpha))


def min_p(statistics: Floats) -> tuple[float, list[float]]:
    """Combined p of several statistics (patterns, k), the observed pattern first, and each one's own p."""
    ranks = np.column_stack([_p_within(column) for column in statistics.T])
    smallest = ranks.min(axis=1)
    return float((smallest <= smallest[0] * (1 + TIES)).mean()), [float(x) for x in ranks[0]]


def too_few(n_clusters: int, alpha: float) -> str:
    """Why no sign-flip test at level alpha exists with so few clusters, "" if one does."""
    smallest = 2.0 ** (1 - n_clusters)
    if smallest <= alpha:
        return ""
    return (
        f"{n_clusters} cluster{'s' * (n_clusters != 1)}: no sign-flip test at {100 * alpha:g}% exists "
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
        size = batch or max(BATCH_ROWS, BATCH_CELLS // max(self.n_clusters, 1))
        for start in range(0, self.n, size):
            yield self._rows(start, min(start + size, self.n))

    def _rows(self, start: int, stop: int) -> Floats:
        if self.exact:
            bits = np.arange(start, stop)[:, None] >> np.arange(self.n_clusters - 1) & 1
            return np.hstack([np.ones((stop - start, 1)), 1.0 - 2.0 * bits])
        # One whole 64-bit draw for 64 clusters of one row, so that rows do not depend on the batch.
        words = self._rng.integers(0, 2**64, size=(stop - start, -(-self.n_clusters // 64)), dtype=np.uint64)
        drawn = words.astype("<u8", copy=False).view(np.uint8)
        signs: Floats = SIGNS[drawn].reshape(stop - start, -1)[:, : self.n_clusters]
        if start == 0:
            signs[0] = 1.0
        return signs


def _statistics(contrasts: Floats, differences: Floats, clusters: Clusters, flips: Flips, batch: int | None) -> Floats:
    """(patterns, 2 or 3): sum of squares, max |t|, and the Hotelling-type form where it is taken."""
    of_contrasts, family = Family.of(contrasts, clusters), Family.of(differences, clusters)
    sums = of_contrasts.sums
    triangle = np.linalg.qr(sums, mode="r")  # its singular values and right vectors are those of `sums`
    _, size, right = np.linalg.svd(triangle, full_matrices=False)
    kept = size > 1e-10 * size[0]
    whiten = right[kept].T / size[kept]  # T'(S'S)^+T = |T' whiten|^2
    mixing = _mixing(sums, family.sums)
    rows = []
    for signs in flips.batches(batch):
        total = signs @ sums
        if mixing is None:
            t = family.abs_t(signs)
        else:
            crossed = of_contrasts.crossed(signs, total)
            t = family.abs_t_of(total @ mixing, crossed @ mixing)
        parts = [(total**2).sum(axis=1), t.max(axis=1, initial=0.0)]
        if clusters.n_clusters > 2 * contrasts.shape[1]:
            parts.append(((total @ whiten) ** 2).sum(axis=1))
        rows.append(np.column_stack(parts))
    return np.vstack(rows)


def _mixing(sums: Floats, differences: Floats) -> Floats | None:
    """The matrix (k, j) that turns contrasts into differences, None if they are no combination of them.

    Difference-in-differences lie in the interaction space, so their flips come from those of the contrasts,
    and the product of all signs with all clusters, the cost of the test, is taken once.
    """
    mixing: Floats = np.asarray(np.linalg.lstsq(sums, differences, rcond=None)[0], dtype=np.float64)
    off = np.abs(sums @ mixing - differences).max(initial=0.0)
    return mixing if off <= TIES * np.abs(differences).max(initial=0.0) else None


def _p_within(statistic: Floats) -> Floats:
    """The p of every pattern if it were the observed one: share of patterns at least as extreme."""
    ordered = np.sort(statistic)
    below = np.searchsorted(ordered, statistic * (1 - TIES), side="left")
    p: Floats = (len(statistic) - below) / len(statistic)
    return p
