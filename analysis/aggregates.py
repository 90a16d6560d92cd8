"""Published aggregates that are no means of items (max - min, Gini, ratios), through the same tests.

A cell stores such an aggregate with its value when each cluster is left out. The delete-cluster jackknife turns
these into one pseudo-value a cluster, h x value - (h - 1) x value without the cluster, h = items / items of the
cluster. Weighted by the clusters' sizes their mean is the aggregate (less its bias of order 1 / G) and their spread
its error (Tukey 1958; Efron & Stein 1981; for clusters of unequal size Busing, Meijer & van der Leeden 1999,
doi:10.1023/A:1008800423698: with G in the place of h a large cluster counts far too much, and a true null is
rejected in 27 %). Each stands for the items of its cluster: intervals, shifts and the sign flip run on them as on
scores. Influence values of single items do not do: with items that share clusters they reject a true null in 19 %.

What a cell says against an aggregate of its own, such as that two groups tie for the extreme, costs it its p: the
jackknife rejects a true null of tied groups in most studies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.anova import rm_anova
from analysis.clusters import Clusters, Floats
from analysis.contrasts import (
    BASELINE,
    ArmKey,
    apply_contrasts,
    difference_weights,
    interaction_basis,
    largest_grid,
)
from analysis.estimates import cluster_mean
from analysis.frame import Frame
from analysis.load import number
from analysis.resampling import family_p, interaction_test, untestable
from analysis.settings import Settings
from analysis.study import Anova, Estimate, Omnibus

#: Names under which a metric of cell.json holds its values without each cluster.
LEFT_OUT = ("leave_one_out", "loo")


@dataclass(frozen=True)
class AggregateShift:
    """Shift of a published aggregate from its model's baseline.

    value : difference of the stored values. estimate : mean of the pseudo-values' differences, which is `value`
    with the jackknife's correction of bias, with its interval and its p adjusted over the metric's arms.
    difference : minus the mean of the other models under the same accel; without a p adjusted.
    Neither has a p, and both a reason, where a cell doubts the aggregate.
    """

    metric: str
    model: str
    accel: str
    value: float
    estimate: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Aggregate:
    """One published aggregate of a benchmark over its cells. cautions : why its figures may not be trusted."""

    metric: str
    unit: str
    n_clusters: int
    shifts: list[AggregateShift]
    anova: Anova
    omnibus: Omnibus
    cautions: list[str] = field(default_factory=list)


def pseudo_values(value: float, left_out: Floats, sizes: Floats | None = None) -> Floats:
    """(n_clusters,) jackknife pseudo-values of an aggregate from its values without each cluster.

    sizes : items of each cluster, in any unit; None: all alike. Of the mean of items, a cluster's pseudo-value is
    the mean of its own.

    >>> pseudo_values(2.0, np.array([2.5, 2.0, 1.5])).tolist()   # the mean of 1, 2, 3
    [1.0, 2.0, 3.0]
    >>> pseudo_values(2.0, np.array([1.0, 3.0]), np.array([1.0, 1.0])).tolist()
    [3.0, 1.0]
    """
    h = float(len(left_out)) if sizes is None else sizes.sum() / sizes
    out: Floats = h * value - (h - 1) * np.asarray(left_out, dtype=float)
    return out


def aggregates(frame: Frame, tested: Sequence[ArmKey], settings: Settings) -> list[Aggregate]:
    """Every aggregate that comes with leave-one-cluster-out values in some arm, over the tested arms."""
    arms = [*dict.fromkeys([(m, BASELINE) for m, _ in tested]), *tested]
    names: dict[str, None] = {}
    for arm in arms:
        for cell in frame.cells.get(arm, []):
            names |= {str(k): None for k, m in _metrics(cell.content).items() if _left_out(m)}
    found = [_aggregate(name, frame, arms, settings) for name in names]
    return [a for a in found if a is not None]


def _aggregate(name: str, frame: Frame, arms: Sequence[ArmKey], settings: Settings) -> Aggregate | None:
    stored = {arm: [_metrics(c.content).get(name) or {} for c in frame.cells.get(arm, [])] for arm in arms}
    stored = {arm: ms for arm, ms in stored.items() if ms and all(_left_out(m) for m in ms)}
    stored = {arm: ms for arm, ms in stored.items() if all(math.isfinite(number(m.get("value"))) for m in ms)}
    there = [arm for arm in stored if (arm[0], BASELINE) in stored]
    if not any(a != BASELINE for _, a in there):
        return None
    clusters = sorted({c for arm in there for m in stored[arm] for c in _left_out(m)})
    sizes = _sizes(frame, clusters)
    columns = {arm: np.mean([_pseudo(m, clusters, sizes) for m in stored[arm]], axis=0) for arm in there}
    values = {arm: float(np.mean([number(m.get("value")) for m in stored[arm]])) for arm in there}
    gone = [arm for arm in there if not np.isfinite(columns[arm]).all()]
    there = [arm for arm in there if arm not in gone and (arm[0], BASELINE) not in gone]
    cautions = [f"{a} of {m}: not to be had without some cluster, so left out" for m, a in gone]
    doubts = {arm: words for arm in there if (words := _reasons(stored[arm]))}
    cautions += _by_reason(doubts)
    pseudo = np.column_stack([columns[arm] for arm in there]) if there else np.zeros((len(clusters), 0))
    units = Clusters(np.repeat(np.arange(len(clusters)), sizes))
    of_items = pseudo[units.codes]
    first = next(iter(stored.values()))[0]
    return Aggregate(
        name, str(first.get("unit") or ""), len(clusters),
        _shifts(name, of_items, values, there, units, settings, doubts), _anova(pseudo, there, settings.alpha, doubts),
        _omnibus(of_items, there, units, settings, doubts), cautions,
    )  # fmt: skip


def _shifts(
    name: str,
    pseudo: Floats,
    values: Mapping[ArmKey, float],
    arms: Sequence[ArmKey],
    units: Clusters,
    settings: Settings,
    doubts: Mapping[ArmKey, str],
) -> list[AggregateShift]:
    """One a judged arm. pseudo : (n_items, n_arms), those of an item's cluster."""
    judged = [arm for arm in arms if arm[1] != BASELINE]
    column = {arm: pseudo[:, j] for j, arm in enumerate(arms)}
    moved = {arm: column[arm] - column[arm[0], BASELINE] for arm in judged}
    doubt = {arm: doubts.get(arm) or doubts.get((arm[0], BASELINE)) or "" for arm in judged}
    p = _adjusted({arm: values_of for arm, values_of in moved.items() if not doubt[arm]}, units, settings)
    out = []
    for arm, values_of in moved.items():
        same = [other for other in judged if other[1] == arm[1]]
        others = [moved[other] for other in same if other[0] != arm[0]]
        against = values_of - np.mean(others, axis=0) if others else np.full(len(values_of), math.nan)
        estimate = cluster_mean(values_of, units, alpha=settings.alpha)
        difference = cluster_mean(against, units, alpha=settings.alpha)
        if doubt[arm]:
            estimate = replace(estimate, p=math.nan, reason=doubt[arm])
        else:
            estimate = replace(estimate, p_adjusted=p[arm])
        if others and (words := next((doubt[other] for other in same if doubt[other]), "")):
            difference = replace(difference, p=math.nan, reason=words)
        out.append(AggregateShift(name, *arm, values[arm] - values[arm[0], BASELINE], estimate, difference))
    return out


