"""tables.tex: the main tables of a paper, to be taken into a document with booktabs and longtable."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from analysis.report.cost import RATIOS, cost_table
from analysis.report.tables import Table
from analysis.report.traces import marked
from analysis.study import BenchmarkResult, Estimate, Study
from analysis.words import listing, plural

HEAD = """\
% Tables of the analysis of {sweep}, of the run: {command}
% In the preamble: \\usepackage{{booktabs,longtable}}
% Each table may break over pages; \\label and \\caption are in place. Intervals are {level:g} per cent.
"""
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "{''}", "-": "{-}", "*": "{*}", "[": "{[}", "]": "{]}",
    "\u2212": "$-$", "\u00d7": r"$\times$",
    "\u2020": r"\dag{}", "\u2026": r"\ldots{}", "\u2013": "--", "\u2014": "---", "\u00b1": r"$\pm$",
    "\u2264": r"$\leq$", "\u2265": r"$\geq$", "\u2260": r"$\neq$",
}  # fmt: skip
COMMAND = re.compile(r"\\[a-zA-Z]+(\\{\\})?|[{}$\\]")  # takes no room, or that of a letter
SIZES = (
    (r"\small", 105),
    (r"\footnotesize\setlength{\tabcolsep}{4pt}", 120),
    (r"\scriptsize\setlength{\tabcolsep}{3pt}", math.inf),
)
LONGEST = 28  # characters of a name in a table
MOST_BENCHMARKS = 4  # columns of the overview: more of them make another table
RATIO_HEADS = {"memory_ratio": "memory", "decode_ratio": "tokens/s", "decode_batched_ratio": "tokens/s (batch)",
               "perplexity_ratio": "perplexity"}  # fmt: skip
Row = Sequence[str]


def render(study: Study) -> str:
    """All tables as LaTeX text, everything from outside escaped."""
    level = 100 * (1 - float(study.settings.get("alpha", 0.05)))
    head = HEAD.format(sweep=_comment(study.sweep), command=_comment(study.command), level=level)
    return head + "\n".join(_tables(study, level))


def _tables(study: Study, level: float) -> Iterator[str]:
    yield from _overview(study, level)
    yield from _interactions(study, level)
    for k, b in enumerate(study.benchmarks, 1):
        yield from _of_benchmark(study, b, k, level)
    yield from _cost(cost_table(study))
    rows = [[cut(m.model), cut(m.accel), cut(m.where), escape(m.state)] for m in study.missing]
    yield longtable("missing", "Cells that were asked for and are not there.",
                    ["model", "accelerator", "benchmark", "state"], "llll", rows)  # fmt: skip


def longtable(label: str, caption: str, head: Row, columns: str, rows: Iterable[Row]) -> str:
    """A table that may break over pages; empty without rows. caption, head and cells are LaTeX already."""
    rows = list(rows)
    lines = [" & ".join(row) + r" \\" for row in rows]
    if not lines:
        return ""
    first = " & ".join(head) + r" \\"
    return "\n".join([
        rf"\begingroup{_size(rows)}\setlength{{\LTcapwidth}}{{\textwidth}}",
        rf"\begin{{longtable}}{{@{{}}{columns}@{{}}}}",
        rf"\caption{{{caption}}}\label{{tab:{label}}}\\", r"\toprule", first, r"\midrule", r"\endfirsthead",
        rf"\multicolumn{{{len(head)}}}{{@{{}}l}}{{Table~\thetable, continued}}\\", r"\toprule", first, r"\midrule",
        r"\endhead", r"\bottomrule", r"\endfoot", *lines, r"\end{longtable}", r"\endgroup", "",
    ])  # fmt: skip


def _size(rows: Sequence[Row]) -> str:
    """A type size at which the longest row fits between ordinary margins, as near as counting letters can tell."""
    widest = max((sum(len(COMMAND.sub("x", cell)) + 2 for cell in row) for row in rows), default=0)
    return next(size for size, most in SIZES if widest <= most)


def escape(text: str) -> str:
    r"""Untrusted text on one line as it reads; what LaTeX's fonts lack is named by its code point.

    >>> print(escape("50% of a_b\u202e"))
    50\% of a\_b{[}U+202E{]}
    """
    return "".join(SPECIAL.get(c) or (c if _plain(c) else escape(f"[U+{ord(c):04X}]")) for c in " ".join(text.split()))


def cut(text: str) -> str:
    """A name that fits into a column, escaped."""
    return escape(text if len(text) <= LONGEST else text[: LONGEST - 1] + "\u2026")


def signed(value: float) -> str:
    r"""Three significant digits in maths, --- for what is not known.

    >>> print(signed(0.48213), signed(-0.25), signed(0.0), signed(-1.2e-7), signed(float("nan")))
    $+0.482$ $-0.25$ $0$ $-1.2\times10^{-7}$ ---
    """
    if not math.isfinite(value):
        return "---"
    text = f"{value:+.3g}" if value else "0"
    number, _, power = text.partition("e")
    exponent = rf"\times10^{{{int(power)}}}" if power else ""
    return f"${number}{exponent}$"


def interval(low: float, high: float) -> str:
    """Such as [+0.1, +0.3], in maths."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "---"
    return f"$[{signed(low)[1:-1]},\\ {signed(high)[1:-1]}]$"


