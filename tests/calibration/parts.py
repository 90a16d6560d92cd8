"""The parts of a report beside its verdict, on simulated studies: aggregates, log-odds, simple effects, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from analysis.aggregates import _omnibus, _shifts, pseudo_values
from analysis.clusters import Clusters
from analysis.contrasts import BASELINE
from analysis.effects import simple_effects
from analysis.omnibus import refusal_omnibus
from analysis.scales import logit_interaction, scale_differences
from analysis.settings import Settings
from analysis.unanswered import refusal_shifts
from biaslab.benchmarks.ranges import TIE
from tests.calibration.designs import Design, Floats
from tests.calibration.measure import ALPHA, FLIPS

SETTINGS = Settings(alpha=ALPHA, n_resamples=FLIPS)
OPTIONS: dict[str, Any] = {"alpha": ALPHA, "n_resamples": FLIPS}
#: Effects on log-odds, of models and of accelerators; the second accelerator has none.
MODEL_LOGITS, ACCEL_LOGITS = (0.0, 0.4, -0.3), (0.0, 0.0, 0.5, -0.4, 0.8)
#: Shares refused: of models, and what accelerators add; the second adds nothing.
MODEL_REFUSALS, ACCEL_REFUSALS = (0.04, 0.08, 0.12), (0.0, 0.0, 0.05, 0.1, -0.02)
N_GROUPS = 4
SIMPLE = ("accel within a model", "model within an accel", "any accel effect (Holm)", "any model effect (Holm)")
CLASSIC = ("ANOVA on items", "ANOVA on cluster means")


def of_aggregates(design: Design, seed: int) -> dict[str, float]:
    """Max - min over groups' means that are far apart, by pseudo-values; accelerators move all groups alike."""
    return _of_range(design, seed, apart=1.0)


def of_ties(design: Design, seed: int) -> dict[str, float]:
    """The same where the groups do not differ, so that noise chooses the extreme ones and no p should be given."""
    return _of_range(design, seed, apart=0.0)


def _of_range(design: Design, seed: int, *, apart: float) -> dict[str, float]:
    rng = np.random.default_rng((20261129, seed))
    clusters, arms = design.clusters, design.arms
    group = np.arange(clusters.n_items) % N_GROUPS
    scores = design.draw(rng) + apart * group[:, None]
    counts = _by_group(np.ones_like(scores), group, clusters)
    totals = _by_group(scores, group, clusters)
    whole = np.ptp(totals.sum(axis=0) / counts.sum(axis=0), axis=0)
    without = (totals.sum(axis=0) - totals) / (counts.sum(axis=0) - counts)  # (n_clusters, N_GROUPS, n_arms)
    left_out = np.ptp(without, axis=1)
    sizes = clusters.sizes.astype(float)
    pseudo = np.column_stack([pseudo_values(w, x, sizes) for w, x in zip(whole, left_out.T, strict=True)])
    doubts = {arm: TIE for arm, tied in zip(arms, ties(totals, counts), strict=True) if tied}
    values = dict(zip(arms, map(float, whole), strict=True))
    shifts = _shifts("range", pseudo[clusters.codes], values, arms, clusters, SETTINGS, doubts)
    adjusted = [s.estimate.p_adjusted for s in shifts if np.isfinite(s.estimate.p_adjusted)]
    test = _omnibus(pseudo[clusters.codes], arms, clusters, SETTINGS, doubts)
    return {
        "coverage of shifts": float(np.mean([s.estimate.ci_low <= 0 <= s.estimate.ci_high for s in shifts])),
        "coverage of differences": float(np.mean([s.difference.ci_low <= 0 <= s.difference.ci_high for s in shifts])),
        "any false shift": min(adjusted) <= ALPHA if adjusted else np.nan,
        "interaction": np.nan if np.isnan(test.p) else test.p <= ALPHA,
        "p withheld": float(np.mean([np.isnan(s.estimate.p) for s in shifts])),
    }


def ties(totals: Floats, counts: Floats) -> NDArray[np.bool_]:
    """(n_arms,) what GroupTotals.ties says of each arm, of all at once."""
    all_but = [(x.sum(axis=0) - x) for x in (totals, counts)]
    means = np.concatenate(
        [totals.sum(axis=0, keepdims=True) / counts.sum(axis=0, keepdims=True), all_but[0] / all_but[1]]
    )
    changes = [np.ptp(pick(means, axis=1), axis=0) > 0 for pick in (np.argmax, np.argmin)]
    return np.asarray(changes[0] | changes[1])


