"""Figures of one benchmark's scores as plain numbers, labels and units. Renderers draw these and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.contrasts import BASELINE
from analysis.report.palette import Look, looks
from analysis.report.shapes import Bar, Forest, Heat, Line, Lines, Mark, who
from analysis.study import BenchmarkResult, Estimate, Study
from analysis.words import listing, plural, shortened, signed

MOST_ROWS = 40  # of a forest plot, and of a heat map that has a row an arm
MOST_COLUMNS = 12  # of a heat map whose columns are no accelerators
INTERVALS = "Bars are {level:g} % intervals, robust to clusters of items"


def marked(study: Study, model: str, *, short: str = "") -> str:
    """The model's name (or `short`), with a dagger where it carries a note (a control made on purpose)."""
    return f"{short or model} †" if study.models.get(model) else short or model


def arm_label(study: Study, model: str, accel: str) -> str:
    """Both names in one label, each cut so that the other stays; hovering has them whole."""
    return f"{marked(study, model, short=shortened(model, 24))}  {shortened(accel, 20)}"


def interaction(study: Study, b: BenchmarkResult) -> Lines:
    """Mean item score of each cell with its interval, the baseline first."""
    found = {(m.model, m.accel): m.estimate for m in b.means}
    accels = tuple(a for a in study.accels if any(key[1] == a for key in found))
    styles = model_looks(study, b.means)
    models = [model for model in study.models if any(key[0] == model for key in found)]
    lines = tuple(
        Line(
            marked(study, model),
            styles[model],
            tuple(estimate_mark(found.get((model, a)), {"model": model, "accel": a}, b.unit, study) for a in accels),
        )
        for model in models
    )
    text = f"Mean score in {b.unit} under {plural(len(accels), 'arm')}. " + "; ".join(map(_largest_step, lines)) + "."
    note = (
        f"{INTERVALS.format(level=level(study))}. {answered(b)} Lines that are not parallel are an interaction; "
        f"the shaded column is the baseline."
    )
    return Lines(f"{b.title}: mean score by accelerator", b.unit, text, note, accels, lines,
                 BASELINE if BASELINE in accels else "")  # fmt: skip


def shift_heat(study: Study, b: BenchmarkResult) -> Heat:
    """Shifts of every cell; strong where the verdict is "changed"."""
    cells = {
        (s.model, s.accel): estimate_mark(
            s.estimate, {"model": s.model, "accel": s.accel}, b.unit, study, strong=s.verdict == "changed",
            more={"margin": s.margin, "verdict": s.verdict},
        )
        for s in b.shifts
    }  # fmt: skip
    title = f"{b.title}: shift from the baseline"
    return _grid(study, b, title, cells, "changed: beyond chance (adjusted), not shown to be inside the margin")


def difference_heat(study: Study, b: BenchmarkResult) -> Heat:
    """Difference-in-differences; strong where the adjusted p is at most alpha."""
    alpha = alpha_of(study)
    cells = {
        (d.model, d.accel): estimate_mark(
            d.estimate, {"model": d.model, "accel": d.accel}, b.unit, study,
            strong=d.estimate.p_adjusted <= alpha, more={"margin": d.margin},
        )
        for d in b.differences
    }  # fmt: skip
    title = f"{b.title}: shift minus the other models' mean shift"
    return _grid(study, b, title, cells, f"differs from the other models: adjusted p at most {alpha:g}")


def forest(study: Study, b: BenchmarkResult) -> Forest:
    """Shifts with their intervals, accelerator by accelerator; the furthest in margins if there are too many."""
    styles = model_looks(study, b.shifts)
    kept, others = furthest(b.shifts, lambda s: abs(s.estimate.value) / s.margin if s.margin else math.inf)
    bars = tuple(
        Bar(
            arm_label(study, s.model, s.accel),
            styles[s.model],
            estimate_mark(s.estimate, {"model": s.model, "accel": s.accel}, b.unit, study,
                          more={"margin": s.margin, "verdict": s.verdict}),
            s.margin,
            s.verdict,
        )
        for s in sorted(kept, key=lambda s: (_place(study.accels, s.accel), _place(list(study.models), s.model)))
    )  # fmt: skip
    marks = [bar.point for bar in bars]
    counts = {word: sum(bar.word == word for bar in bars) for word in dict.fromkeys(bar.word for bar in bars)}
    words = ", ".join(f"{n} {word}" for word, n in counts.items())
    floor = b.floor.get("shift", math.nan)
    dotted = " Dotted: the largest shift of a placebo." if math.isfinite(floor) and floor > 0 else ""
    text = f"Shifts of {plural(len(bars), 'cell')} in {b.unit}: {words}. {extremes(marks)}"
    note = (
        f"{INTERVALS.format(level=level(study))}. Shaded: the cell's own equivalence margin; a shift counts as "
        f"unchanged where its {100 * (1 - 2 * alpha_of(study)):g} % interval lies inside.{dotted} {answered(b)}"
        f"{left_out(others, 'cells', 'moved least in their margins')}"
    )
    return Forest(f"{b.title}: shifts against the margin", b.unit, text, note, bars, floor, "equivalence margin")


