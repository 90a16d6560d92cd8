"""Thin renderer: the same traces to matplotlib, for figures in papers (png, pdf) and the README's picture."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.report.palette import Look
from analysis.report.shapes import Curve, Forest, Heat, Lines, Mark, Opposed, Scatter, Trace
from analysis.report.svg_parts import GREY
from analysis.report.traces_across import CURVE
from analysis.words import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {
    "circle": "o",
    "ring": "o",
    "square": "s",
    "triangle": "^",
    "down": "v",
    "diamond": "D",
    "cross": "X",
    "plus": "P",
}
LONGEST = 48  # characters of a label
WIDE = 6.4  # inches
BAND, SOFT, INK = "#dfe5ec", "#57606a", "#1b1f24"
POSITIVE, NEGATIVE = "#c2410c", "#5b3fa8"


def new_figure(width: float, height: float, columns: int = 1, *, layout: Any = "constrained") -> tuple[Figure, Any]:
    """An empty figure of `columns` panels, in inches, drawn without any window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def draw(trace: Trace) -> Figure:
    """Any figure on a page of its own, as large as it needs to be, its note below."""
    left, right, below, wide, tall = room(trace)
    width = left + wide + right
    notes = _wrapped(trace.note, round(15.5 * width))
    foot = 0.12 * len(notes) + 0.1
    height = 0.4 + tall + below + foot
    # Margins from the lengths of the labels: matplotlib's own layout engine takes longer than all the rest.
    figure, axes = new_figure(width, height, layout=None)
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, bottom=(below + foot) / height, top=1 - 0.4 / height
    )
    DRAWN[type(trace)](axes, trace)
    figure.text(0.1 / width, 0.06 / height, _plain("\n".join(notes), most=4000), fontsize=7.5, color=SOFT, va="bottom")
    figure.text(0.1 / width, 1 - 0.1 / height, _plain(_title(trace), most=round(12.5 * width)), fontsize=10, va="top")
    axes.set_title("", loc="left")  # the axes start too far right for it
    return figure


def room(trace: Trace) -> tuple[float, float, float, float, float]:
    """Inches left, right and below of the axes, and their width and height."""
    if isinstance(trace, Heat):
        left = _length(trace.rows)
        cell = max(0.5, max((len(mark.label) for mark in trace.marks), default=0) * 0.075 + 0.1)
        wide = max(WIDE - left - 0.15, cell * len(trace.columns))
        row = 0.36 if len(trace.rows) <= 20 else 0.22
        lines = len(_legend(trace, wide))
        return left, 0.15, 0.22 + 0.13 * lines + _turned(trace.columns, wide), wide, row * max(1, len(trace.rows))
    if isinstance(trace, Forest | Opposed):
        rows = trace.bars if isinstance(trace, Forest) else trace.rows
        left, right = _length([row.label for row in rows]), 1.3
        row = 0.26 if len(rows) <= 24 else 0.18
        return left, right, 0.5, WIDE - left - right, row * max(2, len(rows))
    if isinstance(trace, Lines):
        right = _length([line.name for line in trace.lines]) + 0.5 if len(trace.lines) > 4 else 0.15
        wide = max(WIDE - 0.75 - right, 0.36 * len(trace.categories))
        return 0.75, right, 0.15 + _turned(trace.categories, wide), wide, 2.8
    if isinstance(trace, Scatter):
        right = 0.5 + _length([key.name for key in (*trace.accels, *trace.models)])
        return 0.75, right, 0.5, max(3.6, WIDE - 0.75 - right), max(3.0, 0.17 * len((*trace.accels, *trace.models)))
    return 0.75, 0.2, 0.5, WIDE - 0.95, 3.0


def _length(labels: Sequence[str]) -> float:
    """Inches that the longest label takes."""
    return 0.25 + 0.072 * min(LONGEST, max(map(len, labels), default=0))


def _turned(labels: Sequence[str], wide: float) -> float:
    """Inches that the labels under an axis take, turned where they would touch."""
    return 0.12 + 0.04 * min(24, max(map(len, labels), default=0)) if _touch(labels, wide) else 0.15


def _touch(labels: Sequence[str], wide: float) -> bool:
    return max(map(len, labels), default=0) * 0.068 > wide / max(1, len(labels)) - 0.08


