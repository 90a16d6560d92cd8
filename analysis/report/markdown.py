"""report.md: the same content compact, for a terminal or a repository's page."""

from __future__ import annotations

import math
import re
from typing import Any

from analysis.report.figures import Figure
from analysis.report.figures import of_benchmark as figures_of
from analysis.report.html import Matrix, flat, matrix, number
from analysis.report.html_table import shown
from analysis.report.tables import Table, all_tables, of_benchmark
from analysis.study import Study

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
#: Tables shown for every benchmark, those without rows left out; all others are in tables/*.csv.
PER_BENCHMARK = ("shifts", "differences", "omnibus", "anova", "scales", "assumptions", "flips", "predictability",
                 "predictions", "power", "refusals", "bounds", "aggregates", "recovery", "coverage")  # fmt: skip

#: Kinds of figures shown for every benchmark; all of them are in figures/.
DRAWN = ("interaction", "forest", "shifts", "directions")


def render(study: Study) -> str:
    """The report as Markdown text."""
    tables = {table.name: table for table in all_tables(study)}
    parts = [f"# {escape(study.question)}", f"**{escape(study.answer)}**"]
    if study.missing:
        lines = [f"- {escape(f'{m.model} under {m.accel}, {m.where}: {m.state}. {m.reason}')}" for m in study.missing]
        parts.append("**Cells that are not there**\n\n" + "\n".join(lines))
    if (found := matrix(study)) is not None:
        parts.append(_matrix(found))
    notes = [f"- {escape(f'{model}: {note}')}" for model, note in study.models.items() if note]
    notes += [f"- {escape(caution)}" for caution in study.cautions]
    if notes:
        parts.append("Read with this in mind:\n\n" + "\n".join(notes))
    for b in study.benchmarks:
        parts += [f"## {escape(b.title)}", f"**{escape(b.verdict.capitalize())}.** {escape(b.sentence)}"]
        parts.append(
            f"{escape(b.formula)}. Unit: {escape(b.unit)}. "
            f"{b.n_items} of {b.n_items_all} items, {b.n_clusters} clusters."
        )
        parts += [f"- {escape(c)}" for c in b.cautions]
        parts += [_image(figure) for figure in figures_of(study, b) if figure.kind in DRAWN]
        parts += [_table(of_benchmark(tables[name], b)) for name in PER_BENCHMARK]
    if study.predictable:
        parts += ["## Could it have been known without measuring?", escape(study.predictable)]
        parts.append(_table(tables["transfers"]))
    parts += [
        "## Arms",
        _table(tables["arms"]),
        _table(tables["cost"]),
        "## Methods",
        escape(study.methods),
        "Settings (choose them before looking): "
        + ", ".join(escape(f"{k} = {v}") for k, v in sorted(flat(study.settings).items())),
        f"Made by: {escape(study.command)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Untrusted text on one line, its Markdown and HTML switched off, and what a terminal would obey written out."""
    return SPECIAL.sub(r"\\\1", shown(" ".join(text.split())))


def _matrix(found: Matrix) -> str:
    rows = [
        [
            row.model,
            *(
                "<br>".join(f"{m.sign} {escape(m.word)}, {escape(m.benchmark)}: {escape(m.numbers)}" for m in marks)
                for marks in row.cells
            ),
        ]
        for row in found.rows
    ]
    head = ["model", *(escape(a) for a in found.accels)]
    return _grid(head, [[escape(row[0]), *row[1:]] for row in rows])


def _image(figure: Figure) -> str:
    return f"![{escape(figure.text)}](figures/{figure.name}.svg)"


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    note = f" {escape(table.note)}" if table.note else ""
    grid = _grid([escape(c) for c in table.columns], [[_cell(v) for v in row] for row in table.rows])
    return f"**{escape(table.title)}.**{note}\n\n{grid}"


def _grid(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "—" if not math.isfinite(value) else number(value)
    return escape(str(value))
