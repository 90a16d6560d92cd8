"""Shifts and interaction over the answers that are there: an effect for every item under every model.

score_ima = item_im + cell_ma + error. The item's effect takes away what makes an item easy or hard for a model,
so a refusal may depend on the item without harm. A refusal that depends on the answer it hides is repaired by
nothing (see bounds.py). Where nothing is missing, everything here equals the paired analysis exactly.

With D_i the diagonal of what is there of item i in the columns of one model, d_i its diagonal and k_i its trace,
the cells of that model have the normal equations A cell = b, A = sum_i D_i - d_i d_i' / k_i. An item's
contribution to an estimate is its part of A^+ b, and the covariance adds these up by cluster (Liang & Zeger 1986).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.clusters import Floats
from analysis.contrasts import ArmKey
from analysis.estimates import without_rounding

#: An eigenvalue of A under this share of the largest is the 0 of "all cells of a model up by one", met in rounding:
#: inverted, it would drown the estimates. One pair that connects cells among a million gives more.
RANK = 1e-9


@dataclass(frozen=True)
class FixedEffects:
    """The fit of one grid.

    used : (n_items,) items with at least two answers under some model; the others tell nothing of a shift.
    cells : (n_arms,) effect of every cell, centred within its model.
    """

    used: NDArray[np.bool_]
    cells: Floats
    _scores: Floats  # (n_used, n_arms)
    _inverse: Floats  # (n_arms, n_arms) A^+
    _null: Floats  # (n_arms,) the cells under the additive model
    _models: NDArray[np.intp]  # (n_arms,)

    def contrasts(self, weights: Floats) -> Floats:
        """(n_used, k) item values whose mean is each contrast's estimate and whose spread is its error.

        weights : (n_arms, k), summing to 0 over the cells of each model.
        """
        return self._values(self.cells, weights) + self.cells @ weights

    def null_contrasts(self, weights: Floats) -> Floats:
        """The same estimates from item values centred as the additive model has it: those are sign-flipped."""
        return without_rounding(self._values(self._null, weights), scale=self._scores)

    def _values(self, cells: Floats, weights: Floats) -> Floats:
        residual = _centred(self._scores - cells, self._models)
        return len(self._scores) * (residual @ (self._inverse @ weights))


def fixed_effects(scores: Floats, arms: Sequence[ArmKey]) -> FixedEffects | str:
    """Fit the item-fixed-effects model, or say why it has no fit.

    scores : (n_items, n_arms), NaN where there is no answer. arms : (model, accel) of each column.
    """
    names = list(dict.fromkeys(m for m, _ in arms))
    models = np.array([names.index(m) for m, _ in arms], dtype=np.intp)
    there = ~np.isnan(scores)
    many = np.column_stack([there[:, models == m].sum(axis=1) > 1 for m in range(len(names))])
    used = np.asarray(many.any(axis=1))
    scores = np.where(many[:, models], scores, np.nan)[used]
    there = ~np.isnan(scores)
    a = np.zeros((len(arms), len(arms)))
    for m in range(len(names)):
        js = np.flatnonzero(models == m)
        d = there[:, js].astype(float)
        k = np.maximum(d.sum(axis=1, keepdims=True), 1.0)
        block = np.diag(d.sum(axis=0)) - d.T @ (d / k)
        if len(js) and np.linalg.matrix_rank(block, tol=RANK * max(1.0, float(block.max()))) < len(js) - 1:
            return f"too few answers of {names[m]} are paired to compare all its cells"
        a[np.ix_(js, js)] = block
    inverse = np.asarray(np.linalg.pinv(a, rcond=RANK, hermitian=True), dtype=np.float64)
    b = _centred(scores, models).sum(axis=0)
    accels = list(dict.fromkeys(acc for _, acc in arms))
    common = np.array([[float(acc == x) for x in accels] for _, acc in arms])
    null = common @ (np.linalg.pinv(common.T @ a @ common, rcond=RANK, hermitian=True) @ (common.T @ b))
    return FixedEffects(used, inverse @ b, scores, inverse, null, models)


def _centred(scores: Floats, models: NDArray[np.intp]) -> Floats:
    """Scores less the item's mean under each model; 0 where there is no answer."""
    there = ~np.isnan(scores)
    out = np.where(there, scores, 0.0)
    for m in np.unique(models):
        js = np.flatnonzero(models == m)
        k = np.maximum(there[:, js].sum(axis=1, keepdims=True), 1)
        out[:, js] -= out[:, js].sum(axis=1, keepdims=True) / k
    centred: Floats = np.where(there, out, 0.0)
    return centred
