"""python -m tests.calibration [studies]: simulate, print the tables, write them into docs/statistics.md.

Between the markers of that file, so that no figure in it is typed by hand. `make calibrate` runs it.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: processes share the cores

from tests.calibration import power
from tests.calibration.designs import MISSING, NULLS, POWER, Design
from tests.calibration.measure import ALPHA, FLIPS, Rate, of_estimates, of_flips, of_predictability, of_tests, rates

DOCS = Path(__file__).parents[2] / "docs" / "statistics.md"
BEGIN, END = "<!-- calibration: begin (written by python -m tests.calibration) -->", "<!-- calibration: end -->"
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


def main(studies: int = STUDIES, docs: Path = DOCS) -> int:
    """Run everything, print and write the tables; 1 if a default is off its nominal level on the unsafe side."""
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
    for line in off:
        print(f"OFF: {line}", file=sys.stderr)
    return 1 if off else 0


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


def write(docs: Path, text: str) -> None:
    """Replace what stands between the markers of `docs`; ValueError where they are not there."""
    old = docs.read_text(encoding="utf-8")
    if BEGIN not in old or END not in old:
        raise ValueError(f"{docs}: has no calibration markers")
    head, rest = old.split(BEGIN)
    docs.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def _run(job: tuple[str, Design, int]) -> dict[str, Rate]:
    kind, design, studies = job
    return rates(design, MEASURES[kind], range(studies))


def _cell(rate: Rate | None, nominal: float) -> str:
    if rate is None:
        return "-"
    text = f"{100 * rate.value:.1f}"
    return f"**{text}**" if rate.off(nominal) else text


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:2])))
