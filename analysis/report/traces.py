"""Figures as plain numbers, labels and units. Renderers draw these and compute nothing; tests read these."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.flips import FlipBin
from analysis.report.palette import Look, looks
from analysis.study import BenchmarkResult, Estimate, Study
from analysis.words import interval_text, p_text, signed


@dataclass(frozen=True)
class Point:
    """One estimate with its interval; NaN where it cannot be given. note : what hovering shows."""

    value: float
    low: float
    high: float
    note: str


@dataclass(frozen=True)
class Line:
    """A named series over the figure's categories."""

    name: str
    look: Look
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Lines:
    """An interaction plot: a line per model over the accelerators, parallel lines meaning no interaction."""

    title: str
    unit: str
    categories: tuple[str, ...]
    lines: tuple[Line, ...]
    text: str


@dataclass(frozen=True)
class HeatCell:
    """value : number behind the colour; label : printed; strong : marked as standing out."""

    value: float
    label: str
    strong: bool
    note: str


@dataclass(frozen=True)
class Heat:
    """A heat map, colours centred on 0 and reaching `limit` on either side."""

    title: str
    unit: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[HeatCell, ...], ...]
    limit: float
    text: str


@dataclass(frozen=True)
class Bar:
    """One row of a forest plot. margin : half-width of the cell's own equivalence band (NaN for none)."""

    label: str
    look: Look
    point: Point
    margin: float
    word: str


@dataclass(frozen=True)
class Forest:
    """Shifts with intervals against each cell's equivalence margin and the placebo floor (NaN for none)."""

    title: str
    unit: str
    bars: tuple[Bar, ...]
    floor: float
    text: str


def marked(study: Study, model: str) -> str:
    """The model's name, with a dagger where it carries a note (a control made on purpose)."""
    return f"{model} †" if study.models.get(model) else model


def interaction(study: Study, b: BenchmarkResult) -> Lines:
    """Mean item score of each cell with its interval."""
    found = {(m.model, m.accel): m.estimate for m in b.means}
    accels = tuple(a for a in study.accels if any(key[1] == a for key in found))
    styles = looks(list(study.models))
    models = [model for model in study.models if any(key[0] == model for key in found)]
    lines = tuple(
        Line(
            marked(study, model),
            styles[model],
            tuple(_point(found.get((model, accel)), f"{model} under {accel}", b.unit, study) for accel in accels),
        )
        for model in models
    )
    text = (
        f"Mean score of {b.title} ({b.unit}) for {', '.join(models)} under {', '.join(accels)}. "
        "Lines that are not parallel are an interaction."
    )
    return Lines(f"{b.title}: mean score by accelerator", b.unit, accels, lines, text)


def shift_heat(study: Study, b: BenchmarkResult) -> Heat:
    """Shifts of every cell; strong where the verdict is "changed"."""
    cells = {
        (s.model, s.accel): _heat(s.estimate, s.verdict == "changed", f"{s.model} {s.accel}: {s.sentence}")
        for s in b.shifts
    }
    return _heat_map(
        study, b, f"{b.title}: shift from the baseline", cells, "Marked cells changed by more than chance and margin."
    )


def difference_heat(study: Study, b: BenchmarkResult) -> Heat:
    """Difference-in-differences; strong where the adjusted p is at most alpha."""
    alpha = float(study.settings.get("alpha", 0.05))
    cells = {
        (d.model, d.accel): _heat(
            d.estimate, d.estimate.p_adjusted <= alpha, f"{d.model} {d.accel}: {_numbers(d.estimate, b.unit, study)}"
        )
        for d in b.differences
    }
    text = "Marked cells differ from the other models' shift after adjustment for all cells."
    return _heat_map(study, b, f"{b.title}: shift minus the other models' mean shift", cells, text)


def forest(study: Study, b: BenchmarkResult) -> Forest:
    """Every shift with its interval, model by model."""
    styles = looks(list(study.models))
    bars = tuple(
        Bar(
            f"{marked(study, s.model)}  {s.accel}",
            styles[s.model],
            _point(s.estimate, f"{s.model} {s.accel}", b.unit, study),
            s.margin,
            s.verdict,
        )
        for s in sorted(
            b.shifts, key=lambda s: (study.accels.index(s.accel) if s.accel in study.accels else 99, s.model)
        )
    )
    text = (
        f"Shifts of {b.title} in {b.unit} with intervals; the band is the "
        "equivalence margin, inside which a shift counts as unchanged."
    )
    return Forest(f"{b.title}: shifts against the margin", b.unit, bars, b.floor.get("shift", math.nan), text)


