"""python -m analysis show: any table of a report on the terminal."""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO

from analysis.arguments import Request, names, parse_words
from analysis.errors import AnalysisError
from analysis.importers.inputs import Inputs
from analysis.settings import Settings
from analysis.verbs.tables import render
from analysis.words import plural, visible

RUNS_ALONE = True  # without a word it lists the tables of the newest report
OWN = ("results", "report", "columns", "rows", "sort")
REPORTS = Path("outputs") / "reports"
GAP = 2  # spaces between columns
HELP = """\
Prints any table of a report, or lists them.

  python -m analysis show [TABLE] [report=FOLDER | results=WHERE ...] [columns=a,b] [rows=WORDS] [sort=COLUMN]

TABLE     a table's name; without one, the tables there are
report    a report's folder (default: the newest in outputs/reports); its numbers are read, nothing is computed
results   analyse these results instead, with the settings given
columns   names of columns, in the order wanted (default: all; on a terminal as many as fit, the rest is named)
rows      words that must all stand in a row, in any case: rows="llama hqq4"
sort      a column; -COLUMN turns the order round

Figures' numbers are tables too: show 01-forest. Exit codes: 0 done, 2 wrong request.
"""


@dataclass(frozen=True)
class Shown:
    """A table as it is read: text of a csv, or values of an analysis."""

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def main(args: Sequence[str], stream: TextIO) -> int:
    """List the tables or print one; the exit code."""
    words = list(args)
    table = words.pop(0) if words and "=" not in words[0] else ""
    request = parse_words(words, OWN)
    if request.own.get("results") and request.own.get("report"):
        raise AnalysisError("results= and report=: give one of them")
    if not request.own.get("results") and (request.settings, request.inputs) != (Settings(), Inputs()):
        raise AnalysisError("settings count where results= is analysed; a report's figures are as it was made with")
    where, found = _tables(request)
    if not table:
        print(visible(where), file=stream)
        rows = [(t.name, str(len(t.rows)), ", ".join(t.columns)) for t in found]
        print(_fitted(["table", "rows", "columns"], rows, stream), file=stream)
        return 0
    print(view(_named(found, table), request, stream), file=stream)
    return 0


def view(table: Shown, request: Request, stream: TextIO) -> str:
    """The table with the columns, rows and order that are asked for."""
    asked = request.own
    columns = names(asked.get("columns", "")) or list(table.columns)
    places = [_place(table, "columns", name) for name in columns]
    rows = [row for row in table.rows if _matches(row, asked.get("rows", ""))]
    if sort := asked.get("sort", ""):
        place = _place(table, "sort", sort.removeprefix("-"))
        known = [row for row in rows if str(text(row[place]))]
        known.sort(key=lambda row: _order(row[place]), reverse=sort.startswith("-"))
        rows = known + [row for row in rows if not str(text(row[place]))]  # what is not known comes last
    cells = [[text(row[place]) for place in places] for row in rows]
    shown = _fitted(columns, cells, stream) if "columns" not in asked else render(columns, cells)
    return shown if rows else f"{shown}\n0 of {plural(len(table.rows), 'row')}"


def text(value: Any) -> str:
    """A cell: four significant digits, empty for what is not known.

    >>> text(0.123456), text("0.123456"), text(float("nan")), text("12"), text(True), text("")
    ('0.1235', '0.1235', '', '12', 'True', '')
    """
    if isinstance(value, str) and any(c in value for c in ".eE"):
        try:
            value = float(value)
        except ValueError:
            return str(value)
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return str(value)


def _tables(request: Request) -> tuple[str, list[Shown]]:
    if request.own.get("results"):
        from analysis.analyse import analyse
        from analysis.report.figures import all_figures
        from analysis.report.tables import all_tables

        study = analyse(Path(request.own["results"]), request.settings, request.inputs)
        tables = [*all_tables(study), *(figure.numbers for figure in all_figures(study))]
        return f"results={request.own['results']}", [Shown(t.name, t.columns, t.rows) for t in tables]
    folder = Path(request.own["report"]) if request.own.get("report") else _newest()
    if not (folder / "tables").is_dir():
        raise AnalysisError(f"report={folder}: no report there (a folder with report.html and tables/)")
    paths = [*sorted((folder / "tables").glob("*.csv")), *sorted((folder / "figures").glob("*.csv"))]
    return f"report={folder}", [_read(path) for path in paths]


def _newest() -> Path:
    found = [path for path in REPORTS.glob("*") if (path / "results.json").is_file()]
    if not found:
        raise AnalysisError("report= or results= is needed: no report in outputs/reports")
    return max(found, key=lambda path: (path / "results.json").stat().st_mtime)


def _read(path: Path) -> Shown:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [tuple(row) for row in csv.reader(file)]
    except (OSError, ValueError, csv.Error) as error:
        raise AnalysisError(f"{path}: cannot be read as a table ({error}); make the report again") from error
    if not lines or any(len(row) != len(lines[0]) for row in lines):
        raise AnalysisError(f"{path}: not a table with a header and even rows; make the report again")
    return Shown(path.stem, lines[0], list(lines[1:]))


def _named(tables: Iterable[Shown], name: str) -> Shown:
    known = {t.name: t for t in tables}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise AnalysisError(f"{name}: no such table; {hint}choose from {', '.join(known)}")


def _place(table: Shown, key: str, name: str) -> int:
    if name not in table.columns:
        near = get_close_matches(name, table.columns, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise AnalysisError(
            f"{key}={name}: no such column of {table.name}; {hint}choose from {', '.join(table.columns)}"
        )
    return table.columns.index(name)


def _matches(row: Sequence[Any], wanted: str) -> bool:
    whole = "\t".join(str(value) for value in row).lower()
    return all(word in whole for word in wanted.lower().split())


def _order(value: Any) -> tuple[int, float, str]:
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0.0, str(value)


def _fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> str:
    """All columns for a file or a pipe; on a terminal those that fit, and the names of the others."""
    if not stream.isatty():
        return render(columns, rows)
    room, used, fit = shutil.get_terminal_size().columns, -GAP, 0
    for j, name in enumerate(columns):
        used += GAP + max([len(name), *(len(visible(row[j])) for row in rows)])
        if used > room and fit:
            break
        fit += 1
    shown = render(columns[:fit], [row[:fit] for row in rows])
    left = columns[fit:]
    return f"{shown}{os.linesep}columns that do not fit: {', '.join(left)}" if left else shown
