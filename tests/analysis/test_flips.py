"""Flips against statsmodels' McNemar, plain counts, and data whose flips are known."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar

from analysis.clusters import partition
from analysis.flips import (
    count_flips,
    directions,
    flip_profile,
    flip_tests,
    flips_by_group,
    group_difference,
    mcnemar,
    profiles,
)
from analysis.frame import Frame, make_frames
from analysis.load import Cell, load
from tests.analysis.fake import make_sweep

QUICK = {"alpha": 0.05, "n_resamples": 199, "seed": 0}
ARM = ("tiny_llama", "hqq4")


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    sweep = make_sweep(tmp_path_factory.mktemp("flips"), missing=0.05, noise=0.6, shift=0.4)
    return make_frames(load(sweep).cells)[0]


@pytest.mark.parametrize(("up", "down"), [(1, 0), (0, 4), (3, 3), (12, 5), (200, 170)])
def test_mcnemar_agrees_with_statsmodels(up: int, down: int) -> None:
    assert mcnemar(up, down) == pytest.approx(float(their_mcnemar([[9, up], [down, 9]], exact=True).pvalue))
    assert math.isnan(mcnemar(0, 0))


def test_flips_are_counted_as_by_hand(frame: Frame) -> None:
    up = down = n = 0
    for item in frame.items.index:
        before, after = (frame.scores.loc[item, (ARM[0], a)] for a in ("none", ARM[1]))
        if math.isnan(before) or math.isnan(after):
            continue
        n += 1
        if (before > 0) != (after > 0):  # the fake's outcome is the sign of its score
            up, down = up + (after > before), down + (after < before)
    found = count_flips(frame, ARM)
    assert (found.n, found.up, found.down) == (n, up, down)
    assert found.rate == pytest.approx((up + down) / n)
    assert up > down > 0
    test = next(t for t in flip_tests(frame, [ARM], floor={}, **QUICK) if (t.model, t.accel) == ARM)
    assert test.net.value == pytest.approx((up - down) / n)
    assert test.rate.value == pytest.approx((up + down) / n)
    assert test.cancelled == pytest.approx(2 * down / n)
    assert test.p_mcnemar == pytest.approx(float(stats.binomtest(up, up + down).pvalue))


def test_a_direction_needs_a_change_of_outcome_and_of_score() -> None:
    before, after = np.array(list("aaab"), dtype=object), np.array(list("abba"), dtype=object)
    found = directions(before, after, np.array([1.0, 0.5, 0.0, -0.5]))
    assert found.tolist() == [0.0, 1.0, 0.0, -1.0]
    assert math.isnan(directions(before, after, np.array([math.nan] * 4))[0])


def masked(net: float, *, seed: int = 0) -> Frame:
    """A frame of 300 items in 30 clusters, 60 % of which flip under "q", by `net` more up than down."""
    rng = np.random.default_rng(seed)
    import pandas as pd

    n = 300
    base = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    flips = rng.random(n) < np.where(base > 0, 0.6 - net, 0.6 + net)
    scores = pd.DataFrame({("m", "none"): base, ("m", "q"): np.where(flips, -base, base)})
    outcomes = scores.map(lambda x: "yes" if x > 0 else "no")
    items = pd.DataFrame({"cluster": [f"{i // 10:02d}" for i in range(n)], "category": "", "group": "g"})
    cells: dict[tuple[str, str], list[Cell]] = {("m", "none"): [], ("m", "q"): []}
    none = scores * 0
    return Frame("b", "greedy", "other", cells, items, scores, outcomes, scores, {}, {}, none, none, none)


def test_flips_that_cancel_are_masked_and_those_that_do_not_are_not() -> None:
    both = flip_tests(masked(0.0), [("m", "q")], floor={}, **QUICK)[0]
    assert both.rate.value > 0.5
    assert both.masked
    assert both.cancelled > 0.4
    one_way = flip_tests(masked(0.3), [("m", "q")], floor={}, **QUICK)[0]
    assert not one_way.masked
    assert one_way.net.p_adjusted <= 0.05
    placebo_like = flip_tests(masked(0.0), [("m", "q")], floor={"flip_rate": 0.9}, **QUICK)[0]
    assert not placebo_like.masked


def test_turning_the_sign_turns_the_direction() -> None:
    one = masked(0.2)
    other = dataclasses.replace(one, scores=-one.scores)
    a, b = (flip_tests(f, [("m", "q")], floor={}, **QUICK)[0] for f in (one, other))
    assert (a.up, a.down, a.net.p_adjusted, a.p_mcnemar) == (b.down, b.up, b.net.p_adjusted, b.p_mcnemar)
    assert a.net.value == -b.net.value


def test_the_net_direction_test_holds_its_level() -> None:
    n = 200
    p = [flip_tests(masked(0.0, seed=s), [("m", "q")], floor={}, **QUICK)[0].net.p_adjusted for s in range(n)]
    assert sum(x <= 0.05 for x in p) <= stats.binom.ppf(0.9999, n, 0.05)


def test_the_profile_sorts_items_by_how_sure_the_baseline_was() -> None:
    rng = np.random.default_rng(0)
    margin = rng.random(500)
    flipped = (rng.random(500) < 0.9 - 0.8 * margin).astype(float)
    flipped[::50] = math.nan
    rows = flip_profile(margin, flipped, partition(range(500)))
    assert len(rows) == 10
    assert sum(r[3].n_items for r in rows) == 490
    assert all(a[1] < b[0] for a, b in itertools.pairwise(rows))
    assert rows[0][3].value > 0.7 > 0.3 > rows[-1][3].value
    low, high, n, rate = rows[3]
    inside = (margin >= low) & (margin <= high) & ~np.isnan(flipped)
    assert (n, rate.value) == (flipped[inside].sum(), pytest.approx(flipped[inside].mean()))


def test_equal_margins_have_no_profile_and_few_margins_few_bins() -> None:
    flipped = np.array([0.0, 1.0] * 10)
    assert flip_profile(np.full(20, 0.5), flipped, partition(range(20))) == []
    assert flip_profile(np.full(20, math.nan), flipped, partition(range(20))) == []
    assert len(flip_profile(np.repeat([0.5, 1.5], 10), flipped, partition(range(20)))) == 2


def test_profiles_of_a_frame_count_every_paired_item(frame: Frame) -> None:
    rows = profiles(frame, [ARM], alpha=0.05)
    assert [r.bin for r in rows] == list(range(1, 11))
    counted = count_flips(frame, ARM)
    assert sum(r.rate.n_items for r in rows) == counted.n
    assert sum(r.n_flipped for r in rows) == round(counted.rate * counted.n)
    assert rows[0].rate.value > rows[-1].rate.value


def test_groups_add_up_and_an_asymmetric_one_is_found(frame: Frame) -> None:
    rows = flips_by_group(frame, [ARM], most=60, **QUICK)
    counted = count_flips(frame, ARM)
    assert (sum(r.up for r in rows), sum(r.down for r in rows), sum(r.n for r in rows)) == (
        counted.up, counted.down, counted.n
    )  # fmt: skip
    assert flips_by_group(frame, [ARM], most=2, **QUICK) == []
    biased = masked(0.0)
    biased.items["group"] = np.where(np.arange(300) % 2 == 0, "men", "women")  # men flip down only, women up only
    rows = flips_by_group(biased, [("m", "q")], most=60, **QUICK)
    assert [r.asymmetry for r in rows] == [-1.0, 1.0]
    assert all(r.difference.p_adjusted <= 0.05 for r in rows)
    assert rows[0].difference.value == pytest.approx(-rows[1].difference.value)


def test_the_difference_of_two_groups_of_clusters_is_welchs() -> None:
    """With clusters of one item the interval is that of two independent means (up to the factor G / (G - 1))."""
    rng = np.random.default_rng(2)
    values, inside = rng.normal(size=60), np.arange(60) < 25
    estimate, null = group_difference(values, inside, partition(range(60)))
    a, b = values[inside], values[~inside]
    assert estimate.value == pytest.approx(a.mean() - b.mean())
    assert float(null.mean()) == pytest.approx(estimate.value)
    se = math.sqrt(a.var() / len(a) + b.var() / len(b))
    assert estimate.se == pytest.approx(se * math.sqrt(60 / 59))
    assert "no answer" in group_difference(values, np.ones(60, bool), partition(range(60)))[0].reason


def test_no_arms_have_no_flips(tmp_path: Path, frame: Frame) -> None:
    assert flip_tests(frame, [], floor={}, **QUICK) == []
    assert profiles(frame, [], alpha=0.05) == []
