"""Everything that is said about one benchmark: from a frame to a BenchmarkResult."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.contrasts import BASELINE, ArmKey
from analysis.estimates import cluster_mean
from analysis.families import absent_shifts, category_shifts, differences, shifts
from analysis.floor import noise_floor
from analysis.frame import Frame
from analysis.levels import Levels, choose_levels
from analysis.load import number
from analysis.omnibus import classic_anova, complete_items, omnibus
from analysis.recovery import recoveries
from analysis.sections import sections
from analysis.settings import Settings
from analysis.study import BenchmarkResult, CellMean, Missing, Shift
from analysis.validity import marked_arms
from analysis.verdict import benchmark_verdict, equivalence_margin
from analysis.words import p_text, plural, signed

#: Numbers kept of each metric of cell.json: beside the value, what noise alone gives it and what is left without it.
PUBLISHED = ("value", "ci_low", "ci_high", "n", "n_clusters", "null", "corrected", "corrected_low", "corrected_high",
             "boot_low", "boot_high")  # fmt: skip


def analyse_benchmark(frame: Frame, absent: Sequence[Missing], settings: Settings) -> BenchmarkResult:
    """Every estimate, test and verdict of one frame.

    absent : cells of this benchmark that are not there; each gets a shift with the verdict "missing".
    """
    levels = choose_levels(frame, settings.accels)
    marked = marked_arms(frame, settings)
    floor = noise_floor(frame, levels.placebo, quantile=settings.floor_quantile)
    means = _means(frame, settings)
    kind = str(frame.meta["score_kind"])
    margins = {
        m.model: equivalence_margin(frame.benchmark, kind, m.item_sd, settings) for m in means if m.accel == BASELINE
    }
    moved = shifts(frame, levels, settings, margins=margins, floor=floor, marked=marked)
    contrasts = differences(frame, levels, settings, margins=margins)
    test = omnibus(frame, levels.grid, settings)
    unit = str(frame.meta["score_unit"])
    verdict, sentence = benchmark_verdict(test, contrasts, moved, unit=unit, alpha=settings.alpha)
    categories, left_out = category_shifts(frame, levels, settings)
    complete = complete_items(frame, levels.grid)
    n_items = int(complete.sum())
    cautions = [*_subset(frame), *levels.cautions, *left_out, *_contradictions(frame, moved)]
    cautions += _without_marked(frame, levels, marked, verdict, settings)
    anova = classic_anova(frame, levels.grid, alpha=settings.alpha)
    more = sections(
        frame, levels, settings, margins=margins, floor=floor, moved=moved, contrasts=contrasts, test=test, anova=anova
    )
    cautions += _incomplete(n_items, frame, kernel=more["listwise"] is not None)
    cautions += more.pop("cautions")
    return BenchmarkResult(
        name=frame.benchmark,
        title=str(frame.meta["title"]),
        unit=unit,
        score_kind=kind,
        direction=None if frame.meta.get("direction") is None else str(frame.meta["direction"]),
        formula=str(frame.meta.get("formula") or ""),
        cluster=str(frame.meta.get("cluster") or ""),
        models=frame.models,
        accels=[BASELINE, *dict.fromkeys(a for _, a in levels.tested)],
        n_items=n_items,
        n_items_all=len(frame.items),
        n_clusters=frame.clusters.take(complete).n_clusters,
        means=means,
        shifts=moved + absent_shifts([m for m in absent if (m.model, m.accel) not in frame.cells], levels),
        differences=contrasts,
        anova=anova,
        omnibus=test,
        verdict=verdict,
        sentence=sentence,
        recovery=recoveries(frame, alpha=settings.alpha),
        coverage=[replace(c, valid=c.share >= settings.coverage) for c in frame.coverage.values()],
        categories=categories,
        published=_published(frame),
        floor=floor,
        cautions=cautions,
        decoding=frame.decoding,
        pool=frame.pool,
        **more,
    )


def _means(frame: Frame, settings: Settings) -> list[CellMean]:
    out = []
    for arm in frame.arms:
        scores = frame.score(*arm)
        estimate = cluster_mean(scores, frame.clusters, alpha=settings.alpha)
        sd = float(np.nanstd(scores, ddof=1)) if estimate.n_items > 1 else math.nan
        out.append(CellMean(*arm, estimate, sd, frame.repeat_sd[arm]))
    return out


def _published(frame: Frame) -> list[dict[str, Any]]:
    """One row a cell and metric of cell.json, as stored: null becomes NaN, with the reason beside it."""
    rows = []
    for (model, accel), cells in frame.cells.items():
        for cell in cells:
            for name, metric in (cell.content.get("metrics") or {}).items():
                m = metric if isinstance(metric, dict) else {}
                row: dict[str, Any] = {"model": model, "accel": accel, "seed": cell.seed, "metric": str(name)}
                row |= {k: number(m.get(k)) for k in PUBLISHED}
                rows.append(row | {k: str(m.get(k) or "") for k in ("unit", "reason")})
    return rows


def _subset(frame: Frame) -> list[str]:
    """What the run asked of the benchmark, where it asked a part only."""
    asked = [cells[0].content["benchmark"] for cells in frame.cells.values()]
    words = [f"{key}={asked[0][key]}" for key in ("limit", "sample", "categories") if asked[0].get(key)]
    if not words:
        return []
    return [f"A part of the benchmark was asked ({', '.join(words)}): {plural(len(frame.items), 'item')}."]


def _incomplete(n_complete: int, frame: Frame, *, kernel: bool) -> list[str]:
    """How many items are complete, and which analysis uses which; `kernel`: the omnibus uses all answers."""
    n = len(frame.items)
    if not 0 < n_complete < n:
        return []
    omnibus = "the omnibus every answer, with an effect for each item" if kernel else "the omnibus those too"
    return [
        f"{n_complete} of {n} items ({n_complete / n:.0%}) have an answer in every tested cell: the ANOVA uses those, "
        f"{omnibus}, a shift every item answered in its two cells. Answers missing because of what they would have "
        "been bias all of these."
    ]


def _without_marked(
    frame: Frame, levels: Levels, marked: Mapping[ArmKey, str], verdict: str, settings: Settings
) -> list[str]:
    """What is marked, and the omnibus without it."""
    found = [arm for arm in levels.grid if arm in marked]
    if not found:
        return []
    text = "; ".join(f"{a} of {m}: {marked[m, a]}" for m, a in found[:6])
    baseless = {m for m, a in found if a == BASELINE}
    kept = Levels(tested=[arm for arm in levels.tested if arm not in marked and arm[0] not in baseless])
    test = omnibus(frame, kept.grid, settings)
    p = p_text(test.p) if math.isfinite(test.p) else f"no test ({test.reason})"
    return [f"Marked cells ({text}). With them the verdict is {verdict!r}; the omnibus without them: {p}."]


def _contradictions(frame: Frame, moved: Sequence[Shift]) -> list[str]:
    """What is to be said of inert arms whose scores are not their baseline's to the last bit."""
    out = []
    for s in moved:
        if s.verdict != "inert" or not s.estimate.value:
            continue
        own, base = (frame.cells[s.model, a][0].content["environment"].get("scored") for a in (s.accel, BASELINE))
        text = f"{s.accel} of {s.model} changed no logit in the active check, but its scores differ from the baseline's"
        fault = "the check or the determinism of the run is at fault."
        if own != base:
            fault = f"it is read {own}, the baseline {base}, which rounds otherwise by about 1e-6. If more, {fault}"
            text += f" by {signed(s.estimate.value)}"
        out.append(f"{text}: {fault}")
    return out
