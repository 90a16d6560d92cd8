"""Which items of a benchmark a cell asks: all, some categories, evenly spaced ones, or a sample of clusters."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

from biaslab.benchmarks.base import Item
from biaslab.errors import ConfigError


def choose(
    items: Sequence[Item],
    *,
    limit: int | None = None,
    categories: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
) -> list[Item]:
    """The items asked, in the benchmark's order.

    categories : keep these alone; none: all. limit : at most so many, evenly spaced over what is kept, so
    that every part is there. sample : about so many, by drawing whole clusters from each stratum, see
    `draw_clusters`. Raises ConfigError if no item is in `categories`.
    """
    kept = [item for item in items if item.category in categories] if categories else list(items)
    if not kept:
        there = ", ".join(sorted({item.category for item in items}))
        raise ConfigError(f"categories=[{','.join(categories)}]: no such item; there are {there}")
    if sample is not None:
        drawn = draw_clusters(kept, sample, seed)
        return [item for item in kept if item.cluster in drawn]
    if limit is None or limit >= len(kept):
        return kept
    return [kept[i * len(kept) // limit] for i in range(limit)]


def draw_clusters(items: Sequence[Item], n: int, seed: int) -> set[str]:
    """Whole clusters with about `n` items together, in proportion from every stratum, at least one in all.

    A cluster's stratum is the category of most of its items. Within one, clusters stand in an order that
    hashes of seed and name give, each at the share of the stratum that is drawn when half of it is. All
    clusters are taken in the order of these shares, as long as that brings the number of items nearer to
    `n`: every beginning of this order is stratified, and a larger sample contains a smaller one.
    """
    sizes = Counter(item.cluster for item in items)
    strata: dict[str, list[str]] = {}
    for cluster, category in _main_category(items).items():
        strata.setdefault(category, []).append(cluster)
    places: list[tuple[float, bytes, str]] = []
    for clusters in strata.values():
        total, before = sum(sizes[c] for c in clusters), 0
        for cluster in sorted(clusters, key=lambda c: _rank(seed, c)):
            places.append(((before + sizes[cluster] / 2) / total, _rank(seed, cluster), cluster))
            before += sizes[cluster]
    drawn: set[str] = set()
    taken = 0
    for _, _, cluster in sorted(places):
        if drawn and abs(taken + sizes[cluster] - n) > abs(taken - n):
            break
        drawn.add(cluster)
        taken += sizes[cluster]
    return drawn


def _main_category(items: Iterable[Item]) -> dict[str, str]:
    counts: dict[str, Counter[str]] = {}
    for item in items:
        counts.setdefault(item.cluster, Counter())[item.category] += 1
    return {cluster: min(c, key=lambda name: (-c[name], name)) for cluster, c in counts.items()}


def _rank(seed: int, cluster: str) -> bytes:
    return hashlib.sha256(f"{seed}/{cluster}".encode()).digest()
