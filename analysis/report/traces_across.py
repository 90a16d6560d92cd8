"""Figures across benchmarks or models: transfer, prediction for a model not yet measured, power."""

from __future__ import annotations

import math

from analysis.power import Plan
from analysis.report.palette import accel_looks, look
from analysis.report.shapes import Bar, Curve, Forest, Heat, Mark
from analysis.report.traces import alpha_of, arm_label, extremes, furthest, left_out, level, model_looks
from analysis.study import BenchmarkResult, Study
from analysis.words import listing, plural


def transfer_heat(study: Study) -> Heat | None:
    """Correlation of shifts between benchmarks, the foretelling one in the row; None with fewer than two.

    strong : the interval of r is off 0.
    """
    found = {(t.source, t.target): t for t in study.transfers if t.kind == "benchmark"}
    names = tuple(dict.fromkeys(name for pair in found for name in pair))
    if len(names) < 2:
        return None

    def cell(source: str, target: str) -> Mark:
        of = {"source": source, "target": target}
        t = found.get((source, target))
        if t is None:
            reason = "itself" if source == target else "no cell in common"
            return Mark(of, math.nan, "correlation", reason=reason, label="—")
        off = math.isfinite(t.r_low) and (t.r_low > 0 or t.r_high < 0)
        label = f"{t.r:.2f}" if math.isfinite(t.r) else "—"
        return Mark(of, t.r, "correlation", t.r_low, t.r_high, alpha=alpha_of(study), label=label, strong=off,
                    more={"cells": t.n, "models": t.n_models, "r2": t.r2}, reason=t.reason)  # fmt: skip

    grid = tuple(tuple(cell(a, b) for b in names) for a in names)
    marks = [mark for row in grid for mark in row]
    strong = [f"{m.names['source']} to {m.names['target']}" for m in marks if m.strong]
    text = f"Correlation of shifts over cells. {extremes(marks)} Interval off 0: {listing(strong, most=3)}."
    n = [t.n for t in found.values()]
    note = (
        "Does a shift on the benchmark of the row go with one on that of the column? Shifts in margins; the points "
        f"are cells, n = {min(n)}{f' to {max(n)}' if min(n) < max(n) else ''}, and share models: "
        "this describes and does not test."
    )
    return Heat("Transfer between benchmarks", "correlation", text, note, names, names, grid, 1.0,
                "benchmark foretold", f"{level(study):g} % interval off 0")  # fmt: skip


def predictions(study: Study, b: BenchmarkResult) -> Forest | None:
    """Interval for the shift of one more model under each accelerator, against the smallest margin."""
    found = b.predictability.predictions if b.predictability else []
    known = [p for p in found if math.isfinite(p.mean)]
    if not known:
        return None
    styles = accel_looks(list(dict.fromkeys([*study.accels, *(p.accel for p in known)])))
    alpha = alpha_of(study)
    margins = [s.margin for s in b.shifts if s.tested and s.margin > 0]
    margin = min(margins, default=math.nan)
    words = {True: "inside", False: "not inside", None: ""}
    bars = tuple(
        Bar(
            p.accel,
            styles[p.accel],
            Mark({"accel": p.accel}, p.mean, b.unit, p.low, p.high, alpha=alpha,
                 more={"models": p.n_models, "between_sd": p.between_sd, "inside": bool(p.inside)}),
            margin,
            words[p.inside],
        )
        for p in known
    )  # fmt: skip
    inside = [p.accel for p in known if p.inside]
    text = (
        f"Shift of one more model in {b.unit}, predicted from {plural(known[0].n_models, 'model')}. "
        f"{extremes(bar.point for bar in bars)} Wholly inside the margin: {listing(inside, most=6)}."
    )
    note = (
        f"Bars: where the shift of one more model of the same kind falls, with {level(study):g} % coverage (t, models "
        f"minus 1 degrees of freedom). Shaded: the smallest margin of the measured models. "
        f"n = {plural(known[0].n_models, 'model')}."
    )
    title = f"{b.title}: what a model not yet measured would do"
    return Forest(title, b.unit, text, note, bars, math.nan, "smallest margin")


def power_forest(study: Study, b: BenchmarkResult) -> Forest | None:
    """The smallest shift of each cell that this study finds with the set power, against the cell's margin."""
    power = float(study.settings.get("power", 0.8))
    known = [p for p in b.power if p.kind == "shift" and math.isfinite(p.detectable)]
    if not known:
        return None
    styles, alpha = model_looks(study, known), alpha_of(study)
    kept, others = furthest(known, lambda p: p.detectable / p.margin if p.margin else math.inf)
    bars = tuple(
        Bar(
            arm_label(study, p.model, p.accel),
            styles[p.model],
            Mark({"model": p.model, "accel": p.accel}, p.detectable, b.unit, n_clusters=p.n_clusters, alpha=alpha,
                 more={"margin": p.margin, "power_at_margin": p.at_margin,
                       "detectable_family": p.detectable_family}),
            p.margin,
            f"{100 * p.at_margin:.0f} %" if math.isfinite(p.at_margin) else "",
        )
        for p in kept
    )  # fmt: skip
    fine = sum(p.detectable <= p.margin for p in known)
    text = (
        f"Smallest shift in {b.unit} that is found with power {power:g} at level {alpha:g}. In {fine} of "
        f"{plural(len(known), 'cell')} it is within the margin. {extremes(bar.point for bar in bars)}"
    )
    note = (
        "A mark beyond the shaded margin: the study is too small to show a shift of the margin's size there. On the "
        f"right: power for a shift as large as the margin. n = {plural(b.n_clusters, 'cluster')}."
        f"{left_out(others, 'cells', 'have the most power')}"
    )
    title = f"{b.title}: smallest detectable shift"
    return Forest(title, b.unit, text, note, bars, math.nan, "equivalence margin", one_sided=True)


def power_curve(plan: Plan, title: str, unit: str) -> Curve:
    """Power against clusters of one planned cell, with the wanted power as a level."""
    points = tuple(
        Mark({"clusters": str(p.n_clusters)}, p.power, "power", n_clusters=p.n_clusters,
             more={f"detectable ({unit})": p.detectable}, strong=p.n_clusters == plan.n_clusters)
        for p in plan.curve
    )  # fmt: skip
    told = "; ".join(f"{p.n_clusters} clusters: {p.power:.2f}" for p in plan.curve)
    per = f"{plan.components.items_per_cluster:.3g}"
    note = f"Marked: the clusters needed for power {plan.power:g}." if any(p.strong for p in points) else ""
    return Curve(title, "power", f"Power by number of clusters: {told}.", note, f"clusters of {per} items",
                 tuple(float(p.n_clusters) for p in plan.curve), points, plan.power, "wanted power")  # fmt: skip


#: The one series of a power curve.
CURVE = look(0)
