"""The level and the power of the omnibus on data as it comes: items share templates, arms differ in noise.

False-alarm probability of the level tests: each takes the 0.9999 point of the binomial at 5 %.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis.anova import rm_anova
from analysis.clusters import partition
from analysis.contrasts import apply_contrasts, difference_weights, interaction_basis
from analysis.estimates import cluster_mean
from analysis.resampling import family_p, interaction_test

N = 300
ARMS = [(m, a) for m in ("a", "b", "c") for a in ("none", "q", "w")]
CLUSTERS = partition([str(i) for i in np.repeat(np.arange(20), 8)])
BASIS = interaction_basis(ARMS)
WEIGHTS = difference_weights(ARMS)[1]


def scores(seed: int, *, effect: float = 0.0) -> NDArray[np.float64]:
    """No interaction unless `effect`: item and accel effects, noise with ICC .3, harsh and gentle arms."""
    rng = np.random.default_rng((20261124, seed))
    noise = np.tile([0.05, 0.3, 1.0], 3)
    common = rng.normal(0, 0.3**0.5, (CLUSTERS.n_clusters, len(ARMS)))[CLUSTERS.codes]
    own = rng.normal(0, 0.7**0.5, (CLUSTERS.n_items, len(ARMS)))
    data: NDArray[np.float64] = rng.normal(0, 1, (CLUSTERS.n_items, 1)) + noise * (common + own)
    data += np.tile([0.0, 0.2, 0.4], 3)
    data[:, 4] += effect
    return data


def p_of(seed: int, *, effect: float = 0.0) -> float:
    data = scores(seed, effect=effect)
    contrasts, differences = apply_contrasts(data, BASIS), apply_contrasts(data, WEIGHTS)
    rng = np.random.default_rng(seed)
    return interaction_test(contrasts, differences, CLUSTERS, n_resamples=199, rng=rng).p


def most(level: float = 0.05) -> int:
    """Rejections among N that a test of this level exceeds once in 10,000 times."""
    return int(stats.binom.ppf(0.9999, N, level))


def test_a_true_null_is_rejected_at_the_level() -> None:
    rejections = sum(p_of(seed) <= 0.05 for seed in range(N))
    assert rejections <= most()
    assert rejections >= int(stats.binom.ppf(0.0001, N, 0.05))  # and the test is alive


def test_the_classic_anova_is_not_calibrated_here() -> None:
    p = [rm_anova(scores(seed), ARMS, unit="items").rows[2].p_gg for seed in range(40)]
    assert sum(x <= 0.05 for x in p) > stats.binom.ppf(0.9999, 40, 0.05)


def test_a_gentle_accelerator_that_interacts_is_found() -> None:
    assert sum(p_of(seed, effect=0.3) <= 0.05 for seed in range(60)) > 45


def test_familywise_error_and_coverage_of_differences() -> None:
    any_false, covered = 0, []
    for seed in range(N):
        differences = apply_contrasts(scores(seed), WEIGHTS)
        p = family_p(differences, CLUSTERS, n_resamples=199, rng=np.random.default_rng(seed))
        any_false += bool((p <= 0.05).any())
        estimate = cluster_mean(differences[:, 0], CLUSTERS)
        covered.append(estimate.ci_low <= 0 <= estimate.ci_high)
    assert any_false <= most()
    assert N - sum(covered) <= most()


@pytest.mark.parametrize("n_clusters", [6, 9])
def test_few_clusters_hold_the_level_too(n_clusters: int) -> None:
    keep = CLUSTERS.codes < n_clusters
    clusters = CLUSTERS.take(keep)
    rejections = 0
    for seed in range(N):
        data = scores(seed)[keep]
        contrasts, differences = apply_contrasts(data, BASIS), apply_contrasts(data, WEIGHTS)
        rng = np.random.default_rng(seed)
        rejections += interaction_test(contrasts, differences, clusters, rng=rng).p <= 0.05
    assert rejections <= most()
