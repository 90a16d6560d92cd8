"""Bias against cost: what each accelerated arm moved, beside what it saved, as a table and a figure a benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from analysis.contrasts import BASELINE
from analysis.report.palette import Look, accel_looks
from analysis.report.shapes import Dot, Key, Scatter
from analysis.report.tables import Table
from analysis.report.traces import answered, arm_label, estimate_mark, extremes, level, marked, model_looks
from analysis.study import Arm, BenchmarkResult, Study
from analysis.words import plural, signed

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


#: What is held against bias: column of the table -> name, what its axis says, whether the ratio is turned over.
COSTS = {
    "memory_ratio": ("memory", "weights in memory, share of the baseline's", False),
    "decode_batched_ratio": ("latency", "time per generated token (batched), share of the baseline's", True),
    "decode_ratio": ("latency", "time per generated token, share of the baseline's", True),
    "perplexity_ratio": ("perplexity", "perplexity, share of the baseline's", False),
}


def cost_table(study: Study) -> Table:
    """A row per benchmark and accelerated cell; NaN where a figure is missing in the arm or its baseline."""
    rows = [
        (b.name, b.decoding, b.pool, model, accel, *found)
        for b in study.benchmarks
        for (model, accel), found in _rows(study, b)
    ]
    return Table("cost", "Bias against cost", COLUMNS, rows, NOTE)


def cost_figures(study: Study, b: BenchmarkResult) -> list[tuple[str, Scatter]]:
    """Name and figure of each cost that is known of some cell: memory, latency, perplexity.

    Latency is of batched decoding where that was measured, else of one prompt at a time.
    """
    found: dict[str, Scatter] = {}
    for column, (name, unit, turned) in COSTS.items():
        if name not in found and (figure := _scatter(study, b, column, unit, turned)) is not None:
            found[name] = figure
    return list(found.items())


def cost_figure(study: Study, b: BenchmarkResult) -> Scatter | None:
    """The figure of memory, None where no arm's is known."""
    return dict(cost_figures(study, b)).get("memory")


def pareto(cells: Mapping[tuple[str, str], tuple[float, float]]) -> set[tuple[str, str]]:
    """The (model, accel) of `cells` that nothing of their model beats: (cost ratio, |shift|), the less the better.

    The baseline itself stands at (1, 0), so a cell that costs more than it never is on the front.

    >>> pareto({("m", "a"): (0.5, 0.1), ("m", "b"): (0.6, 0.2), ("m", "c"): (1.1, 0.0), ("n", "d"): (0.9, 9.0)})
    ... == {("m", "a"), ("n", "d")}
    True
    """
    front = set()
    for (model, accel), own in cells.items():
        others = [(1.0, 0.0), *(c for key, c in cells.items() if key[0] == model and key[1] != accel)]
        if not any(c[0] <= own[0] and c[1] <= own[1] and c != own for c in others):
            front.add((model, accel))
    return front


def _scatter(study: Study, b: BenchmarkResult, column: str, x_unit: str, turned: bool) -> Scatter | None:
    arms = _arms(study)
    judged = [s for s in b.shifts if s.verdict != "placebo" and math.isfinite(s.estimate.value)]
    x = {}
    for s in judged:
        r = ratio(arms.get((s.model, s.accel)), arms.get((s.model, BASELINE)), RATIOS[column])
        if math.isfinite(r) and r > 0:
            x[s.model, s.accel] = 1 / r if turned else r
    shifts = [s for s in judged if (s.model, s.accel) in x]
    if not shifts:
        return None
    front = pareto({(s.model, s.accel): (x[s.model, s.accel], abs(s.estimate.value)) for s in shifts})
    models = model_looks(study, shifts)
    accels = accel_looks(list(dict.fromkeys([*study.accels, *(s.accel for s in shifts)])))
    name = COSTS[column][0]
    dots = tuple(
        Dot(arm_label(study, s.model, s.accel).replace("  ", " "),
            Look(accels[s.accel].colour, models[s.model].marker, ""), x[s.model, s.accel],
            estimate_mark(s.estimate, {"model": s.model, "accel": s.accel}, b.unit, study,
                          strong=(s.model, s.accel) in front,
                          more={f"{name}_ratio": x[s.model, s.accel], "margin": s.margin, "verdict": s.verdict}))
        for s in shifts
    )  # fmt: skip
    least = min(dots, key=lambda d: d.x)
    text = (
        f"Shift in {b.unit} against {name}, of {plural(len(dots), 'cell')}. Least {name}: {least.label}, "
        f"{100 * least.x:.0f} % of the baseline's, shift {signed(least.point.value)}. "
        f"{extremes(dot.point for dot in dots)}"
    )
    note = (
        f"Colour: accelerator; shape: model. Bars are {level(study):g} % intervals. Left of 1 is cheaper, near the "
        "zero line is harmless; ringed: no arm of the same model, its baseline included, is both cheaper and nearer "
        f"to 0. {answered(b)}"
        + (" Speed was measured on this run's machine alone; simulated arms cannot gain any." if turned else "")
    )
    keys = tuple(Key(marked(study, m), models[m]) for m in study.models if any(s.model == m for s in shifts))
    used = tuple(Key(a, accels[a]) for a in study.accels if any(s.accel == a for s in shifts))
    return Scatter(f"{b.title}: shift against {name}", b.unit, text, note, x_unit, dots, keys, used, "on the front")


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
