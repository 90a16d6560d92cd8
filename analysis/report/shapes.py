"""What a figure is made of: plain numbers, names, units and looks. Nothing here draws or computes a statistic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.report.palette import Look
from analysis.words import interval_text, p_text, plural, signed


@dataclass(frozen=True)
class Mark:
    """One drawn number with all that a reader may want to know of it; NaN where it cannot be given.

    names : what it is of, such as {"model": ..., "accel": ...}. low, high : its interval, of coverage 1 - alpha.
    more : further columns of the figure's table, shown on hover too. label : printed beside or inside the mark.
    strong : stands out in the sense that the figure's `strong` spells out. reason : why there is no value.
    """

    names: Mapping[str, str]
    value: float
    unit: str
    low: float = math.nan
    high: float = math.nan
    n_items: int | None = None
    n_clusters: int | None = None
    alpha: float = 0.05
    more: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    strong: bool = False
    reason: str = ""

    @property
    def tip(self) -> str:
        """What hovering shows: a line each for whose it is, value with interval, n, and the rest."""
        lines = [who(self.names), self._numbers()]
        clusters = plural(self.n_clusters, "cluster") if self.n_clusters is not None else ""
        items = plural(self.n_items, "item") if self.n_items is not None else ""
        if items or clusters:
            lines.append(f"n = {' in '.join(filter(None, [items, clusters]))}")
        lines += [said for name, value in self.more.items() if (said := _said(name, value))]
        return "\n".join(lines)

    def _numbers(self) -> str:
        if not math.isfinite(self.value):
            return self.reason or "not known"
        interval = f" ({interval_text(self.low, self.high, self.alpha)})" if math.isfinite(self.low) else ""
        return f"{signed(self.value)} {self.unit}{interval}"


@dataclass(frozen=True)
class Line:
    """A named series over the figure's categories."""

    name: str
    look: Look
    points: tuple[Mark, ...]


@dataclass(frozen=True)
class Trace:
    """What every figure has. text : the alternative for who cannot see it, made of its numbers; note : how to read."""

    title: str
    unit: str
    text: str
    note: str

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Every number that is drawn, in the order of the figure."""
        raise NotImplementedError


@dataclass(frozen=True)
class Lines(Trace):
    """A line per series over categories; `baseline` is the category that the others are held against."""

    categories: tuple[str, ...]
    lines: tuple[Line, ...]
    baseline: str = ""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Series by series."""
        return tuple(p for line in self.lines for p in line.points)


@dataclass(frozen=True)
class Heat(Trace):
    """A heat map, colours centred on 0 and reaching `limit` on either side.

    columns_are : what the columns are, said under them. strong : what a marked cell is, "" where none can be.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Mark, ...], ...]
    limit: float
    columns_are: str = ""
    strong: str = ""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Row by row."""
        return tuple(cell for row in self.cells for cell in row)


@dataclass(frozen=True)
class Bar:
    """One row of a forest plot. margin : half-width of its band about 0 (NaN for none); word : said beside it."""

    label: str
    look: Look
    point: Mark
    margin: float = math.nan
    word: str = ""


@dataclass(frozen=True)
class Forest(Trace):
    """Values with intervals, one a row, against a band; floor : what noise alone does, either side (NaN for none).

    band : what the band is, "" for none. one_sided : the band reaches from 0 upwards only.
    """

    bars: tuple[Bar, ...]
    floor: float = math.nan
    band: str = ""
    one_sided: bool = False

    @property
    def marks(self) -> tuple[Mark, ...]:
        """From the top."""
        return tuple(bar.point for bar in self.bars)


@dataclass(frozen=True)
class Pair:
    """One row of opposed bars: `up` to the right, `down` (a positive number) to the left, `net` with its interval."""

    label: str
    look: Look
    up: Mark
    down: Mark
    net: Mark


@dataclass(frozen=True)
class Opposed(Trace):
    """Bars in two directions from 0 with their net; sides : what left and right mean."""

    rows: tuple[Pair, ...]
    sides: tuple[str, str]

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Row by row: up, down, net."""
        return tuple(mark for row in self.rows for mark in (row.up, row.down, row.net))


@dataclass(frozen=True)
class Dot:
    """One point of a scatter: `x` across, `point` with its interval upwards; the accel's colour, the model's shape."""

    label: str
    look: Look
    x: float
    point: Mark


@dataclass(frozen=True)
class Key:
    """One entry of a legend."""

    name: str
    look: Look


@dataclass(frozen=True)
class Scatter(Trace):
    """Value against a cost relative to the baseline's, which stands at 1. strong dots are on the Pareto front."""

    x_unit: str
    dots: tuple[Dot, ...]
    models: tuple[Key, ...]
    accels: tuple[Key, ...]
    strong: str = ""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Dot by dot."""
        return tuple(dot.point for dot in self.dots)


@dataclass(frozen=True)
class Curve(Trace):
    """One number over another, both from 0; level : a height that is wanted, drawn dashed."""

    x_unit: str
    x: tuple[float, ...]
    points: tuple[Mark, ...]
    level: float
    level_name: str

    @property
    def marks(self) -> tuple[Mark, ...]:
        """From left to right."""
        return self.points


def who(names: Mapping[str, str]) -> str:
    """Such as "a under hqq4", or "a under hqq4, bin 3".

    >>> who({"model": "a", "accel": "hqq4"}), who({"model": "a", "accel": "hqq4", "bin": "3"}), who({"accel": "x"})
    ('a under hqq4', 'a under hqq4, bin 3', 'accel x')
    """
    rest = dict(names)
    parts = []
    if {"model", "accel"} <= rest.keys():
        parts.append(f"{rest.pop('model')} under {rest.pop('accel')}")
    return ", ".join([*parts, *(f"{key} {value}" for key, value in rest.items())])


def _said(name: str, value: Any) -> str:
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if name == "p_adjusted":
        return f"adjusted {p_text(value)}"
    if isinstance(value, bool):
        return name.replace("_", " ") if value else ""
    return f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
