"""Every figure of a report by name: what the page draws inline, and what `figures/` holds as svg, png, pdf and csv.

    for figure in of_benchmark(study, study.benchmarks[0]):
        figure.title, figure.svg, figure.text, figure.note, figure.numbers, figure.csv

A figure is a trace (numbers, names, units); both renderers draw that same trace, and `numbers` are its own marks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from analysis.report import svg, traces, traces_across, traces_flips
from analysis.report.cost import cost_figures
from analysis.report.shapes import Trace
from analysis.report.tables import Table
from analysis.study import BenchmarkResult, Study


@dataclass(frozen=True)
class Figure:
    """One figure of a report.

    name : its files' stem, such as "01-interaction": the number is the benchmark's place, 00 for all of them. Names
        of benchmarks come from results files and are no paths. kind : the part after it. trace : what is drawn.
    """

    name: str
    kind: str
    trace: Trace

    @property
    def title(self) -> str:
        """Its heading, the benchmark's title within: text from outside, escape it."""
        return self.trace.title

    @property
    def text(self) -> str:
        """What it shows in a sentence or three, made of its numbers, for who cannot see it; escape it."""
        return self.trace.text

    @property
    def note(self) -> str:
        """How to read it: what bars, bands and marks are, and n; escape it."""
        return self.trace.note

    @cached_property
    def svg(self) -> str:
        """Inline SVG, everything in it escaped: coloured by the page's style, `data-tip` on every mark.

        Lines of a tip are parted by newlines. The class is "figure", or "figure wide" where the drawing needs more
        room than a column of text: let it scroll sideways.
        """
        return svg.draw(self.trace)

    @cached_property
    def numbers(self) -> Table:
        """Its marks, one a row: names, value, interval, n, unit, whether marked, and what else is known of them."""
        return numbers(self.name, self.trace)

    @property
    def csv(self) -> str:
        """Path of its numbers within the report's folder; the drawings lie beside, as .svg, .png and .pdf."""
        return f"figures/{self.name}.csv"


def all_figures(study: Study) -> list[Figure]:
    """The figures of every benchmark, then those across benchmarks."""
    return [*(figure for b in study.benchmarks for figure in of_benchmark(study, b)), *across(study)]


def of_benchmark(study: Study, b: BenchmarkResult) -> list[Figure]:
    """Those of one benchmark; a kind that its results say nothing about is left out.

    Kinds, in order: interaction, forest, shifts, differences, categories, flips (by margin), directions, groups,
    predictions, power, cost-memory, cost-latency, cost-perplexity.
    """
    place = next(k for k, other in enumerate(study.benchmarks, 1) if other is b)
    found: list[tuple[str, Trace | None]] = [("interaction", traces.interaction(study, b))]
    if b.shifts:
        found += [("forest", traces.forest(study, b)), ("shifts", traces.shift_heat(study, b))]
    if b.differences:
        found.append(("differences", traces.difference_heat(study, b)))
    found.append(("categories", traces.category_heat(study, b, "category")))
    if b.flip_profile:
        found.append(("flips", traces_flips.flip_heat(study, b)))
    found += [
        ("directions", traces_flips.flip_directions(study, b)),
        ("groups", traces_flips.group_heat(study, b)),
        ("predictions", traces_across.predictions(study, b)),
        ("power", traces_across.power_forest(study, b)),
        *((f"cost-{name}", trace) for name, trace in cost_figures(study, b)),
    ]
    return [Figure(f"{place:02d}-{kind}", kind, trace) for kind, trace in found if trace is not None and trace.marks]


def across(study: Study) -> list[Figure]:
    """Those over all benchmarks: transfer."""
    trace = traces_across.transfer_heat(study)
    return [Figure("00-transfer", "transfer", trace)] if trace is not None else []


def numbers(name: str, trace: Trace) -> Table:
    """The marks of a trace as a table."""
    names = _columns(mark.names for mark in trace.marks)
    more = _columns(mark.more for mark in trace.marks)
    columns = (*names, "value", "ci_low", "ci_high", "unit", "n_items", "n_clusters", "marked", *more, "reason")
    rows: list[tuple[Any, ...]] = [
        (
            *(mark.names.get(n, "") for n in names), mark.value, mark.low, mark.high, mark.unit,
            _or_empty(mark.n_items), _or_empty(mark.n_clusters), mark.strong,
            *(_or_empty(mark.more.get(n)) for n in more), mark.reason,
        )
        for mark in trace.marks
    ]  # fmt: skip
    return Table(name, trace.title, columns, rows, trace.note)


def _columns(named: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(key for names in named for key in names))


def _or_empty(value: Any) -> Any:
    return "" if value is None else value
