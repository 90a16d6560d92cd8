"""report.html: one file that opens offline, everything from outside escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from analysis.report.figures import Figure, across
from analysis.report.figures import of_benchmark as figures_of
from analysis.report.tables import Table, all_tables, of_benchmark
from analysis.study import BenchmarkResult, Shift, Study
from analysis.words import signed

SIGNS = {
    "changed": "≠", "unchanged": "=", "exactly unchanged": "=", "inconclusive": "?", "inert": "∅", "placebo": "○",
    "missing": "!", "failed": "!", "refused": "!",
}  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """One benchmark's verdict in one cell of the matrix."""

    benchmark: str
    word: str
    sign: str
    kind: str
    numbers: str


@dataclass(frozen=True)
class MatrixRow:
    """A model's row: marks per accelerator, and the model's note."""

    model: str
    note: str
    cells: list[list[Mark]]


@dataclass(frozen=True)
class Matrix:
    """The verdict matrix: models x accelerators, a mark per benchmark."""

    accels: list[str]
    rows: list[MatrixRow]


def render(study: Study) -> str:
    """The whole page as text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = files("analysis.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(cell=lambda value: Markup(_td(value)), facts=_facts)
    template = environment.from_string(here.joinpath("report.html.j2").read_text(encoding="utf-8"))
    tables = {table.name: table for table in all_tables(study)}
    return template.render(
        study=study,
        matrix=matrix(study),
        coverage=f"{100 * (1 - float(study.settings.get('alpha', 0.05))):g}",
        benchmarks=[_section(study, b, tables) for b in study.benchmarks],
        tables=tables,
        across=[drawn(figure) for figure in across(study)],
        settings=sorted(flat(study.settings).items()),
        provenance=sorted(flat(study.provenance).items()),
        style=Markup(here.joinpath("style.css").read_text(encoding="utf-8")),
        script=Markup(here.joinpath("script.js").read_text(encoding="utf-8")),
    )


def matrix(study: Study) -> Matrix | None:
    """The verdict matrix, or None if there is no shift to show."""
    shifts: dict[tuple[str, str], list[Mark]] = {}
    for b in study.benchmarks:
        for shift in b.shifts:
            shifts.setdefault((shift.model, shift.accel), []).append(_mark(b, shift))
    accels = [a for a in study.accels if any(key[1] == a for key in shifts)]
    models = [m for m in study.models if any(key[0] == m for key in shifts)]
    if not shifts:
        return None
    rows = [MatrixRow(m, study.models[m], [shifts.get((m, a), []) for a in accels]) for m in models]
    return Matrix(accels, rows)


def _mark(b: BenchmarkResult, shift: Shift) -> Mark:
    e = shift.estimate
    numbers = e.reason or "no estimate"
    if math.isfinite(e.value):
        numbers = signed(e.value) + (f" [{signed(e.ci_low)}, {signed(e.ci_high)}]" if math.isfinite(e.ci_low) else "")
    name = b.name if b.decoding == "greedy" else f"{b.name} ({b.decoding})"
    word = shift.verdict if shift.valid else f"{shift.verdict} (not valid)"
    return Mark(name, word, SIGNS.get(shift.verdict, ""), shift.verdict.split()[0], numbers)


def _section(study: Study, b: BenchmarkResult, tables: Mapping[str, Table]) -> dict[str, Any]:
    figures = {figure.kind: drawn(figure) for figure in figures_of(study, b)}
    return {
        "result": b,
        "tables": {name: of_benchmark(table, b) for name, table in tables.items() if table.columns[0] == "benchmark"},
        "figures": figures,
        "costs": [figure for kind, figure in figures.items() if kind.startswith("cost-")],
    }


def drawn(figure: Figure) -> dict[str, Any]:
    """A figure as the template takes it."""
    from markupsafe import Markup

    return {"svg": Markup(figure.svg), "title": figure.title, "text": figure.text, "note": figure.note,
            "csv": figure.csv}  # fmt: skip


def _td(value: Any) -> str:
    from markupsafe import escape

    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{escape(value)}</td>"
    if isinstance(value, float) and not math.isfinite(value):
        return '<td class="n" data-v="">—</td>'
    text = f"{value:,}" if isinstance(value, int) else number(value)
    return f'<td class="n" data-v="{value!r}">{text}</td>'


def number(value: float) -> str:
    """Four significant digits; whole large numbers with separators.

    >>> number(0.123456), number(1234567.0), number(0.00001)
    ('0.1235', '1,234,567', '1e-05')
    """
    if abs(value) >= 10000 and value == round(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _facts(fact: Mapping[str, Any]) -> str:
    values = fact.get("values", {})
    short = {k: v for k, v in values.items() if not isinstance(v, list | dict)}
    return "; ".join(f"{key} {number(v) if isinstance(v, float) else v}" for key, v in short.items())


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings or provenance as dotted names and texts."""
    found: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            found |= flat(item, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = (
                item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str)
            )
    return found
