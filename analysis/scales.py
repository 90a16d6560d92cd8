"""Is an interaction there on every scale? On probabilities and on logits, and whether any monotone scale removes it.

A truth that is additive in logits is an interaction in probabilities, and the other way round (Loftus 1978;
Jaeger 2008, doi:10.1016/j.jml.2007.11.007). So a yes-or-no score is tested on both. An order that turns round (a
crossover) is an interaction on every monotone scale (Loftus 1978); where none is shown, some scale may remove it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.aggregates import pseudo_values
from analysis.clusters import Clusters, Floats
from analysis.contrasts import (
    BASELINE,
    ArmKey,
    apply_contrasts,
    difference_weights,
    interaction_basis,
)
from analysis.estimates import cluster_mean, missing
from analysis.resampling import family_p, interaction_test
from analysis.study import Estimate
from analysis.words import p_text, signed

MOST_PAIRS = 200  # of cells compared for a crossover; beyond it only accelerator against baseline


@dataclass(frozen=True)
class ScaleDifference:
    """A difference-in-differences on both scales: of rates, and of their log-odds (cluster jackknife)."""

    model: str
    accel: str
    probability: Estimate
    logit: Estimate


@dataclass(frozen=True)
class Crossing:
    """Two shown effects of opposite sign: `first` minus `second` is above 0 in `above` and below 0 in `below`.

    factor : what first and second are levels of, "accel" or "model"; above and below are levels of the other.
    """

    factor: str
    first: str
    second: str
    above: str
    value_above: float
    p_above: float
    below: str
    value_below: float
    p_below: float


@dataclass(frozen=True)
class Scales:
    """word : "robust" (on both scales, in one direction), "crossover" (no monotone scale removes it), "removable"
    (on one scale only, or on both in opposite directions), "may be removable" (an interaction of a score that has
    one scale, with no crossover shown), "none shown", or "not tested" with a reason.

    p_probability : on the score as it is; p_logit : on log-odds, NaN where the score is no yes-or-no answer.
    """

    word: str
    sentence: str
    p_probability: float
    p_logit: float
    n_items: int
    crossings: list[Crossing] = field(default_factory=list)
    differences: list[ScaleDifference] = field(default_factory=list)
    reason: str = ""


def scales(
    scores: Floats,
    answers: Floats | None,
    grid: Sequence[ArmKey],
    clusters: Clusters,
    *,
    p: float,
    alpha: float,
    n_resamples: int,
    seed: int,
) -> Scales:
    """Both scales of one benchmark.

    scores : (n_items, n_arms), no NaN, columns as in `grid`. answers : shares of "yes" in [0, 1] behind them,
    None for a score that is no yes-or-no answer. p : of the interaction on the scores as they are.
    """
    if not math.isfinite(p) or not len(scores):
        return Scales("not tested", "Not tested on two scales.", p, math.nan, len(scores), reason="no interaction test")
    options = {"n_resamples": n_resamples, "seed": seed}
    crossings = find_crossings(scores, grid, clusters, alpha=alpha, **options)
    if answers is None:
        word = "crossover" if crossings else "may be removable" if p <= alpha else "none shown"
        return Scales(word, _sentence(word, p, math.nan, crossings), p, math.nan, len(scores), crossings)
    p_logit, reason = logit_interaction(answers, grid, clusters, alpha=alpha, **options)
    differences = scale_differences(answers, grid, clusters, alpha=alpha)
    shown = [x <= alpha for x in (p, p_logit)]
    if crossings:
        word = "crossover"
    elif reason:
        word = "not tested"
    elif all(shown):
        word = "robust" if _same_direction(differences) else "removable"
    else:
        word = "removable" if any(shown) else "none shown"
    sentence = _sentence(word, p, p_logit, crossings)
    return Scales(word, sentence, p, p_logit, len(scores), crossings, differences, reason)


def yes_or_no(scores: Floats, positive: Floats) -> bool:
    """Whether every score is a yes-or-no answer less a constant of its item.

    positive : share of an item's repeats with a score above 0. Then positive - score is that constant, the same in
    every cell, and strictly below 1.
    """
    constant = positive - scores
    there = ~np.isnan(constant)
    if not there.any():
        return False
    low = np.where(there, constant, math.inf).min(axis=1)
    high = np.where(there, constant, -math.inf).max(axis=1)
    some = there.any(axis=1)
    return bool((high[some] - low[some] < 1e-9).all() and (low[some] > -1e-9).all() and (high[some] < 1).all())


def logit_interaction(
    answers: Floats, grid: Sequence[ArmKey], clusters: Clusters, *, alpha: float, n_resamples: int, seed: int
) -> tuple[float, str]:
    """Sign-flip p of no interaction of the cells' rates on log-odds, or NaN and why there is none.

    answers : (n_items, n_arms) in [0, 1]. The additive model logit p_ma = model_m + accel_a is fitted to the rates
    (generalized estimating equations with independent working covariance, Liang & Zeger 1986). Each cluster's
    effective scores of the interaction, (answer - fitted rate) / (fitted variance) along the contrasts, are then
    flipped as a whole (Hemerik, Goeman & Finos 2020, doi:10.1111/rssb.12369).
    """
    rates = additive_rates(answers.mean(axis=0), grid)
    if rates is None:
        return math.nan, "a model or an accelerator has rates of exactly 0 or 1, which have no log-odds"
    residual = (answers - rates) / (rates * (1 - rates))
    test = interaction_test(
        apply_contrasts(residual, interaction_basis(grid)), apply_contrasts(residual, difference_weights(grid)[1]),
        clusters, alpha=alpha, n_resamples=n_resamples, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return test.p, ""


def additive_rates(rates: Floats, grid: Sequence[ArmKey]) -> Floats | None:
    """(n_arms,) rates of the model that is additive in log-odds, fitted to `rates`; None if it has no finite fit."""
    models, accels = (list(dict.fromkeys(arm[i] for arm in grid)) for i in (0, 1))
    x = np.array([[float(arm[0] == m) for m in models] + [float(arm[1] == a) for a in accels[1:]] for arm in grid])
    beta = np.zeros(x.shape[1])
    for _ in range(100):  # Newton; few steps are needed, and a fit without an end runs off
        eta = np.clip(x @ beta, -40, 40)
        fitted: Floats = 1 / (1 + np.exp(-eta))
        variance = fitted * (1 - fitted)
        step = np.linalg.lstsq(x.T @ (variance[:, None] * x), x.T @ (rates - fitted), rcond=1e-14)[0]
        beta = beta + step
        if np.abs(beta).max() > 25:
            return None
        if np.abs(step).max() < 1e-12:
            return fitted
    return None


def scale_differences(
    answers: Floats, grid: Sequence[ArmKey], clusters: Clusters, *, alpha: float
) -> list[ScaleDifference]:
    """Every difference-in-differences on both scales; the logit's by the delete-cluster jackknife."""
    names, weights = difference_weights(grid)
    n = len(answers)
    total, sums = answers.sum(axis=0), clusters.sums(answers)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = _logit(total / n) @ weights
        left_out = _logit((total - sums) / (n - clusters.sizes)[:, None]) @ weights
    out = []
    for j, arm in enumerate(names):
        plain = cluster_mean(apply_contrasts(answers, weights[:, [j]])[:, 0], clusters, alpha=alpha)
        column = left_out[:, j]
        if not math.isfinite(odds[j]) or not np.isfinite(column).all():
            logit = missing("a rate of exactly 0 or 1, at least without one cluster, has no log-odds")
        else:
            pseudo = pseudo_values(float(odds[j]), column, clusters.sizes.astype(float))
            logit = cluster_mean(pseudo[clusters.codes], clusters, alpha=alpha)
        out.append(ScaleDifference(*arm, plain, logit))
    return out


