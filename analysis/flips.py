"""Items whose categorical outcome changed, and in which direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.contrasts import BASELINE, ArmKey
from analysis.frame import Frame


@dataclass(frozen=True)
class Flips:
    """Outcome changes of one arm against its baseline.

    n : items with an answer in both. rate : share of them whose outcome changed, NaN with none.
    up, down : changed items whose score rose (towards the stereotype) or fell; an item whose outcome changed
        at an equal score is in neither.
    clear : changed items whose baseline |score| exceeds the noise floor, None where there is no floor.
    """

    n: int
    rate: float
    up: int
    down: int
    clear: int | None


def count_flips(frame: Frame, arm: ArmKey, *, floor: float = math.nan) -> Flips:
    """Outcome changes of `arm`. Refusals and other missing answers are no flips: coverage counts those.

    floor : |item shift| that means nothing (95th percentile of the placebos'), NaN for none. With repeats,
        the outcome of an item is its most frequent one.
    """
    shift = frame.shift(*arm)
    paired = ~np.isnan(shift)
    if not paired.any():
        return Flips(0, math.nan, 0, 0, None)
    before, after = (frame.outcomes[key].to_numpy() for key in ((arm[0], BASELINE), arm))
    changed = paired & (before != after)
    up, down = (int((changed & (side > 0)).sum()) for side in (shift, -shift))
    clear = int((changed & (np.abs(frame.score(arm[0], BASELINE)) > floor)).sum()) if floor == floor else None
    return Flips(int(paired.sum()), float(changed.sum() / paired.sum()), up, down, clear)
