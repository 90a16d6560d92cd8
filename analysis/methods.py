"""The methods paragraph of a report, written from what was really run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from analysis.frame import Frame
from analysis.settings import Settings
from analysis.study import BenchmarkResult
from analysis.words import listing


def methods(frames: Sequence[Frame], results: Sequence[BenchmarkResult], settings: Settings) -> str:
    """The paragraph: data, estimates, tests, margins, and what the p values speak of."""
    return " ".join(
        filter(
            None,
            [
                _data(frames, results),
                _estimates(settings.alpha),
                _omnibus(results, settings),
                _missing(results),
                _classic(results),
                _scales(results),
                _equivalence(results, settings),
                _flips(results, settings),
                _predictability(results, settings),
                "The p values speak of these models on new items of the same kind, not of others; only the "
                "prediction intervals speak of new models. Level, margins and thresholds are settings: choose them "
                "before looking.",
            ],
        )
    )


def _data(frames: Sequence[Frame], results: Sequence[BenchmarkResult]) -> str:
    names = [f"{r.title} ({r.n_items} of {r.n_items_all} items, {r.n_clusters} clusters)" for r in results]
    text = f"Scores of {listing(names)} were compared item by item with those of the same model unaccelerated."
    cells = [cs for f in frames for cs in f.cells.values()]
    averaged = any(len(cs) > 1 or int(cs[0].content["decoding"].get("repeats") or 1) > 1 for cs in cells)
    return text + (" Repeats and seeds of an arm were averaged first." if averaged else "")


def _estimates(alpha: float) -> str:
    return (
        f"Means, shifts and difference-in-differences have cluster-robust standard errors, {100 * (1 - alpha):g}% "
        "intervals from t (CR2 errors; one degree of freedom less than there are clusters, fewer where clusters "
        "differ in size); within a family their p "
        "values are adjusted by the largest |t| over cluster sign flips (Westfall and Young)."
    )


def _omnibus(results: Sequence[BenchmarkResult], settings: Settings) -> str:
    tests = [r.omnibus for r in results if r.omnibus.n_resamples]
    if not tests:
        return ""
    flips = {"all sign patterns" if t.exact else f"{t.n_resamples} random flips" for t in tests}
    return (
        "The interaction was tested by flipping the signs of whole clusters of the interaction contrasts "
        f"({listing(sorted(flips))}, seed {settings.seed}): sum of squares, Hotelling-type form where "
        "clusters outnumber twice the contrasts, and largest |t| of the difference-in-differences, "
        "combined by the smallest p."
    )


def _missing(results: Sequence[BenchmarkResult]) -> str:
    if not any(r.listwise for r in results):
        return ""
    return (
        "Where answers are missing, the contrasts are those of a model with an effect for every item under every model "
        "and cluster-robust errors over all answers; the same test over complete items, the shifts three ways and "
        "their bounds under extreme missing answers stand beside it."
    )


def _scales(results: Sequence[BenchmarkResult]) -> str:
    if not any(r.scales and math.isfinite(r.scales.p_logit) for r in results):
        return ""
    return (
        "Yes-or-no scores were also tested on log-odds (generalized estimating equations, flipping the effective "
        "scores of whole clusters)."
    )


def _flips(results: Sequence[BenchmarkResult], settings: Settings) -> str:
    if not any(r.flips for r in results):
        return ""
    clear = (
        f"; a flip is clear where the baseline's |score| exceeds the {100 * settings.floor_quantile:g} % quantile of "
        "the placebos' |shift|"
        if any(r.floor for r in results)
        else ""
    )
    return (
        "Flipped answers were counted in both directions and their net direction tested by cluster sign flips, with "
        f"McNemar's exact test, which takes items as independent, beside it{clear}."
    )


def _predictability(results: Sequence[BenchmarkResult], settings: Settings) -> str:
    if not any(r.predictability and math.isfinite(r.predictability.mean_square) for r in results):
        return ""
    return (
        "The model-specific share of the shifts' mean square has the cluster-robust noise taken off and a "
        "delete-group jackknife interval; shifts count as predictable where it is shown to be under "
        f"{100 * settings.predictable_share:g}%. Minimum detectable effects are for {100 * settings.power:g}% power."
    )


def _classic(results: Sequence[BenchmarkResult]) -> str:
    units = list(dict.fromkeys(t.unit for r in results for t in r.anova if t.rows))
    if not units:
        return ""
    large = [t.unit for r in results for t in r.anova if "matrix form" in t.reason]
    instead = f" (of {listing(list(dict.fromkeys(large)))}, a large table, in matrix form)" if large else ""
    return (
        "Two-way repeated-measures ANOVA (model x accel, Greenhouse-Geisser corrected) was run by pingouin "
        f"{version('pingouin')}{instead} on {listing(units)}, with intervals of eta squared from the noncentral "
        "F; it takes these as independent and gives no verdict."
    )


def _equivalence(results: Sequence[BenchmarkResult], settings: Settings) -> str:
    return (
        f"A cell is unchanged only if its {100 * (1 - 2 * settings.alpha):g}% interval lies inside the margin "
        f"({margins_text(results, asdict(settings.margins))}): two one-sided tests."
    )


def margins_text(results: Sequence[BenchmarkResult], margins: Mapping[str, Any]) -> str:
    """The margins of these benchmarks in words. margins : fields of settings.Margins."""
    own = margins["by_benchmark"]
    parts = [f"{own[r.name]:g} {r.unit} for {r.title}" for r in results if r.name in own]
    kinds = {r.score_kind for r in results if r.name not in own}
    if kinds & {"log-odds", "log-prob"}:
        sd = margins["log_odds_sd"]
        parts.append(f"{sd:g} of the baseline's item standard deviation for log-odds and log-probabilities")
    if "rate" in kinds:
        parts.append(f"{100 * margins['rate']:g} points for rates")
    return listing(parts)
