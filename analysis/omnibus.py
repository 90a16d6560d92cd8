"""The tests over all tested arms of a frame at once: the calibrated omnibus, and the classic ANOVA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis.anova import anova_tables
from analysis.clusters import Clusters, Floats
from analysis.contrasts import (
    ArmKey,
    apply_contrasts,
    difference_weights,
    interaction_basis,
    largest_grid,
)
from analysis.fixed_effects import FixedEffects, fixed_effects
from analysis.frame import Frame
from analysis.resampling import interaction_test, untestable
from analysis.settings import Settings
from analysis.study import Anova, Omnibus
from analysis.words import listing


def complete_items(frame: Frame, grid: Sequence[ArmKey]) -> NDArray[np.bool_]:
    """(n_items,) whether an item has an answer in every arm of `grid`; none has in an empty grid."""
    if not grid:
        return np.zeros(len(frame.items), dtype=bool)
    whole: NDArray[np.bool_] = np.asarray(~np.isnan(frame.matrix(grid)).any(axis=1), dtype=bool)
    return whole


def omnibus(frame: Frame, grid: Sequence[ArmKey], settings: Settings) -> Omnibus:
    """The combined sign-flip test of no interaction, or why there is none.

    grid : tested arms and the baselines of their models; it may have holes.

    With an answer missing somewhere, the contrasts are those of item fixed effects over all that is there; with
    none, they are the paired ones, and the two are the same figures.
    """
    if reason := _no_contrasts(grid):
        return untestable(reason)
    scores = frame.matrix(grid)
    if np.isnan(scores).any() and isinstance(fit := fixed_effects(scores, grid), FixedEffects):
        basis, weights = interaction_basis(grid), difference_weights(grid)[1]
        return _test(fit.null_contrasts(basis), fit.null_contrasts(weights), frame.clusters.take(fit.used), settings)
    return listwise_omnibus(frame, grid, settings)


def listwise_omnibus(frame: Frame, grid: Sequence[ArmKey], settings: Settings) -> Omnibus:
    """The same test over the items that are complete in every arm of `grid`."""
    if reason := _no_contrasts(grid):
        return untestable(reason)
    complete = complete_items(frame, grid)
    scores = frame.matrix(grid)[complete]
    contrasts, weights = interaction_basis(grid), difference_weights(grid)[1]
    values = apply_contrasts(scores, contrasts), apply_contrasts(scores, weights)
    return _test(*values, frame.clusters.take(complete), settings)


def refusal_omnibus(frame: Frame, grid: Sequence[ArmKey], settings: Settings) -> Omnibus:
    """The same test on the shares of refused answers: do accelerators change refusing differently by model?"""
    if reason := _no_contrasts(grid):
        return untestable(reason)
    refused = np.column_stack([frame.refused[arm].to_numpy(dtype=float) for arm in grid])
    asked = ~np.isnan(refused).any(axis=1)
    if not (refused[asked] > 0).any():
        return untestable("nothing was refused")
    contrasts, weights = interaction_basis(grid), difference_weights(grid)[1]
    values = apply_contrasts(refused[asked], contrasts), apply_contrasts(refused[asked], weights)
    return _test(*values, frame.clusters.take(asked), settings)


def _test(contrasts: Floats, differences: Floats, clusters: Clusters, settings: Settings) -> Omnibus:
    return interaction_test(
        contrasts,
        differences,
        clusters,
        alpha=settings.alpha,
        n_resamples=settings.n_resamples,
        rng=np.random.default_rng(settings.seed),
    )


def classic_anova(frame: Frame, grid: Sequence[ArmKey], *, alpha: float) -> list[Anova]:
    """The two-way ANOVA over the largest full part of `grid`; what it leaves out is in `reason`."""
    full = largest_grid(grid)
    if not full:
        return [Anova("items", 0, reason="no accelerated arm has answers to compare with a baseline's")]
    complete = complete_items(frame, full)
    tables = anova_tables(frame.matrix(full)[complete], full, frame.clusters.take(complete), alpha=alpha)
    left_out = [f"{a} of {m}" for m, a in grid if (m, a) not in full]
    if not left_out:
        return tables
    note = f"left out, because the grid must be full: {listing(left_out)}"
    return [replace(t, reason="; ".join(filter(None, [t.reason, note]))) for t in tables]


def _no_contrasts(grid: Sequence[ArmKey]) -> str:
    models = list(dict.fromkeys(m for m, _ in grid))
    if not models:
        return "no accelerated arm has answers to compare with a baseline's"
    if len(models) == 1:
        return f"only one model ({models[0]}) was measured, and an interaction takes two"
    if interaction_basis(grid).shape[1] == 0:
        return "no accelerator was measured on two models"
    return ""
