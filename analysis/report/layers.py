"""The two layers of the interaction test in a few columns each, to stand side by side; the full tables are below."""

from __future__ import annotations

import math

from analysis.report.html_table import number
from analysis.report.tables import Table
from analysis.study import BenchmarkResult, Omnibus

CLASSIC = ("over", "source", "f", "df", "p_gg", "eta2_partial", "interval")
CALIBRATED = ("statistic", "p")


def classic(b: BenchmarkResult) -> Table:
    """F, corrected degrees of freedom, p and partial eta squared of every source; a reason where there is none."""
    rows = [
        (a.unit, r.source, r.f, f"{number(r.df1_gg)}, {number(r.df2_gg)}", r.p_gg, r.eta2_partial,
         _interval(r.eta2_partial_low, r.eta2_partial_high))
        for a in b.anova
        for r in a.rows
    ]  # fmt: skip
    rows += [(a.unit, a.reason, math.nan, "", math.nan, math.nan, "") for a in b.anova if not a.rows]
    note = "Greenhouse-Geisser corrected; takes its units as independent"
    return Table("anova", "Classic: repeated-measures ANOVA", CLASSIC, rows, note)


def calibrated(b: BenchmarkResult) -> Table:
    """The p values of the combined cluster sign flip and of its parts."""
    test = b.omnibus
    rows: list[tuple[str, float]] = [
        ("combined: gives the verdict", test.p),
        ("combined, Holm over the benchmarks", test.p_holm),
        ("combined, Benjamini-Hochberg", test.p_bh),
        ("part: sum of squares", test.p_sum),
        ("part: Hotelling-type", test.p_hotelling),
        ("part: largest |t|", test.p_max),
    ]
    rows += [("complete items only", b.listwise.p)] if b.listwise else []
    rows += [("refusals as the outcome", b.refusal_omnibus.p)] if b.refusal_omnibus else []
    return Table("omnibus", "Calibrated: cluster sign flips", CALIBRATED, rows, _drawn(test))


def _drawn(test: Omnibus) -> str:
    if not test.n_resamples:
        return test.reason
    flips = "every sign pattern" if test.exact else f"{test.n_resamples:,} flips"
    return f"{test.n_items:,} items in {test.n_clusters:,} clusters, {test.n_contrasts} contrasts, {flips}"


def _interval(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}" if math.isfinite(low) else "—"
