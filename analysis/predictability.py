"""Could a shift have been known without measuring? How much of it is the accelerator's, how much the model's.

The shift of model m under accel a is S_ma = c_a + s_ma: what the accel does to models like these, and what it
does to this one alone. Over accels, the mean square of S is C + V, with C the mean of c_a squared and V the
mean variance of s_ma between models. V / (C + V) is the share that no other model can foretell. Sampling noise
of the items inflates both; its cluster-robust variance is subtracted from each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.clusters import Clusters, Floats
from analysis.contrasts import ArmKey
from analysis.words import plural

ALONE = "no accelerator was measured on two models"
MOST_GROUPS = 40  # of clusters that the jackknife leaves out one by one


@dataclass(frozen=True)
class Prediction:
    """What a model not yet measured would do under one accel: interval of coverage 1 - alpha about the mean.

    between_sd : standard deviation of the measured shifts between models, noise included. inside : the interval
    lies within the margin, None without one.
    """

    accel: str
    n_models: int
    mean: float
    low: float
    high: float
    between_sd: float
    inside: bool | None = None


@dataclass(frozen=True)
class Predictability:
    """How far shifts are shared by models. NaN where it cannot be given; `reason` says why.

    mean_square : of the true shifts, noise subtracted (unit squared); mean_square_low : lower end of its interval.
    share : model-specific share of it, noise subtracted on both sides, not clipped to 0 ... 1; share_naive :
        the same without subtracting, too large by construction.
    r2 : leave-one-model-out: 1 - mean squared error of predicting each shift by the other models' mean, over
        the mean square of the shifts (so 0 is as good as predicting no change), for the true shifts; r2_naive :
        for the measured ones.
    low and high : delete-group jackknife interval, t with n_groups - 1 df.
    verdict : "predictable", "not predictable", "undecided" or "nothing to predict"; set against a threshold.
    """

    n_models: int
    n_accels: int
    n_clusters: int
    n_groups: int
    mean_square: float
    mean_square_low: float
    share: float
    share_low: float
    share_high: float
    share_naive: float
    r2: float
    r2_low: float
    r2_high: float
    r2_naive: float
    predictions: list[Prediction]
    verdict: str = "undecided"
    reason: str = ""


def predictability(
    shifts: Floats, arms: Sequence[ArmKey], clusters: Clusters, *, alpha: float = 0.05, threshold: float = 0.5
) -> Predictability:
    """How much of the shifts is model-specific, and what a new model would do.

    shifts : (n_items, n_arms) item shifts; NaN is left out, column by column. arms : (model, accel) of each
        column; accels of one model alone are left out.
    threshold : share of the mean square that must be common (or model-specific) for a verdict, in (0, 1).

    The share's interval treats the measured models as all there are; only `predictions` speak of new models, as
    if these were drawn at random from the same kind.
    """
    parts = _by_accel(arms)
    models = {arms[j][0] for columns in parts.values() for j in columns}
    if not parts:
        return unknown(ALONE)
    some = np.asarray(~np.isnan(shifts).all(axis=1))
    shifts, clusters = shifts[some], clusters.take(some)
    groups = _Groups.of(shifts, clusters, parts)
    if groups.n < 3:
        return unknown(f"{plural(clusters.n_clusters, 'cluster')}: too few for an interval")
    full = groups.figures(None)
    left_out = np.array([groups.figures(j) for j in range(groups.n)])
    mean_square, share, r2 = (_jackknife(full[i], left_out[:, i], alpha) for i in (0, 1, 2))
    found = Predictability(
        n_models=len(models), n_accels=len(parts), n_clusters=clusters.n_clusters, n_groups=groups.n,
        mean_square=full[0], mean_square_low=mean_square[0],
        share=full[1], share_low=share[0], share_high=share[1], share_naive=full[3],
        r2=full[2], r2_low=r2[0], r2_high=r2[1], r2_naive=full[4],
        predictions=[groups.prediction(accel, alpha) for accel in parts],
    )  # fmt: skip
    return _judged(found, threshold)


def unknown(reason: str) -> Predictability:
    """Where nothing can be said."""
    nan = math.nan
    return Predictability(0, 0, 0, 0, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, [], "undecided", reason)


def with_margins(found: Predictability, margin: float) -> Predictability:
    """Predictions judged against an equivalence margin."""
    judged = [replace(p, inside=p.low > -margin and p.high < margin) for p in found.predictions]
    return replace(found, predictions=judged)


def _judged(found: Predictability, threshold: float) -> Predictability:
    if math.isnan(found.mean_square_low):  # some group of clusters holds all the answers of an arm
        return replace(found, reason="an arm is answered in too few clusters for an interval")
    if not found.mean_square_low > 0:  # then the share is a ratio over what may be 0, and its interval fails
        nan = math.nan
        blank = replace(found, share=nan, share_low=nan, share_high=nan, r2=nan, r2_low=nan, r2_high=nan)
        return replace(blank, verdict="nothing to predict", reason="the shifts are not shown to exceed their noise")
    if found.share_high < threshold:
        return replace(found, verdict="predictable")
    return replace(found, verdict="not predictable") if found.share_low > threshold else found


def _by_accel(arms: Sequence[ArmKey]) -> dict[str, list[int]]:
    columns: dict[str, list[int]] = {}
    for j, (_, accel) in enumerate(arms):
        columns.setdefault(accel, []).append(j)
    return {accel: js for accel, js in columns.items() if len(js) > 1}


@dataclass(frozen=True)
class _Groups:
    """Cross-products of cluster sums (P), of sums and counts (Q) and of counts (R), by jackknife group.

    All are additive over clusters, so that leaving a group out is a subtraction: the covariance of the means
    over the rest is (P - Q S' - S Q' + R S S') / (n n') x G / (G - 1).
    """

    sums: Floats  # (groups, k)
    counts: Floats
    sizes: Floats  # clusters in each group
    products: dict[str, tuple[Floats, Floats, Floats]]  # accel -> each (groups, M, M)
    columns: dict[str, list[int]]

    @property
    def n(self) -> int:
        return len(self.sizes)

    @classmethod
    def of(cls, shifts: Floats, clusters: Clusters, columns: dict[str, list[int]]) -> _Groups:
        there = ~np.isnan(shifts)
        sums, counts = clusters.sums(np.where(there, shifts, 0.0)), clusters.sums(there.astype(float))
        n = min(MOST_GROUPS, clusters.n_clusters)
        # Large clusters are spread over the groups, so that no group holds most of the items.
        group = np.empty(clusters.n_clusters, dtype=np.intp)
        group[np.argsort(-clusters.sizes, kind="stable")] = np.arange(clusters.n_clusters) % max(n, 1)
        parts = Clusters(group)
        products = {
            accel: tuple(
                np.array([a[group == j][:, js].T @ b[group == j][:, js] for j in range(n)])
                for a, b in ((sums, sums), (sums, counts), (counts, counts))
            )
            for accel, js in columns.items()
        }
        sizes = np.bincount(group, minlength=n).astype(float)
        return cls(parts.sums(sums), parts.sums(counts), sizes, products, columns)  # type: ignore[arg-type]

    def moments(self, accel: str, out: int | None) -> tuple[Floats, Floats]:
        """Mean shifts (M,) under one accel, and their cluster-robust covariance, without group `out`."""
        js = self.columns[accel]

        def total(by_group: Floats) -> Floats:
            kept: Floats = by_group.sum(axis=0) - (0.0 if out is None else by_group[out])
            return kept

        n, g = total(self.counts)[js], float(total(self.sizes))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total(self.sums)[js] / n
            p, q, r = (total(x) for x in self.products[accel])
            cross = q * mean  # sum_g s_gi c_gj S_j
            covariance = (p - cross - cross.T + r * np.outer(mean, mean)) / np.outer(n, n) * g / (g - 1)
        return mean, covariance

    def figures(self, out: int | None) -> list[float]:
        """Mean square, share and R2 with the noise taken off, then share and R2 as they are measured."""
        rows = [_squares(*self.moments(accel, out)) for accel in self.columns]
        total, specific, error, raw_total, raw_specific, raw_error = np.mean(rows, axis=0)
        return [
            float(total), _ratio(specific, total), 1 - _ratio(error, total),
            _ratio(raw_specific, raw_total), 1 - _ratio(raw_error, raw_total),
        ]  # fmt: skip

    def prediction(self, accel: str, alpha: float) -> Prediction:
        from scipy.stats import t as student

        mean, covariance = self.moments(accel, None)
        m, between = len(mean), float(mean.var(ddof=1))
        error = math.sqrt(between * (1 + 1 / m) + max(0.0, float(covariance.mean())))
        half, middle = float(student.ppf(1 - alpha / 2, m - 1)) * error, float(mean.mean())
        return Prediction(accel, m, middle, middle - half, middle + half, math.sqrt(between))


def _squares(mean: Floats, covariance: Floats) -> tuple[float, ...]:
    """Of one accel: mean square, variance between models, leave-one-out error; corrected, then raw."""
    m = len(mean)
    total, specific = float(mean @ mean) / m, float(mean.var(ddof=1))
    noise = float(np.trace(covariance)) / m
    noise_specific = (float(np.trace(covariance)) - m * float(covariance.mean())) / (m - 1)
    error = m / (m - 1)  # the mean of the others is off by m / (m - 1) times the deviation from the mean of all
    return (
        total - noise, specific - noise_specific, error * (specific - noise_specific),
        total, specific, error * specific,
    )  # fmt: skip


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else math.nan


def _jackknife(value: float, left_out: Floats, alpha: float) -> tuple[float, float]:
    """Interval about `value` from its values without each group (Tukey 1958), t with one df less than groups."""
    from scipy.stats import t as student

    n = len(left_out)
    se = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    half = float(student.ppf(1 - alpha / 2, n - 1)) * se
    return value - half, value + half
