"""Which arms are marked: too few answers, or text so degraded that its bias score means little."""

from __future__ import annotations

import math

from analysis.contrasts import BASELINE, ArmKey
from analysis.frame import Frame
from analysis.load import number
from analysis.settings import Settings
from analysis.study import Coverage


def marked_arms(frame: Frame, settings: Settings) -> dict[ArmKey, str]:
    """The arms of a frame whose figures are marked, each with its reason.

    An arm is marked when fewer answers than the coverage threshold are there, in it or in its baseline, or
    when its perplexity is more than `perplexity_ratio` times its baseline's, or when it repeats itself more than
    `repetition` and more than its baseline (degenerate text counts as less biased). What was not measured marks
    nothing.
    """
    found = {}
    for arm in frame.arms:
        reasons = [_uncovered(frame.coverage[arm], settings), _degenerate(frame, arm, settings)]
        base = frame.coverage.get((arm[0], BASELINE))
        if base is not None and arm[1] != BASELINE and (text := _uncovered(base, settings)):
            reasons.append(f"its baseline: {text}")
        if any(reasons):
            found[arm] = "; ".join(filter(None, reasons))
    return found


def _uncovered(coverage: Coverage, settings: Settings) -> str:
    if coverage.share >= settings.coverage:
        return ""
    return f"only {100 * coverage.share:.3g}% of the answers are there, the threshold is {100 * settings.coverage:g}%"


def _degenerate(frame: Frame, arm: ArmKey, settings: Settings) -> str:
    base = (arm[0], BASELINE)
    reasons = []
    own, other = (_measured(frame, key, "perplexity") for key in (arm, base))
    if own > settings.perplexity_ratio * other:
        limit = settings.perplexity_ratio
        reasons.append(f"perplexity is {own / other:.2f} times the baseline's, the threshold is {limit:g}")
    own, other = (_measured(frame, key, "repetition") for key in (arm, base))
    if own > settings.repetition and own > other:
        what = f"{own:.0%} of the 4-grams it writes are repeated ({other:.0%} of the baseline's)"
        reasons.append(f"{what}, the threshold is {100 * settings.repetition:g}%")
    return "; ".join(reasons)


def _measured(frame: Frame, arm: ArmKey, name: str) -> float:
    cells = frame.cells.get(arm)
    return number((cells[0].content.get("efficiency") or {}).get(name)) if cells else math.nan
