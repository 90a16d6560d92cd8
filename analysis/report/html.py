"""report.html: one file that opens offline, everything from outside escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from analysis.report import first, layers
from analysis.report.figures import Figure, across
from analysis.report.figures import of_benchmark as figures_of
from analysis.report.html_table import number, row_limit, shown, table_html
from analysis.report.tables import Table, all_tables, of_benchmark
from analysis.study import BenchmarkResult, Missing, Shift, Study
from analysis.words import signed

if TYPE_CHECKING:
    from markupsafe import Markup

SIGNS = {
    "changed": "≠", "unchanged": "=", "exactly unchanged": "=", "inconclusive": "?", "inert": "∅", "placebo": "○",
    "missing": "!", "failed": "!", "refused": "!",
}  # fmt: skip
#: Kind of a figure -> the table of the page that holds its numbers.
TABLE_OF = {
    "interaction": "means", "forest": "shifts", "shifts": "shifts", "differences": "differences",
    "categories": "categories", "flips": "flip_profile", "directions": "flips", "groups": "flip_groups",
    "predictions": "predictions", "power": "power", "cost": "cost", "transfer": "transfers",
}  # fmt: skip
TIP = re.compile(r' data-tip="[^"]*"')  # says what the mark's title says, and the script makes it of that
MOST_LISTED = 200  # cells whose keys the page lists; results.json has them all
MOST_OPEN = 3  # benchmarks beyond which each is a fold, the first open
MOST_WRITTEN = 12  # marks of an accelerator beyond which the matrix has no room for their numbers
MOST_NUMBERED = 40  # and beyond which it has none for their places

__all__ = ["Mark", "Matrix", "MatrixRow", "flat", "matrix", "number", "render"]


@dataclass(frozen=True)
class Mark:
    """One benchmark's verdict in one cell of the matrix.

    sign : of the verdict; a shift that is "changed" on a benchmark with a direction has an arrow, up towards the
    stereotype. place : of the benchmark in the study, from 1. title : its title. value : the shift alone.
    """

    benchmark: str
    word: str
    sign: str
    kind: str
    numbers: str
    place: int = 0
    title: str = ""
    arrow: str = ""
    value: str = ""

    @property
    def tip(self) -> str:
        """All of it, for a pointer and for a screen reader."""
        return f"{self.title}: {self.word}, {self.numbers}"


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


@dataclass(frozen=True)
class Drawn:
    """A figure of the page: `anchor` of the table with its numbers, `csv` the file that holds the same."""

    title: str
    text: str
    note: str
    svg: Markup
    anchor: str
    csv: str


def render(study: Study) -> str:
    """The whole page as text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = files("analysis.report")
    style, script = (here.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    tables = {table.name: table for table in all_tables(study)}
    limit = row_limit([(t, len(study.benchmarks) if t.columns[0] == "benchmark" else 1) for t in tables.values()])
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_visible
    )
    environment.globals.update(table=lambda t, anchor: table_html(t, anchor, limit), facts=_facts)
    template = environment.from_string(here.joinpath("report.html.j2").read_text(encoding="utf-8"))
    found = matrix(study)
    return template.render(
        study=study,
        matrix=found,
        written=found is not None and all(len(m) <= MOST_WRITTEN for m in _columns(found)),
        dense=found is not None and len(found.rows) * len(study.benchmarks) > MOST_NUMBERED,
        counts=Counter(mark.kind for row in (found.rows if found else []) for marks in row.cells for mark in marks),
        coverage=f"{100 * (1 - float(study.settings.get('alpha', 0.05))):g}",
        first=first,
        benchmarks=[_section(study, b, tables, k) for k, b in enumerate(study.benchmarks, 1)],
        folded=len(study.benchmarks) > MOST_OPEN,
        tables=tables,
        across=[_drawn(figure, "transfers-table") for figure in across(study)],
        settings=sorted(flat(study.settings).items()),
        provenance=sorted(flat(_short(study.provenance)).items()),
        style=Markup(style),  # our own files
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def matrix(study: Study) -> Matrix | None:
    """The verdict matrix, or None if there is no shift to show."""
    shifts: dict[tuple[str, str], list[Mark]] = {}
    states = {(m.benchmark, m.decoding, m.model, m.accel): m for m in study.missing}
    for place, b in enumerate(study.benchmarks, 1):
        for shift in b.shifts:
            own = (states.get((b.name, decoding, shift.model, shift.accel)) for decoding in (b.decoding, ""))
            mark = _mark(b, shift, place, next(filter(None, own), None))
            shifts.setdefault((shift.model, shift.accel), []).append(mark)
    accels = [a for a in study.accels if any(key[1] == a for key in shifts)]
    models = [m for m in [*study.models, *dict.fromkeys(k[0] for k in shifts)] if any(key[0] == m for key in shifts)]
    if not shifts:
        return None
    rows = [
        MatrixRow(m, study.models.get(m, ""), [shifts.get((m, a), []) for a in accels]) for m in dict.fromkeys(models)
    ]
    return Matrix(accels, rows)


def _mark(b: BenchmarkResult, shift: Shift, place: int, missing: Missing | None) -> Mark:
    e, verdict = shift.estimate, shift.verdict
    numbers = e.reason or "no estimate"
    if math.isfinite(e.value):
        numbers = signed(e.value) + (f" [{signed(e.ci_low)}, {signed(e.ci_high)}]" if math.isfinite(e.ci_low) else "")
    name = b.name if b.decoding == "greedy" else f"{b.name} ({b.decoding})"
    word = verdict if shift.valid else f"{verdict} (not valid)"
    if verdict == "missing" and missing is not None:
        word, numbers = missing.state, missing.reason
    elif verdict == "missing":
        word = "missing"
    arrow = ("▲" if e.value > 0 else "▼") if verdict == "changed" and b.direction is not None else ""
    value = signed(e.value) if math.isfinite(e.value) else ""
    kind = verdict.split()[0]
    return Mark(name, word, SIGNS.get(verdict, ""), kind, numbers, place, b.title, arrow, value)


def _columns(found: Matrix) -> list[list[Mark]]:
    """The marks of one accelerator over all models, accelerator by accelerator."""
    return [[mark for row in found.rows for mark in row.cells[k]] for k in range(len(found.accels))]


def _section(study: Study, b: BenchmarkResult, tables: Mapping[str, Table], place: int) -> dict[str, Any]:
    found: dict[str, Drawn] = {}
    for figure in figures_of(study, b):
        table = TABLE_OF[figure.kind.split("-")[0]]
        found[figure.kind] = _drawn(figure, f"{table}{place}")
    of_this = {name: of_benchmark(table, b) for name, table in tables.items() if table.columns[0] == "benchmark"}
    texts = any(e.text_before or e.text_after for e in b.examples)
    if not texts:
        of_this["examples"] = _without(of_this["examples"], ("text_before", "text_after"))
    return {
        "result": b,
        "tables": of_this,
        "figures": found,
        "costs": [drawn for kind, drawn in found.items() if kind.startswith("cost")],
        "classic": layers.classic(b),
        "calibrated": layers.calibrated(b),
        "texts": texts,
        "asked": sum(c.n_items for c in b.coverage),
        "answered": sum(c.n_valid for c in b.coverage),
        "low": [c for c in b.coverage if not c.valid],
    }


def _without(table: Table, columns: Sequence[str]) -> Table:
    kept = [i for i, c in enumerate(table.columns) if c not in columns]
    rows = [tuple(row[i] for i in kept) for row in table.rows]
    return replace(table, columns=tuple(table.columns[i] for i in kept), rows=rows)


def _drawn(figure: Figure, anchor: str) -> Drawn:
    from markupsafe import Markup

    svg = TIP.sub("", figure.svg)
    return Drawn(figure.title, figure.text, figure.note, Markup(svg), anchor, figure.csv)  # escaped where it was drawn


def _short(provenance: Mapping[str, Any]) -> dict[str, Any]:
    cells = provenance.get("cells") or []
    listed = cells if len(cells) <= MOST_LISTED else f"{len(cells)}, in results.json"
    return {**provenance, "cells": listed}


def _visible(value: Any) -> Any:
    """What the template prints: text from outside without characters that hide or turn what is around them."""
    return shown(value) if type(value) is str else value


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
