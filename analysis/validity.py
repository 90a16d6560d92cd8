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
    when its perplexity is more than `perplexity_ratio` times its baseline's (degenerate text counts as less
    biased). An unknown perplexity marks nothing.
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
    return f"only {coverage.share:.0%} of the answers are there, the threshold is {settings.coverage:.0%}"


def _degenerate(frame: Frame, arm: ArmKey, settings: Settings) -> str:
    own, base = _perplexity(frame, arm), _perplexity(frame, (arm[0], BASELINE))
    if own > settings.perplexity_ratio * base:
        ratio = settings.perplexity_ratio
        return f"perplexity is {own / base:.2f} times the baseline's, the threshold is {ratio:g}"
    return ""


def _perplexity(frame: Frame, arm: ArmKey) -> float:
    cells = frame.cells.get(arm)
    return number((cells[0].content.get("efficiency") or {}).get("perplexity")) if cells else math.nan
