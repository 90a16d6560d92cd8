"""Everything that is said about one benchmark: from a frame to a BenchmarkResult."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.anova import anova_tables
from analysis.clusters import Floats
from analysis.contrasts import (
    BASELINE,
    ArmKey,
    apply_contrasts,
    difference_weights,
    interaction_basis,
    largest_grid,
)
from analysis.estimates import cluster_mean, difference_in_differences, missing
from analysis.flips import count_flips
from analysis.floor import noise_floor
from analysis.frame import Frame
from analysis.levels import Levels, choose_levels
from analysis.load import number
from analysis.recovery import recoveries
from analysis.resampling import family_p, interaction_test, untestable
from analysis.settings import Settings
from analysis.study import (
    Anova,
    BenchmarkResult,
    CategoryShift,
    CellMean,
    Coverage,
    Difference,
    Estimate,
    Missing,
    Omnibus,
    Shift,
)
from analysis.verdict import benchmark_verdict, cell_verdict, equivalence_margin
from analysis.words import listing

MOST_NAMES = 60  # of a category or group level: more are not tabulated


@dataclass(frozen=True)
class Validity:
    """Why an arm's figures are marked; "" if they are not."""

    reasons: Mapping[ArmKey, str]

    def __call__(self, arm: ArmKey) -> str:
        """The reason of one arm."""
        return self.reasons.get(arm, "")


def analyse_benchmark(frame: Frame, absent: Sequence[Missing], settings: Settings) -> BenchmarkResult:
    """Every estimate, test and verdict of one frame.

    absent : cells of this benchmark that are not there; each gets a shift with the verdict "missing".
    """
    levels = choose_levels(frame, settings.accels)
    validity = _validity(frame, settings)
    floor = noise_floor(frame, levels.placebo)
    means = _means(frame, settings)
    margins = {m.model: _margin(frame, m.item_sd, settings) for m in means if m.accel == BASELINE}
    shifts = _shifts(frame, levels, margins, floor, validity, settings) + _absent_shifts(absent, levels)
    differences = _differences(frame, levels, margins, settings)
    omnibus, n_complete = _omnibus(frame, levels.grid, settings)
    unit, alpha = str(frame.meta["score_unit"]), settings.alpha
    verdict, sentence = benchmark_verdict(omnibus, differences, shifts, unit=unit, alpha=alpha)
    cautions = [*levels.cautions, *_missing_caution(n_complete, frame), *_marked(frame, levels, validity, verdict, settings)]
    cautions += _contradictions(shifts)
    direction = frame.meta.get("direction")
    return BenchmarkResult(
        name=frame.benchmark,
        title=_title(frame),
        unit=unit,
        score_kind=str(frame.meta["score_kind"]),
        direction=None if direction is None else str(direction),
        formula=str(frame.meta.get("formula") or ""),
        cluster=str(frame.meta.get("cluster") or ""),
        models=frame.models,
        accels=[BASELINE, *dict.fromkeys(a for _, a in levels.tested)],
        n_items=n_complete,
        n_items_all=len(frame.items),
        n_clusters=omnibus.n_clusters if omnibus.n_clusters else frame.clusters.n_clusters,
        means=means,
        shifts=shifts,
        differences=differences,
        anova=_anova(frame, levels),
        omnibus=omnibus,
        verdict=verdict,
        sentence=sentence,
        recovery=recoveries(frame, alpha=alpha),
        coverage=[replace(c, valid=c.share >= settings.coverage) for c in frame.coverage.values()],
        categories=_categories(frame, levels, settings, cautions),
        published=_published(frame),
        floor=floor,
        cautions=cautions,
        decoding=frame.decoding,
        pool=frame.pool,
    )


def _title(frame: Frame) -> str:
    notes = [frame.decoding] if frame.decoding != "greedy" else []
    return " ".join([str(frame.meta["title"]), *(f"({note})" for note in notes)])


def _means(frame: Frame, settings: Settings) -> list[CellMean]:
    out = []
    for arm in frame.arms:
        scores = frame.score(*arm)
        estimate = cluster_mean(scores, frame.clusters, alpha=settings.alpha)
        sd = float(np.nanstd(scores, ddof=1)) if estimate.n_items > 1 else math.nan
        out.append(CellMean(*arm, estimate, sd, frame.repeat_sd[arm]))
    return out


def _margin(frame: Frame, item_sd: float, settings: Settings) -> float:
    return equivalence_margin(str(frame.meta["score_kind"]), item_sd, settings)


def _validity(frame: Frame, settings: Settings) -> Validity:
    reasons: dict[ArmKey, str] = {}
    for arm, coverage in frame.coverage.items():
        found = [_uncovered(coverage, settings), _degenerate(frame, arm, settings)]
        if arm[1] != BASELINE and (arm[0], BASELINE) in frame.coverage:
            base = _uncovered(frame.coverage[arm[0], BASELINE], settings)
            found.append(f"its baseline: {base}" if base else "")
        reasons[arm] = "; ".join(filter(None, found))
    return Validity(reasons)


