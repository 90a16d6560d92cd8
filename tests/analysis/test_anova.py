"""pingouin's table against R's afex (r/rm_anova.R) and statsmodels, and the degenerate cases in words."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from statsmodels.stats.anova import AnovaRM

from analysis.anova import SOURCES, anova_tables, rm_anova
from analysis.clusters import partition
from analysis.contrasts import ArmKey
from analysis.study import AnovaRow

Floats = NDArray[np.float64]
R = Path(__file__).parent / "r"
DATA = ["three_by_four", "two_by_two", "two_by_three_binary"]


def read(name: str) -> tuple[Floats, list[ArmKey]]:
    wide = pd.read_csv(R / f"{name}.csv").pivot(index="item", columns=["model", "accel"], values="score")
    return wide.to_numpy(), [(str(m), str(a)) for m, a in wide.columns]


@pytest.mark.parametrize("name", DATA)
def test_the_full_table_agrees_with_afex(name: str) -> None:
    expected = pd.read_csv(R / "rm_anova_expected.csv").query("data == @name").set_index("source")
    table = rm_anova(*read(name), unit="items")
    assert [row.source for row in table.rows] == list(SOURCES)
    assert table.reason == ""
    for row in table.rows:
        for column in expected.columns.drop(["data", "w", "p_sphericity"]):
            assert getattr(row, column) == pytest.approx(expected.loc[row.source, column], rel=1e-9), column
        if not math.isnan(expected.loc[row.source, "w"]):
            assert row.w == pytest.approx(expected.loc[row.source, "w"], rel=1e-9)
            assert row.p_sphericity == pytest.approx(expected.loc[row.source, "p_sphericity"], rel=1e-9)
        assert row.ms == pytest.approx(row.ss / row.df1)


@pytest.mark.parametrize("name", DATA)
def test_f_and_p_agree_with_statsmodels(name: str) -> None:
    fit = AnovaRM(pd.read_csv(R / f"{name}.csv"), "score", "item", within=["model", "accel"]).fit().anova_table
    for row, theirs in zip(rm_anova(*read(name), unit="items").rows, fit.to_numpy(), strict=True):
        assert (row.f, row.df1, row.df2, row.p) == pytest.approx(tuple(theirs), rel=1e-8)


def test_order_of_arms_and_items_and_a_shift_of_all_change_nothing() -> None:
    scores, grid = read("three_by_four")
    reference = rm_anova(scores, grid, unit="items")
    columns = np.random.default_rng(0).permutation(len(grid))
    rows = np.random.default_rng(1).permutation(len(scores))
    moved = rm_anova(scores[np.ix_(rows, columns)] + 5, [grid[c] for c in columns], unit="items")
    for one, other in zip(reference.rows, moved.rows, strict=True):
        assert (other.ss, other.f, other.p_gg) == pytest.approx((one.ss, one.f, one.p_gg), rel=1e-7)


def test_cluster_means_stand_beside_items_only_where_items_share_clusters() -> None:
    scores, grid = read("three_by_four")
    assert [t.unit for t in anova_tables(scores, grid, partition(range(14)))] == ["items"]
    items, means = anova_tables(scores, grid, partition([i // 2 for i in range(14)]))
    assert (items.n, means.n, means.unit) == (14, 7, "cluster means")
    pairs = scores.reshape(7, 2, -1).mean(axis=1)
    assert means == rm_anova(pairs, grid, unit="cluster means")


GRID = [(m, a) for m in "ab" for a in ("none", "q", "w")]


@pytest.mark.parametrize(
    ("grid", "n", "words"),
    [
        ([("a", "none"), ("a", "q")], 5, "1 model"),
        ([("a", "none"), ("b", "none")], 5, "1 level of accel"),
        (GRID, 1, "1 complete items"),
        (GRID, 0, "0 complete items"),
    ],
)
def test_what_cannot_be_tested_is_said(grid: list[ArmKey], n: int, words: str) -> None:
    table = rm_anova(np.random.default_rng(0).normal(size=(n, len(grid))), grid, unit="items")
    assert table.rows == []
    assert words in table.reason


def test_constant_scores_have_no_table() -> None:
    table = rm_anova(np.full((6, 6), 0.3), GRID, unit="items")
    assert table.rows == []
    assert "model, accel, model x accel: no effect in any unit" in table.reason


def test_accelerators_that_change_nothing_leave_the_model_effect() -> None:
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.normal(size=(8, 2)), 3, axis=1)
    table = rm_anova(scores, GRID, unit="items")
    assert [row.source for row in table.rows] == ["model"]
    assert "accel, model x accel: no effect in any unit" in table.reason
    assert _finite(table.rows[0])


def test_an_effect_without_error_variance_is_named() -> None:
    scores = np.random.default_rng(0).normal(size=(8, 1)) + np.array([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])
    table = rm_anova(scores, GRID, unit="items")
    assert table.rows == []
    assert "accel: exactly the same effect in every unit" in table.reason


def test_fewer_units_than_contrasts_have_f_but_no_mauchly() -> None:
    grid = [(m, a) for m in "abc" for a in ("none", "q", "w", "x")]
    table = rm_anova(np.random.default_rng(2).normal(size=(5, 12)), grid, unit="items")
    assert [row.source for row in table.rows] == list(SOURCES)
    assert all(_finite(row) for row in table.rows)
    assert [math.isnan(row.w) for row in table.rows] == [False, False, True]
    assert "model x accel: no Mauchly test" in table.reason


def test_units_too_few_for_pingouin_are_said() -> None:
    table = rm_anova(np.random.default_rng(2).normal(size=(2, 6)), GRID, unit="items")
    assert table.rows == []
    assert "2 complete items are too few" in table.reason


def _finite(row: AnovaRow) -> bool:
    return all(math.isfinite(x) for x in (row.ss, row.f, row.p, row.p_gg, row.eps, row.eta2_partial))
