"""Every table of a report as plain columns and rows: the page, the Markdown and the csv files show these."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from analysis.study import BenchmarkResult, Study

#: Characters that make a spreadsheet read a text cell as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Table:
    """A table: numbers stay numbers (NaN: not to be had), text is untrusted.

    name : file name without ending. note : what a reader must know of it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""

    def to_csv(self) -> str:
        """RFC 4180 text with a header; a text cell that a spreadsheet would run starts with an apostrophe."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(self.columns)
        writer.writerows([_cell(value) for value in row] for row in self.rows)
        return out.getvalue()


ESTIMATE = ("value", "se", "ci_low", "ci_high", "p", "p_adjusted", "n_items", "n_clusters")
NAMES = ("model", "accel")
ANOVA = ("source", "ss", "df1", "df2", "ms", "f", "p", "p_gg", "eps", "w", "p_sphericity", "eta2_partial",
         "eta2_generalized")  # fmt: skip


@dataclass(frozen=True)
class _Spec:
    """A table over benchmarks: which objects are its rows, and which of their fields its columns."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Callable[[BenchmarkResult], Iterable[object]]
    note: str = ""


SPECS = (
    _Spec("verdicts", "Verdict of each benchmark", ("title", "verdict", "sentence", "n_items", "n_clusters", "unit"),
          lambda b: [b]),
    _Spec("shifts", "Shifts", (*NAMES, *ESTIMATE, "margin", "verdict", "valid", "tested", "flip_rate", "flips_up",
          "flips_down", "flips_clear", "needed_clusters", "reason"), lambda b: b.shifts,
          "Item-paired mean difference from the cell's own baseline; t interval robust to clusters"),
    _Spec("differences", "Difference-in-differences", (*NAMES, *ESTIMATE, "margin", "tested", "reason"),
          lambda b: b.differences, "A cell's shift minus the mean shift of the other models, same accelerator"),
    _Spec("means", "Mean score of each cell", (*NAMES, *ESTIMATE, "item_sd", "repeat_sd", "reason"), lambda b: b.means),
    _Spec("omnibus", "Calibrated interaction test", ("p", "p_sum", "p_hotelling", "p_max", "p_holm", "p_bh", "n_items",
          "n_clusters", "n_contrasts", "n_resamples", "exact", "reason"), lambda b: [b.omnibus],
          "Combined cluster sign-flip test of no interaction; this one gives the verdict"),
    _Spec("anova", "Repeated-measures ANOVA", ("unit", "n", *ANOVA, "reason"), lambda b: _anova_rows(b),
          "Two-way within items (pingouin); over items it is only right if items are independent"),
    _Spec("categories", "Shifts by category and group", (*NAMES, "level", "name", *ESTIMATE, "reason"),
          lambda b: b.categories),
    _Spec("recovery", "Recovery of the planted truth", (*NAMES, "category", "n", "slope", "slope_ci_low",
          "slope_ci_high", "r", "mae", "control_mean", "control_mae", "n_control"), lambda b: b.recovery,
          "Measured item scores against what was planted: slope 1, r 1, error 0 would be perfect"),
    _Spec("coverage", "Items with an answer, and what the others did", (*NAMES, "n_items", "n_valid", "n_refused",
          "n_unparsed", "n_too_long", "share", "valid"), lambda b: b.coverage),
    _Spec("published", "Published aggregates of each cell", (*NAMES, "metric", "value", "ci_low", "ci_high", "n",
          "unit", "reason"), lambda b: b.published),
    _Spec("floor", "Noise floor", ("shift", "item", "flip_rate"), lambda b: [b.floor] if b.floor else [],
          "What a placebo alone does: largest |mean shift|, 95th percentile of |item shift|, flip rate"),
)  # fmt: skip


def all_tables(study: Study) -> list[Table]:
    """The tables of a study, each over all benchmarks."""
    return [*(_table(study, spec) for spec in SPECS), _arms(study), _missing(study)]


def of_benchmark(table: Table, benchmark: BenchmarkResult) -> Table:
    """The rows of one result (a benchmark under one decoding in one pool), without the columns that name it."""
    key = _key(benchmark)
    rows = [row[len(key) :] for row in table.rows if row[: len(key)] == key]
    return Table(table.name, table.title, table.columns[len(key) :], rows, table.note)


def _key(b: BenchmarkResult) -> tuple[str, str, str]:
    return (b.name, b.decoding, b.pool)


def _table(study: Study, spec: _Spec) -> Table:
    rows = [
        (*_key(b), *(_field(item, column) for column in spec.columns))
        for b in study.benchmarks
        for item in spec.rows(b)
    ]
    return Table(spec.name, spec.title, ("benchmark", "decoding", "pool", *spec.columns), rows, spec.note)


def _field(item: object, column: str) -> Any:
    """The field of a result, or of its estimate; None is an empty cell, an unknown number NaN."""
    if isinstance(item, Mapping):
        value = item.get(column)
        return math.nan if value is None else value
    if column in (*ESTIMATE, "reason") and not hasattr(item, column):
        item = getattr(item, "estimate", None)
    value = getattr(item, column)
    return "" if value is None else value


def _anova_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """A row per source; a table that could not be made is one row with its reason."""
    rows: list[dict[str, Any]] = []
    for anova in b.anova:
        shared = {"unit": anova.unit, "n": anova.n, "reason": anova.reason}
        rows += [shared | asdict(row) for row in anova.rows] or [shared | {"source": ""}]
    return rows


def _arms(study: Study) -> Table:
    columns = ("model", "accel", "kind", "inert", "max_logit_change", "mean_logit_change", "simulated", "weight_bytes",
               "bits_per_weight", "sparsity", "perplexity", "note")  # fmt: skip
    note = (
        "Measured after the accelerator was applied. simulated: weights rounded, computed in full precision, so no "
        "speed-up is claimed"
    )
    rows = [tuple(_field(arm, column) for column in columns) for arm in study.arms]
    return Table("arms", "What was done to each model, and the proof that it acted", columns, rows, note)


def _missing(study: Study) -> Table:
    columns = ("benchmark", "decoding", "model", "accel", "state", "reason")
    rows = [tuple(_field(m, column) for column in columns) for m in study.missing]
    return Table("missing", "Cells that are not there", columns, rows)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