def draw_lines(axes: Axes, trace: Lines) -> None:
    """The interaction plot, its baseline shaded."""
    n = len(trace.lines)
    if trace.baseline in trace.categories:
        place = trace.categories.index(trace.baseline)
        axes.axvspan(place - 0.5, place + 0.5, color=BAND, zorder=0, linewidth=0)
    for k, line in enumerate(trace.lines):
        x = [i + (k - (n - 1) / 2) * min(0.1, 0.8 / max(1, n)) for i in range(len(line.points))]
        _errors(axes, x, line.points, line.look, linestyle=_dash(line.look.dash), label=_plain(line.name))
    axes.axhline(0, color=INK, linewidth=0.8)
    _names_below(axes, trace.categories)
    axes.set_xlim(-0.5, max(0.5, len(trace.categories) - 0.5))
    axes.set_ylabel(_plain(trace.unit))
    _finish(axes, trace)
    if n > 4:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    elif n:
        axes.legend(frameon=False, fontsize=9)


def draw_heat(axes: Axes, trace: Heat) -> None:
    """The heat map, numbers printed; a strong cell is framed."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    values = [[c.value for c in row] for row in trace.cells]
    colours = LinearSegmentedColormap.from_list("signed", [NEGATIVE, "#ffffff", POSITIVE])
    axes.imshow(values, cmap=colours, vmin=-trace.limit, vmax=trace.limit, aspect="auto", alpha=0.6)
    for i, row in enumerate(trace.cells):
        for j, cell in enumerate(row):
            axes.text(j, i, _plain(cell.label), ha="center", va="center", fontsize=8, color=INK,
                      weight="bold" if cell.strong else "normal")  # fmt: skip
            if cell.strong:
                axes.add_patch(Rectangle((j - 0.46, i - 0.44), 0.92, 0.88, fill=False, edgecolor=INK, linewidth=1.3))
    _names_below(axes, trace.columns)
    axes.set_yticks(range(len(trace.rows)), [_plain(r) for r in trace.rows], fontsize=8)
    axes.set_xlabel(_plain("\n".join(_legend(trace, _inches(axes))), most=400), fontsize=8, color=SOFT)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(_plain(_title(trace), most=100), fontsize=10, loc="left")


def draw_forest(axes: Axes, trace: Forest) -> None:
    """Values with intervals, the margin as a band, the word on the right."""
    n = len(trace.bars)
    for i, bar in enumerate(trace.bars):
        y = n - 1 - i
        if math.isfinite(bar.margin):
            low, wide = (0.0, bar.margin) if trace.one_sided else (-bar.margin, 2 * bar.margin)
            axes.barh(y, wide, left=low, height=0.9, color=BAND, zorder=0)
        _across(axes, bar.point, y, bar.look)
        axes.text(1.01, y, _plain(bar.word), transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=SOFT)
    if math.isfinite(trace.floor) and trace.floor > 0:
        for side in (-1, 1):
            axes.axvline(side * trace.floor, color=SOFT, linewidth=0.8, linestyle=":")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(n), [_plain(bar.label) for bar in reversed(trace.bars)], fontsize=8)
    axes.set_ylim(-0.6, max(0.6, n - 0.4))
    axes.set_xlabel(_plain(trace.unit))
    _finish(axes, trace)


def draw_opposed(axes: Axes, trace: Opposed) -> None:
    """Bars in two directions from 0 with the net on them."""
    n = len(trace.rows)
    for i, row in enumerate(trace.rows):
        y = n - 1 - i
        if math.isfinite(row.up.value):
            axes.barh(y, row.up.value, height=0.7, color=POSITIVE, alpha=0.6)
            axes.barh(y, -row.down.value, height=0.7, color=NEGATIVE, alpha=0.6)
        _across(axes, row.net, y, row.look)
        axes.text(1.01, y, _plain(row.net.label), transform=axes.get_yaxis_transform(), va="center", fontsize=8,
                  color=SOFT)  # fmt: skip
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(n), [_plain(row.label) for row in reversed(trace.rows)], fontsize=8)
    axes.set_ylim(-0.6, max(0.6, n - 0.4))
    axes.set_xlabel(_plain(f"{trace.unit};  left: {trace.sides[0]}, right: {trace.sides[1]}", most=120), fontsize=9)
    _finish(axes, trace)


def draw_scatter(axes: Axes, trace: Scatter) -> None:
    """Shift with its interval against a share of the baseline's cost; the front ringed."""
    from matplotlib.lines import Line2D

    for dot in trace.dots:
        _errors(axes, [dot.x], [dot.point], dot.look, linestyle="")
        if dot.point.strong:
            axes.plot([dot.x], [dot.point.value], marker="o", markersize=13, fillstyle="none", color=INK,
                      markeredgewidth=0.9, linestyle="")  # fmt: skip
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvline(1, color=SOFT, linewidth=0.8, linestyle=":")
    axes.margins(x=0.08)
    axes.set_xlabel(_plain(trace.x_unit, most=90))
    axes.set_ylabel(_plain(trace.unit))
    handles = [_shape(Line2D, key.look.colour, "circle", key.name) for key in trace.accels]
    handles += [_shape(Line2D, GREY, key.look.marker, key.name) for key in trace.models]
    handles.append(_shape(Line2D, INK, "ring", trace.strong, markersize=11))
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _finish(axes, trace)


