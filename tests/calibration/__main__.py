"""python -m tests.calibration [studies] [block]: simulate, print the tables, write them into docs/statistics.md.

Between the markers of that file, so that no figure in it is typed by hand. `make calibrate` runs it. A block, "tests"
or "parts", is rewritten alone where it is named.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: processes share the cores

from tests.calibration import parts, power
from tests.calibration.designs import ANSWERS, MISSING, NULLS, POWER, REFUSING, Design
from tests.calibration.designs import PARTS as PART_DESIGNS
from tests.calibration.measure import ALPHA, FLIPS, Rate, of_estimates, of_flips, of_predictability, of_tests, rates

DOCS = Path(__file__).parents[2] / "docs" / "statistics.md"
BEGIN, END = "<!-- calibration: begin (written by python -m tests.calibration) -->", "<!-- calibration: end -->"
PARTS_BEGIN, PARTS_END = (m.replace("calibration:", "calibration of parts:") for m in (BEGIN, END))
STUDIES = 2000
FEW = 400  # of the slow ones
TESTS = (
    "combined",
    "sum",
    "Hotelling",
    "largest t",
    "any false difference",
    "ANOVA on items",
    "ANOVA on cluster means",
)
ESTIMATES = ("coverage of shifts", "coverage of differences", "level of the shift test", "false equivalence")
NOMINAL = dict(zip(ESTIMATES, (0.95, 0.95, ALPHA, ALPHA), strict=True))
FLIP_TESTS = ("cluster t of the net flips", "cluster sign flip", "exact McNemar")
FORESIGHT = (
    "coverage of the share's interval", "coverage of the new model's interval",
    "share, noise removed", "naive share", "true share",
)  # fmt: skip
WITH_MISSING = (*TESTS[:5], "listwise")
MEASURES = {"tests": of_tests, "estimates": of_estimates, "flips": of_flips, "foresight": of_predictability}
Rows = Mapping[str, Mapping[str, Rate]]


@dataclass(frozen=True)
class Part:
    """One table of the second block: its title, what is counted, on which designs, with which nominal values."""

    title: str
    measure: Callable[[Design, int], Mapping[str, float]]
    designs: Sequence[Design]
    levels: tuple[str, ...]  # nominal alpha
    coverages: tuple[str, ...] = ()  # nominal 1 - alpha
    beside: tuple[str, ...] = ()  # without a nominal value

    @property
    def nominal(self) -> dict[str, float]:
        """Column -> nominal value."""
        return {**dict.fromkeys(self.coverages, 1 - ALPHA), **dict.fromkeys(self.levels, ALPHA)}


AGGREGATE = ("any false shift", "interaction")
PARTS = [
    Part(
        "**Published aggregates: max - min over four groups that are far apart, no true shift, by jackknife "
        "pseudo-values** (coverage nominal 95, the others 5; a p is withheld where two groups tie for an extreme).",
        parts.of_aggregates, PART_DESIGNS, AGGREGATE, ESTIMATES[:2], ("p withheld",),
    ),
    Part(
        "**The same where the groups do not differ at all**, so that the intervals cannot be trusted: no p but of "
        "the shifts and studies in which no tie was seen.",
        parts.of_ties, PART_DESIGNS, AGGREGATE, ESTIMATES[:2], ("p withheld",),
    ),
    Part(
        "**Log-odds: rates additive in log-odds** (coverage nominal 95).",
        parts.of_logits, ANSWERS, ("interaction on log-odds",), ("coverage of log odds ratios",),
    ),
    Part(
        "**Simple effects where no accelerator and no model does anything: % rejected (nominal 5).**",
        parts.of_simple_effects, PART_DESIGNS, parts.SIMPLE, (), parts.CLASSIC,
    ),
    Part(
        "**Refusals: accelerators add as much to the refused share of every model** (coverage nominal 95).",
        parts.of_refusals, REFUSING,
        ("interaction of refusals", "level of the refusal shift"), ("coverage of refusal shifts",),
    ),
]  # fmt: skip


def main(studies: int = STUDIES, block: str = "", docs: Path = DOCS) -> int:
    """Run everything, print and write the tables; 1 if a default is off its nominal level on the unsafe side."""
    off = [] if block == "parts" else of_tests_block(studies, docs)
    off += [] if block == "tests" else of_parts_block(studies, docs)
    for line in off:
        print(f"OFF: {line}", file=sys.stderr)
    return 1 if off else 0


def of_parts_block(studies: int, docs: Path) -> list[str]:
    """Run and write the tables of the parts of a report; what is off on the unsafe side."""
    jobs = [(k, d, studies) for k, part in enumerate(PARTS) for d in part.designs]
    with ProcessPoolExecutor(max_workers=2) as pool:
        done = dict(zip([(k, d.name) for k, d, _ in jobs], pool.map(_run_part, jobs), strict=True))
    texts = [f"{studies:,} simulated studies a row, as above."]
    off: list[str] = []
    for k, part in enumerate(PARTS):
        rows = {d.name: done[k, d.name] for d in part.designs}
        texts += [part.title, table(rows, (*part.coverages, *part.levels, *part.beside), nominal=part.nominal)]
        off += unsafe(rows, part.levels, ALPHA, high_is_bad=True)
        if part.measure is not parts.of_ties:  # those are known to be off, and every p of theirs is withheld
            off += unsafe(rows, part.coverages, 1 - ALPHA, high_is_bad=False)
    print("\n\n".join(texts))
    write(docs, "\n\n".join(texts), PARTS_BEGIN, PARTS_END)
    return off


def _run_part(job: tuple[int, Design, int]) -> dict[str, Rate]:
    k, design, studies = job
    return rates(design, PARTS[k].measure, range(studies))


def of_tests_block(studies: int, docs: Path) -> list[str]:
    """Run and write the tables of tests, intervals, flips, predictability and power; what is off."""
    few = min(studies, FEW)
    jobs = [("tests", d, studies) for d in (*NULLS, *MISSING, *POWER)]
    jobs += [("estimates", d, studies) for d in NULLS]
    jobs += [("flips", d, studies) for d in NULLS if d.law == "normal" and d.n_models == 3 and not d.hetero]
    jobs += [("foresight", d, few) for d in power.FORESIGHT]
    with ProcessPoolExecutor(max_workers=2) as pool:
        found = list(pool.map(_run, jobs, chunksize=1))
        curve = list(pool.map(power.simulated, power.CURVE, [studies] * len(power.CURVE)))
    done = {(kind, d.name): r for (kind, d, _), r in zip(jobs, found, strict=True)}

    def part(kind: str, designs: Sequence[Design]) -> Rows:
        return {d.name: done[kind, d.name] for d in designs if (kind, d.name) in done}

    text = "\n\n".join(
        [
            f"{studies:,} simulated studies a row ({few} for predictability), 3 models x 5 accelerators x about 300 "
            f"items unless a row says otherwise, nominal level {ALPHA:.0%}, {FLIPS} flips a study (the level is exact "
            "with any number). Bold: more than 3 Monte Carlo errors off its nominal value.",
            "**Interaction tests under a true null: % rejected (nominal 5).**",
            table(part("tests", NULLS), TESTS, nominal={n: ALPHA for n in TESTS}),
            "**The same with missing answers** (default: item fixed effects; listwise: items complete in all cells).",
            table(part("tests", MISSING), WITH_MISSING, nominal={n: ALPHA for n in WITH_MISSING}),
            "**Intervals and claims about single cells** (coverage nominal 95, the others 5; false equivalence: the "
            "true shift lies exactly at the margin).",
            table(part("estimates", NULLS), ESTIMATES, nominal=NOMINAL),
            "**Flips as likely in one direction as in the other: % rejected (nominal 5).**",
            table(part("flips", NULLS), FLIP_TESTS, nominal={n: ALPHA for n in FLIP_TESTS}),
            "**Predictability** (nominal 95 for the intervals).",
            table(part("foresight", power.FORESIGHT), FORESIGHT, nominal={n: 0.95 for n in FORESIGHT[:2]}),
            "**Power of the interaction tests: % found.**",
            table(part("tests", POWER), TESTS, nominal={}),
            "**Power of the shift test: what `power` promises and what simulated studies find.**",
            power.table(curve),
        ]
    )  # fmt: skip
    print(text)
    write(docs, text)
    off = unsafe({**part("tests", NULLS)}, ("combined", "any false difference"), ALPHA, high_is_bad=True)
    off += unsafe(part("estimates", NULLS), ESTIMATES[:2], 0.95, high_is_bad=False)
    off += unsafe(part("estimates", NULLS), ESTIMATES[2:], ALPHA, high_is_bad=True)
    return off


def table(rows: Rows, columns: Sequence[str], *, nominal: Mapping[str, float]) -> str:
    """A Markdown table in %, figures off their nominal value in bold, what was not measured as a dash."""
    columns = [c for c in columns if any(c in row for row in rows.values())]
    lines = ["| data | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(_cell(row.get(c), nominal.get(c, math.nan)) for c in columns) + " |")
    return "\n".join(lines)


def unsafe(rows: Rows, columns: Sequence[str], nominal: float, *, high_is_bad: bool) -> list[str]:
    """Figures that are off on the side that claims too much."""
    return [
        f"{name}: {column} {100 * row[column].value:.1f}"
        for name, row in rows.items()
        for column in columns
        if column in row and row[column].off(nominal) and (row[column].value > nominal) == high_is_bad
    ]


def write(docs: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the markers of `docs`; ValueError where they are not there."""
    old = docs.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        raise ValueError(f"{docs}: has no calibration markers")
    head, rest = old.split(begin)
    docs.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


def _run(job: tuple[str, Design, int]) -> dict[str, Rate]:
    kind, design, studies = job
    return rates(design, MEASURES[kind], range(studies))


def _cell(rate: Rate | None, nominal: float) -> str:
    if rate is None:
        return "-"
    text = f"{100 * rate.value:.1f}"
    return f"**{text}**" if rate.off(nominal) else text


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:2]), *sys.argv[2:3]))
