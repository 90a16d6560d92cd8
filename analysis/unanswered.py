"""What missing answers do to a study: how many there are, whether they are a shift of their own, how far they reach.

Item fixed effects (fixed_effects.py) let a refusal depend on the item. Nothing repairs a refusal that depends on
the answer it hides; so the shift is also computed with the missing answers at both ends of the scale, and the
report says whether that changes the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.clusters import Floats
from analysis.contrasts import BASELINE, ArmKey
from analysis.estimates import cluster_mean
from analysis.fixed_effects import FixedEffects, fixed_effects
from analysis.flips import mcnemar
from analysis.frame import Frame
from analysis.resampling import family_p
from analysis.settings import Settings
from analysis.study import Estimate
from analysis.verdict import cell_verdict


@dataclass(frozen=True)
class AdjustedShift:
    """A cell's shift three ways where answers are missing.

    fixed : with item fixed effects over every answer of the model in the tested cells. paired : over the items
    answered in this cell and its baseline (the shift that the report judges). listwise : over the items answered
    in every tested cell.
    """

    model: str
    accel: str
    fixed: Estimate
    paired: Estimate
    listwise: Estimate


@dataclass(frozen=True)
class Bound:
    """A cell's shift if every missing answer lay at an end of the scale.

    low, high : missing answers of the cell at the scale's low (high) end and those of its baseline at the other;
        no shift of these items can lie outside, given the scale. n_missing : items lacking either answer.
    scale_low, scale_high : the ends: for rates the possible ones, for open scales the extremes seen.
    verdict_low, verdict_high : the verdicts there; changes : either differs from the one in the report.
    """

    model: str
    accel: str
    n_missing: int
    scale_low: float
    scale_high: float
    low: Estimate
    high: Estimate
    verdict: str
    verdict_low: str
    verdict_high: str
    changes: bool


@dataclass(frozen=True)
class RefusalShift:
    """Missing answers as an outcome: share of items refused (or without any answer) minus the baseline's.

    kind : "refused" or "no answer" (refused, unparsed or too long). up, down : items that lost (gained) their
    answer in most repeats; p_mcnemar : exact, items taken as independent.
    """

    model: str
    accel: str
    kind: str
    baseline_rate: float
    rate: float
    estimate: Estimate
    up: int
    down: int
    p_mcnemar: float


def adjusted_shifts(frame: Frame, grid: Sequence[ArmKey], *, alpha: float) -> list[AdjustedShift]:
    """Shifts with item fixed effects, paired and listwise; empty where nothing is missing or nothing fits."""
    scores = frame.matrix(grid)
    complete = ~np.isnan(scores).any(axis=1)
    if not len(grid) or complete.all():
        return []
    fit = fixed_effects(scores, grid)
    if not isinstance(fit, FixedEffects):
        return []
    used = frame.clusters.take(fit.used)
    judged = [arm for arm in grid if arm[1] != BASELINE]
    weights = np.zeros((len(grid), len(judged)))
    for k, arm in enumerate(judged):
        weights[grid.index(arm), k], weights[grid.index((arm[0], BASELINE)), k] = 1.0, -1.0
    out = []
    for arm, values in zip(judged, fit.contrasts(weights).T, strict=True):
        shift = frame.shift(*arm)
        fixed = cluster_mean(values, used, alpha=alpha)
        paired = cluster_mean(shift, frame.clusters, alpha=alpha)
        listwise = cluster_mean(np.where(complete, shift, math.nan), frame.clusters, alpha=alpha)
        out.append(AdjustedShift(*arm, fixed, paired, listwise))
    return out


def scale_ends(scores: Floats, score_kind: str) -> tuple[float, float]:
    """The ends of the scale: extremes seen, for rates widened to the length 1 that a yes-or-no score has.

    A rate's score is 1 or 0 minus a constant: with both seen these are the ends; with one of them seen it is not
    known which, so both neighbours count.
    """
    low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
    return (min(low, high - 1), max(high, low + 1)) if score_kind == "rate" else (low, high)


def bounds(
    frame: Frame,
    arms: Sequence[ArmKey],
    settings: Settings,
    *,
    margins: Mapping[str, float],
    verdicts: Mapping[ArmKey, str],
) -> list[Bound]:
    """The bounds of every arm that lacks an answer; empty where none does.

    verdicts : those of the report, arm by arm.
    """
    gone = {arm: np.isnan(frame.score(*arm)) | np.isnan(frame.score(arm[0], BASELINE)) for arm in arms}
    every = [*dict.fromkeys([*arms, *((m, BASELINE) for m, _ in arms)])]
    if not any(g.any() for g in gone.values()) or np.isnan(frame.matrix(every)).all():
        return []
    ends = scale_ends(frame.matrix(every), str(frame.meta["score_kind"]))
    filled = [[_filled(frame, arm, *pair) for arm in arms] for pair in (ends, ends[::-1])]
    estimates = [_family(frame, columns, settings, reach=frame.reach) for columns in filled]
    out = []
    for i, arm in enumerate(arms):
        if not gone[arm].any():
            continue
        low, high = estimates[0][i], estimates[1][i]
        word_low, word_high = (_word(e, margins[arm[0]], frame, settings) for e in (low, high))
        own = "unchanged" if verdicts[arm] == "exactly unchanged" else verdicts[arm]
        turns = own == "changed" and low.value * high.value < 0
        changed = {word_low, word_high} != {own} or turns
        out.append(Bound(*arm, int(gone[arm].sum()), *ends, low, high, own, word_low, word_high, changed))
    return out


def refusal_shifts(frame: Frame, arms: Sequence[ArmKey], settings: Settings) -> list[RefusalShift]:
    """The test of missing answers as an outcome; a kind that occurs nowhere is left out."""
    out: list[RefusalShift] = []
    for kind, table in (("refused", frame.refused), ("no answer", frame.unanswered)):
        columns = {arm: table[arm].to_numpy(dtype=float) for arm in [*arms, *((m, BASELINE) for m, _ in arms)]}
        if not any((np.nan_to_num(c) > 0).any() for c in columns.values()):
            continue
        values = [columns[arm] - columns[arm[0], BASELINE] for arm in arms]
        for arm, estimate in zip(arms, _family(frame, values, settings, reach=1.0), strict=True):
            before, after = columns[arm[0], BASELINE], columns[arm]
            both = ~np.isnan(before) & ~np.isnan(after)
            lost, gained = (
                int((both & x).sum()) for x in ((before <= 0.5) & (after > 0.5), (before > 0.5) & (after <= 0.5))
            )
            rate_before, rate_after = (float(c[both].mean()) if both.any() else math.nan for c in (before, after))
            out.append(RefusalShift(*arm, kind, rate_before, rate_after, estimate, lost, gained, mcnemar(lost, gained)))
    return out


def _filled(frame: Frame, arm: ArmKey, own: float, base: float) -> Floats:
    """Item shifts with missing answers of the arm at `own` and those of its baseline at `base`."""
    after, before = frame.score(*arm), frame.score(arm[0], BASELINE)
    out: Floats = np.where(np.isnan(after), own, after) - np.where(np.isnan(before), base, before)
    return out


def _family(frame: Frame, values: Sequence[Floats], settings: Settings, *, reach: float) -> list[Estimate]:
    estimates = [cluster_mean(v, frame.clusters, alpha=settings.alpha, reach=reach) for v in values]
    rng = np.random.default_rng(settings.seed)
    p = family_p(np.column_stack(values), frame.clusters, n_resamples=settings.n_resamples, rng=rng)
    return [replace(e, p_adjusted=float(q)) for e, q in zip(estimates, p, strict=True)]


def _word(estimate: Estimate, margin: float, frame: Frame, settings: Settings) -> str:
    unit, direction = str(frame.meta["score_unit"]), frame.meta.get("direction")
    found = cell_verdict(
        estimate, margin, part="tested", unit=unit, direction=direction, alpha=settings.alpha, power=settings.power
    )
    return found.verdict
