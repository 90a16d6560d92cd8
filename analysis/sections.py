"""Everything about one benchmark beyond shifts, contrasts and omnibus: each part from a frame to its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.aggregates import aggregates
from analysis.assumptions import assumptions
from analysis.contrasts import BASELINE, ArmKey, largest_grid
from analysis.effects import interaction_contrasts, simple_effects
from analysis.equivalence import equivalence_of
from analysis.examples import examples
from analysis.flips import flip_tests, flips_by_group, known, profiles
from analysis.frame import Frame
from analysis.levels import Levels
from analysis.omnibus import complete_items, listwise_omnibus, refusal_omnibus
from analysis.power import detectable, power_of
from analysis.predictability import Predictability, predictability, unknown, with_margins
from analysis.scales import Scales, scales, yes_or_no
from analysis.settings import Settings
from analysis.study import Anova, Difference, Omnibus, Shift
from analysis.unanswered import Bound, RefusalShift, adjusted_shifts, bounds, refusal_shifts
from analysis.words import listing

MANY_CLUSTERS = 2_000  # beyond it the tests of this file draw LIGHT flips: the omnibus keeps all of them
LIGHT = 1_999
MOST_GROUPS = 60
MOST_CELLS = 10_000_000  # items x arms x groups whose flips are tabulated


@dataclass(frozen=True)
class Power:
    """What one mean could show: `detectable` is found with the set power, at level alpha, with this error.

    detectable_family : at alpha / k, k the means of the family: safe for the adjusted p. at_margin : chance of
    finding a shift as large as the margin. smallest_margin : the least margin within which the mean is shown to be.
    """

    kind: str  # "shift" or "difference"
    model: str
    accel: str
    se: float
    n_clusters: int
    margin: float
    detectable: float
    detectable_family: float
    at_margin: float
    smallest_margin: float


@dataclass(frozen=True)
class EquivalenceRow:
    """Two one-sided tests of one shift or difference against its margin; see equivalence.Equivalence."""

    kind: str
    model: str
    accel: str
    value: float
    margin: float
    p_lower: float
    p_upper: float
    p: float
    ci_low: float
    ci_high: float
    equivalent: bool
    smallest_margin: float


@dataclass(frozen=True)
class Variance:
    """Variance of a cell's scores between items and between repeats of one item, reported apart.

    items : between the true means of items, what repeats add taken off (not below 0). repeats : between repeats of
    one item; NaN with one. share : of the variance of an item's mean that repeats make. seed_sd : standard
    deviation of the cell's mean between seeds, NaN with one.
    """

    model: str
    accel: str
    n_repeats: int
    items: float
    repeats: float
    share: float
    n_seeds: int
    seed_sd: float


def sections(
    frame: Frame,
    levels: Levels,
    settings: Settings,
    *,
    margins: Mapping[str, float],
    floor: Mapping[str, float],
    moved: Sequence[Shift],
    contrasts: Sequence[Difference],
    test: Omnibus,
    anova: Sequence[Anova],
) -> dict[str, Any]:
    """Fields of BenchmarkResult, by name; `cautions` are to be added to the others."""
    light = settings
    if frame.clusters.n_clusters > MANY_CLUSTERS:
        light = replace(settings, n_resamples=min(settings.n_resamples, LIGHT))
    judged = [arm for arm in frame.arms if arm in {*levels.tested, *levels.beside, *levels.empty}]
    verdicts = {(s.model, s.accel): s.verdict for s in moved}
    parts = _full_grid(frame, levels, light, anova)
    parts |= _flips(frame, judged, levels.placebo, floor, light)
    parts |= {
        "predictability": _predictability(frame, levels, settings, margins),
        "power": power_rows(moved, contrasts, settings),
        "equivalence": equivalence_rows(moved, contrasts, settings.alpha),
        "variances": variances(frame),
        "adjusted": adjusted_shifts(frame, levels.grid, alpha=settings.alpha),
        "bounds": bounds(frame, judged, light, margins=margins, verdicts=verdicts),
        "refusals": refusal_shifts(frame, judged, light) if judged else [],
        "scales": _scales(frame, levels, light, test),
        "aggregates": aggregates(frame, levels.tested, settings),
        "examples": examples(frame, judged, floor=floor.get("item", math.nan)),
        "content_warning": bool(frame.meta.get("content_warning")),
        "listwise": None,
        "refusal_omnibus": None,
    }
    if parts["adjusted"]:
        parts["listwise"] = listwise_omnibus(frame, levels.grid, settings)
    if parts["refusals"]:
        parts["refusal_omnibus"] = refusal_omnibus(frame, levels.asked, light)
    parts["cautions"] += _about_missing(parts["bounds"], parts["refusals"], settings.alpha)
    parts["cautions"] += _under_the_floor(moved, contrasts, test, floor, settings.alpha)
    if light is not settings:
        parts["cautions"].append(
            f"{frame.clusters.n_clusters} clusters: simple effects, contrasts, flips and crossovers draw {LIGHT} sign "
            f"flips; the omnibus, shifts and difference-in-differences {settings.n_resamples}."
        )
    return parts


def _about_missing(found: Sequence[Bound], refusals: Sequence[RefusalShift], alpha: float) -> list[str]:
    out = []
    if could := [f"{b.accel} of {b.model}" for b in found if b.changes]:
        out.append(
            f"Missing answers could change the verdict of {listing(could)}, if what they would have been is extreme "
            "enough: see the bounds."
        )
    moved = [r for r in refusals if r.kind == "refused" and r.estimate.p_adjusted <= alpha]
    if moved:
        names = [f"{r.accel} of {r.model} ({r.baseline_rate:.1%} to {r.rate:.1%})" for r in moved]
        out.append(f"The share of refused answers changed: {listing(names)}.")
    return out


def _under_the_floor(
    moved: Sequence[Shift], contrasts: Sequence[Difference], test: Omnibus, floor: Mapping[str, float], alpha: float
) -> list[str]:
    """What is shown, but no larger than what a placebo does."""
    out = []
    size = floor.get("shift", -math.inf)
    if small := [f"{s.accel} of {s.model}" for s in moved if s.verdict == "changed" and abs(s.estimate.value) <= size]:
        out.append(f"No larger than a placebo's shift ({size:.3g}): {listing(small)}.")
    largest = max((abs(d.estimate.value) for d in contrasts if d.tested), default=math.inf)
    if test.p <= alpha and largest <= floor.get("interaction", -math.inf):
        out.append(f"No difference-in-differences is larger than a placebo's ({floor['interaction']:.3g}).")
    return out


def power_rows(moved: Sequence[Shift], contrasts: Sequence[Difference], settings: Settings) -> list[Power]:
    """The minimum detectable effect of every judged shift and difference."""
    out = []
    for kind, rows in (("shift", _judged(moved)), ("difference", list(contrasts))):
        family = {tested: sum(r.tested == tested for r in rows) for tested in (True, False)}
        for row in rows:
            e, df = row.estimate, row.estimate.dof
            alphas = settings.alpha, settings.alpha / family[row.tested]
            found, safe = (detectable(se=e.se, df=df, alpha=a, power=settings.power) for a in alphas)
            at = power_of(row.margin, se=e.se, df=df, alpha=settings.alpha)
            least = (
                equivalence_of(e, margin=row.margin, alpha=settings.alpha).smallest_margin
                if row.margin > 0
                else math.nan
            )
            out.append(Power(kind, row.model, row.accel, e.se, e.n_clusters, row.margin, found, safe, at, least))
    return out


def equivalence_rows(moved: Sequence[Shift], contrasts: Sequence[Difference], alpha: float) -> list[EquivalenceRow]:
    """Two one-sided tests of every judged shift and difference that has a margin above 0."""
    out = []
    for kind, rows in (("shift", _judged(moved)), ("difference", list(contrasts))):
        for row in rows:
            if row.margin > 0 and row.estimate.n_items:
                q = equivalence_of(row.estimate, margin=row.margin, alpha=alpha)
                figures = (q.p_lower, q.p_upper, q.p, q.ci_low, q.ci_high)
                value = row.estimate.value
                out.append(
                    EquivalenceRow(
                        kind, row.model, row.accel, value, row.margin, *figures, q.equivalent, q.smallest_margin
                    )
                )
    return out


def variances(frame: Frame) -> list[Variance]:
    """Variance between items and between repeats of every arm that has repeats or seeds; empty without any."""
    out = []
    for arm, cells in frame.cells.items():
        means = frame.seed_means.get(arm, [])
        n = sum(int(c.content["decoding"].get("repeats") or 1) for c in cells)
        scores = frame.score(*arm)
        if n < 2 or np.count_nonzero(~np.isnan(scores)) < 2:
            continue
        total, repeats = float(np.nanvar(scores, ddof=1)), frame.repeat_sd[arm] ** 2
        share = repeats / n / total if total > 0 else math.nan
        seed_sd = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
        out.append(Variance(*arm, n, max(0.0, total - repeats / n), repeats, share, len(means), seed_sd))
    return out


def _judged(moved: Sequence[Shift]) -> list[Shift]:
    return [s for s in moved if s.verdict not in ("placebo", "inert", "missing")]


def _full_grid(frame: Frame, levels: Levels, settings: Settings, anova: Sequence[Anova]) -> dict[str, Any]:
    """What needs a full grid of complete items: simple effects, interaction contrasts, assumptions."""
    grid = largest_grid(levels.grid)
    complete = complete_items(frame, grid)
    empty: dict[str, Any] = {"simple_effects": [], "interaction_contrasts": [], "assumptions": [], "cautions": []}
    if len({a for _, a in grid}) < 2 or complete.sum() < 2:
        return empty
    scores, clusters = frame.matrix(grid)[complete], frame.clusters.take(complete)
    options = {"alpha": settings.alpha, "n_resamples": settings.n_resamples, "seed": settings.seed}
    simple = simple_effects(scores, grid, clusters, **options)  # type: ignore[arg-type]
    pairs, note = interaction_contrasts(scores, grid, clusters, **options)  # type: ignore[arg-type]
    shown = assumptions(scores, grid, clusters, anova)
    cautions = [f"{note}."] if note else []
    return {"simple_effects": simple, "interaction_contrasts": pairs, "assumptions": shown, "cautions": cautions}


def _flips(
    frame: Frame, judged: Sequence[ArmKey], placebos: Sequence[ArmKey], floor: Mapping[str, float], settings: Settings
) -> dict[str, Any]:
    """Flips of the judged arms, one family, and of the placebos, another; none of arms without outcomes."""
    options = {"alpha": settings.alpha, "n_resamples": settings.n_resamples, "seed": settings.seed}
    judged, placebos = ([arm for arm in arms if known(frame, arm)] for arms in (judged, placebos))
    groups = frame.items["group"].nunique()
    most = MOST_GROUPS if groups * len(judged) * len(frame.items) <= MOST_CELLS else 0
    tests = [t for arms in (judged, placebos) for t in flip_tests(frame, arms, floor=floor, **options)]  # type: ignore[arg-type]
    return {
        "flips": tests,
        "flip_profile": profiles(frame, judged, alpha=settings.alpha),
        "flip_groups": flips_by_group(frame, judged, most=most, **options),  # type: ignore[arg-type]
    }


def _predictability(frame: Frame, levels: Levels, settings: Settings, margins: Mapping[str, float]) -> Predictability:
    if not levels.tested:
        return unknown("no accelerated arm has answers to compare with a baseline's")
    shifts = np.column_stack([frame.shift(*arm) for arm in levels.tested])
    found = predictability(
        shifts, levels.tested, frame.clusters, alpha=settings.alpha, threshold=settings.predictable_share
    )
    # A new model's margin is not known: the smallest of the measured ones is the strictest.
    return with_margins(found, min(margins.values()))


def _scales(frame: Frame, levels: Levels, settings: Settings, test: Omnibus) -> Scales:
    grid = levels.grid
    if not grid:
        return Scales("not tested", "Not tested on two scales.", math.nan, math.nan, 0, reason="no tested arm")
    complete = complete_items(frame, grid)
    every = [arm for arm in frame.arms if arm[1] == BASELINE or arm in grid]
    positive = np.column_stack([frame.positive[arm].to_numpy(dtype=float) for arm in every])
    rate = str(frame.meta["score_kind"]) == "rate" and yes_or_no(frame.matrix(every), positive)
    answers = positive[complete][:, [every.index(arm) for arm in grid]] if rate else None
    return scales(
        frame.matrix(grid)[complete], answers, grid, frame.clusters.take(complete), p=test.p, alpha=settings.alpha,
        n_resamples=settings.n_resamples, seed=settings.seed,
    )  # fmt: skip