def category_heat(study: Study, b: BenchmarkResult, kind: str) -> Heat | None:
    """Shifts by category or group (`kind`), an arm a row; strong where the adjusted p is at most alpha.

    None with fewer than two categories. Of many, those with the largest shift are drawn.
    """
    rows = [c for c in b.categories if c.level == kind]
    alpha = alpha_of(study)
    cells = {
        ((c.model, c.accel), c.name): estimate_mark(
            c.estimate, {"model": c.model, "accel": c.accel, kind: c.name}, b.unit, study,
            strong=c.estimate.p_adjusted <= alpha,
        )
        for c in rows
    }  # fmt: skip
    if len({name for _, name in cells}) < 2:
        return None
    return arm_grid(
        study, f"{b.title}: shift by {kind}", b.unit, cells, columns_are=kind,
        strong=f"adjusted p at most {alpha:g}, over every arm and {kind}",
    )  # fmt: skip


def model_looks(study: Study, found: Iterable[Any]) -> dict[str, Look]:
    """The look of every model of the study and of `found`, things with a field "model"."""
    return looks(list(dict.fromkeys([*study.models, *(item.model for item in found)])))


def alpha_of(study: Study) -> float:
    """The level of the tests."""
    return float(study.settings.get("alpha", 0.05))


def level(study: Study) -> float:
    """Coverage of the intervals in per cent."""
    return 100 * (1 - alpha_of(study))


def estimate_mark(
    e: Estimate | None, names: Mapping[str, str], unit: str, study: Study, *, scale: float = 1.0,
    strong: bool = False, more: Mapping[str, Any] | None = None,
) -> Mark:  # fmt: skip
    """The mark of an estimate, None for a cell that is not there; scale : 100 where a share is drawn in per cent."""
    if e is None:
        return Mark(names, math.nan, unit, reason="not there", label="—")
    value = e.value * scale
    known = math.isfinite(value)
    beside = dict(more or {}) | ({"p_adjusted": e.p_adjusted} if math.isfinite(e.p_adjusted) else {})
    return Mark(
        names, value, unit, e.ci_low * scale, e.ci_high * scale, e.n_items, e.n_clusters, alpha_of(study),
        beside, signed(value) if known else "—", strong and known, "" if known else e.reason or "no estimate",
    )  # fmt: skip


def furthest(items: Sequence[Any], size: Any, most: int = MOST_ROWS) -> tuple[list[Any], int]:
    """The `most` items of the largest size in their own order, and how many others there are; NaN is smallest."""
    if len(items) <= most:
        return list(items), 0
    sizes = [size(item) for item in items]
    ranked = sorted(range(len(items)), key=lambda i: -sizes[i] if math.isfinite(sizes[i]) else math.inf)
    return [items[i] for i in sorted(ranked[:most])], len(items) - most


def extremes(marks: Iterable[Mark]) -> str:
    """A sentence with the largest and the smallest value, for who cannot see the figure."""
    known = [m for m in marks if math.isfinite(m.value)]
    if not known:
        return "No value is known."
    high, low = max(known, key=lambda m: m.value), min(known, key=lambda m: m.value)
    if high.value == low.value:
        return f"All are {signed(high.value)} {high.unit}."
    return (
        f"Highest: {who(high.names)}, {signed(high.value)} {high.unit}; "
        f"lowest: {who(low.names)}, {signed(low.value)} {low.unit}."
    )