def flip_heat(study: Study, b: BenchmarkResult) -> Heat:
    """Share of flipped answers by decile of the baseline's |score|, an arm a row, placebos left out."""
    rates = {(f.model, f.accel, f.bin): f for f in b.flip_profile}
    placebos = {(s.model, s.accel) for s in b.shifts if s.verdict == "placebo"}
    arms = [a for a in dict.fromkeys((f.model, f.accel) for f in b.flip_profile) if a not in placebos]
    bins = tuple(sorted({f.bin for f in b.flip_profile}))
    grid = [tuple(_flip_cell(rates.get((*arm, k)), " ".join(arm)) for k in bins) for arm in arms]
    sizes = [c.value for row in grid for c in row if math.isfinite(c.value)]
    return Heat(
        f"{b.title}: flipped answers by how sure the baseline was", "% of items",
        tuple(f"{marked(study, m)} {a}" for m, a in arms), tuple(str(k) for k in bins), tuple(grid),
        max(sizes, default=0.0) or 1.0,
        "Share of items whose answer changed, from the tenth that the baseline was least sure of (1) to the surest.",
    )  # fmt: skip


def _flip_cell(f: FlipBin | None, name: str) -> HeatCell:
    if f is None:
        return HeatCell(math.nan, "—", False, "not there")
    counted = f"{f.n_flipped} of {f.rate.n_items} flipped, |score| {f.low:.3g} to {f.high:.3g}"
    return HeatCell(f.rate.value, f"{100 * f.rate.value:.0f}", False, f"{name}: {counted}")


def transfer_heat(study: Study) -> Heat:
    """Correlation of shifts between benchmarks, the foretelling one in the row; strong where the interval is off 0."""
    found = {(t.source, t.target): t for t in study.transfers if t.kind == "benchmark"}
    names = tuple(dict.fromkeys(name for pair in found for name in pair))
    own = HeatCell(math.nan, "—", False, "itself")

    def cell(pair: tuple[str, str]) -> HeatCell:
        t = found.get(pair)
        if t is None:
            return own
        off = math.isfinite(t.r_low) and (t.r_low > 0 or t.r_high < 0)
        note = f"{t.source} to {t.target}: r {t.r:.2f} [{t.r_low:.2f}, {t.r_high:.2f}], R2 {t.r2:.2f}, {t.n} cells"
        return HeatCell(t.r, f"{t.r:.2f}" if math.isfinite(t.r) else "—", off, note)

    grid = tuple(tuple(cell((a, b)) for b in names) for a in names)
    return Heat(
        "Transfer between benchmarks", "correlation of shifts over cells", names, names, grid, 1.0,
        "Does a shift on the benchmark of the row go with one on that of the column? Marked: interval off 0.",
    )  # fmt: skip


def _heat_map(study: Study, b: BenchmarkResult, title: str, cells: dict[tuple[str, str], HeatCell], text: str) -> Heat:
    columns = tuple(a for a in study.accels if any(key[1] == a for key in cells))
    models = tuple(model for model in study.models if any(key[0] == model for key in cells))
    absent = HeatCell(math.nan, "—", False, "not there")
    grid = tuple(tuple(cells.get((model, accel), absent) for accel in columns) for model in models)
    sizes = [abs(c.value) for row in grid for c in row if math.isfinite(c.value)]
    return Heat(
        title, b.unit, tuple(marked(study, m) for m in models), columns, grid, max(sizes, default=0.0) or 1.0, text
    )


def _heat(e: Estimate, strong: bool, note: str) -> HeatCell:
    return HeatCell(e.value, signed(e.value) if math.isfinite(e.value) else "—", strong, note)


def _point(e: Estimate | None, name: str, unit: str, study: Study) -> Point:
    if e is None:
        return Point(math.nan, math.nan, math.nan, f"{name}: not there")
    return Point(e.value, e.ci_low, e.ci_high, f"{name}: {_numbers(e, unit, study)}")


def _numbers(e: Estimate, unit: str, study: Study) -> str:
    if not math.isfinite(e.value):
        return e.reason or "no estimate"
    alpha = float(study.settings.get("alpha", 0.05))
    interval = interval_text(e.ci_low, e.ci_high, alpha)
    text = f"{signed(e.value)} {unit} {interval}, n = {e.n_items} items in {e.n_clusters} clusters"
    return text + (f", adjusted {p_text(e.p_adjusted)}" if math.isfinite(e.p_adjusted) else "")
