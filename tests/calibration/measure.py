"""What the analysis does on simulated studies: its own functions with their defaults, counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.clusters import Clusters
from analysis.contrasts import apply_contrasts, difference_weights, interaction_basis
from analysis.equivalence import equivalence_of
from analysis.estimates import cluster_mean
from analysis.fixed_effects import FixedEffects, fixed_effects
from analysis.flips import mcnemar
from analysis.kernel import rm_anova2
from analysis.predictability import predictability
from analysis.resampling import family_p, interaction_test
from tests.calibration.designs import Design

Floats = NDArray[np.float64]
ALPHA = 0.05
#: Flips a study: (1 + FLIPS) x alpha is whole, so the level of the test is exact with few of them.
FLIPS = 199


@dataclass(frozen=True)
class Rate:
    """Mean over studies of a share in [0, 1], and its Monte Carlo standard error."""

    value: float
    se: float

    def off(self, nominal: float) -> bool:
        """Whether it misses its nominal value by more than 3 Monte Carlo errors."""
        return abs(self.value - nominal) > 3 * max(self.se, 1e-12)


def rates(design: Design, measure: Callable[[Design, int], Mapping[str, float]], seeds: range) -> dict[str, Rate]:
    """Every figure of `measure` over the studies with these seeds."""
    found = [measure(design, seed) for seed in seeds]
    out = {}
    for name in found[0]:
        values = np.array([f[name] for f in found])
        values = values[~np.isnan(values)]
        if len(values):
            out[name] = Rate(float(values.mean()), float(values.std()) / math.sqrt(len(values)))
    return out


def of_tests(design: Design, seed: int) -> dict[str, float]:
    """Rejections of the interaction tests in one study; with missing answers, also of the listwise test."""
    rng = np.random.default_rng((20261124, seed))
    scores, clusters, arms = design.draw(rng), design.clusters, design.arms
    basis, weights = interaction_basis(arms), difference_weights(arms)[1]
    out: dict[str, float] = {}
    complete = ~np.isnan(scores).any(axis=1)
    if complete.all():
        contrasts, differences = apply_contrasts(scores, basis), apply_contrasts(scores, weights)
        test = interaction_test(contrasts, differences, clusters, n_resamples=FLIPS, rng=rng)
    else:
        fit = fixed_effects(scores, arms)
        assert isinstance(fit, FixedEffects)
        used = clusters.take(fit.used)
        differences = fit.null_contrasts(weights)
        test = interaction_test(fit.null_contrasts(basis), differences, used, n_resamples=FLIPS, rng=rng)
        whole = apply_contrasts(scores[complete], basis), apply_contrasts(scores[complete], weights)
        listwise = interaction_test(*whole, clusters.take(complete), n_resamples=FLIPS, rng=rng)
        out["listwise"] = listwise.p <= ALPHA
        clusters = used
    parts = {"sum": test.p_sum, "Hotelling": test.p_hotelling, "largest t": test.p_max}
    out |= {"combined": test.p <= ALPHA} | {k: math.nan if p != p else p <= ALPHA for k, p in parts.items()}
    family = family_p(differences, clusters, n_resamples=FLIPS, rng=rng)
    out["any false difference"] = bool((family <= ALPHA).any())
    return out | _classic(scores[complete], design, design.clusters.take(complete))


def _classic(scores: Floats, design: Design, clusters: Clusters) -> dict[str, float]:
    def rejects(values: Floats) -> float:
        cube = values.reshape(len(values), design.n_models, design.n_accels)
        return rm_anova2(cube)[2]["p_GG_corr"] <= ALPHA if len(values) > 2 else math.nan

    out = {"ANOVA on items": rejects(scores)}
    if not clusters.singletons:
        out["ANOVA on cluster means"] = rejects(clusters.means(scores))
    return out


def of_estimates(design: Design, seed: int) -> dict[str, float]:
    """Coverage of intervals, level of the shift test, and false claims of equivalence, averaged over the cells."""
    rng = np.random.default_rng((20261125, seed))
    scores, clusters, arms = design.draw(rng), design.clusters, design.arms
    truth = dict(zip([a for _, a in arms[: design.n_accels]], design.accel_effects, strict=True))
    covered, rejected, within = [], [], []
    for j, (_, accel) in enumerate(arms):
        if accel == "none":
            continue
        shift = scores[:, j] - scores[:, j - j % design.n_accels]
        e = cluster_mean(shift, clusters)
        covered.append(e.ci_low <= truth[accel] <= e.ci_high)
        if truth[accel] == 0:
            rejected.append(e.p <= ALPHA)
        else:  # a mean exactly at the margin: equivalence would be false
            within.append(equivalence_of(e, margin=abs(truth[accel]), alpha=ALPHA).equivalent)
    differences = apply_contrasts(scores, difference_weights(arms)[1])
    of_differences = [cluster_mean(d, clusters) for d in differences.T]
    out = {
        "coverage of shifts": float(np.mean(covered)),
        "coverage of differences": float(np.mean([e.ci_low <= 0 <= e.ci_high for e in of_differences])),
        "level of the shift test": float(np.mean(rejected)),
    }
    return out | ({"false equivalence": float(np.mean(within))} if within else {})


def of_flips(design: Design, seed: int) -> dict[str, float]:
    """The tests of one direction of flips, where a flip is as likely one way as the other."""
    rng = np.random.default_rng((20261127, seed))
    clusters = design.clusters
    shared = rng.normal(size=clusters.n_clusters)[clusters.codes]
    way = math.sqrt(design.icc) * shared + math.sqrt(1 - design.icc) * rng.normal(size=clusters.n_items)
    direction = np.where(rng.random(clusters.n_items) < 0.2, np.sign(way), 0.0)
    up, down = int((direction > 0).sum()), int((direction < 0).sum())
    flipped = family_p(direction[:, None], clusters, n_resamples=FLIPS, rng=rng)
    return {
        "cluster t of the net flips": cluster_mean(direction, clusters).p <= ALPHA,
        "cluster sign flip": flipped[0] <= ALPHA,
        "exact McNemar": mcnemar(up, down) <= ALPHA,
    }


def of_predictability(design: Design, seed: int) -> dict[str, float]:
    """Share of the shifts' mean square that is model-specific: its interval, and that of a model left unmeasured."""
    rng = np.random.default_rng((20261128, seed))
    n_models, n_accels, clusters = design.n_models, 4, design.clusters
    common = rng.normal(0, 0.2, n_accels)
    own = rng.normal(0, 0.2, (n_models + 1, n_accels))
    means = common + own
    shared = rng.normal(size=(clusters.n_clusters, n_models * n_accels))[clusters.codes]
    noise = math.sqrt(design.icc) * shared + math.sqrt(1 - design.icc) * rng.normal(size=shared.shape)
    shifts = means[:n_models].reshape(-1) + noise
    arms = [(f"m{i}", f"a{j}") for i in range(n_models) for j in range(n_accels)]
    found = predictability(shifts, arms, clusters, alpha=ALPHA)
    measured = means[:n_models]
    truth = float(measured.var(axis=0, ddof=1).sum() / (measured**2).mean(axis=0).sum())
    new = [p.low <= means[n_models, j] <= p.high for j, p in enumerate(found.predictions)]
    return {
        "coverage of the share's interval": found.share_low <= truth <= found.share_high,
        "coverage of the new model's interval": float(np.mean(new)),
        "share, noise removed": found.share,
        "naive share": found.share_naive,
        "true share": truth,
    }
