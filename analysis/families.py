"""Families of estimates of one frame: shifts, difference-in-differences, shifts by category.

Within a family p values are adjusted by max |t|. Tested arms are one family, arms shown beside them another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis.clusters import Floats
from analysis.contrasts import ArmKey
from analysis.estimates import cluster_mean, difference_in_differences, missing
from analysis.flips import count_flips
from analysis.frame import Frame
from analysis.levels import Levels
from analysis.resampling import Family, Flips, blocks_p, family_p
from analysis.settings import Settings
from analysis.study import CategoryShift, Difference, Estimate, Missing, Shift
from analysis.verdict import cell_verdict

MOST_NAMES = 60  # of a category or group: more are not tabulated


def shifts(
    frame: Frame,
    levels: Levels,
    settings: Settings,
    *,
    margins: Mapping[str, float],
    floor: Mapping[str, float],
    marked: Mapping[ArmKey, str],
) -> list[Shift]:
    """The shift of every arm that has a baseline, with its verdict, in the order of the frame."""
    out: dict[ArmKey, Shift] = {}
    for part in ("tested", "beside", "placebo", "inert", "empty"):
        arms: list[ArmKey] = getattr(levels, part)
        values = [frame.shift(*arm) for arm in arms]
        estimates = _family(frame, values, settings, adjust=part in ("tested", "beside"))
        for arm, estimate in zip(arms, estimates, strict=True):
            shift = _shift(frame, arm, estimate, part, margins[arm[0]], floor, settings)
            out[arm] = _not_valid(shift, reason) if (reason := marked.get(arm)) else shift
    return [out[arm] for arm in frame.arms if arm in out]


def _not_valid(shift: Shift, reason: str) -> Shift:
    """A marked cell: what few answers or degraded text leave alone is not shown to be unchanged."""
    shift = replace(shift, valid=False)
    if shift.verdict not in ("unchanged", "exactly unchanged"):
        return replace(shift, sentence=f"{shift.sentence} Marked: {reason}.")
    seen = f"{shift.sentence[0].lower()}{shift.sentence[1:]}"
    return replace(shift, verdict="inconclusive", sentence=f"Inconclusive: {reason}; what is there is {seen}")


def absent_shifts(absent: Sequence[Missing], levels: Levels) -> list[Shift]:
    """An entry with the verdict "missing" for every cell, and every pair, that is not there."""
    gone = [(m.model, m.accel, f"the cell is {m.state}: {m.reason}") for m in absent if m.accel != "none"]
    gone += [(m, a, "the model has no baseline here") for m, a in levels.unpaired]
    return [
        Shift(m, a, missing(reason), math.nan, "missing", f"Missing: {reason}.", valid=False, tested=False)
        for m, a, reason in gone
    ]


def differences(frame: Frame, levels: Levels, settings: Settings, *, margins: Mapping[str, float]) -> list[Difference]:
    """Difference-in-differences of every arm whose accelerator another model has too."""
    out: dict[ArmKey, Difference] = {}
    for part in (levels.tested, levels.beside):
        columns: dict[ArmKey, Floats] = {}
        for accel in dict.fromkeys(a for _, a in part):
            arms = [arm for arm in part if arm[1] == accel]
            if len(arms) > 1:
                values = difference_in_differences(np.column_stack([frame.shift(*arm) for arm in arms]))
                columns |= dict(zip(arms, values.T, strict=True))
        # of one model's change and of the other models' the other way
        estimates = _family(frame, list(columns.values()), settings, reach=2 * frame.reach)
        for arm, estimate in zip(columns, estimates, strict=True):
            out[arm] = Difference(*arm, estimate, margins[arm[0]], tested=part is levels.tested)
    return [out[arm] for arm in frame.arms if arm in out]


def category_shifts(frame: Frame, levels: Levels, settings: Settings) -> tuple[list[CategoryShift], list[str]]:
    """Shifts by category and by group of every judged arm, and what was left out.

    All arms and names of one level are one family. A level with one name says nothing new; one with more than
    MOST_NAMES is left out.
    """
    out: list[CategoryShift] = []
    cautions = []
    judged = {*levels.tested, *levels.beside}
    arms = [arm for arm in frame.arms if arm in judged]
    shifted = np.column_stack([frame.shift(*arm) for arm in arms]) if arms else np.zeros((len(frame.items), 0))
    for level in ("category", "group"):
        labels = frame.items[level].to_numpy()
        names = sorted(set(labels))
        if len(names) > MOST_NAMES:
            cautions.append(f"{len(names)} names of {level}, more than {MOST_NAMES}: no shifts by {level}.")
        elif len(names) > 1:
            masks = [labels == name for name in names]
            by_name = _by_category(frame, shifted, masks, settings)
            out += [
                CategoryShift(*arm, level, str(name), estimates[i])
                for i, arm in enumerate(arms)
                for name, estimates in zip(names, by_name, strict=True)
            ]
    return out, cautions


def _by_category(
    frame: Frame, shifted: Floats, masks: Sequence[NDArray[np.bool_]], settings: Settings
) -> list[list[Estimate]]:
    """For each mask (n_items,), the estimates of the columns of `shifted` over its items; one family in all."""
    blocks = [Family.of(shifted[mask], frame.clusters, mask) for mask in masks]
    flips = Flips(frame.clusters.n_clusters, n_resamples=settings.n_resamples, rng=np.random.default_rng(settings.seed))
    found = []
    for mask, p in zip(masks, blocks_p(blocks, flips), strict=True):
        clusters = frame.clusters.take(mask)
        estimates = [
            cluster_mean(values, clusters, alpha=settings.alpha) for values in np.ascontiguousarray(shifted[mask].T)
        ]
        found.append([replace(e, p_adjusted=float(q)) for e, q in zip(estimates, p, strict=True)])
    return found


def _shift(
    frame: Frame,
    arm: ArmKey,
    estimate: Estimate,
    part: str,
    margin: float,
    floor: Mapping[str, float],
    settings: Settings,
) -> Shift:
    verdict = cell_verdict(
        estimate,
        margin,
        part="inert" if frame.cells[arm][0].inert else part,
        unit=str(frame.meta["score_unit"]),
        direction=frame.meta.get("direction"),
        alpha=settings.alpha,
        power=settings.power,
    )
    flips = count_flips(frame, arm, floor=floor.get("item", math.nan))
    return Shift(
        *arm,
        estimate,
        margin,
        verdict.verdict,
        verdict.sentence,
        needed_clusters=verdict.needed_clusters,
        flip_rate=flips.rate,
        flips_up=flips.up,
        flips_down=flips.down,
        flips_clear=flips.clear,
        tested=part == "tested",
    )


def _family(
    frame: Frame, values: Sequence[Floats], settings: Settings, *, adjust: bool = True, reach: float | None = None
) -> list[Estimate]:
    """Estimates of item values; p adjusted over them unless `adjust` is off. reach : that of a shift if None."""
    clusters, reach = frame.clusters, frame.reach if reach is None else reach
    estimates = [cluster_mean(v, clusters, alpha=settings.alpha, reach=reach) for v in values]
    if not adjust or not values:
        return estimates
    rng = np.random.default_rng(settings.seed)
    p = family_p(np.column_stack(values), clusters, n_resamples=settings.n_resamples, rng=rng)
    return [replace(e, p_adjusted=float(q)) for e, q in zip(estimates, p, strict=True)]
