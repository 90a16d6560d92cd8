"""Bias against cost: ratios to each model's own baseline, nothing drawn that is not known."""

from __future__ import annotations

import dataclasses
import math

import pytest

from analysis.report import html, markdown, mpl, svg
from analysis.report.cost import COLUMNS, Scatter, cost_figure, cost_table, ratio
from analysis.study import Study


def test_each_cell_stands_beside_what_it_cost(study: Study) -> None:
    table = cost_table(study)
    assert table.columns == COLUMNS
    rows = {(r[0], r[3], r[4]): dict(zip(COLUMNS, r, strict=True)) for r in table.rows}
    assert len(rows) == sum(len(b.shifts) for b in study.benchmarks)
    arms = {(a.model, a.accel): a for a in study.arms}
    for b in study.benchmarks:
        for shift in b.shifts:
            row = rows[b.name, shift.model, shift.accel]
            arm, base = arms[shift.model, shift.accel], arms[shift.model, "none"]
            assert row["shift"] == shift.estimate.value
            assert row["verdict"] == shift.verdict
            assert row["memory_ratio"] == arm.weight_bytes / base.weight_bytes
            assert row["perplexity_ratio"] == arm.perplexity / base.perplexity
            assert math.isnan(row["decode_ratio"])  # the fake cells do not say how fast they were
            assert row["accelerate_s"] == 0.2
    assert rows["one", "alpha", "hqq4"]["memory_ratio"] < 0.2


def test_a_ratio_needs_both_sides(study: Study) -> None:
    arm = study.arms[0]
    fast, slow = dataclasses.replace(arm, decode_tokens_per_s=30.0), dataclasses.replace(arm, decode_tokens_per_s=20.0)
    assert ratio(fast, slow, "decode_tokens_per_s") == 1.5
    unknown = dataclasses.replace(arm, decode_tokens_per_s=0.0)
    for pair in ((fast, None), (None, slow), (fast, unknown), (arm, slow)):
        assert math.isnan(ratio(*pair, "decode_tokens_per_s"))


def test_the_figure_is_the_tables(study: Study) -> None:
    b = study.benchmarks[0]
    figure = cost_figure(study, b)
    assert isinstance(figure, Scatter)
    shifts = {s.estimate.value for s in b.shifts}
    assert {dot.point.value for dot in figure.dots} == shifts
    memory = {row[COLUMNS.index("memory_ratio")] for row in cost_table(study).rows if row[0] == b.name}
    assert {dot.x for dot in figure.dots} == memory
    drawn = svg.scatter(figure)
    assert "nan" not in drawn
    assert all(dot.label in drawn for dot in figure.dots)
    _, axes = mpl.new_figure(6, 4)
    mpl.draw_scatter(axes, figure)
    assert axes.get_xlim()[0] == 0


def test_cells_without_costs_have_no_figure_and_the_report_stands(study: Study) -> None:
    bare = dataclasses.replace(study, arms=[])
    assert cost_figure(bare, bare.benchmarks[0]) is None
    assert "Bias against cost" in html.render(bare)
    shift = bare.benchmarks[0].shifts[0]
    gone = dataclasses.replace(shift.estimate, value=math.nan, ci_low=math.nan, ci_high=math.nan)
    b = dataclasses.replace(study.benchmarks[0], shifts=[dataclasses.replace(shift, estimate=gone)])
    assert cost_figure(study, b) is None


@pytest.mark.parametrize("render", [html.render, markdown.render])
def test_the_report_has_the_section(study: Study, render: object) -> None:
    assert callable(render)
    assert "Bias against cost" in render(study)
