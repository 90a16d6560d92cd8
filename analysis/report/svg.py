"""Thin renderer: traces to SVG that takes its colours from the page (light and dark) and shows figures on hover."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from analysis.report.cost import Scatter
from analysis.report.palette import Look
from analysis.report.traces import Forest, Heat, Lines, Point

WIDTH = 720
Scale = Callable[[float], float]
MARKER_PATHS = {
    "circle": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z",
    "ring": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0ZM-2 0a2 2 0 1 1 4 0a2 2 0 1 1-4 0Z",
    "square": "M-4.5-4.5h9v9h-9Z",
    "triangle": "M0-6L5.5 4.5h-11Z",
    "down": "M0 6L5.5-4.5h-11Z",
    "diamond": "M0-6L6 0L0 6L-6 0Z",
    "cross": "M-5-3L-3-5L0-2L3-5L5-3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0Z",
    "plus": "M-1.5-5.5h3v4h4v3h-4v4h-3v-4h-4v-3h4Z",
}


def lines(figure: Lines) -> str:
    """Interaction plot: a line per model, intervals as bars, the zero line drawn."""
    top, bottom, left, right = 30, 82, 64, 12
    height = 340
    low, high = _range([p for line in figure.lines for p in line.points])
    ticks = nice_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def y(value: float) -> float:
        return top + (high - value) / (high - low) * (height - top - bottom)

    step = (WIDTH - left - right) / max(1, len(figure.categories))
    x = [left + step * (i + 0.5) for i in range(len(figure.categories))]
    parts = [_y_axis(ticks, y, left, WIDTH - right, figure.unit)]
    stagger = 15 if len(figure.categories) > 3 else 0  # long names of neighbours must not touch
    parts += [
        _text(x[i], height - bottom + 20 + stagger * (i % 2), name, "middle", "cat")
        for i, name in enumerate(figure.categories)
    ]
    n = len(figure.lines)
    for k, line in enumerate(figure.lines):
        offset = (k - (n - 1) / 2) * min(14.0, step / (n + 1))
        parts.append(_line(line.look, [(x[i] + offset, p) for i, p in enumerate(line.points)], y))
        parts.append(_legend(left + k * (WIDTH - left - right) / max(1, n), height - 22, line.look, line.name))
    return _svg(height, figure.title, figure.text, parts)


def heat(figure: Heat) -> str:
    """Heat map with the number printed in each cell; a strong cell has a frame and a dot, not colour alone."""
    top, row_height = 34, 40
    left = max(150, 20 + round(7.5 * max((len(name) for name in figure.rows), default=0)))
    left = min(left, WIDTH // 2)
    height = top + row_height * len(figure.rows) + 26
    width = (WIDTH - left - 8) / max(1, len(figure.columns))
    parts = [_text(left + (j + 0.5) * width, top - 12, name, "middle", "cat") for j, name in enumerate(figure.columns)]
    for i, name in enumerate(figure.rows):
        middle = top + (i + 0.5) * row_height
        parts.append(_text(left - 10, middle + 4, name, "end", "cat"))
        for j, cell in enumerate(figure.cells[i]):
            share = cell.value / figure.limit if math.isfinite(cell.value) else 0.0
            kind = "pos" if share > 0 else "neg"
            size = f'width="{width - 4:.1f}" height="{row_height - 4}" rx="4"'
            box = f'x="{left + j * width + 2:.1f}" y="{middle - row_height / 2 + 2:.1f}" {size}'
            mark = f'<rect {box} class="frame"/>' if cell.strong else ""
            label = f"● {cell.label}" if cell.strong else cell.label
            parts.append(
                f'<g><title>{escape(cell.note)}</title><rect {box} class="cell"/>'
                f'<rect {box} class="{kind}" fill-opacity="{0.75 * abs(share):.3f}"/>{mark}'
                + _text(left + (j + 0.5) * width, middle + 4, label, "middle", "val")
                + "</g>"
            )
    parts.append(_text(left, height - 6, f"{figure.unit}; ● and frame: stands out", "start", "note"))
    return _svg(height, figure.title, figure.text, parts)


def forest(figure: Forest) -> str:
    """Forest plot: value and interval per cell, its margin as a band, the placebo floor dotted."""
    left, right, top, row_height = 230, 150, 14, 26
    height = top + row_height * len(figure.bars) + 44
    points = [bar.point for bar in figure.bars]
    margins = [bar.margin for bar in figure.bars if math.isfinite(bar.margin)]
    low, high = _range([*points, *(Point(0, -m, m, "") for m in margins)])
    ticks = nice_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - right)

    bottom = height - 34
    parts = [_x_axis(ticks, x, top, bottom, figure.unit)]
    for i, bar in enumerate(figure.bars):
        middle = top + (i + 0.5) * row_height
        parts.append(_text(left - 12, middle + 4, bar.label, "end", "cat"))
        if math.isfinite(bar.margin):
            parts.append(
                f'<rect class="band" x="{x(-bar.margin):.1f}" y="{middle - row_height / 2 + 2:.1f}" '
                f'width="{x(bar.margin) - x(-bar.margin):.1f}" height="{row_height - 4}"/>'
            )
        parts.append(_bar(bar.look, bar.point, middle, x))
        parts.append(_text(WIDTH - right + 10, middle + 4, bar.word, "start", "word"))
    for side in (-1, 1):
        if math.isfinite(figure.floor) and figure.floor > 0:
            parts.append(_segment(x(side * figure.floor), x(side * figure.floor), top, bottom, kind="floor"))
    return _svg(height, figure.title, figure.text, parts)


def scatter(figure: Scatter) -> str:
    """Shift with its interval against a share of the baseline's cost; the zero line drawn."""
    top, bottom, left, right, height = 30, 76, 64, 150, 340
    low, high = _range([dot.point for dot in figure.dots])
    ticks = nice_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    x_ticks = nice_ticks(0.0, max(1.0, *(dot.x for dot in figure.dots)))

    def y(value: float) -> float:
        return top + (high - value) / (high - low) * (height - top - bottom)

    def x(value: float) -> float:
        return left + value / x_ticks[-1] * (WIDTH - left - right)

    parts = [_y_axis(ticks, y, left, WIDTH - right, figure.unit)]
    parts += [_text(x(tick), height - bottom + 18, f"{tick:g}", "middle", "tick") for tick in x_ticks]
    parts.append(_text(left, height - bottom + 38, figure.x_unit, "start", "note"))
    for dot in figure.dots:
        parts.append(_line(dot.look, [(x(dot.x), dot.point)], y))
        parts.append(_text(x(dot.x) + 9, y(dot.point.value) + 4, dot.label, "start", "cat"))
    return _svg(height, figure.title, figure.text, parts)