def arm_grid(
    study: Study, title: str, unit: str, cells: Mapping[tuple[tuple[str, str], str], Mark], *,
    columns_are: str, note: str = "", strong: str = "", ranked: bool = True, most: int = MOST_ROWS,
) -> Heat:  # fmt: skip
    """A heat map with an arm a row and `cells` by ((model, accel), column).

    Of more than `most` rows, and if `ranked` of more than MOST_COLUMNS columns, those with the largest |value| are
    drawn.
    """
    arms, columns = list(dict.fromkeys(arm for arm, _ in cells)), list(dict.fromkeys(column for _, column in cells))

    def size(place: int, name: object) -> float:
        values = [abs(m.value) for key, m in cells.items() if key[place] == name and math.isfinite(m.value)]
        return max(values, default=math.nan)

    kept, rows_out = furthest(arms, lambda arm: size(0, arm), most)
    shown, columns_out = furthest(columns, lambda c: size(1, c), MOST_COLUMNS if ranked else len(columns))

    def absent(arm: tuple[str, str], column: str) -> Mark:
        names = {"model": arm[0], "accel": arm[1], "column": column}
        return Mark(names, math.nan, unit, reason="not there", label="—")

    grid = tuple(tuple(cells.get((arm, c)) or absent(arm, c) for c in shown) for arm in kept)
    sizes = [m.n_items for row in grid for m in row if m.n_items is not None]
    n = f" n = {min(sizes)}{f' to {max(sizes)}' if min(sizes) < max(sizes) else ''} items a cell." if sizes else ""
    note = f"{note}{n}{left_out(rows_out, 'arms', 'moved least')}{left_out(columns_out, 'columns', 'moved least')}"
    return _heat(title, unit, note.strip(), tuple(arm_label(study, m, a) for m, a in kept),
                 tuple(shown), grid, columns_are=columns_are, strong=strong)  # fmt: skip


def _grid(study: Study, b: BenchmarkResult, title: str, cells: Mapping[tuple[str, str], Mark], strong: str) -> Heat:
    columns = tuple(a for a in study.accels if any(key[1] == a for key in cells))
    models = tuple(model for model in study.models if any(key[0] == model for key in cells))
    grid = tuple(
        tuple(cells.get((m, a)) or estimate_mark(None, {"model": m, "accel": a}, b.unit, study) for a in columns)
        for m in models
    )
    rows = tuple(marked(study, m) for m in models)
    return _heat(title, b.unit, answered(b), rows, columns, grid, columns_are="accelerator", strong=strong)


def _heat(
    title: str, unit: str, note: str, rows: tuple[str, ...], columns: tuple[str, ...],
    grid: tuple[tuple[Mark, ...], ...], *, columns_are: str, strong: str,
) -> Heat:  # fmt: skip
    marks = [cell for row in grid for cell in row]
    sizes = [abs(m.value) for m in marks if math.isfinite(m.value)]
    n = sum(m.strong for m in marks)
    names = [who(m.names) for m in marks if m.strong]
    said = f" Marked ({strong}): {f'{n}, ' if n > 3 else ''}{listing(names, most=3)}." if strong else ""
    text = f"{plural(len(rows), 'row')} by {plural(len(columns), 'column')} in {unit}. {extremes(marks)}{said}"
    return Heat(title, unit, text, note, rows, columns, grid, max(sizes, default=0.0) or 1.0, columns_are, strong)


def _largest_step(line: Line) -> str:
    """Where a model starts and which accelerator takes it furthest."""
    known = [p for p in line.points if math.isfinite(p.value)]
    if not known:
        return f"{line.name}: no value is known"
    first = known[0]
    far = max(known, key=lambda p: abs(p.value - first.value))
    start = f"{line.name}: {signed(first.value)} under {first.names['accel']}"
    if far is first:
        return start
    return f"{start}, furthest from it under {far.names['accel']}, {signed(far.value)}"


def answered(b: BenchmarkResult) -> str:
    """The n of a figure of one benchmark, as a sentence."""
    return f"n = {plural(b.n_items, 'item')} in {plural(b.n_clusters, 'cluster')} answered in every tested cell."


def left_out(n: int, what: str, why: str) -> str:
    """What a figure does not show, as a sentence after a space; empty for nothing."""
    return f" {n} {what} that {why} are left out here; the report's tables hold all." if n else ""


def _place(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)
