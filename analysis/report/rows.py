"""Rows of the tables that need more than a field of a result: plain dicts, column by column."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from analysis.study import BenchmarkResult, Estimate


def anova_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """A row per source; a table that could not be made is one row with its reason."""
    rows: list[dict[str, Any]] = []
    for anova in b.anova:
        shared = {"unit": anova.unit, "n": anova.n, "reason": anova.reason}
        rows += [shared | asdict(row) for row in anova.rows] or [shared | {"source": ""}]
    return rows


def omnibus_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """The omnibus, and beside it those over complete items and on refusals where answers are missing."""
    verdict = "all answers, item fixed effects" if b.listwise else "complete items"
    rows = [(verdict, b.omnibus), ("complete items (listwise)", b.listwise), ("refusals", b.refusal_omnibus)]
    return [{"test": name} | asdict(test) for name, test in rows if test is not None]


def flip_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """Flips of each arm with the intervals of rate and net."""
    return [
        _named(f) | {"n": f.n, "up": f.up, "down": f.down, "clear": "" if f.clear is None else f.clear}
        | _interval("rate", f.rate) | _interval("net", f.net)
        | {"p": f.net.p, "p_adjusted": f.net.p_adjusted, "p_mcnemar": f.p_mcnemar, "cancelled": f.cancelled,
           "masked": f.masked}
        for f in b.flips
    ]  # fmt: skip


def profile_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """Flip rate by decile of the baseline's |score|."""
    return [
        _named(f) | {"bin": f.bin, "low": f.low, "high": f.high, "n": f.rate.n_items, "n_flipped": f.n_flipped}
        | _interval("rate", f.rate)
        for f in b.flip_profile
    ]  # fmt: skip


def group_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """Flips by group with the difference from all other items."""
    names = ("group", "n", "up", "down", "asymmetry")
    return [_named(f) | {n: getattr(f, n) for n in names} | asdict(f.difference) for f in b.flip_groups]


def scale_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """Difference-in-differences of rates and of their log-odds."""
    return [
        _named(d) | asdict(d.probability) | _interval("logit", d.logit) | {"reason": d.logit.reason}
        for d in (b.scales.differences if b.scales else [])
    ]


def adjusted_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """Shifts with item fixed effects, paired and listwise."""
    return [
        _named(a) | _interval("fixed", a.fixed) | {"paired": a.paired.value, "listwise": a.listwise.value}
        | {f"{name}_se": getattr(a, name).se for name in ("fixed", "paired", "listwise")}
        | {f"n_{name}": getattr(a, name).n_items for name in ("fixed", "paired", "listwise")}
        for a in b.adjusted
    ]  # fmt: skip


def bound_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """Shifts with the missing answers at both ends of the scale."""
    return [asdict(bound) | {"low": bound.low.value, "high": bound.high.value} for bound in b.bounds]


def refusal_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """Shifts of the share of missing answers."""
    return [asdict(r) | asdict(r.estimate) for r in b.refusals]


def aggregate_rows(b: BenchmarkResult) -> list[dict[str, Any]]:
    """Shifts of published aggregates, stored and by pseudo-values."""
    return [
        asdict(s.estimate) | {"metric": s.metric} | _named(s) | {"value": s.value, "estimate": s.estimate.value}
        | _interval("difference", s.difference)
        for a in b.aggregates
        for s in a.shifts
    ]  # fmt: skip


def aggregate_tests(b: BenchmarkResult) -> list[dict[str, Any]]:
    """ANOVA and sign flip of published aggregates; one that could not be tested is one row."""
    rows: list[dict[str, Any]] = []
    for a in b.aggregates:
        reason = "; ".join(filter(None, [a.anova.reason, a.omnibus.reason, *a.cautions]))
        shared = {"metric": a.metric, "p_flip": a.omnibus.p, "n_clusters": a.n_clusters, "reason": reason}
        rows += [shared | asdict(row) for row in a.anova.rows] or [shared | {"source": ""}]
    return rows


def _named(item: Any) -> dict[str, Any]:
    return {"model": item.model, "accel": item.accel}


def _interval(name: str, e: Estimate) -> dict[str, float]:
    return {name: e.value, f"{name}_low": e.ci_low, f"{name}_high": e.ci_high}
