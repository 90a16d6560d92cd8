"""Verdicts in words: of a cell against its margin, of a benchmark over its cells.

A cell is "unchanged" only if it is shown to be within the margin (two one-sided tests at alpha: the interval
of coverage 1 - 2 alpha lies inside), "changed" if its adjusted p is at most alpha and it is not shown to be
within the margin, "inconclusive" otherwise. A benchmark is "additive" only if every difference-in-differences
is shown to be within the margin; a large p alone is "undecided".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.equivalence import enough
from analysis.errors import AnalysisError
from analysis.estimates import interval, student_quantile, unseen
from analysis.power import chance_in_or_out, clusters_until
from analysis.resampling import too_few
from analysis.settings import Settings
from analysis.study import Difference, Estimate, Omnibus, Shift
from analysis.words import estimate_text, interval_text, listing, p_text, plural, signed

RELATIVE = ("log-odds", "log-prob")


@dataclass(frozen=True)
class CellVerdict:
    """verdict and needed_clusters as in study.Shift; `sentence` without what coverage and quality add."""

    verdict: str
    sentence: str
    needed_clusters: int | None = None


def equivalence_margin(benchmark: str, score_kind: str, item_sd: float, settings: Settings) -> float:
    """Margin in the unit of the score: the benchmark's own if it is set, else that of its kind of score.

    item_sd : standard deviation between the items of the model's baseline.

    Raises AnalysisError for a kind of score that has no margin.
    """
    if benchmark in settings.margins.by_benchmark:
        return settings.margins.by_benchmark[benchmark]
    if score_kind in RELATIVE:
        return settings.margins.log_odds_sd * item_sd
    if score_kind == "rate":
        return settings.margins.rate
    raise AnalysisError(f"score_kind {score_kind!r}: choose one of {', '.join((*RELATIVE, 'rate'))}")


def within(estimate: Estimate, margin: float, alpha: float) -> bool:
    """Whether the interval of coverage 1 - 2 alpha lies inside +-margin (two one-sided tests at alpha)."""
    if estimate.exact_zero and not estimate.reach:  # whatever the margin, and where it cannot be given
        return True
    if not enough(estimate, alpha):
        return False
    low, high = interval(estimate, alpha=2 * alpha)
    return low > -margin and high < margin


def cell_verdict(
    estimate: Estimate, margin: float, *, part: str, unit: str, direction: str | None, alpha: float, power: float
) -> CellVerdict:
    """The verdict of one cell.

    power : chance with which an inconclusive cell is to be settled by more clusters.
    part : "tested" or "beside" for arms that are judged; "inert" or "placebo" for those that are not.
    """
    figures = estimate_text(estimate, unit, alpha)
    if estimate.n_items == 0:
        return CellVerdict("missing", f"No shift: {estimate.reason}.")
    if part == "placebo":
        return CellVerdict("placebo", f"A placebo: {figures} is noise by construction.")
    if part == "inert":
        return CellVerdict("inert", f"Inert: the arm changed no logit of this model (shift {figures}).")
    if estimate.exact_zero and within(estimate, margin, alpha):
        return CellVerdict("exactly unchanged", f"Exactly unchanged: {estimate.reason}.")
    if within(estimate, margin, alpha):
        return CellVerdict("unchanged", _unchanged(estimate, margin, unit, alpha))
    if estimate.p_adjusted <= alpha:
        towards = ""
        if direction is not None:
            towards = " towards the stereotype" if estimate.value > 0 else " away from the stereotype"
        return CellVerdict("changed", f"Changed{towards}: {figures}.")
    return _inconclusive(estimate, margin, unit, alpha, power)


def benchmark_verdict(
    omnibus: Omnibus, differences: Sequence[Difference], shifts: Sequence[Shift], *, unit: str, alpha: float
) -> tuple[str, str]:
    """Verdict and sentence of a benchmark from its tested cells."""
    tested = [d for d in differences if d.tested]
    few = too_few(omnibus.n_clusters, alpha)
    if not math.isfinite(omnibus.p) or (few and omnibus.reason == few):
        return "cannot be tested", f"The interaction cannot be tested: {omnibus.reason}."
    equivalent = bool(tested) and all(within(d.estimate, d.margin, alpha) for d in tested)
    test = f"combined sign-flip {p_text(omnibus.p)}, {plural(omnibus.n_clusters, 'cluster')}"
    if omnibus.p <= alpha:
        small = " Every difference-in-differences is within the margin all the same." if equivalent else ""
        named = _stand_out(tested, shifts, unit, alpha)
        return "interaction", f"The effect of acceleration depends on the model: {named} ({test}).{small}"
    if equivalent:
        widest = max(tested, key=lambda d: abs(d.estimate.value))
        return "additive", (
            f"Acceleration acts alike on these models: every difference-in-differences is within the margin, "
            f"at most {signed(widest.estimate.value)} {unit} ({widest.model} under {widest.accel}; {test})."
        )
    return "undecided", (
        f"Undecided: no interaction is shown ({test}), and none is excluded: "
        f"{_widest(tested, unit, alpha)} reaches beyond the margin."
    )


def _unchanged(estimate: Estimate, margin: float, unit: str, alpha: float) -> str:
    low, high = interval(estimate, alpha=2 * alpha)
    small = " (detectable, but smaller than the margin)" if estimate.p_adjusted <= alpha else ""
    return (
        f"Unchanged: {signed(estimate.value)} {unit}, {interval_text(low, high, 2 * alpha)}, inside the "
        f"margin of {margin:.3g}{small}."
    )


def settled(estimate: Estimate, needed: int, power: float) -> str:
    """What `needed` clusters would do, in words."""
    return f"about {needed} clusters like these {estimate.n_clusters} would settle it with chance {power:.2g}"


def _inconclusive(estimate: Estimate, margin: float, unit: str, alpha: float, power: float) -> CellVerdict:
    figures = estimate_text(estimate, unit, alpha)
    if not math.isfinite(estimate.se):
        return CellVerdict("inconclusive", f"Inconclusive: {figures}; {estimate.reason}.")
    if not enough(estimate, alpha):
        return CellVerdict("inconclusive", f"Inconclusive: {figures}; {too_few(estimate.n_clusters, alpha)}.")
    if estimate.exact_zero:
        return _unseen(estimate, margin, unit, alpha)
    needed = clusters_needed(estimate, margin, alpha, power)
    more = f"; {settled(estimate, needed, power)}" if needed else ""
    return CellVerdict(
        "inconclusive",
        f"Inconclusive: {figures} neither shows a change nor stays inside the margin of {margin:.3g}{more}.",
        needed,
    )


def _unseen(estimate: Estimate, margin: float, unit: str, alpha: float) -> CellVerdict:
    """Of answers none of which changed, too few to exclude that others would."""
    n, g = estimate.n_items, estimate.n_clusters
    share = unseen(n, g, alpha)
    needed = math.ceil(g * share * estimate.reach / margin) if margin > 0 else None
    more = f"; about {needed} clusters like these {g} without a change would show it" if needed else ""
    return CellVerdict(
        "inconclusive",
        f"Inconclusive: {estimate.reason}, but up to {share:.1%} of items like these may change, and the margin is "
        f"{margin:.3g} {unit}{more}.",
        needed,
    )


def clusters_needed(estimate: Estimate, margin: float, alpha: float, power: float) -> int | None:
    """Clusters of the present size at which a cell like this is within the margin, or not 0, with chance `power`.

    Multiplicity is left out. None if no error is known, or beyond a million clusters.
    """

    def chance(se: float, df: float) -> float:
        inside = margin - student_quantile(1 - alpha, df) * se
        return chance_in_or_out(estimate.value, se, inside=inside, outside=student_quantile(1 - alpha / 2, df) * se)

    return clusters_until(estimate, chance, power)


def _stand_out(tested: Sequence[Difference], shifts: Sequence[Shift], unit: str, alpha: float) -> str:
    """The cells whose difference-in-differences stands out, largest first, or that none does.

    Of two models under one accel the differences mirror each other; the one that moved more is named.
    """
    size = {(s.model, s.accel): abs(s.estimate.value) for s in shifts}
    chosen: dict[str, Difference] = {}
    several: list[Difference] = []
    for d in (d for d in tested if d.estimate.p_adjusted <= alpha):
        pair = sum(x.accel == d.accel for x in tested) == 2
        if not pair:
            several.append(d)
        elif d.accel not in chosen or size[d.model, d.accel] > size[chosen[d.accel].model, d.accel]:
            chosen[d.accel] = d
    named = sorted([*several, *chosen.values()], key=lambda d: -abs(d.estimate.value))
    if not named:
        return "no single cell stands out, the pattern as a whole does"
    texts = [
        f"under {d.accel} the shift of {d.model} differs from the other models' by "
        f"{estimate_text(d.estimate, unit, alpha)}"
        for d in named[:3]
    ]
    rest = f"; {plural(len(named) - 3, 'more cell')} stand out" if len(named) > 3 else ""
    return listing(texts, most=3) + rest


def _widest(tested: Sequence[Difference], unit: str, alpha: float) -> str:
    known = [d for d in tested if math.isfinite(d.estimate.ci_low)]
    if not known:
        return "a difference-in-differences without an interval"
    d = max(known, key=lambda d: max(abs(x) for x in interval(d.estimate, alpha=2 * alpha)))
    low, high = interval(d.estimate, alpha=2 * alpha)
    return (
        f"the difference-in-differences of {d.model} under {d.accel} "
        f"({signed(d.estimate.value)} {unit}, {interval_text(low, high, 2 * alpha)}, margin {d.margin:.3g})"
    )