def find_crossings(
    scores: Floats, grid: Sequence[ArmKey], clusters: Clusters, *, alpha: float, n_resamples: int, seed: int
) -> list[Crossing]:
    """Pairs of opposed effects, each shown by its own p, adjusted over all compared pairs of cells (max |t|).

    Compared are accels within each model and models within each accel; with more than MOST_PAIRS of them only the
    accelerators with the baseline. Strongest first.
    """
    places = _pairs(grid)
    if not places:
        return []
    weights = np.zeros((len(grid), len(places)))
    column = {arm: j for j, arm in enumerate(grid)}
    for k, (_, _, one, other) in enumerate(places):
        weights[column[one], k], weights[column[other], k] = 1.0, -1.0
    values = apply_contrasts(scores, weights)
    p = family_p(values, clusters, n_resamples=n_resamples, rng=np.random.default_rng(seed))
    shown: dict[tuple[str, str, str], list[tuple[float, float, str]]] = {}
    for (factor, level, one, other), mean, q in zip(places, values.mean(axis=0), p, strict=True):
        if q <= alpha:
            position = 1 if factor == "accel" else 0
            key = (factor, one[position], other[position])
            shown.setdefault(key, []).append((float(mean), float(q), level))
    out = []
    for key, effects in shown.items():
        above, below = max(effects), min(effects)
        if above[0] > 0 > below[0]:
            out.append(Crossing(*key, above[2], above[0], above[1], below[2], below[0], below[1]))
    return sorted(out, key=lambda c: -min(c.value_above, -c.value_below))


def _pairs(grid: Sequence[ArmKey]) -> list[tuple[str, str, ArmKey, ArmKey]]:
    """(factor, level of the other factor, cell, cell) of every pair of cells that differ in one factor."""
    out = []
    for one, other in itertools.combinations(grid, 2):
        if one[0] == other[0]:
            a, b = (other, one) if one[1] == BASELINE else (one, other)
            out.append(("accel", one[0], a, b))
        elif one[1] == other[1]:
            out.append(("model", one[1], one, other))
    if len(out) > MOST_PAIRS:
        out = [pair for pair in out if pair[0] == "accel" and pair[3][1] == BASELINE]
    return out if len(out) <= 10 * MOST_PAIRS else []


def _same_direction(differences: Sequence[ScaleDifference]) -> bool:
    """Whether the largest difference has one sign on both scales."""
    known = [d for d in differences if math.isfinite(d.logit.value)]
    if not known:
        return False
    top = max(known, key=lambda d: abs(d.probability.value))
    return top.probability.value * top.logit.value > 0


def _logit(rates: Floats) -> Floats:
    out: Floats = np.log(rates) - np.log1p(-rates)
    return out


def _sentence(word: str, p: float, p_logit: float, crossings: Sequence[Crossing]) -> str:
    both = f"on probabilities {p_text(p)}, on log-odds {p_text(p_logit)}"
    if word == "crossover":
        c = crossings[0]
        return (
            f"A crossover: {c.first} minus {c.second} is {signed(c.value_above)} for {c.above} and "
            f"{signed(c.value_below)} for {c.below}, both shown; no monotone change of scale removes it."
        )
    texts = {
        "robust": f"Robust: the interaction is there on both scales ({both}).",
        "removable": f"Removable: the interaction depends on the scale ({both}).",
        "may be removable": "No crossover is shown, so a monotone change of scale may remove the interaction.",
        "none shown": f"No interaction is shown on either scale ({both})."
        if math.isfinite(p_logit)
        else "No interaction and no crossover is shown.",
    }
    return texts.get(word, "Not tested on log-odds.")
