"""A power curve, as text and as an SVG of its own."""

from __future__ import annotations

from analysis.power import Plan
from analysis.report import svg
from analysis.report.traces_across import power_curve

BAR = 40


def curve_text(plan: Plan) -> str:
    """One line a design: clusters, power, minimum detectable effect, and a bar that is full at power 1."""
    lines = [f"{'clusters':>8}  {'power':>5}  {'detectable':>10}"]
    for point in plan.curve:
        filled = round(BAR * point.power)
        mark = "  <- needed" if point.n_clusters == plan.n_clusters else ""
        bar = "#" * filled + "." * (BAR - filled)
        lines.append(f"{point.n_clusters:>8}  {point.power:>5.2f}  {point.detectable:>10.3g}  {bar}{mark}")
    return "\n".join(lines)


def curve_svg(plan: Plan, title: str, unit: str) -> str:
    """Power against clusters, with the wanted power as a dashed line; readable alone and by a screen reader."""
    return svg.alone(power_curve(plan, title, unit))
