"""Across benchmarks: could the shifts of this study have been known from others of it?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from analysis.contrasts import BASELINE
from analysis.load import Cell
from analysis.predictability import ALONE
from analysis.study import Arm, BenchmarkResult, Shift
from analysis.transfer import Key, Transfer, transfer_matrix
from analysis.words import listing

UNJUDGED = ("placebo", "inert", "missing")


def transfers(
    results: Sequence[BenchmarkResult], arms: Sequence[Arm], cells: Iterable[Cell], *, alpha: float
) -> list[Transfer]:
    """Transfer matrices between benchmarks, between accels, and from perplexity to each benchmark.

    Shifts are measured in the margin of their own benchmark and model; perplexity as the log of its ratio to the
    baseline's, which is 0 for no change. Pairs of accels of one family with different bits carry a note.
    """
    shifts = {r.title: {(s.model, s.accel): _in_margins(s) for s in r.shifts if _judged(s)} for r in results}
    by_accel: dict[str, dict[Key, float]] = {}
    for title, values in shifts.items():
        for (model, accel), value in values.items():
            by_accel.setdefault(accel, {})[model, title] = value
    names = {(a, b): f"{x} to {y} bits" for a, b, x, y in _bits(cells)}
    out = transfer_matrix(shifts, kind="benchmark", alpha=alpha, notes={})
    out += transfer_matrix(by_accel, kind="accel", alpha=alpha, notes=names)
    worse = _perplexity(arms)
    for title, values in shifts.items():
        both = {"perplexity": worse, title: values, f"|{title}|": {k: abs(v) for k, v in values.items()}}
        found = transfer_matrix(both, kind="perplexity", alpha=alpha, notes={})
        out += [t for t in found if t.source == "perplexity"]
    return out


def predictable(results: Sequence[BenchmarkResult], threshold: float) -> str:
    """The verdict across benchmarks with the figure behind each: can other models foretell a model's shifts?"""
    parts = []
    texts = {
        "predictable": "other models foretell the shifts on",
        "not predictable": "other models do not foretell the shifts on",
        "undecided": "it is open whether other models foretell the shifts on",
        "nothing to predict": "the shifts together are not shown to exceed their noise on",
    }
    for verdict, text in texts.items():
        found = [r for r in results if r.predictability and r.predictability.verdict == verdict]
        if found:
            parts.append(f"{text} {listing([_figure(r) for r in found])}")
    if not parts:
        return "Predictability was not analysed."
    if all(r.predictability is None or r.predictability.reason == ALONE for r in results):
        return f"Other models foretell nothing here: {ALONE}."
    text = "; ".join(parts)
    if not any(r.predictability and math.isfinite(r.predictability.share) for r in results):
        return f"{text[0].upper()}{text[1:]}."
    what = f"share of the shifts' mean square that is one model's own, threshold {100 * threshold:g}%"
    return f"{text[0].upper()}{text[1:]} ({what})."


def _figure(r: BenchmarkResult) -> str:
    p = r.predictability
    assert p is not None
    if p.share_low >= 1:  # of models that shift apart, the others' mean is a worse guess than no change
        return f"{r.title} (all of it)"
    if math.isfinite(p.share):
        return f"{r.title} ({_percent(p.share)}, interval {_percent(p.share_low)} to {_percent(p.share_high)})"
    return f"{r.title} ({p.reason})" if p.verdict == "undecided" else r.title


def _percent(share: float) -> str:
    """A share, which noise can carry below 0 or above 1, cut to what it can be."""
    return f"{min(1.0, max(0.0, share)):.0%}"


def _judged(shift: Shift) -> bool:
    return shift.verdict not in UNJUDGED and shift.margin > 0 and math.isfinite(shift.estimate.value)


def _in_margins(shift: Shift) -> float:
    return shift.estimate.value / shift.margin


def _perplexity(arms: Sequence[Arm]) -> dict[Key, float]:
    base = {a.model: a.perplexity for a in arms if a.accel == BASELINE}
    ratios = {(a.model, a.accel): a.perplexity / base.get(a.model, math.nan) for a in arms if a.accel != BASELINE}
    return {key: math.log(ratio) for key, ratio in ratios.items() if ratio > 0 and math.isfinite(ratio)}


def _bits(cells: Iterable[Cell]) -> list[tuple[str, str, int, int]]:
    """(accel, accel, bits, bits) of every ordered pair of plain accels of one family with different bits."""
    known: dict[str, tuple[str, int]] = {}
    for cell in cells:
        steps = cell.content["accel"].get("steps")
        step = steps[0] if isinstance(steps, list) and len(steps) == 1 else None
        config = step.get("config") if isinstance(step, dict) else None
        bits = config.get("bits") if isinstance(config, dict) else None
        if isinstance(step, dict) and isinstance(bits, int):
            known[cell.accel] = (str(step.get("family")), bits)
    return [
        (a, b, bits_a, bits_b)
        for a, (family_a, bits_a) in known.items()
        for b, (family_b, bits_b) in known.items()
        if family_a == family_b and bits_a != bits_b
    ]
