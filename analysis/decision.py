"""May a candidate stand in for its baseline? PASS, FAIL or CANNOT TELL, from equivalence tests cell by cell.

PASS needs equivalence shown in every cell, each at alpha; no correction is due, because all must be shown
(an intersection-union test: Berger 1982). FAIL needs a shift shown to be beyond the margin in some cell; those
tests are Holm-adjusted over the cells, because one of them suffices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.contrasts import BASELINE, ArmKey
from analysis.equivalence import enough, equivalence_of
from analysis.estimates import cluster_mean, student_quantile, unseen
from analysis.frame import Frame
from analysis.power import chance_in_or_out, clusters_until
from analysis.resampling import too_few
from analysis.settings import Settings
from analysis.study import Estimate
from analysis.unanswered import scale_ends
from analysis.validity import marked_arms
from analysis.verdict import equivalence_margin, settled, within
from analysis.words import listing, plural

PASS, FAIL, CANNOT_TELL = "PASS", "FAIL", "CANNOT TELL"


@dataclass(frozen=True)
class Judgement:
    """One cell of a decision: the candidate's scores minus the baseline's, on the items that both answered.

    ci_low, ci_high : interval of coverage 1 - 2 alpha. p_within : of the two one-sided tests that the mean is
    beyond the margin. p_beyond : of the one-sided test that it is within, Holm-adjusted over all cells.
    only_baseline, only_candidate : items that only one of the two answered; they are not in the estimate.
    """

    benchmark: str
    unit: str
    model: str
    candidate: str
    verdict: str
    reason: str
    margin: float = math.nan
    estimate: Estimate | None = None
    ci_low: float = math.nan
    ci_high: float = math.nan
    p_within: float = math.nan
    p_beyond: float = math.nan
    only_baseline: int = 0
    only_candidate: int = 0


def judge(frame: Frame, model: str, candidate: str, settings: Settings, *, margin: float | None = None) -> Judgement:
    """The judgement of one cell, before `decided` adjusts it for the others.

    margin : in the unit of the score; None for the settings' margin of this benchmark.
    """
    unit = str(frame.meta["score_unit"])
    place = (frame.benchmark, unit, model, candidate)
    for accel in (BASELINE, candidate):
        if (model, accel) not in frame.cells:
            return Judgement(*place, CANNOT_TELL, f"no cell of {accel} was measured")
    base, own = frame.score(model, BASELINE), frame.score(model, candidate)
    if margin is None:
        sd = float(np.nanstd(base, ddof=1)) if (~np.isnan(base)).sum() > 1 else math.nan  # as in the report
        margin = equivalence_margin(frame.benchmark, str(frame.meta["score_kind"]), sd, settings)
    estimate = cluster_mean(own - base, frame.clusters, alpha=settings.alpha, reach=frame.reach)
    only = [int((~np.isnan(a) & np.isnan(b)).sum()) for a, b in ((base, own), (own, base))]
    if not margin > 0:
        reason = "the margin is a share of the baseline's spread of items, and that is 0: give margin="
        return Judgement(*place, CANNOT_TELL, reason, math.nan, estimate, only_baseline=only[0], only_candidate=only[1])
    test = equivalence_of(estimate, margin=margin, alpha=settings.alpha)
    verdict, reason = _verdict(frame, (model, candidate), test.equivalent, estimate, margin, settings)
    if verdict == PASS and (lost := _decided_by_the_missing(frame, (model, candidate), margin, settings)):
        reason += f"; {plural(lost, 'missing answer')} at the ends of the scale could take it out"
    return Judgement(
        *place,
        verdict,
        reason,
        margin,
        estimate,
        test.ci_low,
        test.ci_high,
        test.p,
        _beyond(estimate, margin),
        *only,
    )


def decided(found: Sequence[Judgement], *, alpha: float) -> list[Judgement]:
    """The judgements with p_beyond Holm-adjusted over them, and FAIL where it is at most alpha."""
    order = sorted((i for i, j in enumerate(found) if math.isfinite(j.p_beyond)), key=lambda i: found[i].p_beyond)
    out, largest = list(found), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * found[i].p_beyond))
        out[i] = replace(found[i], p_beyond=largest)
        if largest <= alpha and not found[i].reason.startswith("not valid"):
            out[i] = replace(out[i], verdict=FAIL, reason="the shift is beyond the margin")
    return out


def overall(found: Sequence[Judgement]) -> str:
    """FAIL if any cell fails, PASS if all pass, CANNOT TELL otherwise, and for no cell."""
    verdicts = {j.verdict for j in found}
    return FAIL if FAIL in verdicts else PASS if verdicts == {PASS} else CANNOT_TELL


def invalid(frame: Frame, arm: ArmKey, marked: Mapping[ArmKey, str]) -> str:
    """Why nothing can be concluded from a cell however its figures look, "" if it can."""
    if frame.cells[arm][0].inert:
        return "the accelerator changed no logit in the active check, so what was measured is the baseline"
    return next((f"{a}: {marked[arm[0], a]}" for a in (arm[1], BASELINE) if (arm[0], a) in marked), "")


def _verdict(
    frame: Frame, arm: ArmKey, equivalent: bool, estimate: Estimate, margin: float, settings: Settings
) -> tuple[str, str]:
    if estimate.n_items == 0:
        return CANNOT_TELL, "no item is answered in both"
    if reason := invalid(frame, arm, marked_arms(frame, settings)):
        return CANNOT_TELL, f"not valid: {reason}"
    if idle := list(dict.fromkeys(step for cell in frame.cells[arm] for step in cell.idle)):
        text = f"{listing(idle)} of the stack moved no logit in the active check"
        return CANNOT_TELL, f"{text}: what was measured is the rest of it"
    if equivalent:
        return PASS, f"all {estimate.n_items} scores are the same" if estimate.exact_zero else "within the margin"
    if not math.isfinite(estimate.se):
        return CANNOT_TELL, estimate.reason
    if not enough(estimate, settings.alpha):
        return CANNOT_TELL, too_few(estimate.n_clusters, settings.alpha)
    if estimate.exact_zero:
        share = unseen(estimate.n_items, estimate.n_clusters, settings.alpha)
        return CANNOT_TELL, f"{estimate.reason}, but up to {share:.1%} of items like these may change"
    needed = clusters_to_decide(estimate, margin, settings.alpha, settings.power)
    more = f"; {settled(estimate, needed, settings.power)}" if needed else ""
    return CANNOT_TELL, f"the interval reaches beyond the margin{more}"


def _decided_by_the_missing(frame: Frame, arm: ArmKey, margin: float, settings: Settings) -> int:
    """Missing answers, if giving them the ends of the scale takes the shift out of the margin; else 0."""
    base, own = frame.score(arm[0], BASELINE), frame.score(*arm)
    gone = np.isnan(base) | np.isnan(own)
    if not gone.any():
        return 0
    ends = scale_ends(np.column_stack([base, own]), str(frame.meta["score_kind"]))
    for of_own, of_base in (ends, ends[::-1]):
        shift = np.where(np.isnan(own), of_own, own) - np.where(np.isnan(base), of_base, base)
        found = cluster_mean(shift, frame.clusters, alpha=settings.alpha, reach=frame.reach)
        if not within(found, margin, settings.alpha):
            return int(gone.sum())
    return 0


def clusters_to_decide(estimate: Estimate, margin: float, alpha: float, power: float) -> int | None:
    """Clusters of the present size at which a shift like this is shown within the margin, or beyond it, with
    chance `power`.

    The correction for several cells is left out. None where the estimate lies on the margin, or beyond a million.
    """

    def chance(se: float, df: float) -> float:
        half = student_quantile(1 - alpha, df) * se
        return chance_in_or_out(estimate.value, se, inside=margin - half, outside=margin + half)

    return clusters_until(estimate, chance, power)


def _beyond(estimate: Estimate, margin: float) -> float:
    """One-sided p of |mean| <= margin, against the side on which the estimate lies."""
    from scipy.special import stdtr

    over = abs(estimate.value) - margin
    if not math.isfinite(estimate.se) or estimate.n_clusters < 2:
        return math.nan
    if estimate.se == 0:
        return 0.0 if over > 0 else 1.0
    return float(stdtr(estimate.dof, -over / estimate.se))