def p_value(p: float) -> str:
    """Two significant digits, and a bound below 0.0001."""
    if not math.isfinite(p):
        return "---"
    return "$<0.0001$" if p < 0.0001 else f"${p:.2g}$"


def _overview(study: Study, level: float) -> Iterator[str]:
    keys = list(dict.fromkeys((s.model, s.accel) for b in study.benchmarks for s in b.shifts))
    for start in range(0, len(study.benchmarks), MOST_BENCHMARKS):
        group, part = study.benchmarks[start : start + MOST_BENCHMARKS], start // MOST_BENCHMARKS + 1
        shifts = [{(s.model, s.accel): s for s in b.shifts} for b in group]
        rows = [
            [cut(marked(study, model)), cut(accel), *(
                f"{signed(s.estimate.value)} {escape(s.verdict)}" if (s := found.get((model, accel))) else "---"
                for found in shifts
            )]
            for model, accel in keys
        ]  # fmt: skip
        named = "; ".join(f"{escape(b.title)}: {escape(b.unit)}, {_n(b)}" for b in group)
        notes = "".join(f" \\dag{{}} {escape(m)}: {escape(note)}." for m, note in study.models.items() if note)
        caption = (
            f"Shift of every cell from its own baseline and its verdict against the equivalence margin. {named}. "
            f"Intervals of {level:g}\\,\\% are in the tables of the benchmarks.{notes}"
        )
        yield longtable(f"verdicts-{part}", caption, ["model", "accelerator", *(cut(b.title) for b in group)],
                        "ll" + "l" * len(group), rows)  # fmt: skip


def _interactions(study: Study, level: float) -> Iterator[str]:
    rows = []
    for b in study.benchmarks:
        anova = next((a for a in b.anova if a.unit == "items"), None)
        row = next((r for r in anova.rows if r.source == "model x accel"), None) if anova else None
        classic = ["---"] * 4
        if row is not None:
            classic = [
                f"{row.f:.3g}" if math.isfinite(row.f) else "---", f"{row.df1:g}, {row.df2:g}", p_value(row.p_gg),
                f"{_number(row.eta2_partial)} {interval(row.eta2_partial_low, row.eta2_partial_high)}",
            ]  # fmt: skip
        rows.append([cut(b.title), p_value(b.omnibus.p), p_value(b.omnibus.p_holm), *classic, escape(b.verdict)])
    caption = (
        "Does the effect of acceleration depend on the model? $p$: combined cluster sign-flip test, which gives the "
        "verdict; $p_{\\mathrm{Holm}}$: over the benchmarks. $F$ and $p_{\\mathrm{GG}}$: two-way repeated-measures "
        "ANOVA over items, Greenhouse-Geisser; right only if items are independent. $\\eta^2_p$ with its "
        f"{level:g}\\,\\% interval. "
        + "; ".join(f"{escape(b.title)}: {_n(b)}" for b in study.benchmarks) + "."
    )  # fmt: skip
    head = ["benchmark", "$p$", r"$p_{\mathrm{Holm}}$", "$F$", "df", r"$p_{\mathrm{GG}}$", r"$\eta^2_p$", "verdict"]
    yield longtable("interaction", caption, head, "lrrrrrll", rows)
    found = [(b, b.predictability) for b in study.benchmarks if b.predictability]
    predicted = [
        [cut(b.title), _number(p.share), interval(p.share_low, p.share_high), _number(p.r2),
         interval(p.r2_low, p.r2_high), escape(p.verdict)]
        for b, p in found
    ]  # fmt: skip
    n = listing([f"{p.n_models} models and {p.n_clusters} clusters on {escape(b.title)}" for b, p in found])
    caption = (
        "Could the shifts have been known from the other models? Share: the part of the shifts' mean square that is "
        "one model's own, sampling noise taken off. $R^2$: each model predicted from the others, 0 as good as "
        f"predicting no change. Intervals are {level:g}\\,\\%. {n}."
    )
    yield longtable("predictability", caption, ["benchmark", "share", "interval", "$R^2$", "interval", "verdict"],
                    "lrlrll", predicted)  # fmt: skip


