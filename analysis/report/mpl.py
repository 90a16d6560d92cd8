"""Thin renderer: the same traces to matplotlib, for figures in papers (svg, png) and the README's picture."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.report.cost import Scatter
from analysis.report.traces import Forest, Heat, Lines

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

LONGEST = 60  # characters of a label


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """An empty figure of `columns` panels, in inches, drawn without any window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def draw_lines(axes: Axes, trace: Lines) -> None:
    """The interaction plot."""
    n = len(trace.lines)
    for k, line in enumerate(trace.lines):
        x = [i + (k - (n - 1) / 2) * 0.06 for i in range(len(line.points))]
        y = [p.value for p in line.points]
        low = [p.value - p.low if math.isfinite(p.low) else 0.0 for p in line.points]
        high = [p.high - p.value if math.isfinite(p.high) else 0.0 for p in line.points]
        axes.errorbar(x, y, yerr=[low, high], color=line.look.colour, marker=MARKERS[line.look.marker], capsize=3,
                      label=_plain(line.name), linestyle=_dash(line.look.dash))  # fmt: skip
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set_xticks(range(len(trace.categories)), [_plain(c) for c in trace.categories], rotation=20, ha="right")
    axes.set_ylabel(_plain(trace.unit))
    axes.set_title(_plain(trace.title), fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def draw_heat(axes: Axes, trace: Heat) -> None:
    """The heat map, numbers printed; a strong cell is framed."""
    values = [[c.value for c in row] for row in trace.cells]
    axes.imshow(values, cmap="PuOr_r", vmin=-trace.limit, vmax=trace.limit, aspect="auto", alpha=0.85)
    for i, row in enumerate(trace.cells):
        for j, cell in enumerate(row):
            axes.text(
                j,
                i,
                _plain(cell.label),
                ha="center",
                va="center",
                fontsize=9,
                weight="bold" if cell.strong else "normal",
                color="white" if abs(cell.value) > 0.7 * trace.limit else "black",
            )
            if cell.strong:
                from matplotlib.patches import Rectangle

                axes.add_patch(
                    Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor="black", linewidth=1.5)
                )
    axes.set_xticks(range(len(trace.columns)), [_plain(c) for c in trace.columns], rotation=20, ha="right")
    axes.set_yticks(range(len(trace.rows)), [_plain(r) for r in trace.rows])
    axes.set_title(_plain(f"{trace.title} ({trace.unit})"), fontsize=10)


def draw_forest(axes: Axes, trace: Forest) -> None:
    """Shifts with intervals, the margin as a band."""
    for i, bar in enumerate(trace.bars):
        y = len(trace.bars) - 1 - i
        if math.isfinite(bar.margin):
            axes.barh(y, 2 * bar.margin, left=-bar.margin, height=0.8, color="0.9")
        if math.isfinite(bar.point.low):
            axes.plot([bar.point.low, bar.point.high], [y, y], color=bar.look.colour)
        if math.isfinite(bar.point.value):
            axes.plot([bar.point.value], [y], color=bar.look.colour, marker=MARKERS[bar.look.marker], linestyle="")
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(range(len(trace.bars)), [_plain(bar.label) for bar in reversed(trace.bars)])
    axes.set_xlabel(_plain(trace.unit))
    axes.set_title(_plain(trace.title), fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def draw_scatter(axes: Axes, trace: Scatter) -> None:
    """Shift with its interval against a share of the baseline's cost."""
    for dot in trace.dots:
        p = dot.point
        low, high = (p.value - p.low, p.high - p.value) if math.isfinite(p.low) else (0.0, 0.0)
        axes.errorbar([dot.x], [p.value], yerr=[[low], [high]], color=dot.look.colour, marker=MARKERS[dot.look.marker],
                      capsize=3, linestyle="")  # fmt: skip
        axes.annotate(_plain(dot.label), (dot.x, p.value), xytext=(6, 3), textcoords="offset points", fontsize=8)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set_xlim(left=0, right=1.25 * max(1.0, *(dot.x for dot in trace.dots)))
    axes.set_xlabel(_plain(trace.x_unit))
    axes.set_ylabel(_plain(trace.unit))
    axes.set_title(_plain(trace.title), fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path, *, dpi: int = 150) -> Path:
    """Write the figure; the ending of `path` decides the format. Same bytes on every run."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "biaslab"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for it
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=dpi, metadata=metadata)
    return path


def _plain(text: str) -> str:
    """Text that matplotlib will not read as mathematics, cut where it would push the axes away."""
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return short.replace("$", r"\$")


def _dash(dash: str) -> Any:
    return (0, tuple(float(n) for n in dash.split())) if dash else "-"
