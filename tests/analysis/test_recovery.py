from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from analysis.clusters import partition
from analysis.frame import make_frames
from analysis.load import load
from analysis.recovery import cluster_slope, recoveries
from tests.analysis.fake import make_sweep


@pytest.mark.parametrize("seed", range(3))
def test_slope_agrees_with_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(9), rng.integers(1, 7, 9))
    x = rng.normal(size=len(codes))
    y = 0.3 + 0.8 * x + rng.normal(size=9)[codes] + rng.normal(size=len(codes))
    fit = sm.OLS(y, sm.add_constant(x)).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    slope = cluster_slope(x, y, partition(codes))
    expected = [fit.params[1], fit.bse[1], *fit.conf_int()[1]]
    assert [slope.value, slope.se, slope.ci_low, slope.ci_high] == pytest.approx(expected, rel=1e-9)


def test_no_slope_without_spread_or_items() -> None:
    assert math.isnan(cluster_slope(np.ones(5), np.arange(5.0), partition(range(5))).value)
    assert math.isnan(cluster_slope(np.arange(2.0), np.arange(2.0), partition(range(2))).value)
    alone = cluster_slope(np.arange(4.0), np.arange(4.0), partition("aaaa"))
    assert alone.value == pytest.approx(1.0)
    assert math.isnan(alone.ci_low)


def test_recovery_of_a_sweep(tmp_path: Path) -> None:
    frame = make_frames(load(make_sweep(tmp_path, missing=0.1)).cells)[0]
    found = {(r.model, r.accel, r.category): r for r in recoveries(frame)}
    assert len(found) == 10 * 4  # all, control, gender, religion
    whole = found["tiny_llama", "none", "all"]
    x, y = frame.truth["tiny_llama"].to_numpy(), frame.score("tiny_llama", "none")
    there = ~np.isnan(y)
    assert whole.n == there.sum() < 120
    line = stats.linregress(x[there], y[there])
    assert (whole.slope, whole.r) == pytest.approx((line.slope, line.rvalue))
    assert whole.mae == pytest.approx(np.abs(y - x)[there].mean())
    control = there & (x == 0)
    assert whole.n_control == control.sum() > 10
    assert whole.control_mean == pytest.approx(y[control].mean())
    assert math.isnan(found["tiny_llama", "none", "control"].slope)  # its truth has no spread


def test_nothing_planted_nothing_recovered(tmp_path: Path) -> None:
    frame = make_frames(load(make_sweep(tmp_path)).cells)[0]
    frame.truth.loc[:, :] = math.nan
    assert recoveries(frame) == []
