"""The one place where items are partitioned into clusters: errors, intervals and flips cannot disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """A partition of items.

    codes : (n_items,) int, 0 ... n_clusters - 1, every one of them present.
    """

    codes: NDArray[np.intp]

    @property
    def n_items(self) -> int:
        """How many items."""
        return len(self.codes)

    @cached_property
    def n_clusters(self) -> int:
        """How many clusters."""
        return int(self.codes.max()) + 1 if len(self.codes) else 0

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        """(n_clusters,) items in each cluster."""
        return np.bincount(self.codes, minlength=self.n_clusters)

    @property
    def singletons(self) -> bool:
        """Whether every item is a cluster of its own, as if there were no clusters."""
        return self.n_clusters == self.n_items

    def sums(self, values: Floats) -> Floats:
        """Sum of `values` (n_items, ...) within each cluster: (n_clusters, ...)."""
        if not self.n_items:
            return np.zeros((0, *values.shape[1:]))
        order, starts = self._runs
        out: Floats = np.add.reduceat(values[order], starts, axis=0)
        return out

    @cached_property
    def _runs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The items in order of their clusters, and where each cluster begins."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        return np.argsort(self.codes, kind="stable"), starts

    def means(self, values: Floats) -> Floats:
        """Mean of `values` within each cluster, shaped as `sums`."""
        sizes = self.sizes.astype(float)
        out: Floats = self.sums(values) / (sizes if values.ndim == 1 else sizes[:, None])
        return out

    def take(self, keep: NDArray[np.bool_]) -> Clusters:
        """The partition of the items where `keep` (n_items,) is True; clusters left empty disappear."""
        return Clusters(np.unique(self.codes[keep], return_inverse=True)[1].astype(np.intp))


def partition(labels: Sequence[Any]) -> Clusters:
    """Clusters from one label per item, numbered in the sorted order of the labels.

    Raises ValueError for a missing label (None, NaN or empty text): an item of unknown origin would quietly
    become a cluster of its own or join all others of unknown origin, and both are wrong.

    >>> partition(["b", "a", "b"]).codes.tolist()
    [1, 0, 1]
    """
    for position, label in enumerate(labels):
        if label is None or label == "" or label != label:
            raise ValueError(f"item {position} has no cluster: give every item the template it was made from")
    texts = np.asarray([str(label) for label in labels], dtype=object)
    if not len(texts):
        return Clusters(np.zeros(0, dtype=np.intp))
    return Clusters(np.unique(texts, return_inverse=True)[1].astype(np.intp))