def _by_group(values: Floats, group: NDArray[np.intp], clusters: Clusters) -> Floats:
    """(n_clusters, N_GROUPS, n_arms) sums of each cluster's items of each group."""
    return np.stack([clusters.sums(np.where(group[:, None] == k, values, 0.0)) for k in range(N_GROUPS)], axis=1)


def of_logits(design: Design, seed: int) -> dict[str, float]:
    """Yes-or-no answers whose rates are additive in log-odds, and so not in probabilities."""
    rng = np.random.default_rng((20261130, seed))
    base = float(np.log(design.rate / (1 - design.rate)))
    rates = expit(base + np.add.outer(_levels(MODEL_LOGITS, design.n_models), _levels(ACCEL_LOGITS, design.n_accels)))
    answers = _answers(design, rates, rng)
    p, _ = logit_interaction(answers, design.arms, design.clusters, seed=0, **OPTIONS)
    differences = scale_differences(answers, design.arms, design.clusters, alpha=ALPHA)
    known = [d.logit for d in differences if np.isfinite(d.logit.ci_low)]
    return {
        "interaction on log-odds": float("nan") if np.isnan(p) else p <= ALPHA,
        "coverage of log odds ratios": float(np.mean([e.ci_low <= 0 <= e.ci_high for e in known])) if known else np.nan,
    }


def of_simple_effects(design: Design, seed: int) -> dict[str, float]:
    """No accelerator does anything to any model, and no model differs."""
    scores = design.draw(np.random.default_rng((20261131, seed)))
    if design.law != "binary":
        added = design.accel_effects + np.linspace(0, 0.5, design.n_models)[:, None]
        scores = scores - added.reshape(-1)
    rows = simple_effects(scores, design.arms, design.clusters, seed=0, **OPTIONS)
    by: Mapping[str, list[Any]] = {e: [r for r in rows if r.effect == e] for e in ("accel", "model")}
    return {
        "accel within a model": float(np.mean([r.p <= ALPHA for r in by["accel"]])),
        "model within an accel": float(np.mean([r.p <= ALPHA for r in by["model"]])),
        "any accel effect (Holm)": min(r.p_holm for r in by["accel"]) <= ALPHA,
        "any model effect (Holm)": min(r.p_holm for r in by["model"]) <= ALPHA,
        "ANOVA on items": float(np.mean([r.p_gg <= ALPHA for r in by["accel"]])),
        "ANOVA on cluster means": float(np.mean([r.p_gg_clusters <= ALPHA for r in by["accel"]])),
    }


def of_refusals(design: Design, seed: int) -> dict[str, float]:
    """An accelerator adds as much to the share that is refused in every model."""
    rng = np.random.default_rng((20261132, seed))
    added = _levels(ACCEL_REFUSALS, design.n_accels)
    refused = _answers(design, np.add.outer(_levels(MODEL_REFUSALS, design.n_models), added), rng)
    table = pd.DataFrame(refused, columns=pd.MultiIndex.from_tuples(design.arms))
    frame: Any = SimpleNamespace(refused=table, unanswered=table * 0, clusters=design.clusters)
    judged = [arm for arm in design.arms if arm[1] != BASELINE]
    truth = dict(zip([a for _, a in design.arms[: design.n_accels]], added, strict=True))
    shifts = refusal_shifts(frame, judged, SETTINGS)
    return {
        "interaction of refusals": refusal_omnibus(frame, design.arms, SETTINGS).p <= ALPHA,
        "coverage of refusal shifts": float(
            np.mean([s.estimate.ci_low <= truth[s.accel] <= s.estimate.ci_high for s in shifts])
        ),
        "level of the refusal shift": float(np.mean([s.estimate.p <= ALPHA for s in shifts if truth[s.accel] == 0])),
    }


def _levels(values: tuple[float, ...], n: int) -> Floats:
    return np.resize(np.asarray(values, dtype=float), n)


def _answers(design: Design, rates: Floats, rng: np.random.Generator) -> Floats:
    """(n_items, n_arms) answers of 0 and 1, of exactly these rates over all items (n_models, n_accels).

    A normal variable behind each answer has what the item, the item under its model, and the cluster's share of the
    cell's noise (icc) have in common.
    """
    n, shape = design.clusters.n_items, (design.n_models, design.n_accels)
    shared = rng.normal(size=(design.clusters.n_clusters, *shape))[design.clusters.codes]
    noise = np.sqrt(design.icc) * shared + np.sqrt(1 - design.icc) * rng.normal(size=(n, *shape))
    item = rng.normal(size=(n, 1, 1)) + 0.5 * rng.normal(size=(n, shape[0], 1))
    return np.asarray((item + noise < 1.5 * ndtri(rates)).reshape(n, -1), dtype=np.float64)  # variance 1 + 1/4 + 1
