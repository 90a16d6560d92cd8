"""Thin renderer: traces to SVG that takes its colours from the page (light and dark) and shows figures on hover."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from analysis.report.palette import Look
from analysis.report.shapes import Bar, Curve, Dot, Forest, Heat, Key, Lines, Mark, Opposed, Pair, Scatter, Trace
from analysis.report.svg_parts import (
    GREY,
    LETTER,
    WIDTH,
    Scale,
    box,
    document,
    ends,
    group,
    legend,
    marker,
    nice_ticks,
    number,
    segment,
    text,
    value_range,
    x_axis,
    y_axis,
)
from analysis.report.traces_across import CURVE
from analysis.words import signed

#: Classes of the page's style sheet as they look alone, for a file of its own.
ALONE = """
svg { font-family: Helvetica, Arial, "DejaVu Sans", sans-serif; background: #ffffff; }
text { fill: #1b1f24; font-size: 12px; } .note, .tick { fill: #57606a; } .val { font-weight: 600; }
.title { font-size: 14px; font-weight: 600; }
.grid { stroke: #d0d7de; } .zero { stroke: #1b1f24; stroke-width: 1.2; }
.floor { stroke: #57606a; stroke-dasharray: 2 3; }
.band { fill: #dfe5ec; } .cell { fill: #f6f8fa; } .pos { fill: #c2410c; } .neg { fill: #5b3fa8; }
.frame { fill: none; stroke: #1b1f24; stroke-width: 2; }
"""
OPACITY = 0.6  # of a heat map's fullest cell: its number stays readable on it, on a light and on a dark page


def draw(trace: Trace) -> str:
    """Any figure."""
    return DRAWN[type(trace)](trace)


def alone(trace: Trace) -> str:
    """The figure as a file of its own: with its title, its note, and a style that needs no page."""
    inner = draw(trace)
    head, rest = inner.split(">", 1)
    width, height = (float(n) for n in head.split('viewBox="0 0 ')[1].split('"')[0].split())
    notes = _wrapped(trace.note, int(width / LETTER))
    full = height + 28 + 16 * len(notes) + 8
    head = head.replace(f'viewBox="0 0 {width:.0f} {height:.0f}"', f'viewBox="0 0 {width:.0f} {full:.0f}"')
    below = "".join(
        text(8, 28 + height + 12 + 16 * k, line, "start", "note", room=width) for k, line in enumerate(notes)
    )
    size = f'{head} width="{width:.0f}" height="{full:.0f}"'
    return (
        f'{size}><style>{ALONE}</style><rect width="100%" height="100%" fill="#ffffff"/>'
        f'{text(8, 19, trace.title, "start", "title", room=width)}'
        f'<g transform="translate(0 28)">{rest.removesuffix("</svg>")}</g>{below}</svg>\n'
    )  # fmt: skip


def lines(figure: Lines) -> str:
    """Interaction plot: a line per model, intervals as bars, the zero line drawn, the baseline shaded."""
    top, left, right, plot = 30, 64, 12, 250
    n, count = len(figure.lines), max(1, len(figure.categories))
    width = max(WIDTH, left + right + count * min(64, max(34, 5 * n)))
    step = (width - left - right) / count
    y, ticks = _upwards([v for mark in figure.marks for v in ends(mark)], top, plot)
    x = [left + step * (i + 0.5) for i in range(count)]
    parts = []
    if figure.baseline in figure.categories:
        place = figure.categories.index(figure.baseline)
        parts.append(box(left + step * place, top, step, plot, "band"))
    parts.append(y_axis(ticks, y, left, width - right, figure.unit))
    names, below = _categories(figure.categories, x, top + plot, step)
    parts.append(names)
    for k, line in enumerate(figure.lines):
        offset = (k - (n - 1) / 2) * min(14.0, 0.8 * step / max(1, n))
        parts.append(_line(line.look, [(x[i] + offset, mark) for i, mark in enumerate(line.points)], y))
    keys = [Key(line.name, line.look) for line in figure.lines]
    entries, tall = legend(keys, left, top + plot + below + 16, width - left - right, lines=True)
    return document(figure, width, top + plot + below + 16 + tall, [*parts, entries])


def heat(figure: Heat) -> str:
    """Heat map with the number printed in each cell; a strong cell has a frame and a dot, not colour alone."""
    longest = max((len(name) for name in figure.rows), default=0)
    left = min(max(110, 24 + round(LETTER * longest)), 330)
    count = max(1, len(figure.columns))
    label = max((len(mark.label) for mark in figure.marks), default=0) + (2 if figure.strong else 0)
    width, right = max(WIDTH, left + 8 + max(34, LETTER * label + 10) * count), 8.0
    step = (width - left - right) / count
    turned = any(len(name) * LETTER > step - 6 for name in figure.columns)
    if turned:  # the last heading leans out of its column
        right = max(right, min(18, len(figure.columns[-1])) * LETTER * 0.82 - step / 2)
        width = max(width, left + right + max(34, LETTER * label + 10) * count)
        step = (width - left - right) / count
    row_height = 34 if len(figure.rows) <= 20 else 22
    above = min(18, max(len(n) for n in figure.columns)) * LETTER * 0.6 + 14 if turned and figure.columns else 26.0
    parts = [
        text(left + (j + 0.5) * step, above - 8, name, "start" if turned else "middle", "cat",
             room=18 * LETTER if turned else step, turn=-35 if turned else 0)
        for j, name in enumerate(figure.columns)
    ]  # fmt: skip
    for i, name in enumerate(figure.rows):
        middle = above + (i + 0.5) * row_height
        parts.append(text(left - 10, middle + 4, name, "end", "cat", room=left - 14))
        parts += [
            _cell(cell, figure.limit, left + j * step, middle, step, row_height)
            for j, cell in enumerate(figure.cells[i])
        ]
    bottom = above + row_height * len(figure.rows)
    parts.append(_ramp(figure, left, bottom + 12))
    said = [f"columns: {figure.columns_are}"] if figure.columns_are else []
    said += [f"● and frame: {figure.strong}"] if figure.strong else []
    for k, line in enumerate(said):
        start = left if left + LETTER * len(line) < width else 8
        parts.append(text(start, bottom + 44 + 17 * k, line, "start", "note", room=width - start))
    return document(figure, width, bottom + 34 + 17 * len(said), parts)


def forest(figure: Forest) -> str:
    """Forest plot: value and interval per row, its band, the placebo floor dotted."""
    longest = max((len(bar.label) for bar in figure.bars), default=0)
    left, right, top = min(max(110, 24 + round(LETTER * longest)), 330), 132, 14
    row_height = 26 if len(figure.bars) <= 24 else 18
    bottom = top + row_height * len(figure.bars) + 4
    bands = [m * side for bar in figure.bars if math.isfinite(m := bar.margin)
             for side in ((1,) if figure.one_sided else (1, -1))]  # fmt: skip
    x, ticks = _across([*(v for mark in figure.marks for v in ends(mark)), *bands], left, WIDTH - left - right)
    shade = "".join(
        _band(bar, figure.one_sided, top + (i + 0.5) * row_height, row_height, x) for i, bar in enumerate(figure.bars)
    )
    parts = [shade, x_axis(ticks, x, top, bottom, figure.unit)]
    for side in (-1, 1):
        if math.isfinite(figure.floor) and figure.floor > 0:
            parts.append(segment(x(side * figure.floor), x(side * figure.floor), top, bottom, kind="floor"))
    for i, bar in enumerate(figure.bars):
        middle = top + (i + 0.5) * row_height
        parts.append(text(left - 12, middle + 4, bar.label, "end", "cat", room=left - 16))
        parts.append(_bar(bar.look, bar.point, middle, x))
        parts.append(text(WIDTH - right + 10, middle + 4, bar.word, "start", "word", room=right - 10))
    if figure.band:
        parts.append(box(WIDTH - right - 150, bottom + 24, 22, 11, "band"))
        parts.append(text(WIDTH - right - 122, bottom + 34, figure.band, "start", "note"))
    return document(figure, WIDTH, bottom + 44, parts)


def opposed(figure: Opposed) -> str:
    """Bars in two directions from 0, the net with its interval on them."""
    longest = max((len(row.label) for row in figure.rows), default=0)
    left, right, top, row_height = min(max(110, 24 + round(LETTER * longest)), 330), 200, 30, 26
    bottom = top + row_height * len(figure.rows) + 4
    values = [v for row in figure.rows for v in (row.up.value, -row.down.value, *ends(row.net))]
    x, ticks = _across(values, left, WIDTH - left - right)
    parts = [x_axis(ticks, x, top, bottom, figure.unit)]
    parts.append(text(x(0) - 8, 16, f"◀ {figure.sides[0]}", "end", "note", room=x(0)))
    parts.append(text(x(0) + 8, 16, f"{figure.sides[1]} ▶", "start", "note"))
    for i, row in enumerate(figure.rows):
        parts.append(_pair(row, top + (i + 0.5) * row_height, left, right, x))
    return document(figure, WIDTH, bottom + 44, parts)


def scatter(figure: Scatter) -> str:
    """Shift with its interval against a cost relative to the baseline's; zero line and baseline drawn."""
    top, left, right, plot = 30, 64, 24, 270
    y, ticks = _upwards([v for mark in figure.marks for v in ends(mark)], top, plot)
    x_ticks = nice_ticks(*value_range([1.0, *(dot.x for dot in figure.dots)], zero=False), n=7)
    low, high = x_ticks[0], x_ticks[-1]

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - right)

    parts = [y_axis(ticks, y, left, WIDTH - right, figure.unit)]
    parts += [text(x(tick), top + plot + 18, number(tick), "middle", "tick") for tick in x_ticks]
    parts.append(segment(x(1), x(1), top, top + plot, kind="floor"))
    parts.append(text(x(1), top - 4, "baseline", "middle", "note"))
    parts.append(text(left, top + plot + 38, figure.x_unit, "start", "note", room=WIDTH - left))
    for dot in sorted(figure.dots, key=lambda dot: dot.point.strong):
        parts.append(_dot(dot, x, y))
    if len(figure.dots) <= 12:
        parts += _beside(figure.dots, x, y)
    keys = [Key(key.name, Look(key.look.colour, "circle", "")) for key in figure.accels]
    shapes = [Key(key.name, Look(GREY, key.look.marker, "")) for key in figure.models]
    first, tall = legend(keys, left, top + plot + 62, WIDTH - left - right)
    second, more = legend(shapes, left, top + plot + 62 + tall, WIDTH - left - right)
    return document(figure, WIDTH, top + plot + 62 + tall + more, [*parts, first, second])


def curve(figure: Curve) -> str:
    """One number over another with a wanted level."""
    top, left, right, plot = 30, 64, 24, 250
    ticks, x_ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], nice_ticks(0.0, max(figure.x, default=1.0))

    def x(value: float) -> float:
        return left + value / x_ticks[-1] * (WIDTH - left - right)

    def y(value: float) -> float:
        return top + (1 - value) * plot

    parts = [
        y_axis(ticks, y, left, WIDTH - right, figure.unit),
        segment(left, WIDTH - right, y(figure.level), y(figure.level), kind="floor"),
    ]
    parts.append(text(WIDTH - right, y(figure.level) - 5, f"{figure.level_name} {figure.level:g}", "end", "note"))
    parts += [text(x(tick), top + plot + 18, number(tick), "middle", "tick") for tick in x_ticks]
    parts.append(text(left, top + plot + 38, figure.x_unit, "start", "note", room=WIDTH - left))
    parts.append(_line(CURVE, [(x(v), mark) for v, mark in zip(figure.x, figure.points, strict=True)], y))
    return document(figure, WIDTH, top + plot + 52, parts)


DRAWN: dict[type[Trace], Callable[[Any], str]] = {
    Lines: lines, Heat: heat, Forest: forest, Opposed: opposed, Scatter: scatter, Curve: curve,
}  # fmt: skip


def _upwards(values: Sequence[float], top: float, plot: float) -> tuple[Scale, list[float]]:
    ticks = nice_ticks(*value_range(values))
    low, high = ticks[0], ticks[-1]
    return (lambda value: top + (high - value) / (high - low) * plot), ticks


def _across(values: Sequence[float], left: float, plot: float) -> tuple[Scale, list[float]]:
    ticks = nice_ticks(*value_range(values), n=7)
    low, high = ticks[0], ticks[-1]
    return (lambda value: left + (value - low) / (high - low) * plot), ticks


def _categories(names: Sequence[str], x: Sequence[float], bottom: float, step: float) -> tuple[str, float]:
    """Names under their places, turned where they would touch, and the height they take."""
    longest = max((len(name) for name in names), default=0)
    if longest * LETTER <= step - 6:
        return "".join(text(a, bottom + 18, n, "middle", "cat", room=step) for a, n in zip(x, names, strict=True)), 28
    shown = min(longest, 20)
    room = 20 * LETTER
    parts = [text(a + 4, bottom + 16, n, "end", "cat", room=room, turn=-32) for a, n in zip(x, names, strict=True)]
    return "".join(parts), 26 + shown * LETTER * 0.53


def _line(look: Look, places: Sequence[tuple[float, Mark]], y: Scale) -> str:
    there = [(x, mark) for x, mark in places if math.isfinite(mark.value)]
    path = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y(mark.value):.1f}" for i, (x, mark) in enumerate(there))
    parts = [f'<path d="{path}" fill="none" stroke="{look.colour}" stroke-width="2" stroke-dasharray="{look.dash}"/>']
    for x, mark in there:
        bar = segment(x, x, y(mark.low), y(mark.high), look.colour) if math.isfinite(mark.low) else ""
        parts.append(group(mark, bar + marker(look, x, y(mark.value), ringed=mark.strong)))
    return "".join(parts) if there else ""


def _cell(cell: Mark, limit: float, x: float, middle: float, width: float, height: float) -> str:
    share = cell.value / limit if math.isfinite(cell.value) else 0.0
    place = (x + 2, middle - height / 2 + 2, width - 4, height - 4)
    inner = box(*place, "cell", round_=4)
    if share:
        inner += box(*place, "pos" if share > 0 else "neg", opacity=OPACITY * abs(share), round_=4)
    inner += box(*place, "frame", round_=4) if cell.strong else ""
    label = f"● {cell.label}" if cell.strong else cell.label
    return group(cell, inner + text(x + width / 2, middle + 4, label, "middle", "val", room=width))


def _ramp(figure: Heat, left: float, y: float) -> str:
    """What the colours mean: from -limit to limit, or from 0 where nothing is below it."""
    below = any(m.value < 0 for m in figure.marks)
    shares = (-1.0, -0.5, 0.0, 0.5, 1.0) if below else (0.0, 0.25, 0.5, 0.75, 1.0)
    ends_ = (signed(-figure.limit) if below else "0", f"{signed(figure.limit)} {figure.unit}")
    parts = [text(left, y + 9, ends_[0], "start", "note")]
    start = left + 8 + LETTER * len(ends_[0])
    for k, share in enumerate(shares):
        parts.append(box(start + 16 * k, y, 16, 11, "cell"))
        parts.append(box(start + 16 * k, y, 16, 11, "pos" if share > 0 else "neg", opacity=OPACITY * abs(share)))
    return "".join([*parts, text(start + 86, y + 9, ends_[1], "start", "note")])


def _band(bar: Bar, one_sided: bool, middle: float, height: float, x: Scale) -> str:
    if not math.isfinite(bar.margin):
        return ""
    low, high = x(0.0 if one_sided else -bar.margin), x(bar.margin)
    return box(low, middle - height / 2 + 1, high - low, height - 2, "band")


def _bar(look: Look, mark: Mark, middle: float, x: Scale) -> str:
    if not math.isfinite(mark.value):
        return ""
    bar = segment(x(mark.low), x(mark.high), middle, middle, look.colour) if math.isfinite(mark.low) else ""
    return group(mark, bar + marker(look, x(mark.value), middle))


def _pair(row: Pair, middle: float, left: float, right: float, x: Scale) -> str:
    parts = [text(left - 12, middle + 4, row.label, "end", "cat", room=left - 16)]
    if math.isfinite(row.up.value):
        wide = x(row.up.value) - x(0)
        parts.append(group(row.up, box(x(0), middle - 8, wide, 16, "pos", opacity=OPACITY)))
        parts.append(
            group(row.down, box(x(-row.down.value), middle - 8, x(0) - x(-row.down.value), 16, "neg", opacity=OPACITY))
        )
    parts.append(_bar(row.look, row.net, middle, x))
    word = f"{row.down.label} ◀ ▶ {row.up.label}, {row.net.label}"
    parts.append(text(WIDTH - right + 10, middle + 4, word, "start", "word", room=right - 10))
    return "".join(parts)


def _dot(dot: Dot, x: Scale, y: Scale) -> str:
    mark, place = dot.point, x(dot.x)
    bar = segment(place, place, y(mark.low), y(mark.high), dot.look.colour) if math.isfinite(mark.low) else ""
    return group(mark, bar + marker(dot.look, place, y(mark.value), ringed=mark.strong))


def _beside(dots: Sequence[Dot], x: Scale, y: Scale) -> list[str]:
    """Labels right or left of their dots, a little higher or lower where they would touch; none where none fits."""
    parts: list[str] = []
    taken = [(x(d.x) - 7, x(d.x) + 7, y(d.point.value) - 6, y(d.point.value) + 6) for d in dots]
    for dot in dots:
        wide = LETTER * min(len(dot.label), 30)
        for side, down in ((1, 4), (-1, 4), (1, 17), (-1, 17), (1, -9), (-1, -9)):
            start = x(dot.x) + 12 if side > 0 else x(dot.x) - 12 - wide
            base = y(dot.point.value) + down
            area = (start, start + wide, base - 10, base + 3)
            if start > 60 and start + wide < WIDTH and not any(_overlap(area, other) for other in taken):
                taken.append(area)
                parts.append(text(start, base, dot.label, "start", "cat", room=30 * LETTER))
                break
    return parts


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


def _wrapped(content: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(content, max(40, width)) if content else []
