"""The noise floor: how much scores move under placebos, which change nothing that matters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.contrasts import ArmKey
from analysis.flips import count_flips
from analysis.frame import Frame


def noise_floor(frame: Frame, placebos: Sequence[ArmKey], *, quantile: float = 0.95) -> dict[str, float]:
    """Shift, item shift and flip rate that mean nothing; empty without a placebo that can be paired.

    shift : largest |mean shift| of a placebo. item : `quantile` of |item shift| over all placebos.
    flip_rate : largest share of items whose outcome a placebo changed.
    """
    shifts = {arm: frame.shift(*arm) for arm in placebos}
    there = {arm: values[~np.isnan(values)] for arm, values in shifts.items() if not np.isnan(values).all()}
    if not there:
        return {}
    return {
        "shift": max(abs(float(values.mean())) for values in there.values()),
        "item": float(np.quantile(np.abs(np.concatenate(list(there.values()))), quantile)),
        "flip_rate": max(count_flips(frame, arm).rate for arm in there),
    }
