"""Every table of a report as plain columns and rows: the page, the Markdown and the csv files show these."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.provenance import COSTS
from analysis.report import rows
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
ANOVA = ("source", "ss", "df1", "df2", "df1_gg", "df2_gg", "ms", "ss_error", "f", "p", "p_gg", "eps", "w",
         "p_sphericity", "eta2_partial", "eta2_partial_low", "eta2_partial_high", "eta2_generalized",
         "eta2_generalized_low", "eta2_generalized_high")  # fmt: skip
OMNIBUS = ("p", "p_sum", "p_hotelling", "p_max", "p_holm", "p_bh", "n_items", "n_clusters", "n_contrasts",
           "n_resamples", "exact", "reason")  # fmt: skip


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
    _Spec("omnibus", "Calibrated interaction test", ("test", *OMNIBUS), rows.omnibus_rows,
          "Combined cluster sign-flip test of no interaction; the first row gives the verdict"),
    _Spec("anova", "Repeated-measures ANOVA", ("unit", "n", *ANOVA, "reason"), rows.anova_rows,
          "Two-way within items (pingouin); over items it is only right if items are independent. df_gg are those of "
          "p_gg and of the intervals of eta squared (noncentral F)"),
    _Spec("simple_effects", "Simple effects", ("effect", "within", "level", "f", "df1", "df2", "eps", "p_gg",
          "f_clusters", "df2_clusters", "eps_clusters", "p_gg_clusters", "p", "p_holm", "reason"),
          lambda b: b.simple_effects, "One factor within a level of the other, each with its own error. f: items; "
          "f_clusters: cluster means; p: cluster sign flip, the calibrated one; p_holm: over the same kind"),
    _Spec("contrasts", "Interaction contrasts", ("model_1", "model_2", "accel_1", "accel_2", *ESTIMATE, "p_holm",
          "reason"), lambda b: b.interaction_contrasts, "(model_1 - model_2) x (accel_1 - accel_2), cluster-robust; "
          "p_adjusted: largest |t| over all of them"),
    _Spec("assumptions", "Assumptions, measured", ("assumption", "subject", "measure", "value", "p", "reading"),
          lambda b: b.assumptions, "Shown, never a gate: no figure of this report is chosen by them"),
    _Spec("scales", "Interaction on two scales", ("word", "p_probability", "p_logit", "n_items", "sentence", "reason"),
          lambda b: [b.scales] if b.scales else [], "robust: on both; removable: on one only; crossover: on every "
          "monotone scale"),
    _Spec("scale_differences", "Difference-in-differences on two scales", (*NAMES, "value", "ci_low", "ci_high",
          "logit", "logit_low", "logit_high", "reason"), rows.scale_rows,
          "Of rates, and of their log-odds (cluster jackknife)"),
    _Spec("crossings", "Crossovers shown", ("factor", "first", "second", "above", "value_above", "p_above", "below",
          "value_below", "p_below"), lambda b: b.scales.crossings if b.scales else [],
          "first minus second is above 0 in one and below 0 in the other, each by its own adjusted p"),
    _Spec("flips", "Answer flips", (*NAMES, "n", "rate", "rate_low", "rate_high", "up", "down", "clear", "net",
          "net_low", "net_high", "p", "p_adjusted", "p_mcnemar", "cancelled", "masked"), rows.flip_rows,
          "Items whose outcome changed, up where their score rose; net = up - down, p by cluster sign flip, exact "
          "McNemar beside it (items as independent); masked: at least half of the flips cancel"),
    _Spec("flip_profile", "Flips by how sure the baseline was", (*NAMES, "bin", "low", "high", "n", "n_flipped",
          "rate", "rate_low", "rate_high"), rows.profile_rows, "Deciles of the baseline's |score|, the least "
          "sure first"),
    _Spec("flip_groups", "Flips by group", (*NAMES, "group", "n", "up", "down", "asymmetry", *ESTIMATE, "reason"),
          rows.group_rows, "asymmetry = (up - down) / (up + down); value: net flip rate minus that of all "
          "other items"),
    _Spec("examples", "The surest flips", (*NAMES, "item", "group", "text_before", "text_after", "outcome_before",
          "outcome_after", "score_before", "score_after", "sureness", "clear", "category", "cluster"),
          lambda b: b.examples, "before: the baseline; after: the accelerated model. sureness: the smaller |score| of "
          "the two, half their distance where the sign stayed; clear: the baseline's |score| exceeds the noise floor"),
    _Spec("predictability", "Predictability across models", ("verdict", "share", "share_low",
          "share_high", "share_naive", "r2", "r2_low", "r2_high", "r2_naive", "mean_square", "n_models", "n_accels",
          "n_clusters", "reason"), lambda b: [b.predictability] if b.predictability else [],
          "share: model-specific part of the shifts' mean square, sampling noise taken off; r2: of predicting each "
          "model by the others, 0 as good as predicting no change; naive: noise left in"),
    _Spec("predictions", "Predictions for a model not yet measured", ("accel", "n_models", "mean", "low", "high",
          "between_sd", "inside"), lambda b: b.predictability.predictions if b.predictability else [],
          "Interval for the shift of one more model of the same kind; inside: within the smallest margin"),
    _Spec("power", "Power", ("kind", *NAMES, "se", "n_clusters", "margin", "detectable", "detectable_family",
          "at_margin", "smallest_margin"), lambda b: b.power, "detectable: smallest mean found with the set power; "
          "detectable_family: at alpha over the size of the family; at_margin: power for a shift as large as the "
          "margin"),
    _Spec("equivalence", "Equivalence", ("kind", *NAMES, "value", "margin", "p_lower", "p_upper", "p", "ci_low",
          "ci_high", "equivalent", "smallest_margin"), lambda b: b.equivalence,
          "Two one-sided tests on cluster-robust errors; the interval has coverage 1 - 2 alpha"),
    _Spec("adjusted", "Shifts where answers are missing", (*NAMES, "fixed", "fixed_se", "fixed_low", "fixed_high",
          "paired", "paired_se", "listwise", "listwise_se", "n_fixed", "n_paired", "n_listwise"),
          rows.adjusted_rows, "fixed: item fixed effects over all answers; paired: items answered in both "
          "cells; listwise: in every tested cell"),
    _Spec("bounds", "Shifts if the missing answers were extreme", (*NAMES, "n_missing", "scale_low", "scale_high",
          "low", "high", "verdict", "verdict_low", "verdict_high", "changes"), rows.bound_rows,
          "changes: the missing answers could change the verdict"),
    _Spec("refusals", "Missing answers as an outcome", (*NAMES, "kind", "baseline_rate", "rate", "up", "down",
          "p_mcnemar", *ESTIMATE, "reason"), rows.refusal_rows, "Share of items without an answer minus the "
          "baseline's"),
    _Spec("aggregates", "Published aggregates: shifts", ("metric", *NAMES, "value", "estimate", "se", "ci_low",
          "ci_high", "p", "p_adjusted", "difference", "difference_low", "difference_high", "n_clusters"),
          rows.aggregate_rows, "value: difference from the baseline; estimate: mean of the delete-cluster "
          "jackknife's pseudo-values; difference: minus the other models"),
    _Spec("aggregate_tests", "Published aggregates: interaction", ("metric", *ANOVA, "p_flip", "n_clusters", "reason"),
          rows.aggregate_tests, "ANOVA and cluster sign flip (p_flip) on pseudo-values, one a cluster"),
    _Spec("variances", "Variance between items and between repeats", (*NAMES, "n_repeats", "items", "repeats", "share",
          "n_seeds", "seed_sd"), lambda b: b.variances, "share: part of the variance of an item's mean that repeats "
          "make"),
    _Spec("categories", "Shifts by category and group", (*NAMES, "level", "name", *ESTIMATE, "reason"),
          lambda b: b.categories),
    _Spec("recovery", "Recovery of the planted truth", (*NAMES, "category", "n", "slope", "slope_ci_low",
          "slope_ci_high", "r", "mae", "control_mean", "control_mae", "n_control"), lambda b: b.recovery,
          "Measured item scores against what was planted: slope 1, r 1, error 0 would be perfect"),
    _Spec("coverage", "Items with an answer, and what the others did", (*NAMES, "n_items", "n_valid", "n_refused",
          "n_unparsed", "n_too_long", "share", "valid"), lambda b: b.coverage),
    _Spec("published", "Published aggregates of each cell", (*NAMES, "metric", "value", "ci_low", "ci_high", "null",
          "corrected", "corrected_low", "corrected_high", "boot_low", "boot_high", "n", "unit", "reason"),
          lambda b: b.published, "null: what a model without bias gets from noise alone; corrected: with that noise "
          "taken out; boot: percentile interval of a cluster bootstrap; all three only for ranges"),
    _Spec("floor", "Noise floor", ("shift", "item", "flip_rate", "interaction"), lambda b: [b.floor] if b.floor else [],
          "What a placebo alone does: largest |mean shift|, a quantile of |item shift|, flip rate, interaction"),
)  # fmt: skip


def all_tables(study: Study) -> list[Table]:
    """The tables of a study, each over all benchmarks."""
    from analysis.report.cost import cost_table

    own = (_transfers(study), _arms(study), cost_table(study), _missing(study))
    return [*(_table(study, spec) for spec in SPECS), *own]


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


def _transfers(study: Study) -> Table:
    columns = ("kind", "source", "target", "n", "n_models", "r", "r_low", "r_high", "rank_r", "same_sign", "slope",
               "r2", "note", "reason")  # fmt: skip
    note = (
        "Does one shift foretell another? Shifts in margins, perplexity as the log of its ratio. r2: each model "
        "predicted from the others, 0 as good as predicting no change. Points share models, so these describe and "
        "do not test"
    )
    rows = [tuple(_field(t, column) for column in columns) for t in study.transfers]
    return Table("transfers", "Transfer", columns, rows, note)


def _arms(study: Study) -> Table:
    columns = ("model", "accel", "kind", "inert", "max_logit_change", "mean_logit_change", "simulated", "weight_bytes",
               "bits_per_weight", "sparsity", "perplexity", *COSTS, "note")  # fmt: skip
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
