"""Contrasts over arms: the interaction space of a grid that may have holes, and difference-in-differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.clusters import Floats
from analysis.estimates import without_rounding

BASELINE = "none"
ArmKey = tuple[str, str]  # (model, accel)


def interaction_basis(arms: Sequence[ArmKey]) -> Floats:
    """Orthonormal contrasts of the arms' means that a sum of model and accel effects cannot reach.

    Returns (n_arms, k); k = (models - 1) * (accels - 1) for a full grid, less with holes, 0 when nothing is
    left to test. The basis spans the orthogonal complement of the additive model, so that the sum of squares
    of the contrasts is the interaction sum of squares of the two-way ANOVA.

    >>> interaction_basis([("a", "none"), ("a", "q"), ("b", "none"), ("b", "q")]).shape
    (4, 1)
    """
    if not arms:
        return np.zeros((0, 0))
    columns = [[float(arm[0] == m) for arm in arms] for m in dict.fromkeys(a[0] for a in arms)]
    columns += [[float(arm[1] == a) for arm in arms] for a in dict.fromkeys(a[1] for a in arms)]
    additive = np.array(columns).T
    u, s, _ = np.linalg.svd(additive, full_matrices=True)
    basis: Floats = u[:, int((s > 1e-9).sum()) :]
    return basis


def difference_weights(arms: Sequence[ArmKey]) -> tuple[list[ArmKey], Floats]:
    """Weights (n_arms, k) of every difference-in-differences of the grid, and the arm each is about.

    A cell's shift minus the mean shift of the other models that have the same accel; an accel that only one
    model has gives none. Every model in `arms` has its baseline there.
    """
    position = {arm: i for i, arm in enumerate(arms)}
    names: list[ArmKey] = []
    weights: list[Floats] = []
    for model, accel in arms:
        others = [m for m, a in arms if a == accel and m != model]
        if accel == BASELINE or not others:
            continue
        w = np.zeros(len(arms))
        for m, size in [(model, 1.0), *((other, -1.0 / len(others)) for other in others)]:
            w[position[m, accel]] += size
            w[position[m, BASELINE]] -= size
        names.append((model, accel))
        weights.append(w)
    return names, np.array(weights).T if weights else np.zeros((len(arms), 0))


def apply_contrasts(scores: Floats, weights: Floats) -> Floats:
    """Item-level contrasts (n_items, k) of `scores` (n_items, n_arms), rounding of 0 set to exactly 0."""
    return without_rounding(scores @ weights, scale=scores)


def largest_grid(arms: Sequence[ArmKey]) -> list[ArmKey]:
    """The largest full sub-grid of `arms` with the baseline in it, in the order of `arms`.

    Most cells first, then most models. Every subset of the models is tried up to 12 of them; with more,
    the model with the fewest arms is dropped until the grid is full.
    """
    own = {m: [a for x, a in arms if x == m] for m in dict.fromkeys(a[0] for a in arms)}
    own = {m: accels for m, accels in own.items() if BASELINE in accels}
    best: list[ArmKey] = []
    for models in _subsets(own):
        shared = set.intersection(*(set(own[m]) for m in models))
        grid = [(m, a) for m, a in arms if m in models and a in shared]
        if (len(grid), len(models)) > (len(best), len({m for m, _ in best})):
            best = grid
    return best


def _subsets(own: dict[str, list[str]]) -> list[list[str]]:
    names = list(own)
    if len(names) <= 12:
        return [[m for i, m in enumerate(names) if bits >> i & 1] for bits in range(1, 2 ** len(names))]
    ranked = sorted(names, key=lambda m: -len(own[m]))
    return [ranked[:k] for k in range(1, len(ranked) + 1)]