def _uncovered(coverage: Coverage, settings: Settings) -> str:
    if coverage.share >= settings.coverage:
        return ""
    return f"only {coverage.share:.0%} of the answers are there, the threshold is {settings.coverage:.0%}"


def _degenerate(frame: Frame, arm: ArmKey, settings: Settings) -> str:
    own, base = (_perplexity(frame, key) for key in (arm, (arm[0], BASELINE)))
    if own > settings.perplexity_ratio * base:
        return f"perplexity is {own / base:.2f} times the baseline's, over the threshold of {settings.perplexity_ratio:g}"
    return ""


def _perplexity(frame: Frame, arm: ArmKey) -> float:
    cells = frame.cells.get(arm)
    return number((cells[0].content.get("efficiency") or {}).get("perplexity")) if cells else math.nan


def _shifts(
    frame: Frame,
    levels: Levels,
    margins: Mapping[str, float],
    floor: Mapping[str, float],
    validity: Validity,
    settings: Settings,
) -> list[Shift]:
    out: dict[ArmKey, Shift] = {}
    direction = frame.meta.get("direction")
    for part in ("tested", "beside", "placebo", "inert"):
        arms: list[ArmKey] = getattr(levels, part)
        values = [frame.shift(*arm) for arm in arms]
        for arm, estimate in zip(arms, _family(frame, values, settings, adjust=part in ("tested", "beside")), strict=True):
            verdict = cell_verdict(
                estimate,
                margins[arm[0]],
                part="inert" if frame.cells[arm][0].inert else part,
                unit=str(frame.meta["score_unit"]),
                direction=direction,
                alpha=settings.alpha,
            )
            flips = count_flips(frame, arm, floor=floor.get("item", math.nan))
            marked = validity(arm)
            out[arm] = Shift(
                *arm,
                estimate,
                margins[arm[0]],
                verdict.verdict,
                f"{verdict.sentence} Marked: {marked}." if marked else verdict.sentence,
                not marked,
                verdict.needed_clusters,
                flips.rate,
                flips.up,
                flips.down,
                flips.clear,
                tested=part == "tested",
            )
    return [out[arm] for arm in frame.arms if arm in out]


def _absent_shifts(absent: Sequence[Missing], levels: Levels) -> list[Shift]:
    gone = [(m.model, m.accel, f"the cell is {m.state}: {m.reason}") for m in absent if m.accel != BASELINE]
    gone += [(m, a, "the model has no baseline here") for m, a in levels.unpaired]
    return [
        Shift(m, a, missing(reason), math.nan, "missing", f"Missing: {reason}.", valid=False, tested=False)
        for m, a, reason in gone
    ]


def _differences(
    frame: Frame, levels: Levels, margins: Mapping[str, float], settings: Settings
) -> list[Difference]:
    out: dict[ArmKey, Difference] = {}
    for part in (levels.tested, levels.beside):
        columns: dict[ArmKey, Floats] = {}
        for accel in dict.fromkeys(a for _, a in part):
            arms = [arm for arm in part if arm[1] == accel]
            if len(arms) > 1:
                values = difference_in_differences(np.column_stack([frame.shift(*arm) for arm in arms]))
                columns |= dict(zip(arms, values.T, strict=True))
        estimates = _family(frame, list(columns.values()), settings, adjust=True)
        for arm, estimate in zip(columns, estimates, strict=True):
            out[arm] = Difference(*arm, estimate, margins[arm[0]], tested=part is levels.tested)
    return [out[arm] for arm in frame.arms if arm in out]


def _family(
    frame: Frame, values: Sequence[Floats], settings: Settings, *, adjust: bool
) -> list[Estimate]:
    """Estimates of item values, their p adjusted over the family."""
    clusters = frame.clusters
    estimates = [cluster_mean(v, clusters, alpha=settings.alpha) for v in values]
    if not adjust or not values:
        return estimates
    rng = np.random.default_rng(settings.seed)
    p = family_p(np.column_stack(values), clusters, n_resamples=settings.n_resamples, rng=rng)
    return [replace(e, p_adjusted=float(q)) for e, q in zip(estimates, p, strict=True)]


def _omnibus(frame: Frame, grid: Sequence[ArmKey], settings: Settings) -> tuple[Omnibus, int]:
    """The omnibus over the items complete in `grid`, and how many they are."""
    scores = frame.matrix(grid)
    complete = ~np.isnan(scores).any(axis=1) if grid else np.zeros(len(frame.items), dtype=bool)
    n_complete = int(complete.sum())
    if reason := _no_contrasts(grid):
        return untestable(reason), n_complete
    scores, clusters = scores[complete], frame.clusters.take(complete)
    omnibus = interaction_test(
        apply_contrasts(scores, interaction_basis(grid)),
        apply_contrasts(scores, difference_weights(grid)[1]),
        clusters,
        alpha=settings.alpha,
        n_resamples=settings.n_resamples,
        rng=np.random.default_rng(settings.seed),
    )
    return omnibus, n_complete


