"""Published aggregates that are no means of items (max - min, Gini, ratios), through the same tests.

A cell stores such an aggregate with its value when each cluster is left out. The delete-cluster jackknife turns
these into one pseudo-value a cluster, G x value - (G - 1) x value without the cluster, whose mean is the aggregate
(less its bias of order 1 / G) and whose spread is its error (Tukey 1958; Efron & Stein 1981). Clusters are then
units like any other: intervals, shifts, the ANOVA and the sign flip run on them. Influence values of single items
do not do: with items that share clusters they reject a true null in 19 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

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
from analysis.resampling import family_p, interaction_test
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


def pseudo_values(value: float, left_out: Floats) -> Floats:
    """(n_clusters,) jackknife pseudo-values of an aggregate from its values without each cluster.

    >>> pseudo_values(2.0, np.array([2.5, 2.0, 1.5])).tolist()   # the mean of 1, 2, 3
    [1.0, 2.0, 3.0]
    """
    g = len(left_out)
    out: Floats = g * value - (g - 1) * np.asarray(left_out, dtype=float)
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
    columns = {arm: np.mean([_pseudo(m, clusters) for m in stored[arm]], axis=0) for arm in there}
    values = {arm: float(np.mean([number(m.get("value")) for m in stored[arm]])) for arm in there}
    gone = [arm for arm in there if not np.isfinite(columns[arm]).all()]
    there = [arm for arm in there if arm not in gone and (arm[0], BASELINE) not in gone]
    cautions = [f"{a} of {m}: not to be had without some cluster, so left out" for m, a in gone]
    cautions += _reasons({arm: stored[arm] for arm in there})
    units = Clusters(np.arange(len(clusters)))
    pseudo = np.column_stack([columns[arm] for arm in there]) if there else np.zeros((len(clusters), 0))
    first = next(iter(stored.values()))[0]
    return Aggregate(
        name, str(first.get("unit") or ""), len(clusters), _shifts(name, pseudo, values, there, units, settings),
        _anova(pseudo, there, settings.alpha), _omnibus(pseudo, there, units, settings), cautions,
    )  # fmt: skip


def _shifts(
    name: str,
    pseudo: Floats,
    values: Mapping[ArmKey, float],
    arms: Sequence[ArmKey],
    units: Clusters,
    settings: Settings,
) -> list[AggregateShift]:
    judged = [arm for arm in arms if arm[1] != BASELINE]
    if not judged:
        return []
    column = {arm: pseudo[:, j] for j, arm in enumerate(arms)}
    moved = np.column_stack([column[arm] - column[arm[0], BASELINE] for arm in judged])
    p = family_p(moved, units, n_resamples=settings.n_resamples, rng=np.random.default_rng(settings.seed))
    out = []
    for arm, values_of, adjusted in zip(judged, moved.T, p, strict=True):
        others = [moved[:, k] for k, other in enumerate(judged) if other[1] == arm[1] and other[0] != arm[0]]
        against = values_of - np.mean(others, axis=0) if others else np.full(len(values_of), math.nan)
        estimate = replace(cluster_mean(values_of, units, alpha=settings.alpha), p_adjusted=float(adjusted))
        difference = cluster_mean(against, units, alpha=settings.alpha)
        out.append(AggregateShift(name, *arm, values[arm] - values[arm[0], BASELINE], estimate, difference))
    return out


def _anova(pseudo: Floats, arms: Sequence[ArmKey], alpha: float) -> Anova:
    grid = largest_grid(arms)
    if not grid:
        return Anova("pseudo-values", 0, reason="no full grid of cells")
    columns = [list(arms).index(arm) for arm in grid]
    return rm_anova(pseudo[:, columns], grid, unit="pseudo-values", alpha=alpha)


def _omnibus(pseudo: Floats, arms: Sequence[ArmKey], units: Clusters, settings: Settings) -> Omnibus:
    return interaction_test(
        apply_contrasts(pseudo, interaction_basis(arms)), apply_contrasts(pseudo, difference_weights(arms)[1]), units,
        alpha=settings.alpha, n_resamples=settings.n_resamples, rng=np.random.default_rng(settings.seed),
    )  # fmt: skip


def _metrics(content: Mapping[str, Any]) -> Mapping[str, Any]:
    metrics = content.get("metrics")
    return metrics if isinstance(metrics, Mapping) else {}


def _left_out(metric: Any) -> Mapping[str, Any]:
    if not isinstance(metric, Mapping):
        return {}
    found: Any = next((metric[name] for name in LEFT_OUT if metric.get(name)), {})
    return found if isinstance(found, Mapping) else {}


def _pseudo(metric: Mapping[str, Any], clusters: Sequence[str]) -> Floats:
    """Pseudo-values over `clusters`; leaving out a cluster that this cell has no answer of changes nothing."""
    value, left_out = number(metric.get("value")), _left_out(metric)
    return pseudo_values(value, np.array([number(left_out[c]) if c in left_out else value for c in clusters]))


def _reasons(stored: Mapping[ArmKey, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What the cells themselves say of the aggregate, such as that two groups tie for an extreme."""
    by_reason: dict[str, list[str]] = {}
    for (model, accel), metrics in stored.items():
        for reason in {str(m.get("reason") or "") for m in metrics} - {""}:
            by_reason.setdefault(reason, []).append(f"{accel} of {model}")
    return [f"{', '.join(arms)}: {reason}" for reason, arms in by_reason.items()]
