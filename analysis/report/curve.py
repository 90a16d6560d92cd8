"""A power curve, as text and as an SVG of its own."""

from __future__ import annotations

from html import escape

from analysis.power import Plan

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 340, 60, 20, 40, 60
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


def curve_svg(plan: Plan, title: str) -> str:
    """Power against clusters, with the wanted power as a dashed line; readable alone and by a screen reader."""
    most = max(p.n_clusters for p in plan.curve)

    def x(clusters: float) -> float:
        return LEFT + clusters / most * (WIDTH - LEFT - RIGHT)

    def y(power: float) -> float:
        return HEIGHT - BOTTOM - power * (HEIGHT - TOP - BOTTOM)

    points = [(x(p.n_clusters), y(p.power)) for p in plan.curve]
    path = " ".join(f"{'M' if i == 0 else 'L'}{a:.1f} {b:.1f}" for i, (a, b) in enumerate(points))
    told = "; ".join(f"{p.n_clusters} clusters: {p.power:.2f}" for p in plan.curve)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{title}. Power by number of clusters: {told}", quote=True)}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="13">{escape(title)}</text>',
    ]
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.1f}</text>')
    level = y(plan.power)
    dash = 'stroke="#333" stroke-dasharray="5 4"'
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}" {dash}/>')
    parts.append(f'<path d="{path}" fill="none" stroke="#0072b2" stroke-width="2"/>')
    for point, (a, b) in zip(plan.curve, points, strict=True):
        note = f"{point.n_clusters} clusters: power {point.power:.2f}, detectable {point.detectable:.3g}"
        parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="#0072b2"><title>{escape(note)}</title></circle>')
        parts.append(f'<text x="{a:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{point.n_clusters}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 14}">clusters of {plan.components.items_per_cluster:.3g} items</text>')
    parts.append(f'<text x="12" y="{TOP - 8}">power</text></svg>\n')
    return "\n".join(parts)
