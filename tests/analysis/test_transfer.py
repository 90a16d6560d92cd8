"""Transfer: figures against numpy, scipy and a loop; sentences from fake sweeps whose truth is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.analyse import analyse
from analysis.settings import Settings
from analysis.study import Study
from analysis.transfer import transfer, transfer_matrix
from tests.analysis.fake import make_sweep

FAST = Settings(n_resamples=199)
NAMES = ("benchmark", "one", "two")


def test_figures_are_those_of_numpy_scipy_and_a_loop() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=12)
    y = 0.8 * x + rng.normal(0, 0.4, 12)
    models = list("aaaabbbbcccc")
    found = transfer(x, y, models, names=NAMES)
    assert found.r == pytest.approx(float(np.corrcoef(x, y)[0, 1]))
    assert found.rank_r == pytest.approx(float(stats.spearmanr(x, y).statistic))
    assert found.same_sign == pytest.approx(np.mean(np.sign(x) == np.sign(y)))
    error = 0.0
    for m in "abc":
        own = np.array([k == m for k in models])
        slope = float(np.linalg.lstsq(x[~own][:, None], y[~own], rcond=None)[0][0])
        error += float(((y[own] - slope * x[own]) ** 2).sum())
    assert found.r2 == pytest.approx(1 - error / float((y**2).sum()))
    assert found.r_low < found.r < found.r_high
    assert (found.n, found.n_models, found.reason) == (12, 3, "")


def test_the_interval_covers() -> None:
    rng, n, covered = np.random.default_rng(1), 300, 0
    for _ in range(n):
        x = rng.normal(size=15)
        y = 0.6 * x + 0.8 * rng.normal(size=15)
        found = transfer(x, y, ["a"] * 15, names=NAMES)
        covered += found.r_low <= 0.6 <= found.r_high
    assert covered >= stats.binom.ppf(0.001, n, 0.92)  # the jackknife of 15 points is a little short


def test_units_of_the_source_change_only_the_slope() -> None:
    rng = np.random.default_rng(2)
    x, y, models = rng.normal(size=8), rng.normal(size=8), list("aabbccdd")
    one, other = transfer(x, y, models, names=NAMES), transfer(10 * x, y, models, names=NAMES)
    assert (other.r, other.r2, other.rank_r) == pytest.approx((one.r, one.r2, one.rank_r))
    assert other.slope == pytest.approx(one.slope / 10)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([1.0, 2.0], [1.0, 3.0], "2 points are too few"),
        ([1.0, math.nan, 2.0], [1.0, 2.0, math.nan], "1 points are too few"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "no spread"),
    ],
)
def test_too_few_points_are_said(x: list[float], y: list[float], words: str) -> None:
    found = transfer(np.array(x), np.array(y), ["a"] * len(x), names=NAMES)
    assert words in found.reason
    assert math.isnan(found.r)


def test_one_model_has_no_r2_and_a_perfect_line_no_interval() -> None:
    x = np.arange(1.0, 7.0)
    found = transfer(x, 2 * x, ["a"] * 6, names=NAMES)
    assert found.r == pytest.approx(1.0)
    assert math.isnan(found.r2)
    assert math.isnan(found.r_low)


def test_a_matrix_pairs_what_both_have() -> None:
    columns = {"one": {("a", "q"): 1.0, ("b", "q"): 2.0, ("c", "q"): 4.0}, "two": {("a", "q"): 2.0, ("c", "q"): 5.0}}
    found = transfer_matrix(columns, kind="benchmark", alpha=0.05, notes={("one", "two"): "why"})
    assert [(t.source, t.target, t.n, t.note) for t in found] == [("one", "two", 2, "why"), ("two", "one", 2, "")]
    assert transfer_matrix({"one": columns["one"], "x": {}}, kind="accel", alpha=0.05, notes={}) == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three models that react alike to three accelerators, on two benchmarks."""
    sweep = make_sweep(
        tmp_path_factory.mktemp("shared"), models=("a", "b", "c"), accels=("hqq8", "hqq4", "wanda50", "placebo_batch"),
        benchmarks=("one", "two"), shift=0.4, n_clusters=40, notes={},
    )  # fmt: skip
    for path in sweep.parents[1].rglob("cell.json"):
        cell = json.loads(path.read_text())
        for step in cell["accel"]["steps"]:
            if step["family"] == "hqq":
                step["config"] = {"bits": int(step["name"][-1])}
        path.write_text(json.dumps(cell))
    return analyse(sweep, FAST)


def test_a_study_of_one_reaction_is_predictable(shared: Study) -> None:
    assert {b.predictability.verdict for b in shared.benchmarks if b.predictability} == {"predictable"}
    assert shared.predictable.startswith("Other models foretell the shifts on One (")
    assert "threshold 50%" in shared.predictable


def test_accels_benchmarks_and_perplexity_are_paired(shared: Study) -> None:
    pairs = {(t.kind, t.source, t.target): t for t in shared.transfers}
    assert pairs["benchmark", "One", "Two"].n == 9
    assert pairs["accel", "hqq8", "hqq4"].note == "8 to 4 bits"
    assert pairs["accel", "hqq8", "wanda50"].note == ""
    assert pairs["accel", "hqq8", "hqq4"].n == 6  # models x benchmarks
    assert ("perplexity", "perplexity", "|One|") in pairs
    assert not any("placebo" in t.source for t in shared.transfers)


def test_a_study_of_own_reactions_is_not_predictable(tmp_path: Path) -> None:
    sweep = make_sweep(
        tmp_path, models=("a", "b"), accels=("hqq4", "wanda50"), shift=0.0, interaction=1.5, n_clusters=40, notes={}
    )
    study = analyse(sweep, FAST)
    assert study.predictable.startswith("Other models do not foretell the shifts on Planted")


def test_no_shift_and_one_model_have_words(tmp_path: Path) -> None:
    none = analyse(make_sweep(tmp_path / "a", models=("a", "b"), shift=0.0, n_clusters=12, notes={}), FAST)
    assert none.predictable.startswith("The shifts together are not shown to exceed their noise on Planted")
    one = analyse(make_sweep(tmp_path / "b", models=("a",), n_clusters=12, notes={}), FAST)
    assert one.predictable == "Other models foretell nothing here: no accelerator was measured on two models."