def _of_benchmark(study: Study, b: BenchmarkResult, k: int, level: float) -> Iterator[str]:
    where = f"{escape(b.title)} ({escape(b.unit)}; {_n(b)})"
    sign = f" Direction: {escape(b.direction)}." if b.direction else " The benchmark defines no direction."
    shifts = [[*_arm(study, s), *_estimate(s.estimate), _number(s.margin), escape(s.verdict)] for s in b.shifts]
    yield longtable(
        f"shifts-{k}", f"Shifts from the baseline on {where}, item-paired, with {level:g}\\,\\% intervals robust to "
        f"clusters; $p$ adjusted for all cells.{sign}",
        ["model", "accelerator", "shift", "interval", "$p$", "margin", "verdict"], "llrlrrl", shifts,
    )  # fmt: skip
    yield longtable(
        f"differences-{k}", f"Difference-in-differences on {where}: a cell's shift minus the mean shift of the other "
        f"models under the same accelerator, with {level:g}\\,\\% intervals; $p$ adjusted for all cells.",
        ["model", "accelerator", "difference", "interval", "$p$"], "llrlr",
        [[*_arm(study, d), *_estimate(d.estimate)] for d in b.differences],
    )  # fmt: skip
    flips = [
        [*_arm(study, f), _percent(f.rate), interval(100 * f.rate.ci_low, 100 * f.rate.ci_high), str(f.up), str(f.down),
         _percent(f.net), interval(100 * f.net.ci_low, 100 * f.net.ci_high), p_value(f.net.p_adjusted)]
        for f in b.flips
    ]  # fmt: skip
    yield longtable(
        f"flips-{k}", f"Answers that changed on {where}, in \\% of items with {level:g}\\,\\% intervals; up: the "
        "score rose; net: up minus down, its $p$ adjusted for all arms.",
        ["model", "accelerator", r"flipped", "interval", "up", "down", "net", "interval", "$p$"], "llrlrrrlr", flips,
    )  # fmt: skip
    power = [
        [*_arm(study, p), _number(p.detectable), _number(p.margin), _number(p.at_margin)]
        for p in b.power
        if p.kind == "shift"
    ]
    wanted = float(study.settings.get("power", 0.8))
    yield longtable(
        f"power-{k}", f"Smallest shift on {where} that is found with power {wanted:g}, beside the margin, and the "
        "power for a shift as large as the margin.",
        ["model", "accelerator", "detectable", "margin", "power at margin"], "llrrr", power,
    )  # fmt: skip


def _cost(table: Table) -> Iterator[str]:
    place = {name: table.columns.index(name) for name in ("model", "accel", *RATIOS, "simulated")}
    known = [c for c in RATIO_HEADS if any(math.isfinite(row[place[c]]) for row in table.rows)]
    rows = {
        (row[place["model"]], row[place["accel"]]): [
            cut(row[place["model"]]), cut(row[place["accel"]]), *(_number(row[place[c]]) for c in known),
            {True: "simulated", False: "real kernel"}.get(row[place["simulated"]], "---"),
        ]
        for row in table.rows
    }  # fmt: skip
    yield longtable(
        "cost", f"What each arm costs, relative to its model's own baseline ({plural(len(rows), 'arm')}, each measured "
        "once on fixed work). Memory below 1 is saved, tokens per second above 1 are faster.",
        ["model", "accelerator", *(RATIO_HEADS[c] for c in known), "computed"], "ll" + "r" * len(known) + "l",
        rows.values() if known else [],
    )  # fmt: skip


def _arm(study: Study, item: Any) -> list[str]:
    return [cut(marked(study, item.model)), cut(item.accel)]


def _estimate(e: Estimate) -> list[str]:
    return [signed(e.value), interval(e.ci_low, e.ci_high), p_value(e.p_adjusted)]


def _number(value: float) -> str:
    return f"${value:.3g}$" if math.isfinite(value) else "---"


def _percent(e: Estimate) -> str:
    return f"${100 * e.value:.3g}$" if math.isfinite(e.value) else "---"


def _n(b: BenchmarkResult) -> str:
    return f"$n={b.n_items}$ items in {b.n_clusters} clusters"


def _comment(text: str) -> str:
    """Untrusted text in a comment: nothing in it may end the line."""
    return " ".join("".join(c if c.isprintable() else "?" for c in text).split())


def _plain(c: str) -> bool:
    return (c.isascii() and c.isprintable()) or ("\u00c0" <= c <= "\u00ff" and c.isalpha())