def _adjusted(moved: Mapping[ArmKey, Floats], units: Clusters, settings: Settings) -> dict[ArmKey, float]:
    if not moved:
        return {}
    rng = np.random.default_rng(settings.seed)
    p = family_p(np.column_stack(list(moved.values())), units, n_resamples=settings.n_resamples, rng=rng)
    return dict(zip(moved, map(float, p), strict=True))


def _anova(pseudo: Floats, arms: Sequence[ArmKey], alpha: float, doubts: Mapping[ArmKey, str]) -> Anova:
    """On one pseudo-value a cluster, whatever its size, as an ANOVA on cluster means."""
    grid = largest_grid(arms)
    if not grid:
        return Anova("pseudo-values", 0, reason="no full grid of cells")
    if doubts:
        return Anova("pseudo-values", 0, reason=_first(doubts))
    columns = [list(arms).index(arm) for arm in grid]
    return rm_anova(pseudo[:, columns], grid, unit="pseudo-values", alpha=alpha)


def _omnibus(
    pseudo: Floats, arms: Sequence[ArmKey], units: Clusters, settings: Settings, doubts: Mapping[ArmKey, str]
) -> Omnibus:
    if doubts:
        return untestable(_first(doubts))
    return interaction_test(
        apply_contrasts(pseudo, interaction_basis(arms)), apply_contrasts(pseudo, difference_weights(arms)[1]), units,
        alpha=settings.alpha, n_resamples=settings.n_resamples, rng=np.random.default_rng(settings.seed),
    )  # fmt: skip


def _first(doubts: Mapping[ArmKey, str]) -> str:
    (model, accel), words = next(iter(doubts.items()))
    return f"{accel} of {model}: {words}"


def _sizes(frame: Frame, clusters: Sequence[str]) -> NDArray[np.intp]:
    """Items of each cluster; 1 for all where an aggregate was left out by something else than the items' clusters."""
    counts = frame.items["cluster"].astype(str).value_counts()
    if not set(clusters) <= set(counts.index):
        return np.ones(len(clusters), dtype=np.intp)
    sizes = counts.loc[list(clusters)].to_numpy(dtype=np.intp)
    out: NDArray[np.intp] = sizes // np.gcd.reduce(sizes)
    return out


def _metrics(content: Mapping[str, Any]) -> Mapping[str, Any]:
    metrics = content.get("metrics")
    return metrics if isinstance(metrics, Mapping) else {}


def _left_out(metric: Any) -> Mapping[str, Any]:
    if not isinstance(metric, Mapping):
        return {}
    found: Any = next((metric[name] for name in LEFT_OUT if metric.get(name)), {})
    return found if isinstance(found, Mapping) else {}


def _pseudo(metric: Mapping[str, Any], clusters: Sequence[str], sizes: NDArray[np.intp]) -> Floats:
    """Pseudo-values over `clusters`; leaving out a cluster that this cell has no answer of changes nothing."""
    value, left_out = number(metric.get("value")), _left_out(metric)
    without = np.array([number(left_out[c]) if c in left_out else value for c in clusters])
    return pseudo_values(value, without, sizes.astype(float))


def _reasons(metrics: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(dict.fromkeys(words for m in metrics if (words := str(m.get("reason") or ""))))


def _by_reason(doubts: Mapping[ArmKey, str]) -> list[str]:
    """What cells themselves say of the aggregate, such as that two groups tie for an extreme."""
    arms: dict[str, list[str]] = {}
    for (model, accel), reason in doubts.items():
        arms.setdefault(reason, []).append(f"{accel} of {model}")
    return [f"{', '.join(names)}: {reason}" for reason, names in arms.items()]
