"""Bias against cost: what each accelerated arm moved, beside what it saved, as a table and a figure a benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from analysis.contrasts import BASELINE
from analysis.report.palette import Look, looks
from analysis.report.tables import Table
from analysis.report.traces import Point, marked
from analysis.study import Arm, BenchmarkResult, Study
from analysis.words import interval_text, signed

#: Column of the table -> field of an arm whose ratio to the baseline's it is.
RATIOS = {
    "memory_ratio": "weight_bytes",
    "disk_ratio": "disk_bytes",
    "peak_ratio": "peak_memory_bytes",
    "prefill_ratio": "prefill_tokens_per_s",
    "decode_ratio": "decode_tokens_per_s",
    "prefill_batched_ratio": "prefill_tokens_per_s_batched",
    "decode_batched_ratio": "decode_tokens_per_s_batched",
    "perplexity_ratio": "perplexity",
}
COLUMNS = ("benchmark", "decoding", "pool", "model", "accel", "shift", "ci_low", "ci_high", "margin", "verdict",
           *RATIOS, "repetition", "accelerate_s", "simulated")  # fmt: skip
NOTE = (
    "Ratios are to the model's own baseline: memory, files and peak below 1 are saved; tokens per second above 1 are "
    "faster, on the machine of this run alone. simulated: computed in full precision, so its speed is no claim"
)


@dataclass(frozen=True)
class Dot:
    """One accelerated cell: `x` its weights in memory relative to the baseline's, `point` its shift."""

    label: str
    look: Look
    x: float
    point: Point


@dataclass(frozen=True)
class Scatter:
    """Shift against memory; lower left of 1 and near 0 is cheap and harmless."""

    title: str
    x_unit: str
    unit: str
    dots: tuple[Dot, ...]
    text: str


def cost_table(study: Study) -> Table:
    """A row per benchmark and accelerated cell; NaN where a figure is missing in the arm or its baseline."""
    rows = [
        (b.name, b.decoding, b.pool, model, accel, *found)
        for b in study.benchmarks
        for (model, accel), found in _rows(study, b)
    ]
    return Table("cost", "Bias against cost", COLUMNS, rows, NOTE)


def cost_figure(study: Study, b: BenchmarkResult) -> Scatter | None:
    """The figure of one benchmark, None where no arm's memory is known."""
    arms, styles = _arms(study), looks(list(study.models))
    alpha = float(study.settings.get("alpha", 0.05))
    dots = []
    for shift in b.shifts:
        x = ratio(arms.get((shift.model, shift.accel)), arms.get((shift.model, BASELINE)), "weight_bytes")
        if not (math.isfinite(x) and math.isfinite(shift.estimate.value)):
            continue
        e = shift.estimate
        numbers = f"{signed(e.value)} {b.unit} {interval_text(e.ci_low, e.ci_high, alpha)}"
        note = f"{shift.model} under {shift.accel}: {numbers}, {100 * x:.0f} % of the baseline's weight memory"
        dots.append(Dot(f"{marked(study, shift.model)} {shift.accel}", styles[shift.model], x,
                        Point(e.value, e.ci_low, e.ci_high, note)))  # fmt: skip
    if not dots:
        return None
    text = (
        f"Shift of {b.title} ({b.unit}) against the memory of the weights, relative to the model's baseline. "
        "Points near the zero line changed little; further left is smaller."
    )
    title = f"{b.title}: shift against memory"
    return Scatter(title, "weights in memory, share of the baseline's", b.unit, tuple(dots), text)


def ratio(arm: Arm | None, base: Arm | None, field: str) -> float:
    """The arm's figure over its baseline's, NaN where either is missing or the baseline's is 0."""
    if arm is None or base is None or not getattr(base, field):
        return math.nan
    return float(getattr(arm, field) / getattr(base, field))


def _rows(study: Study, b: BenchmarkResult) -> Iterator[tuple[tuple[str, str], tuple[Any, ...]]]:
    arms = _arms(study)
    for shift in b.shifts:
        arm, base = arms.get((shift.model, shift.accel)), arms.get((shift.model, BASELINE))
        e = shift.estimate
        costs = [ratio(arm, base, field) for field in RATIOS.values()]
        own = (arm.repetition, arm.accelerate_s, arm.simulated) if arm else (math.nan, math.nan, None)
        simulated = "" if own[2] is None else own[2]
        found = (e.value, e.ci_low, e.ci_high, shift.margin, shift.verdict, *costs, *own[:2], simulated)
        yield (shift.model, shift.accel), found


def _arms(study: Study) -> dict[tuple[str, str], Arm]:
    return {(arm.model, arm.accel): arm for arm in study.arms}
