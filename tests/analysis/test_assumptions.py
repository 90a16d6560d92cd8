"""Assumptions measured: the intraclass correlation against pingouin, the rest on data made to break them."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pingouin
import pytest
from numpy.typing import NDArray

from analysis.anova import anova_tables
from analysis.assumptions import Assumption, assumptions, intraclass
from analysis.clusters import Clusters, partition
from analysis.contrasts import ArmKey

Floats = NDArray[np.float64]
GRID: list[ArmKey] = [(m, a) for m in "ab" for a in ("none", "q", "w")]


def data(*, icc: float = 0.3, harsh: float = 1.0, skewed: bool = False) -> tuple[Floats, Clusters]:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(40), 6)
    draw = (lambda size: rng.exponential(1, size) - 1) if skewed else (lambda size: rng.normal(size=size))
    noise = icc**0.5 * draw((40, 6))[codes] + (1 - icc) ** 0.5 * draw((240, 6))
    return noise * np.array([1, 1, harsh, 1, 1, harsh]) + rng.normal(size=(240, 1)), partition([str(c) for c in codes])


def found(scores: Floats, clusters: Clusters) -> dict[str, Assumption]:
    rows = assumptions(scores, GRID, clusters, anova_tables(scores, GRID, clusters))
    return {row.assumption: row for row in rows}


def test_intraclass_correlation_agrees_with_pingouin() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.7, (12, 1)) + rng.normal(size=(12, 5))
    long = {"target": np.repeat(np.arange(12), 5), "rater": np.tile(np.arange(5), 12), "score": x.ravel()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' own, about how pingouin calls it
        theirs = pingouin.intraclass_corr(pd.DataFrame(long), "target", "rater", "score").set_index("Type")["ICC"]
    icc, effect = intraclass(x.reshape(60, 1), partition([f"{t:02d}" for t in long["target"]]))
    assert icc == pytest.approx(float(theirs.iloc[0]))  # one-way random: ICC1
    assert effect == pytest.approx(1 + 4 * icc)


def test_clustering_variances_and_shape_are_measured() -> None:
    assert found(*data(icc=0.4))["independent items"].value == pytest.approx(0.4, abs=0.1)
    rows = found(*data(icc=0.4, harsh=5.0))
    assert rows["equal variances"].value > 8
    assert "w of" in rows["equal variances"].subject.split("over")[0]
    assert abs(rows["normal residuals"].value) < 1
    assert rows["sphericity"].value <= 1


def test_skewed_clusters_are_seen() -> None:
    normal, skewed = (found(*data(icc=0.8, skewed=s)) for s in (False, True))
    assert normal["symmetric clusters"].p > 0.01
    assert skewed["normal residuals"].value > normal["normal residuals"].value + 1


def test_order_of_arms_changes_nothing() -> None:
    scores, clusters = data()
    order = [3, 0, 5, 1, 4, 2]
    tables = anova_tables(scores, GRID, clusters)
    one = assumptions(scores, GRID, clusters, tables)
    other = assumptions(scores[:, order], [GRID[i] for i in order], clusters, tables)
    for a, b in zip(one, other, strict=True):
        assert (a.assumption, abs(a.value)) == (b.assumption, pytest.approx(abs(b.value)))


def test_items_of_their_own_have_no_clustering_row() -> None:
    scores, _ = data()
    assert "independent items" not in found(scores, partition(range(240)))


def test_identical_cells_have_nothing_to_show() -> None:
    clusters = partition(range(10))
    same = np.tile(np.arange(10.0)[:, None], (1, 6))
    assert assumptions(same, GRID, clusters, anova_tables(same, GRID, clusters)) == []
    assert all(math.isnan(x) for x in intraclass(np.zeros((4, 1)), partition("aabb")))
