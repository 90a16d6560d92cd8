"""Items whose categorical outcome changed: how many, in which direction, where, and whether they cancel.

A mean can stay where it is while many answers turn over: as many towards the stereotype as away from it. Such
flips are "masked" in every average and are counted here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.clusters import Clusters, Floats
from analysis.contrasts import BASELINE, ArmKey
from analysis.estimates import cluster_mean
from analysis.frame import Frame
from analysis.resampling import family_p
from analysis.study import Estimate

Labels = NDArray[np.object_]
DECILES = 10


@dataclass(frozen=True)
class Flips:
    """Outcome changes of one arm against its baseline.

    n : items with an answer and an outcome in both. rate : share of them whose outcome changed, NaN with none.
    up, down : changed items whose score rose (towards the stereotype) or fell; an item whose outcome changed
        at an equal score is in neither.
    clear : changed items whose baseline |score| exceeds the noise floor, None where there is no floor.
    """

    n: int
    rate: float
    up: int
    down: int
    clear: int | None


@dataclass(frozen=True)
class FlipTest:
    """Flips of one arm with their tests.

    net : share of items that flipped up minus share that flipped down, cluster-robust, p_adjusted by the largest
        |t| over the cluster sign flips of its family. p_mcnemar : exact McNemar test of up = down, which takes
        items as independent; NaN without a flip in either direction.
    cancelled : share of the items whose flips cancel, 2 min(up, down) / n.
    masked : at least half of the directed flips cancel, no net direction is shown, and the rate exceeds what a
        placebo does (any at all without one).
    """

    model: str
    accel: str
    n: int
    rate: Estimate
    up: int
    down: int
    clear: int | None
    net: Estimate
    p_mcnemar: float
    cancelled: float
    masked: bool


@dataclass(frozen=True)
class FlipBin:
    """Flip rate among the items whose baseline |score| lies in [low, high]: the profile of uncertainty.

    bin : 1 holds the items that the baseline was least sure of. Bins are deciles, fewer where scores tie.
    """

    model: str
    accel: str
    bin: int
    low: float
    high: float
    n_flipped: int
    rate: Estimate


@dataclass(frozen=True)
class FlipGroup:
    """Flips among the items of one group.

    asymmetry : (up - down) / (up + down), NaN without a directed flip. difference : net flip rate of the group
        minus that of all other items, p_adjusted over all arms and groups.
    """

    model: str
    accel: str
    group: str
    n: int
    up: int
    down: int
    asymmetry: float
    difference: Estimate


def directions(before: Labels, after: Labels, shift: Floats) -> Floats:
    """+1 for an item that flipped up, -1 down, 0 for no directed flip, NaN for an item without a pair of outcomes.

    before, after : outcomes (n_items,), "" where none is on record; shift : (n_items,) score after minus before, NaN
    without a pair.
    """
    out: Floats = np.where(np.asarray(before) != np.asarray(after), np.sign(shift), 0.0)
    out[~_paired(before, after, shift)] = math.nan
    return out


def mcnemar(up: int, down: int) -> float:
    """Exact McNemar p of up = down: two-sided binomial; NaN without a flip.

    >>> round(mcnemar(1, 5), 5)   # 2 x (1 + 6) / 64
    0.21875
    """
    if up + down == 0:
        return math.nan
    from scipy.stats import binomtest

    return float(binomtest(up, up + down, 0.5).pvalue)


def count_flips(frame: Frame, arm: ArmKey, *, floor: float = math.nan) -> Flips:
    """Outcome changes of `arm`. Refusals and other missing answers are no flips: coverage counts those.

    floor : |item shift| that means nothing (a quantile of the placebos'), NaN for none. With repeats,
        the outcome of an item is its most frequent one.
    """
    if not known(frame, arm):
        return Flips(0, math.nan, 0, 0, None)
    shift = frame.shift(*arm)
    before, after = _outcomes(frame, arm)
    paired = _paired(before, after, shift)
    changed = paired & (before != after)
    d = directions(before, after, shift)
    clear = int((changed & (np.abs(frame.score(arm[0], BASELINE)) > floor)).sum()) if floor == floor else None
    n = int(paired.sum())
    return Flips(n, float(changed.sum()) / n, int((d > 0).sum()), int((d < 0).sum()), clear)


def flip_tests(
    frame: Frame, arms: Sequence[ArmKey], *, floor: Mapping[str, float], alpha: float, n_resamples: int, seed: int
) -> list[FlipTest]:
    """Flips of every arm with their tests; the arms are one family.

    floor : the noise floor ("item", "flip_rate"), empty without a placebo.
    """
    if not arms:
        return []
    clusters = frame.clusters
    d = np.column_stack([directions(*_outcomes(frame, arm), frame.shift(*arm)) for arm in arms])
    p = family_p(d, clusters, n_resamples=n_resamples, rng=np.random.default_rng(seed))
    out = []
    for arm, column, adjusted in zip(arms, d.T, p, strict=True):
        counted = count_flips(frame, arm, floor=floor.get("item", math.nan))
        net = replace(cluster_mean(column, clusters, alpha=alpha), p_adjusted=float(adjusted))
        rate = cluster_mean(changed(frame, arm), clusters, alpha=alpha)
        cancel, directed = 2 * min(counted.up, counted.down), counted.up + counted.down
        beyond = counted.rate > floor.get("flip_rate", 0.0)
        masked = directed > 0 and 2 * cancel >= directed and beyond and not net.p_adjusted <= alpha
        share = cancel / counted.n if counted.n else math.nan
        p_exact = mcnemar(counted.up, counted.down)
        out.append(
            FlipTest(*arm, counted.n, rate, counted.up, counted.down, counted.clear, net, p_exact, share, masked)
        )
    return out


def changed(frame: Frame, arm: ArmKey) -> Floats:
    """(n_items,) 1 where the outcome changed, 0 where it did not, NaN without a pair."""
    before, after = _outcomes(frame, arm)
    out: Floats = np.where(_paired(before, after, frame.shift(*arm)), (before != after).astype(float), math.nan)
    return out


def known(frame: Frame, arm: ArmKey) -> bool:
    """Whether some item has outcomes to compare: scores of other tools may come without."""
    shift = frame.shift(*arm)
    return not np.isnan(shift).all() and bool(_paired(*_outcomes(frame, arm), shift).any())


def flip_profile(
    margin: Floats, flipped: Floats, clusters: Clusters, *, alpha: float = 0.05
) -> list[tuple[float, float, int, Estimate]]:
    """Lowest and highest margin, flips and flip rate of each decile of the baseline's margin, the least sure first.

    margin : (n_items,) |score| of the baseline. flipped : (n_items,) 1 or 0, NaN without a pair. Equal margins
    stay together, so there are fewer bins where scores tie; none with fewer than two.
    """
    there = ~np.isnan(flipped) & ~np.isnan(margin)
    if not there.any():
        return []
    edges = np.unique(np.quantile(margin[there], np.linspace(0, 1, DECILES + 1)[1:-1]))
    place = np.searchsorted(edges, margin, side="left")
    rows = []
    for k in np.unique(place[there]):
        inside = there & (place == k)
        rate = cluster_mean(np.where(inside, flipped, math.nan), clusters, alpha=alpha)
        rows.append((float(margin[inside].min()), float(margin[inside].max()), int(flipped[inside].sum()), rate))
    return rows if len(rows) > 1 else []


def profiles(frame: Frame, arms: Sequence[ArmKey], *, alpha: float) -> list[FlipBin]:
    """The flip profile of every arm."""
    out = []
    for arm in arms:
        margin = np.abs(frame.score(arm[0], BASELINE))
        rows = flip_profile(margin, changed(frame, arm), frame.clusters, alpha=alpha)
        out += [FlipBin(arm[0], arm[1], i, low, high, n, rate) for i, (low, high, n, rate) in enumerate(rows, 1)]
    return out


def flips_by_group(
    frame: Frame, arms: Sequence[ArmKey], *, most: int, alpha: float, n_resamples: int, seed: int
) -> list[FlipGroup]:
    """Flips of every arm by the items' group; empty with one group, or more than `most`.

    The test asks whether the net flip rate of a group differs from that of all other items.
    """
    labels = frame.items["group"].to_numpy()
    names = sorted(set(labels))
    if not 1 < len(names) <= most or not arms:
        return []
    rows: list[FlipGroup] = []
    null: list[Floats] = []
    for arm in arms:
        d = directions(*_outcomes(frame, arm), frame.shift(*arm))
        for name in names:
            estimate, values = group_difference(d, labels == name, frame.clusters, alpha=alpha)
            inside = d[labels == name]
            up, down = int((inside > 0).sum()), int((inside < 0).sum())
            asymmetry = (up - down) / (up + down) if up + down else math.nan
            rows.append(FlipGroup(*arm, str(name), int((~np.isnan(inside)).sum()), up, down, asymmetry, estimate))
            null.append(values)
    p = family_p(np.column_stack(null), frame.clusters, n_resamples=n_resamples, rng=np.random.default_rng(seed))
    return [
        replace(row, difference=replace(row.difference, p_adjusted=float(q))) for row, q in zip(rows, p, strict=True)
    ]


def group_difference(
    values: Floats, inside: NDArray[np.bool_], clusters: Clusters, *, alpha: float = 0.05
) -> tuple[Estimate, Floats]:
    """Mean of the items `inside` minus mean of the others, cluster-robust, and item values to flip the signs of.

    The second (n_items,) have the difference as their mean and are centred as the null has it (both parts have
    the mean of all), so that sign flips of clusters test it whether or not a cluster lies in both parts.
    """
    from analysis.estimates import missing

    there = ~np.isnan(values)
    a, b = there & inside, there & ~inside
    n, n_a, n_b = int(there.sum()), int(a.sum()), int(b.sum())
    if not n_a or not n_b:
        return missing("no answer in one of the two parts"), np.full(len(values), math.nan)
    mean_a, mean_b = float(values[a].mean()), float(values[b].mean())
    weights = np.where(a, n / n_a, np.where(b, -n / n_b, math.nan))
    own = np.where(a, values - mean_a, values - mean_b)
    estimate = cluster_mean(weights * own + (mean_a - mean_b), clusters, alpha=alpha)
    null: Floats = weights * (values - float(values[there].mean()))
    return estimate, null


def _paired(before: Labels, after: Labels, shift: Floats) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = ~np.isnan(shift) & (np.asarray(before) != "") & (np.asarray(after) != "")
    return there


def _outcomes(frame: Frame, arm: ArmKey) -> tuple[Labels, Labels]:
    before, after = (frame.outcomes[key].to_numpy() for key in ((arm[0], BASELINE), arm))
    return before, after