def draw_curve(axes: Axes, trace: Curve) -> None:
    """One number over another with a wanted level."""
    _errors(axes, list(trace.x), trace.points, CURVE, linestyle="-")
    axes.axhline(trace.level, color=SOFT, linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 1.03)
    axes.set_xlim(left=0)
    axes.set_xlabel(_plain(trace.x_unit))
    axes.set_ylabel(_plain(trace.unit))
    _finish(axes, trace)


DRAWN: dict[type[Trace], Callable[[Axes, Any], None]] = {
    Lines: draw_lines, Heat: draw_heat, Forest: draw_forest, Opposed: draw_opposed, Scatter: draw_scatter,
    Curve: draw_curve,
}  # fmt: skip


def save(figure: Figure, path: Path, *, dpi: int = 150) -> Path:
    """Write the figure; the ending of `path` decides the format. Same bytes on every run."""
    with _settings():
        figure.savefig(path, dpi=dpi, metadata={"Date": None} if path.suffix == ".svg" else {})
    return path


@contextmanager
def pages(path: Path) -> Iterator[Callable[[Figure], None]]:
    r"""A PDF of many figures with TrueType fonts; what it yields adds a page.

    One file, because embedding the fonts takes longer than drawing: LaTeX takes a page of it by
    \includegraphics[page=3]{figures.pdf}.
    """
    from matplotlib.backends.backend_pdf import PdfPages

    with _settings(), PdfPages(path, metadata={"CreationDate": None}) as file:
        yield lambda figure: file.savefig(figure)


@contextmanager
def _settings() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "biaslab", "pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for it
        yield


def _errors(axes: Axes, x: Sequence[float], marks: Sequence[Mark], look: Look, **style: Any) -> None:
    y = [p.value for p in marks]
    low = [p.value - p.low if math.isfinite(p.low) else 0.0 for p in marks]
    high = [p.high - p.value if math.isfinite(p.high) else 0.0 for p in marks]
    axes.errorbar(x, y, yerr=[low, high], color=look.colour, capsize=3, **_marker(look.marker), **style)


def _across(axes: Axes, mark: Mark, y: float, look: Look) -> None:
    if math.isfinite(mark.low):
        axes.plot([mark.low, mark.high], [y, y], color=look.colour, zorder=3)
    if math.isfinite(mark.value):
        axes.plot([mark.value], [y], color=look.colour, linestyle="", zorder=4, **_marker(look.marker))


def _marker(name: str) -> dict[str, Any]:
    return {"marker": MARKERS[name], "markersize": 5.5} | ({"fillstyle": "none"} if name == "ring" else {})


def _shape(line: Any, colour: str, name: str, label: str, **style: Any) -> Any:
    return line([], [], color=colour, linestyle="", label=_plain(label), **(_marker(name) | style))


def _legend(trace: Heat, wide: float) -> list[str]:
    """What columns and frames are, in lines that fit under the axes."""
    said = [trace.columns_are, f"framed: {trace.strong}" if trace.strong else ""]
    return _wrapped(". ".join(filter(None, said)), max(30, round(15 * wide)))


def _inches(axes: Axes) -> float:
    figure = axes.get_figure(root=True)
    assert figure is not None  # an axes is always of a figure
    return float(axes.get_position().width * figure.get_figwidth())


def _names_below(axes: Axes, names: Sequence[str]) -> None:
    turned = _touch(names, _inches(axes))
    axes.set_xticks(range(len(names)), [_plain(name, most=24) for name in names], rotation=25 if turned else 0,
                    ha="right" if turned else "center", fontsize=8)  # fmt: skip


def _title(trace: Trace) -> str:
    return f"{trace.title} ({trace.unit})" if isinstance(trace, Heat) else trace.title


def _finish(axes: Axes, trace: Trace) -> None:
    axes.set_title(_plain(_title(trace), most=90), fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _plain(text: str, most: int = LONGEST) -> str:
    """Text that matplotlib will not read as mathematics, cut where it would push the axes away."""
    return shortened(text, most).replace("$", r"\$")


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)


def _dash(dash: str) -> Any:
    return (0, tuple(float(n) for n in dash.split())) if dash else "-"
