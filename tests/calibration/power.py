"""Power as it is promised and as it turns out, and studies of predictability with a known truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.clusters import partition
from analysis.estimates import cluster_mean
from analysis.power import Components, power_of
from tests.calibration.designs import Design
from tests.calibration.measure import ALPHA

FORESIGHT = [
    Design("3 models, 1,000 items, half of the variance of shifts is model-specific", (1,) * 1000, n_models=3),
    Design("8 models, 1,000 items, likewise", (1,) * 1000, n_models=8),
    Design("the same, clusters of 10, ICC .3", (10,) * 100, 0.3, n_models=8),
]  # fmt: skip
#: (clusters, items a cluster, between, within, effect)
CURVE = [
    (g, m, between, 1 - between, effect)
    for g, m, between in ((10, 10, 0.3), (30, 10, 0.3), (300, 1, 0.0))
    for effect in (0.1, 0.2, 0.3)
]


@dataclass(frozen=True)
class Point:
    """One design: power promised by `analysis.power`, and share of simulated studies that found the effect."""

    clusters: int
    items: int
    icc: float
    effect: float
    promised: float
    found: float
    se: float


def simulated(design: tuple[int, int, float, float, float], studies: int) -> Point:
    """The point of one design, its variance components known."""
    g, m, between, within, effect = design
    known = Components(between, within, math.nan, between, g, m, 1)
    promised = power_of(effect, se=known.se(g, m), df=g - 1, alpha=ALPHA)
    clusters = partition([f"{c:04d}" for c in np.repeat(np.arange(g), m)])
    rng = np.random.default_rng((20261126, g, m, round(100 * effect)))
    hits = 0
    for _ in range(studies):
        shared = rng.normal(0, math.sqrt(between), g)[clusters.codes]
        shift = effect + shared + rng.normal(0, math.sqrt(within), g * m)
        hits += cluster_mean(shift, clusters).p <= ALPHA
    share = hits / studies
    return Point(g, m, between, effect, promised, share, math.sqrt(share * (1 - share) / studies))


def table(points: Sequence[Point]) -> str:
    """A Markdown table, a line a design."""
    lines = ["| clusters | items each | ICC | effect | promised % | found % |", "|---|---|---|---|---|---|"]
    for p in points:
        found = f"{100 * p.found:.1f}"
        found = f"**{found}**" if abs(p.found - p.promised) > 3 * p.se else found
        lines.append(f"| {p.clusters} | {p.items} | {p.icc:g} | {p.effect:g} | {100 * p.promised:.1f} | {found} |")
    return "\n".join(lines)
