from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from analysis.clusters import Clusters, partition
from analysis.contrasts import BASELINE, apply_contrasts, difference_weights, interaction_basis
from analysis.estimates import cluster_mean
from analysis.resampling import Flips, family_p, interaction_test, too_few, untestable
from analysis.study import Omnibus

Floats = NDArray[np.float64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def data(
    seed: int, sizes: list[int], *, n_models: int = 3, n_accels: int = 2, effect: float = 0.0
) -> tuple[Floats, Floats, Clusters]:
    """Interaction contrasts, difference-in-differences and clusters of a random study."""
    r = rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    arms = [(f"m{i}", a) for i in range(n_models) for a in [BASELINE, *(f"a{j}" for j in range(n_accels))]]
    scores = r.normal(size=(len(sizes), len(arms)))[codes] * 0.5 + r.normal(size=(len(codes), len(arms)))
    scores[:, 1] += effect
    _, weights = difference_weights(arms)
    clusters = partition([f"c{c:03d}" for c in codes])
    return apply_contrasts(scores, interaction_basis(arms)), apply_contrasts(scores, weights), clusters


def by_hand(contrasts: Floats, differences: Floats, clusters: Clusters) -> tuple[float, float, float, float]:
    """The combined test written out, one sign pattern at a time, from item values alone."""
    codes, g = clusters.codes, clusters.n_clusters
    rows = []
    for rest in itertools.product([1.0, -1.0], repeat=g - 1):
        sign = np.array([1.0, *rest])[codes][:, None]
        mean = (sign * contrasts).mean(axis=0)
        sums = clusters.sums(sign * contrasts)
        hotelling = sums.sum(0) @ np.linalg.solve(sums.T @ sums, sums.sum(0))
        t = max(abs(e.value / e.se) for e in (cluster_mean(c, clusters) for c in (sign * differences).T))
        rows.append([mean @ mean, hotelling, t])
    table = np.array(rows)
    p = np.array([[(table[:, j] >= x * (1 - 1e-9)).mean() for j, x in enumerate(row)] for row in table])
    smallest = p.min(axis=1)
    return float((smallest <= smallest[0] + 1e-9).mean()), *map(float, p[0])


@pytest.mark.parametrize("seed", range(3))
def test_exact_enumeration_agrees_with_the_test_written_out(seed: int) -> None:
    study = data(seed, [3, 1, 4, 2, 5, 2, 3, 1, 2], n_models=2)
    result = interaction_test(*study, rng=rng())
    assert result.exact
    assert result.n_resamples == 2**8 - 1
    assert (result.p, result.p_sum, result.p_hotelling, result.p_max) == pytest.approx(by_hand(*study))


@pytest.mark.parametrize("seed", range(3))
def test_sum_of_squares_agrees_with_scipy_permutation_test(seed: int) -> None:
    contrasts, differences, clusters = data(seed, [2, 3, 1, 4, 2, 3, 2], n_models=2, effect=0.4)
    sums = clusters.sums(contrasts)

    # Flipping the sign of a cluster is exchanging it with its negative: scipy's paired "samples".
    # Both contrasts flip together, so they are one complex number's two parts.
    z = sums[:, 0] + 1j * sums[:, 1]
    test = stats.permutation_test(
        (z, -z), lambda a, b, axis: abs(a.sum(axis)) ** 2, permutation_type="samples", vectorized=True,
        n_resamples=np.inf, alternative="greater",
    )  # fmt: skip
    assert interaction_test(contrasts, differences, clusters, rng=rng()).p_sum == pytest.approx(test.pvalue)


def test_a_single_contrast_agrees_with_scipy_permutation_test() -> None:
    values = rng(4).normal(0.4, 1, 9)
    test = stats.permutation_test(
        (values,), lambda a, axis: np.abs(a.mean(axis)), permutation_type="samples", n_resamples=np.inf,
        alternative="greater", vectorized=True,
    )  # fmt: skip
    p = family_p(values[:, None], partition(range(9)), rng=rng())
    assert p[0] == pytest.approx(test.pvalue)  # |t| orders flips of one sample as |mean| does


def test_sampled_p_is_never_zero() -> None:
    result = interaction_test(*data(7, [2] * 30, effect=50.0), n_resamples=400, rng=rng())
    assert not result.exact
    assert result.p == 1 / 401


@pytest.mark.parametrize("n_resamples", [399, 9999])
def test_the_smallest_adjusted_p_is_one_in_all_flips_and_not_a_hair_below(n_resamples: int) -> None:
    values = np.random.default_rng(0).normal(50.0, 1.0, (40, 2))
    p = family_p(values, partition(range(40)), n_resamples=n_resamples, rng=rng())
    assert p.tolist() == [1 / (n_resamples + 1)] * 2


def test_monte_carlo_matches_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    study = data(11, [2] * 12, effect=0.6)
    exact = interaction_test(*study, rng=rng())
    monkeypatch.setattr("analysis.resampling.EXACT_UP_TO", 1)
    sampled = interaction_test(*study, n_resamples=20_000, rng=rng(1))
    assert not sampled.exact
    for name in ("p", "p_sum", "p_hotelling", "p_max"):
        p = getattr(exact, name)
        assert getattr(sampled, name) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 20_000) + 1e-4)


