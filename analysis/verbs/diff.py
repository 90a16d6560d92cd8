"""python -m analysis diff: which verdicts differ between two reports or sweeps, and by how much shifts moved."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from analysis.arguments import Request, parse_words
from analysis.errors import AnalysisError
from analysis.estimates import student_quantile
from analysis.study import SCHEMA_VERSION, to_json
from analysis.verbs.tables import render, write_text
from analysis.words import plural, visible

OWN = ("rows", "json")
ROWS = ("changed", "all")
HELP = """\
Compares the verdicts of two reports: cell by cell, benchmark by benchmark.

  python -m analysis diff A B [rows=all] [json=FILE] [setting=value ...]

A, B    a report's folder, its results.json, or results to analyse first (then the settings count)
rows    changed (default: cells whose verdict differs) or all
json    file for the whole comparison

moved is the shift in B minus that in A, with an interval (at the reports' alpha, at 0.05 where theirs differ) as if
A and B were independent: where both scored the same items it is wider than need be.
Exit codes: 0 the same cells with the same verdicts, 2 wrong request, 3 the same verdicts, but some cells are in one
of them only, 4 some verdict differs.
"""
HEAD = ("benchmark", "model", "accel", "verdict A", "verdict B", "shift A", "shift B", "moved", "unit")
Cell = tuple[str, ...]  # benchmark, decoding, pool, model, accel


@dataclass(frozen=True)
class Moved:
    """One cell in both. moved : shift in B minus shift in A, in the unit; NaN where either is not known."""

    benchmark: str
    decoding: str
    pool: str
    model: str
    accel: str
    unit: str
    verdict_a: str
    verdict_b: str
    shift_a: float
    low_a: float
    high_a: float
    shift_b: float
    low_b: float
    high_b: float
    moved: float
    moved_low: float
    moved_high: float

    @property
    def same(self) -> bool:
        """Whether the verdict is."""
        return self.verdict_a == self.verdict_b


def main(args: Sequence[str], stream: TextIO) -> int:
    """Print what differs; the exit code."""
    words = list(args)
    if len(words) < 2 or "=" in words[0] or "=" in words[1]:
        raise AnalysisError("diff takes two reports or sweeps: python -m analysis diff A B")
    request = parse_words(words[2:], OWN)
    if (rows := request.own.get("rows", "changed")) not in ROWS:
        raise AnalysisError(f"rows={rows}: choose one of {', '.join(ROWS)}")
    a, b = (read(Path(word), request) for word in words[:2])
    cells_a, cells_b = cells(a), cells(b)
    alpha = _alpha(a, b)
    moved = [compare(key, cells_a[key], cells_b[key], alpha=alpha) for key in cells_a if key in cells_b]
    verdicts = [(k, v, cells_of(b)[k]) for k, v in cells_of(a).items() if k in cells_of(b)]
    only = [("A", k) for k in cells_a if k not in cells_b] + [("B", k) for k in cells_b if k not in cells_a]
    for line in _settings(a, b):
        print(visible(line), file=stream)
    _print(moved, verdicts, only, rows, stream)
    if request.own.get("json"):
        write_text(Path(request.own["json"]), _json(moved, verdicts, only), key="json")
    if any(not m.same for m in moved) or any(x["verdict"] != y["verdict"] for _, x, y in verdicts):
        return 4
    return 3 if only else 0


def read(where: Path, request: Request) -> dict[str, Any]:
    """A report as results.json has it: read, or made from results.

    Raises AnalysisError for a file that is no results.json of this version.
    """
    path = where / "results.json" if where.is_dir() else where
    if path.name == "sweep.json" or not path.is_file() or path.suffix != ".json":
        from analysis.analyse import analyse

        return to_json(analyse(where, request.settings, request.inputs))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AnalysisError(f"{path}: cannot be read as JSON ({str(error).splitlines()[0]})") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION or not isinstance(content.get("benchmarks"), list):
        raise AnalysisError(f"{path}: a results.json of schema_version {SCHEMA_VERSION} is needed, found {version}")
    report: dict[str, Any] = content
    try:
        _check(report)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AnalysisError(f"{path}: is no results.json of a report ({type(error).__name__}: {error})") from error
    return report


def _check(report: Mapping[str, Any]) -> None:
    """All that is compared, once: what is wrong in a file from outside raises here, before anything is printed."""
    for key, cell in cells(report).items():
        compare(key, cell, cell)
    for b in cells_of(report).values():
        _said(b)
    _alpha(report, report)
    _settings(report, report)


def cells(report: Mapping[str, Any]) -> dict[Cell, dict[str, Any]]:
    """The shifts of a report by cell, each with its benchmark's unit."""
    return {
        (*key, s["model"], s["accel"]): s | {"unit": b["unit"]}
        for key, b in cells_of(report).items()
        for s in b["shifts"]
    }


def cells_of(report: Mapping[str, Any]) -> dict[Cell, dict[str, Any]]:
    """The benchmarks of a report by name, decoding and pool."""
    return {(b["name"], b.get("decoding", "greedy"), b.get("pool", "other")): b for b in report["benchmarks"]}


def compare(key: Cell, a: Mapping[str, Any], b: Mapping[str, Any], *, alpha: float = 0.05) -> Moved:
    """One cell in both; the interval of `moved` has coverage 1 - alpha and takes the two as independent.

    Welch's t: the squared errors add, their degrees of freedom by Satterthwaite.
    """
    x, y = _numbers(a["estimate"]), _numbers(b["estimate"])
    difference = y["value"] - x["value"]
    half = math.nan
    parts = [x["se"] ** 2, y["se"] ** 2]
    if math.isfinite(sum(parts)):
        squares = sum(p**2 / df for p, df in zip(parts, (x["df"], y["df"]), strict=True) if p)
        half = student_quantile(1 - alpha / 2, sum(parts) ** 2 / squares) * math.sqrt(sum(parts)) if squares else 0.0
    benchmark, decoding, pool, model, accel = key
    return Moved(
        benchmark, decoding, pool, model, accel, b["unit"], a["verdict"], b["verdict"],
        x["value"], x["ci_low"], x["ci_high"], y["value"], y["ci_low"], y["ci_high"],
        difference, difference - half, difference + half,
    )  # fmt: skip


def _numbers(estimate: Mapping[str, Any]) -> dict[str, float]:
    known = {
        k: math.nan if estimate.get(k) is None else float(estimate[k]) for k in ("value", "se", "ci_low", "ci_high")
    }
    df = estimate.get("df")
    return known | {"df": float(df) if df is not None else max(1.0, float(estimate["n_clusters"]) - 1)}


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Settings that differ: verdicts may then differ for that reason alone."""
    x, y = a.get("settings", {}), b.get("settings", {})
    return [f"! {k}: {x.get(k)} in A, {y.get(k)} in B" for k in sorted({*x, *y}) if x.get(k) != y.get(k)]


def _print(
    moved: Sequence[Moved], verdicts: Sequence[tuple[Cell, Any, Any]], only: Sequence[tuple[str, Cell]], rows: str,
    stream: TextIO,
) -> None:  # fmt: skip
    shown = [m for m in moved if rows == "all" or not m.same]
    if shown:
        print(render(HEAD, [_row(m) for m in shown]), file=stream)
    changed = [(k, x, y) for k, x, y in verdicts if x["verdict"] != y["verdict"]]
    for key, x, y in changed:
        texts = [_said(x), _said(y)]
        print(visible(f"{_name(key)}: {texts[0]} in A, {texts[1]} in B"), file=stream)
    for side, cell in only:
        print(visible(f"only in {side}: {cell[3]} under {cell[4]} on {_name(cell)}"), file=stream)
    n = sum(not m.same for m in moved)
    print(
        f"{n} of {plural(len(moved), 'cell')} in both and {len(changed)} of {plural(len(verdicts), 'benchmark')} "
        f"changed verdict; {plural(len(only), 'cell')} in one only",
        file=stream,
    )  # fmt: skip


def _row(m: Moved) -> list[str]:
    name = _name((m.benchmark, m.decoding, m.pool))
    return [name, m.model, m.accel, m.verdict_a, m.verdict_b, _interval(m.shift_a, m.low_a, m.high_a),
            _interval(m.shift_b, m.low_b, m.high_b), _interval(m.moved, m.moved_low, m.moved_high), m.unit]  # fmt: skip


def _interval(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "not known"
    return f"{value:+.3g}" + (f" [{low:+.3g}, {high:+.3g}]" if math.isfinite(low) else "")


def _name(key: Cell) -> str:
    return key[0] if key[1] == "greedy" else f"{key[0]} ({key[1]})"


def _said(b: Mapping[str, Any]) -> str:
    from analysis.words import p_text

    p = b["omnibus"].get("p")
    return f"{b['verdict']} ({p_text(math.nan if p is None else p)})"


def _alpha(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """The level of both reports, 0.05 where they differ."""
    levels = {float(report.get("settings", {}).get("alpha", 0.05)) for report in (a, b)}
    return levels.pop() if len(levels) == 1 else 0.05


def _json(moved: Sequence[Moved], verdicts: Sequence[tuple[Cell, Any, Any]], only: Sequence[tuple[str, Cell]]) -> str:
    content = {
        "schema_version": 1,
        "cells": [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(m).items()}
            for m in moved
        ],
        "benchmarks": [
            {"benchmark": k[0], "decoding": k[1], "pool": k[2], "verdict_a": x["verdict"], "verdict_b": y["verdict"]}
            for k, x, y in verdicts
        ],
        "only": [
            {"in": side, **dict(zip(("benchmark", "decoding", "pool", "model", "accel"), k, strict=True))}
            for side, k in only
        ],
    }  # fmt: skip
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
