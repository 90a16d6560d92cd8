from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.contrasts import (
    BASELINE,
    ArmKey,
    apply_contrasts,
    difference_weights,
    interaction_basis,
    largest_grid,
)
from analysis.estimates import difference_in_differences


def grid(n_models: int, n_accels: int) -> list[ArmKey]:
    return [(f"m{i}", a) for i in range(n_models) for a in [BASELINE, *(f"a{j}" for j in range(n_accels))]]


@given(st.integers(1, 5), st.integers(1, 5))
def test_a_full_grid_has_the_degrees_of_freedom_of_its_interaction(n_models: int, n_accels: int) -> None:
    arms = grid(n_models, n_accels)
    basis = interaction_basis(arms)
    assert basis.shape == (len(arms), (n_models - 1) * n_accels)
    assert basis.T @ basis == pytest.approx(np.eye(basis.shape[1]), abs=1e-12)


def test_an_additive_pattern_has_no_contrast_and_any_other_has_its_sum_of_squares() -> None:
    arms = grid(3, 2)
    rng = np.random.default_rng(0)
    additive = np.add.outer(rng.normal(size=3), rng.normal(size=3)).ravel()
    assert apply_contrasts(additive[None], interaction_basis(arms)) == pytest.approx(np.zeros((1, 4)), abs=1e-12)
    cube = rng.normal(size=(3, 3))
    residual = cube - cube.mean(0) - cube.mean(1, keepdims=True) + cube.mean()
    ours = apply_contrasts(cube.ravel()[None], interaction_basis(arms))
    assert (ours**2).sum() == pytest.approx((residual**2).sum())


def test_a_hole_costs_its_contrast() -> None:
    arms = grid(3, 2)
    arms.remove(("m1", "a0"))
    assert interaction_basis(arms).shape[1] == 3
    assert interaction_basis([]).shape == (0, 0)
    lonely = [("m0", BASELINE), ("m0", "a0"), ("m1", BASELINE), ("m1", "a1")]
    assert interaction_basis(lonely).shape[1] == 0


def test_weights_agree_with_item_level_differences() -> None:
    arms = grid(3, 2)
    scores = np.random.default_rng(1).normal(size=(30, len(arms)))
    names, weights = difference_weights(arms)
    assert names == [arm for arm in arms if arm[1] != BASELINE]
    ours = apply_contrasts(scores, weights)
    column = {arm: scores[:, i] for i, arm in enumerate(arms)}
    for accel in ("a0", "a1"):
        shifts = np.column_stack([column[f"m{i}", accel] - column[f"m{i}", BASELINE] for i in range(3)])
        where = [names.index((f"m{i}", accel)) for i in range(3)]
        assert ours[:, where] == pytest.approx(difference_in_differences(shifts))


def test_differences_lie_in_the_interaction_space() -> None:
    arms = grid(4, 3)
    arms.remove(("m2", "a1"))
    basis, (_, weights) = interaction_basis(arms), difference_weights(arms)
    assert basis @ (basis.T @ weights) == pytest.approx(weights, abs=1e-12)


def test_the_largest_full_grid() -> None:
    arms = grid(3, 3)
    assert largest_grid(arms) == arms
    arms.remove(("m1", "a0"))
    assert len(largest_grid(arms)) == 9  # 3 models x 3 levels beats 2 models x 4
    assert ("m0", "a0") not in largest_grid(arms)
    assert largest_grid([("m0", "a0")]) == []  # no baseline, nothing to compare
    wide = grid(14, 1)
    wide.remove(("m3", "a0"))
    assert len(largest_grid(wide)) == 26