@pytest.mark.parametrize("batch", [1, 7, 100, 100_000])
@pytest.mark.parametrize("sizes", [[3] * 8, [2] * 30])
def test_batch_size_does_not_matter(batch: int, sizes: list[int]) -> None:
    study = data(3, sizes)
    options = {"n_resamples": 299}
    reference = interaction_test(*study, rng=rng(5), **options)
    assert interaction_test(*study, rng=rng(5), batch=batch, **options) == reference
    p = family_p(study[1], study[2], rng=rng(5), **options)
    assert family_p(study[1], study[2], rng=rng(5), batch=batch, **options).tolist() == p.tolist()


def test_the_hotelling_form_waits_for_enough_clusters() -> None:
    few = interaction_test(*data(0, [4] * 8), rng=rng())  # 4 contrasts, 8 clusters: not more than twice
    assert math.isnan(few.p_hotelling)
    assert 0 < few.p <= 1
    assert not math.isnan(interaction_test(*data(0, [4] * 9), rng=rng()).p_hotelling)


@pytest.mark.parametrize("n_clusters", [1, 2, 5])
def test_too_few_clusters_say_that_no_test_exists(n_clusters: int) -> None:
    result = interaction_test(*data(1, [9] * n_clusters, effect=9.0), rng=rng())
    assert result.p >= 2.0 ** (1 - n_clusters)
    assert "no sign-flip test at 5% exists" in result.reason
    assert "it takes 6 clusters" in result.reason
    assert too_few(6, 0.05) == ""


def test_six_clusters_can_reject() -> None:
    result = interaction_test(*data(1, [9] * 6, effect=9.0, n_accels=1, n_models=2), rng=rng())
    assert result.p == 2**-5
    assert result.reason == ""


def test_identical_cells_are_exactly_additive() -> None:
    result = interaction_test(
        np.zeros((20, 4)), np.zeros((20, 6)), partition([str(i % 7) for i in range(20)]), rng=rng()
    )
    assert result.p == 1.0
    assert "exactly 0" in result.reason


def test_no_contrast_no_items_and_nan() -> None:
    clusters = partition(range(3))
    assert "no interaction contrast" in interaction_test(np.zeros((3, 0)), np.zeros((3, 0)), clusters, rng=rng()).reason
    nothing = interaction_test(np.zeros((0, 1)), np.zeros((0, 1)), partition([]), rng=rng())
    assert "no item is complete" in nothing.reason
    assert math.isnan(untestable("x").p)
    with pytest.raises(ValueError, match="NaN"):
        interaction_test(np.full((3, 1), math.nan), np.zeros((3, 1)), clusters, rng=rng())
    with pytest.raises(ValueError, match="n_resamples"):
        Flips(3, n_resamples=0, rng=rng())


def test_a_constant_difference_is_as_extreme_as_flips_can_be() -> None:
    values = np.column_stack([np.full(8, 0.1), rng(0).normal(size=8)])
    p = family_p(values, partition(range(8)), rng=rng())
    assert p[0] == 2**-7  # infinite |t| under no flip and under all flips only


def test_a_family_with_missing_items_uses_what_is_there() -> None:
    values = rng(2).normal(0.5, 1, (40, 2))
    clusters = partition([str(i % 10) for i in range(40)])
    values[::3, 1] = math.nan
    there = ~np.isnan(values[:, 1])
    alone = family_p(values[there, 1:], clusters.take(there), rng=rng())
    assert family_p(values[:, 1:], clusters, rng=rng()) == pytest.approx(alone)


def test_a_column_with_one_cluster_has_no_p() -> None:
    values = rng(2).normal(size=(6, 2))
    values[2:, 1] = math.nan
    p = family_p(values, partition("aabbcc"), rng=rng())
    assert math.isfinite(p[0])
    assert math.isnan(p[1])
    assert family_p(np.zeros((6, 0)), partition("aabbcc"), rng=rng()).shape == (0,)


def test_adjusted_p_is_never_below_the_unadjusted_one() -> None:
    values = rng(8).normal(0.2, 1, (30, 6))
    clusters = partition([str(i % 11) for i in range(30)])
    together = family_p(values, clusters, rng=rng())
    alone = [family_p(values[:, [j]], clusters, rng=rng())[0] for j in range(6)]
    assert (together >= np.array(alone) - 1e-12).all()


def _p(result: Omnibus) -> Floats:
    return np.array([result.p, result.p_sum, result.p_hotelling, result.p_max])


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(1, 4), min_size=6, max_size=9),
    st.sampled_from([-3.0, 0.01, 50.0]),
)
def test_scale_sign_order_and_names_change_nothing(seed: int, sizes: list[int], factor: float) -> None:
    contrasts, differences, clusters = data(seed, sizes, n_models=2)
    reference = interaction_test(contrasts, differences, clusters, rng=rng())
    assert ((_p(reference) > 0) & (_p(reference) <= 1) | np.isnan(_p(reference))).all()
    scaled = interaction_test(factor * contrasts, factor * differences, clusters, rng=rng())
    order = rng(seed).permutation(len(contrasts))
    renamed = partition([f"{97 - c}x" for c in clusters.codes[order]])
    moved = interaction_test(contrasts[order], differences[order], renamed, rng=rng())
    assert _p(scaled) == pytest.approx(_p(reference), nan_ok=True)
    assert _p(moved) == pytest.approx(_p(reference), nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_another_basis_of_the_same_space_changes_nothing(seed: int) -> None:
    contrasts, differences, clusters = data(seed, [2] * 10)
    rotation, _ = np.linalg.qr(rng(seed + 1).normal(size=(contrasts.shape[1],) * 2))
    one = interaction_test(contrasts, differences, clusters, rng=rng())
    other = interaction_test(contrasts @ rotation, differences, clusters, rng=rng())
    assert _p(one) == pytest.approx(_p(other), nan_ok=True)