def _no_contrasts(grid: Sequence[ArmKey]) -> str:
    models = list(dict.fromkeys(m for m, _ in grid))
    if not models:
        return "no accelerated arm with a baseline was measured"
    if len(models) == 1:
        return f"only one model ({models[0]}) was measured, and an interaction takes two"
    if interaction_basis(grid).shape[1] == 0:
        return "no accelerator was measured on two models"
    return ""


def _anova(frame: Frame, levels: Levels) -> list[Anova]:
    grid = largest_grid(levels.grid) if levels.tested else []
    scores = frame.matrix(grid)
    complete = ~np.isnan(scores).any(axis=1)
    if not grid:
        return [Anova("items", 0, reason="no accelerated arm with a baseline was measured")]
    tables = anova_tables(scores[complete], grid, frame.clusters.take(complete))
    left_out = [f"{a} of {m}" for m, a in levels.grid if (m, a) not in grid]
    if not left_out:
        return tables
    note = f"left out, because the grid must be full: {listing(left_out)}"
    return [replace(t, reason="; ".join(filter(None, [t.reason, note]))) for t in tables]


def _categories(
    frame: Frame, levels: Levels, settings: Settings, cautions: list[str]
) -> list[CategoryShift]:
    out: list[CategoryShift] = []
    arms = [arm for arm in frame.arms if arm in levels.tested or arm in levels.beside]
    for level in ("category", "group"):
        labels = frame.items[level].to_numpy()
        names = sorted(set(labels))
        if len(names) > MOST_NAMES:
            cautions.append(f"{len(names)} names of {level}: more than {MOST_NAMES}, so shifts are not given by {level}.")
        if not 2 <= len(names) <= MOST_NAMES:
            continue
        places = [(arm, name) for arm in arms for name in names]
        values = [np.where(labels == name, frame.shift(*arm), math.nan) for arm, name in places]
        for (arm, name), estimate in zip(places, _family(frame, values, settings, adjust=True), strict=True):
            out.append(CategoryShift(*arm, level, str(name), estimate))
    return out


def _published(frame: Frame) -> list[dict[str, Any]]:
    """One row a cell and metric of cell.json, as stored: null becomes NaN, with the reason beside it."""
    rows = []
    for (model, accel), cells in frame.cells.items():
        for cell in cells:
            for name, metric in (cell.content.get("metrics") or {}).items():
                m = metric if isinstance(metric, dict) else {}
                row: dict[str, Any] = {"model": model, "accel": accel, "seed": cell.seed, "metric": str(name)}
                row |= {k: number(m.get(k)) for k in ("value", "ci_low", "ci_high", "n", "n_clusters")}
                rows.append(row | {k: str(m.get(k) or "") for k in ("unit", "reason")})
    return rows


def _missing_caution(n_complete: int, frame: Frame) -> list[str]:
    n = len(frame.items)
    if not 0 < n_complete < n:
        return []
    return [
        f"{n_complete} of {n} items ({n_complete / n:.0%}) have an answer in every tested cell; the omnibus and the "
        "ANOVA use those, shifts use every item answered in their two cells. Answers that are missing because of "
        "what they would have been bias all of these."
    ]


def _marked(
    frame: Frame, levels: Levels, validity: Validity, verdict: str, settings: Settings
) -> list[str]:
    """What is marked, and the verdict without it."""
    marked = [arm for arm in levels.grid if validity(arm)]
    if not marked:
        return []
    text = "; ".join(f"{a} of {m}: {validity((m, a))}" for m, a in marked[:6])
    no_base = {m for m, a in marked if a == BASELINE}
    kept = [arm for arm in levels.tested if arm not in marked and arm[0] not in no_base]
    rest = Levels(tested=kept)
    omnibus, _ = _omnibus(frame, rest.grid, settings)
    p = f"p = {omnibus.p:.2g}" if math.isfinite(omnibus.p) else f"no test: {omnibus.reason}"
    return [f"Marked cells ({text}). The verdict with them is {verdict!r}; the omnibus without them: {p}."]


def _contradictions(shifts: Sequence[Shift]) -> list[str]:
    wrong = [s for s in shifts if s.verdict == "inert" and s.estimate.value != 0]
    return [
        f"{s.accel} of {s.model} changed no logit in the active check, but its scores differ from the baseline's: "
        "the check or the determinism of the run is at fault."
        for s in wrong
    ]
