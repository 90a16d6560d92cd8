"""Missing answers: estimates against plain counts, bounds that hold whatever was hidden, refusals as an outcome."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar

from analysis.estimates import cluster_mean
from analysis.frame import Frame, make_frames
from analysis.load import load
from analysis.settings import Settings
from analysis.unanswered import adjusted_shifts, bounds, refusal_shifts, scale_ends
from tests.analysis.fake import make_sweep

FAST = Settings(n_resamples=199)
ARMS = [(m, a) for m in ("tiny_llama", "tiny_mistral") for a in ("hqq4", "wanda50")]
GRID = [("tiny_llama", "none"), ("tiny_mistral", "none"), *ARMS]
MARGINS = {"tiny_llama": 0.3, "tiny_mistral": 0.3}


def frame(root: Path, **options: object) -> Frame:
    return make_frames(load(make_sweep(root, **options)).cells)[0]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def holey(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    return frame(tmp_path_factory.mktemp("holey"), missing=0.06)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    return frame(tmp_path_factory.mktemp("whole"))


def test_shifts_three_ways(holey: Frame) -> None:
    complete = ~np.isnan(holey.matrix(GRID)).any(axis=1)
    assert 0 < complete.sum() < len(complete)
    for row in adjusted_shifts(holey, GRID, alpha=0.05):
        shift = holey.shift(row.model, row.accel)
        assert row.paired == cluster_mean(shift, holey.clusters)
        assert row.listwise.value == pytest.approx(float(shift[complete].mean()))
        assert row.listwise.n_items == complete.sum() < row.paired.n_items <= row.fixed.n_items
        assert abs(row.fixed.value - 0.15) < 4 * row.fixed.se  # the planted shift


def test_nothing_missing_has_no_tables(whole: Frame) -> None:
    assert adjusted_shifts(whole, GRID, alpha=0.05) == []
    assert bounds(whole, ARMS, FAST, margins=MARGINS, verdicts={a: "changed" for a in ARMS}) == []
    assert refusal_shifts(whole, ARMS, FAST) == []


def test_bounds_hold_whatever_the_missing_answers_were(holey: Frame) -> None:
    rng = np.random.default_rng(0)
    found = bounds(holey, ARMS, FAST, margins=MARGINS, verdicts={a: "inconclusive" for a in ARMS})
    assert [(b.model, b.accel) for b in found] == ARMS
    scores = holey.matrix(GRID)
    for b in found:
        assert (b.scale_low, b.scale_high) == (np.nanmin(scores), np.nanmax(scores))
        columns = [holey.score(b.model, a) for a in (b.accel, "none")]
        assert b.n_missing == (np.isnan(columns[0]) | np.isnan(columns[1])).sum()
        for _ in range(20):
            after, before = (np.where(np.isnan(c), rng.uniform(b.scale_low, b.scale_high, len(c)), c) for c in columns)
            assert b.low.value <= (after - before).mean() <= b.high.value
        assert b.low.value <= cluster_mean(holey.shift(b.model, b.accel), holey.clusters).value <= b.high.value
        assert b.low.n_items == len(holey.items)


def test_bounds_say_whether_the_verdict_would_change(holey: Frame) -> None:
    for verdict in ("changed", "unchanged", "inconclusive"):
        for b in bounds(holey, ARMS, FAST, margins=MARGINS, verdicts={a: verdict for a in ARMS}):
            differs = {b.verdict_low, b.verdict_high} != {verdict} or (
                verdict == "changed" and b.low.value < 0 < b.high.value
            )
            assert b.changes == differs
    wide = bounds(holey, ARMS, FAST, margins=dict.fromkeys(MARGINS, 100.0), verdicts={a: "unchanged" for a in ARMS})
    assert not any(b.changes for b in wide)


@pytest.mark.parametrize(
    ("seen", "kind", "ends"),
    [
        ([0.0, 1.0], "rate", (0.0, 1.0)),
        ([-0.2, 0.8], "rate", (-0.2, 0.8)),
        ([0.0], "rate", (-1.0, 1.0)),
        ([0.25, 0.75], "rate", (-0.25, 1.25)),
        ([-3.0, 2.0], "log-odds", (-3.0, 2.0)),
    ],
)
def test_ends_of_the_scale(seen: list[float], kind: str, ends: tuple[float, float]) -> None:
    assert scale_ends(np.array([*seen, np.nan]), kind) == pytest.approx(ends)


def test_refusals_are_an_outcome_with_a_test(holey: Frame) -> None:
    rows = refusal_shifts(holey, ARMS, FAST)
    assert [r.kind for r in rows] == ["refused"] * 4 + ["no answer"] * 4
    for r in rows[:4]:
        before, after = (np.isnan(holey.score(r.model, a)) for a in ("none", r.accel))
        assert (r.baseline_rate, r.rate) == pytest.approx((before.mean(), after.mean()))
        assert r.estimate.value == pytest.approx(after.mean() - before.mean())
        assert (r.up, r.down) == ((after & ~before).sum(), (before & ~after).sum())
        assert r.p_mcnemar == pytest.approx(float(their_mcnemar([[0, r.up], [r.down, 0]], exact=True).pvalue))
        assert 0 < r.estimate.p_adjusted <= 1


def test_an_accelerator_that_refuses_is_found(holey: Frame) -> None:
    refused = holey.refused.copy()
    refused["tiny_llama", "hqq4"] = (np.arange(len(refused)) % 3 == 0).astype(float)
    rows = refusal_shifts(dataclasses.replace(holey, refused=refused), ARMS, FAST)
    assert [r.estimate.p_adjusted <= 0.05 for r in rows[:4]] == [True, False, False, False]


def test_repeats_share_a_refusal(tmp_path: Path) -> None:
    sampled = frame(tmp_path, repeats=4, missing=0.1)
    shares = set(np.unique(sampled.refused.to_numpy()))
    assert shares <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert (sampled.refused.to_numpy() == sampled.unanswered.to_numpy()).all()
    means = sampled.seed_means["tiny_llama", "none"]
    assert means == [pytest.approx(np.nanmean(sampled.score("tiny_llama", "none")))]