def nice_ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About `n` round numbers covering [low, high].

    >>> nice_ticks(-0.03, 0.52)
    [-0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    """
    span = (high - low) or 1.0
    raw = span / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _range(points: Sequence[Point]) -> tuple[float, float]:
    values = [v for p in points for v in (p.value, p.low, p.high) if math.isfinite(v)]
    low, high = min([0.0, *values]), max([0.0, *values])
    pad = 0.04 * ((high - low) or 1.0)
    return (low - pad if low < 0 else low), (high + pad if high > 0 else high)


def _svg(height: float, title: str, text: str, parts: Sequence[str]) -> str:
    label = escape(f"{title}. {text}", quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}" class="figure" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str) -> str:
    short = text if len(text) <= 34 else text[:32] + "…"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(short)}</text>'


def _segment(x1: float, x2: float, y1: float, y2: float, colour: str = "", *, kind: str = "", dash: str = "") -> str:
    style = f'class="{kind}"' if kind else f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" {style}/>'


def _y_axis(ticks: Sequence[float], y: Scale, left: float, right: float, unit: str) -> str:
    parts = [_text(left - 56, 12, unit, "start", "note")]
    for tick in ticks:
        kind = "zero" if tick == 0 else "grid"
        parts.append(_segment(left, right, y(tick), y(tick), kind=kind))
        parts.append(_text(left - 8, y(tick) + 4, f"{tick:g}", "end", "tick"))
    return "".join(parts)


def _x_axis(ticks: Sequence[float], x: Scale, top: float, bottom: float, unit: str) -> str:
    parts = [_text(x(ticks[0]), bottom + 32, unit, "start", "note")]
    for tick in ticks:
        kind = "zero" if tick == 0 else "grid"
        parts.append(_segment(x(tick), x(tick), top, bottom, kind=kind))
        parts.append(_text(x(tick), bottom + 16, f"{tick:g}", "middle", "tick"))
    return "".join(parts)


def _line(look: Look, places: Sequence[tuple[float, Point]], y: Scale) -> str:
    there = [(x, p) for x, p in places if math.isfinite(p.value)]
    path = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y(p.value):.1f}" for i, (x, p) in enumerate(there))
    parts = [f'<path d="{path}" fill="none" stroke="{look.colour}" stroke-width="2" stroke-dasharray="{look.dash}"/>']
    for x, p in there:
        bar = ""
        if math.isfinite(p.low):
            bar = _segment(x, x, y(p.low), y(p.high), look.colour)
        parts.append(f"<g><title>{escape(p.note)}</title>{bar}{_marker(look, x, y(p.value))}</g>")
    return "".join(parts)


def _bar(look: Look, point: Point, middle: float, x: Scale) -> str:
    if not math.isfinite(point.value):
        return ""
    bar = ""
    if math.isfinite(point.low):
        bar = _segment(x(point.low), x(point.high), middle, middle, look.colour)
    return f"<g><title>{escape(point.note)}</title>{bar}{_marker(look, x(point.value), middle)}</g>"


def _marker(look: Look, x: float, y: float) -> str:
    place = f'transform="translate({x:.1f} {y:.1f})" fill="{look.colour}" fill-rule="evenodd"'
    return f'<path d="{MARKER_PATHS[look.marker]}" {place}/>'


def _legend(x: float, y: float, look: Look, name: str) -> str:
    line = _segment(x, x + 28, y, y, look.colour, dash=look.dash)
    return line + _marker(look, x + 14, y) + _text(x + 36, y + 4, name, "start", "cat")
