"""Pieces of an SVG: text that is cut and escaped, axes, markers, and the group that says what a mark is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from analysis.report.palette import Look
from analysis.report.shapes import Key, Mark, Trace
from analysis.words import shortened

WIDTH = 720
LETTER = 6.7  # px of one letter of the figures' 12 px type, on the wide side
GREY = "#6E7681"  # of a legend's shapes that stand for any colour
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


def document(trace: Trace, width: float, height: float, parts: Sequence[str]) -> str:
    """The whole figure; "wide" in its class where it needs more than a column of text."""
    label = escape(f"{trace.title}. {trace.text}", quote=True)
    kind = "figure wide" if width > WIDTH else "figure"
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{label}" class="{kind}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def group(mark: Mark, inner: str) -> str:
    """A mark that says what it is, to a pointer (data-tip) and to whatever reads titles."""
    tip = escape(mark.tip, quote=True)
    return f'<g class="m" data-tip="{tip.replace(chr(10), "&#10;")}"><title>{tip}</title>{inner}</g>'


def text(
    x: float, y: float, content: str, anchor: str, kind: str, *, room: float = 34 * LETTER, turn: float = 0
) -> str:
    """Text cut to `room` px, its whole then on hover; turn : degrees about its own place."""
    most = max(3, int(room / LETTER))
    short = shortened(content, most)
    whole = "" if short == content else f"<title>{escape(content)}</title>"
    tip = "" if short == content else f' data-tip="{escape(content, quote=True)}"'
    turned = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}"{turned}{tip}>'
        f"{whole}{escape(short)}</text>"
    )


def segment(x1: float, x2: float, y1: float, y2: float, colour: str = "", *, kind: str = "", dash: str = "") -> str:
    """A line, of a class of the page or of a colour of its own."""
    style = f'class="{kind}"' if kind else f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" {style}/>'


def box(x: float, y: float, width: float, height: float, kind: str, *, opacity: float = 1.0, round_: float = 0) -> str:
    """A rectangle of a class of the page."""
    corner = f' rx="{round_:g}"' if round_ else ""
    seen = f' fill-opacity="{opacity:.3f}"' if opacity < 1 else ""
    size = f'width="{max(0, width):.1f}" height="{height:.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size}{corner} class="{kind}"{seen}/>'


def marker(look: Look, x: float, y: float, *, scale: float = 1.0, ringed: bool = False) -> str:
    """A marker with a thin rim in the page's colour, so that neighbours stay apart; ringed : circled."""
    size = f" scale({scale:g})" if scale != 1 else ""
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9.5" class="frame" style="stroke-width:1.2"/>' if ringed else ""
    place = f'transform="translate({x:.1f} {y:.1f}){size}" fill="{look.colour}" fill-rule="evenodd"'
    return f'{ring}<path d="{MARKER_PATHS[look.marker]}" {place}/>'


def y_axis(ticks: Sequence[float], y: Scale, left: float, right: float, unit: str) -> str:
    """Grid lines, the zero line among them, with their numbers and the unit above."""
    parts = [text(left - 56, 14, unit, "start", "note")]
    for tick in ticks:
        parts.append(segment(left, right, y(tick), y(tick), kind="zero" if tick == 0 else "grid"))
        parts.append(text(left - 8, y(tick) + 4, number(tick), "end", "tick"))
    return "".join(parts)


def x_axis(ticks: Sequence[float], x: Scale, top: float, bottom: float, unit: str) -> str:
    """Likewise across."""
    parts = [text(x(ticks[0]), bottom + 34, unit, "start", "note", room=500)]
    for tick in ticks:
        parts.append(segment(x(tick), x(tick), top, bottom, kind="zero" if tick == 0 else "grid"))
        parts.append(text(x(tick), bottom + 17, number(tick), "middle", "tick"))
    return "".join(parts)


def legend(entries: Sequence[Key], left: float, y: float, width: float, *, lines: bool = False) -> tuple[str, float]:
    """Entries in as many rows as they need from `y` on, and the height they take; lines : with a piece of line."""
    mark = 36 if lines else 18
    x, start, parts = left, y, []
    for entry in entries:
        wide = mark + min(len(entry.name), 34) * LETTER + 18
        if x > left and x + wide > left + width:
            x, y = left, y + 20
        if lines:
            parts.append(segment(x, x + 28, y, y, entry.look.colour, dash=entry.look.dash))
        parts.append(marker(entry.look, x + (14 if lines else 7), y))
        parts.append(text(x + mark, y + 4, entry.name, "start", "cat", room=34 * LETTER))
        x += wide
    return "".join(parts), y - start + 20


def value_range(values: Sequence[float], *, zero: bool = True) -> tuple[float, float]:
    """Lowest and highest finite value with some room, 0 included if `zero`."""
    known = [v for v in values if math.isfinite(v)] + ([0.0] if zero else [])
    low, high = min(known, default=0.0), max(known, default=1.0)
    pad = 0.04 * ((high - low) or 1.0)
    return (low if zero and low >= 0 else low - pad), (high if zero and high <= 0 else high + pad)


def ends(mark: Mark) -> list[float]:
    """Value and interval of a mark."""
    return [mark.value, mark.low, mark.high]


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


def number(value: float) -> str:
    """A tick's number with a real minus sign.

    >>> number(-0.25), number(0.0)
    ('−0.25', '0')
    """
    return f"{value:g}".replace("-", "−")
