"""Bias against cost: ratios to each model's own baseline, nothing drawn that is not known."""

from __future__ import annotations

import dataclasses
import math

import pytest

from analysis.report import html, markdown, mpl, svg
from analysis.report.cost import COLUMNS, cost_figure, cost_figures, cost_table, pareto, ratio
from analysis.report.shapes import Scatter
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
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in cost_table(study).rows if row[0] == b.name]
    judged = {(r["model"], r["accel"]): r for r in rows if r["verdict"] != "placebo"}
    dots = {tuple(dot.point.names.values()): dot for dot in figure.dots}
    assert dots.keys() == judged.keys()
    assert all(dots[key].x == row["memory_ratio"] for key, row in judged.items())
    assert all(dots[key].point.value == row["shift"] for key, row in judged.items())
    drawn = svg.scatter(figure)
    assert "nan" not in drawn
    assert all(key.name in drawn for key in (*figure.models, *figure.accels))
    assert len(mpl.draw(figure).axes) == 1


def test_the_front_is_what_nothing_of_the_same_model_beats() -> None:
    # By hand: b costs and moves more than a; c costs more than the baseline, which moves 0; e and f tie exactly.
    cells = {("m", "a"): (0.5, 0.1), ("m", "b"): (0.6, 0.2), ("m", "c"): (1.1, 0.0), ("m", "d"): (0.9, 0.05),
             ("n", "e"): (0.7, 0.3), ("n", "f"): (0.7, 0.3), ("n", "g"): (0.7, 0.31)}  # fmt: skip
    assert pareto(cells) == {("m", "a"), ("m", "d"), ("n", "e"), ("n", "f")}


def test_latency_is_the_speed_turned_over_and_batched_where_that_is_known(study: Study) -> None:
    speeds = {"none": (10.0, 40.0), "hqq4": (20.0, 50.0), "wanda50": (5.0, 40.0), "placebo_batch": (10.0, 40.0)}
    for batched, x in ((True, {"hqq4": 0.8, "wanda50": 1.0}), (False, {"hqq4": 0.5, "wanda50": 2.0})):
        arms = [
            dataclasses.replace(a, decode_tokens_per_s=speeds[a.accel][0],
                                decode_tokens_per_s_batched=speeds[a.accel][1] if batched else math.nan)
            for a in study.arms
        ]  # fmt: skip
        found = dict(cost_figures(dataclasses.replace(study, arms=arms), study.benchmarks[0]))
        assert {dot.point.names["accel"]: dot.x for dot in found["latency"].dots} == pytest.approx(x)
    assert set(dict(cost_figures(study, study.benchmarks[0]))) == {"memory", "perplexity"}


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
