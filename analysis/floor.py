"""The noise floor: how much scores move under placebos, which change nothing that matters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.contrasts import ArmKey
from analysis.estimates import difference_in_differences
from analysis.flips import count_flips
from analysis.frame import Frame


def noise_floor(frame: Frame, placebos: Sequence[ArmKey], *, quantile: float = 0.95) -> dict[str, float]:
    """Shift, item shift and flip rate that mean nothing; empty without a placebo that can be paired.

    shift : largest |mean shift| of a placebo. item : `quantile` of |item shift| over all placebos.
    flip_rate : largest share of items whose outcome a placebo changed, only there where outcomes are on record.
    interaction : largest |difference-in-differences| of a placebo, only there with two models.
    """
    shifts = {arm: frame.shift(*arm) for arm in placebos}
    there = {arm: values[~np.isnan(values)] for arm, values in shifts.items() if not np.isnan(values).all()}
    if not there:
        return {}
    floor = {
        "shift": max(abs(float(values.mean())) for values in there.values()),
        "item": float(np.quantile(np.abs(np.concatenate(list(there.values()))), quantile)),
    }
    rates = [rate for arm in there if not math.isnan(rate := count_flips(frame, arm).rate)]
    floor |= {"flip_rate": max(rates)} if rates else {}
    gaps = [_differences(frame, [arm for arm in there if arm[1] == accel]) for accel in {a for _, a in there}]
    return floor | ({"interaction": max(max(g) for g in gaps if g)} if any(gaps) else {})


def _differences(frame: Frame, arms: Sequence[ArmKey]) -> list[float]:
    """|Mean difference-in-differences| of the arms of one accel, over the items that all of them answered."""
    if len(arms) < 2:
        return []
    values = difference_in_differences(np.column_stack([frame.shift(*arm) for arm in arms]))
    kept = values[~np.isnan(values).any(axis=1)]
    return [abs(float(x)) for x in kept.mean(axis=0)] if len(kept) else []
