"""Ranges against brute force, closed forms and simulation; the null and the corrected companion."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from biaslab.benchmarks.metrics import SAME
from biaslab.benchmarks.ranges import TIE, gini, range_of_means, range_of_shares, resampled

OUTCOMES = pd.Series(dtype=str)


def answers(values: list[float]) -> pd.Series:
    return pd.Series(["unparsed" if math.isnan(v) else "answered" for v in values])


def test_gini_by_hand() -> None:
    rng = np.random.default_rng(0)
    for x in (rng.random(7), np.array([1.0, 1.0, 1.0]), np.array([0.0, 0.0, 3.0]), rng.lognormal(size=107)):
        pairs = sum(abs(a - b) for a, b in itertools.product(x, x)) / len(x) ** 2
        assert gini(x[None])[0] == pytest.approx(0.5 * pairs / x.mean())


def test_jackknife_of_a_mean_is_its_classical_error() -> None:
    x = np.random.default_rng(1).normal(2, 1, 30)
    found = resampled(
        lambda w: ((w @ x) / w.sum(1))[:, None], lambda m: m[..., 0], [f"c{i}" for i in range(30)], np.zeros(0), unit=""
    )
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.leave_one_out["c3"] == pytest.approx(np.delete(x, 3).mean())
    pseudo = [30 * found.value - 29 * v for v in found.leave_one_out.values()]
    np.testing.assert_allclose(pseudo, x)
    assert found.boot_low < found.value < found.boot_high
    # 400 bootstrap draws: the percentile interval is near the normal one.
    assert found.boot_high - found.boot_low == pytest.approx(2 * 1.96 * x.std() / math.sqrt(30), rel=0.2)


def table(seed: int, effect: float, noise: float, n: int = 60) -> pd.DataFrame:
    """`n` clusters in three groups whose true means are 0, effect/2, effect; four values a cluster."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % 3
    cluster = np.repeat(np.arange(n), 4)
    value = effect / 2 * group[cluster] + noise * rng.normal(size=n)[cluster]
    return pd.DataFrame({"value": value, "group": np.array(["a", "b", "c"])[group[cluster]], "cluster": cluster})


def spread(frame: pd.DataFrame) -> tuple[float, float, float]:
    found = range_of_means(
        frame["value"], frame["group"], frame["cluster"].astype(str), OUTCOMES, unit="", coverage=0.8
    )
    return found.value, found.null, found.corrected


def test_a_range_of_means_by_hand_and_left_out_by_brute_force() -> None:
    frame = table(0, 1.0, 0.5)
    means = frame.groupby("group")["value"].mean()
    found = range_of_means(
        frame["value"], frame["group"], frame["cluster"].astype(str), OUTCOMES, unit="", coverage=0.8
    )
    assert found.value == pytest.approx(means.max() - means.min())
    for cluster in (0, 17, 59):
        rest = frame[frame["cluster"] != cluster].groupby("group")["value"].mean()
        assert found.leave_one_out[str(cluster)] == pytest.approx(rest.max() - rest.min())


def test_noise_alone_gives_a_range_and_the_null_says_how_much() -> None:
    found = np.array([spread(table(seed, 0.0, 1.0)) for seed in range(60)])
    raw, null, corrected = found.mean(0)
    # 20 clusters a group, sd 1: the mean range of three normal means is 1.693 / sqrt(20) = .378.
    assert raw == pytest.approx(0.378, abs=4 * found[:, 0].std() / math.sqrt(60))
    assert null == pytest.approx(raw, abs=0.05)
    assert corrected < 0.6 * raw


@pytest.mark.parametrize("effect", [0.25, 0.5, 1.0, 2.0])
def test_the_corrected_range_is_nearer_to_the_truth_than_the_raw_one(effect: float) -> None:
    found = np.array([spread(table(seed, effect, 1.0)) for seed in range(80)])
    raw, _, corrected = found.mean(0)
    if effect < 1:  # of larger ones noise hides little: both are right
        assert abs(corrected - effect) < abs(raw - effect)
    assert corrected == pytest.approx(effect, abs=0.1)


def test_shares_of_a_fair_chooser_are_as_unequal_as_the_closed_form_says() -> None:
    # Own simulation elsewhere: 70 fair picks among three give .116 on average, among five .124.
    rng = np.random.default_rng(3)
    for names, expected in ((["a", "b", "c"], 0.116), (["a", "b", "c", "d", "e"], 0.124)):
        found = [
            range_of_shares(
                pd.Series(rng.choice(names, 70)), names, pd.Series(map(str, range(70))), OUTCOMES, unit="", coverage=0.8
            )
            for _ in range(20)
        ]
        assert np.mean([f.null for f in found]) == pytest.approx(expected, abs=0.006)


def test_a_name_never_chosen_has_share_zero() -> None:
    found = range_of_shares(
        pd.Series(["a"] * 7 + ["b"] * 3), ["a", "b", "c"], pd.Series(map(str, range(10))), OUTCOMES, unit="", coverage=0
    )
    assert found.value == pytest.approx(0.7)


def test_picks_that_are_all_the_same_give_no_interval_of_width_zero() -> None:
    names, clusters = ["a", "b", "c"], pd.Series(map(str, range(10)))
    found = range_of_shares(pd.Series(["a"] * 10), names, clusters, OUTCOMES, unit="", coverage=0.8)
    assert (found.value, found.reason) == (1.0, SAME)
    assert all(math.isnan(x) for x in (found.ci_low, found.corrected, found.corrected_low, found.boot_low))
    assert found.null > 0
    assert set(found.leave_one_out.values()) == {1.0}
    other = range_of_shares(pd.Series(["a"] * 9 + ["b"]), names, clusters, OUTCOMES, unit="", coverage=0.8)
    assert other.reason != SAME
    assert other.ci_low < other.ci_high


def test_a_tie_for_the_extreme_is_said() -> None:
    names = ["a", "b", "c"]
    chosen = pd.Series(["a"] * 5 + ["b"] * 5 + ["c"] * 1)
    found = range_of_shares(chosen, names, pd.Series(map(str, range(11))), OUTCOMES, unit="", coverage=0.8)
    assert found.reason == TIE
    clear = pd.Series(["a"] * 8 + ["b"] * 4 + ["c"] * 1)
    assert range_of_shares(clear, names, pd.Series(map(str, range(13))), OUTCOMES, unit="", coverage=0.8).reason == ""


def test_too_few_answers_or_groups_give_no_number() -> None:
    values = [1.0, math.nan, math.nan, 2.0]
    few = range_of_means(
        pd.Series(values), pd.Series(list("abab")), pd.Series(list("wxyz")), answers(values), unit="", coverage=0.8
    )
    assert math.isnan(few.value)
    assert "only 2 of 4" in few.reason
    assert (few.n, few.n_unparsed) == (2, 2)
    one = range_of_means(
        pd.Series([1.0, 2.0]), pd.Series(["a", "a"]), pd.Series(["x", "y"]), OUTCOMES, unit="", coverage=0.8
    )
    assert math.isnan(one.value)
    assert "fewer than two groups" in one.reason
