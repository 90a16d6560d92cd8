"""Every table of a report as plain columns and rows: the page, the Markdown and the csv files show these."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.study import BenchmarkResult, Estimate, Study

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


def _estimate(e: Estimate) -> tuple[Any, ...]:
    return (e.value, e.se, e.ci_low, e.ci_high, e.p, e.p_adjusted, e.n_items, e.n_clusters)


def all_tables(study: Study) -> list[Table]:
    """The tables of a study, each over all benchmarks."""
    return [
        _verdicts(study), _shifts(study), _differences(study), _means(study), _omnibus(study), _anova(study),
        _categories(study), _recovery(study), _coverage(study), _published(study), _floor(study), _arms(study),
        _missing(study),
    ]  # fmt: skip


def of_benchmark(table: Table, benchmark: BenchmarkResult) -> Table:
    """The rows of one benchmark (and decoding), without the two columns that name it."""
    rows = [row[2:] for row in table.rows if row[:2] == (benchmark.name, benchmark.decoding)]
    return Table(table.name, table.title, table.columns[2:], rows, table.note)


def _over(study: Study, pick: Callable[[BenchmarkResult], Iterable[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    return [(b.name, b.decoding, *row) for b in study.benchmarks for row in pick(b)]


def _table(name: str, title: str, columns: Sequence[str], rows: list[tuple[Any, ...]], note: str = "") -> Table:
    return Table(name, title, ("benchmark", "decoding", *columns), rows, note)


def _verdicts(study: Study) -> Table:
    rows = _over(study, lambda b: [(b.verdict, b.sentence, b.n_items, b.n_clusters, b.unit)])
    return _table(
        "verdicts", "Verdict of each benchmark", ("verdict", "sentence", "n_items", "n_clusters", "unit"), rows
    )


def _shifts(study: Study) -> Table:
    columns = ("model", "accel", *ESTIMATE, "margin", "verdict", "valid", "flip_rate", "flips_up", "flips_down",
               "needed_clusters", "reason")  # fmt: skip
    rows = _over(study, lambda b: [
        (s.model, s.accel, *_estimate(s.estimate), s.margin, s.verdict, s.valid, s.flip_rate, s.flips_up,
         s.flips_down, "" if s.needed_clusters is None else s.needed_clusters, s.estimate.reason)
        for s in b.shifts
    ])  # fmt: skip
    note = "Item-paired mean difference from the cell's own baseline; t interval robust to clusters."
    return _table("shifts", "Shifts", columns, rows, note)


def _differences(study: Study) -> Table:
    rows = _over(
        study, lambda b: [(d.model, d.accel, *_estimate(d.estimate), d.estimate.reason) for d in b.differences]
    )
    note = "A cell's shift minus the mean shift of the other models under the same accelerator."
    return _table("differences", "Difference-in-differences", ("model", "accel", *ESTIMATE, "reason"), rows, note)


def _means(study: Study) -> Table:
    rows = _over(study, lambda b: [(m.model, m.accel, *_estimate(m.estimate), m.estimate.reason) for m in b.means])
    return _table("means", "Mean score of each cell", ("model", "accel", *ESTIMATE, "reason"), rows)


def _omnibus(study: Study) -> Table:
    columns = (
        "p",
        "p_sum",
        "p_hotelling",
        "p_max",
        "n_items",
        "n_clusters",
        "n_contrasts",
        "n_resamples",
        "exact",
        "reason",
    )
    rows = _over(study, lambda b: [tuple(getattr(b.omnibus, name) for name in columns)])
    note = "Combined cluster sign-flip test of no interaction; this one gives the verdict."
    return _table("omnibus", "Calibrated interaction test", columns, rows, note)


def _anova(study: Study) -> Table:
    columns = ("source", "ss", "df1", "df2", "ms", "f", "p", "p_gg", "eps", "w", "p_sphericity", "eta2_partial",
               "eta2_generalized")  # fmt: skip
    rows = _over(study, lambda b: [
        (a.unit, a.n, *(getattr(row, name) for name in columns), "") for a in b.anova for row in a.rows
    ] + [(a.unit, a.n, "", *[math.nan] * (len(columns) - 1), a.reason) for a in b.anova if not a.rows])  # fmt: skip
    note = "Two-way repeated-measures ANOVA (pingouin). Over items it is only right if items are independent."
    return _table("anova", "Repeated-measures ANOVA", ("over", "n", *columns, "reason"), rows, note)


def _categories(study: Study) -> Table:
    rows = _over(
        study,
        lambda b: [
            (c.model, c.accel, c.level, c.name, *_estimate(c.estimate), c.estimate.reason) for c in b.categories
        ],
    )
    return _table(
        "categories", "Shifts by category and group", ("model", "accel", "level", "name", *ESTIMATE, "reason"), rows
    )


def _recovery(study: Study) -> Table:
    columns = ("model", "accel", "category", "n", "slope", "slope_ci_low", "slope_ci_high", "r", "mae", "control_mean",
               "control_mae", "n_control")  # fmt: skip
    rows = _over(study, lambda b: [tuple(getattr(r, name) for name in columns) for r in b.recovery])
    note = "Measured item scores against what was planted: slope 1, r 1, error 0 would be perfect."
    return _table("recovery", "Recovery of the planted truth", columns, rows, note)


def _coverage(study: Study) -> Table:
    columns = ("model", "accel", "n_items", "n_valid", "n_refused", "n_unparsed", "n_too_long", "valid")
    rows = _over(study, lambda b: [tuple(getattr(c, name) for name in columns) for c in b.coverage])
    return _table("coverage", "Coverage: items with an answer, and what the others did", columns, rows)


def _published(study: Study) -> Table:
    columns = ("model", "accel", "metric", "value", "ci_low", "ci_high", "n", "unit", "reason")
    rows = _over(study, lambda b: [tuple(_known(row.get(name)) for name in columns) for row in b.published])
    return _table("published", "Published aggregates of each cell", columns, rows)


def _floor(study: Study) -> Table:
    rows = _over(
        study,
        lambda b: (
            [(b.floor.get("shift", math.nan), b.floor.get("item", math.nan), b.floor.get("flip_rate", math.nan))]
            if b.floor
            else []
        ),
    )
    note = "What a placebo alone does: largest |mean shift|, 95th percentile of |item shift|, flip rate."
    return _table("floor", "Noise floor", ("shift", "item", "flip_rate"), rows, note)


def _arms(study: Study) -> Table:
    columns = ("model", "accel", "kind", "inert", "max_logit_change", "mean_logit_change", "simulated", "weight_bytes",
               "bits_per_weight", "sparsity", "perplexity", "note")  # fmt: skip
    rows = [tuple("" if (v := getattr(arm, name)) is None else v for name in columns) for arm in study.arms]
    note = (
        "Measured after the accelerator was applied. simulated: weights rounded, computed in full precision, so no "
        "speed-up is claimed."
    )
    return Table("arms", "What was done to each model, and the proof that it acted", columns, rows, note)


def _missing(study: Study) -> Table:
    rows = [(m.benchmark, m.decoding, m.model, m.accel, m.state, m.reason) for m in study.missing]
    return Table(
        "missing", "Cells that are not there", ("benchmark", "decoding", "model", "accel", "state", "reason"), rows
    )


def _known(value: Any) -> Any:
    return math.nan if value is None else value


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
