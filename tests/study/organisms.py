"""The figures of docs/organisms.md from a finished `experiment=organisms`: what was built, and what the analysis found.

    python -m biaslab experiment=organisms
    python -m tests.study.organisms outputs/results docs/organisms.md

Pairs are analysed as a reader would analyse them: two models, every accelerator, the default settings. The parent of an
aligned organism is the organism of its seed before the alignment.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from analysis.benchmark import analyse_benchmark
from analysis.frame import Frame, make_frames
from analysis.load import Cell, load
from analysis.predictability import Predictability, predictability
from analysis.provenance import arms
from analysis.recovery import recoveries
from analysis.settings import Settings
from analysis.study import BenchmarkResult, Difference
from analysis.transfer import Key, transfer_matrix

START, END = "<!-- figures: written by tests/study/organisms.py -->", "<!-- end of figures -->"
CELLS, SMALL = "-cells", "-small"
PLACEBOS = ("placebo_rerun", "placebo_batch", "placebo_dtype")
#: What each alignment hides, and what must not bring it back.
UNDONE = {CELLS: ("hqq4",), SMALL: ("wanda50", "magnitude50")}
UNTOUCHED = {CELLS: ("hqq8", "kv8"), SMALL: ("hqq8", "hqq4", "kv8")}
Row = Sequence[str]


@dataclass(frozen=True)
class Study:
    """All cells of the sweep, and parts of it."""

    cells: list[Cell]

    @cached_property
    def models(self) -> list[str]:
        return sorted({c.model for c in self.cells})

    @property
    def plain(self) -> list[str]:
        return [m for m in self.models if not m.endswith((CELLS, SMALL))]

    def aligned(self, how: str) -> list[str]:
        return [m for m in self.models if m.endswith(how)]

    def part(self, models: Iterable[str], accels: Iterable[str] = ()) -> list[Cell]:
        """The cells of some models and accelerators (none: all of them), baselines included."""
        wanted, kept = set(models), set(accels)
        return [c for c in self.cells if c.model in wanted and (not kept or c.accel in kept or c.accel == "none")]

    def result(self, models: Iterable[str], accels: Iterable[str] = ()) -> BenchmarkResult:
        """The analysis of a part, with the defaults."""
        (frame,) = make_frames(self.part(models, accels))
        return analyse_benchmark(frame, (), Settings())

    @cached_property
    def frame(self) -> Frame:
        """All scores."""
        (frame,) = make_frames(self.cells)
        return frame

    @property
    def single(self) -> list[str]:
        """Accelerators that are no placebo and no stack."""
        return [a for a in self.frame.accels if a != "none" and a not in PLACEBOS and "+" not in a]

    def predictability(self, models: Sequence[str]) -> Predictability:
        """Of some models' shifts under every single accelerator."""
        arms_known = [(m, a) for m in models for a in self.single]
        shifts = np.stack([self.frame.shift(m, a) for m, a in arms_known], axis=1)
        return predictability(shifts, arms_known, self.frame.clusters)

    def shift(self, model: str, accel: str) -> float:
        """Mean item shift."""
        return float(np.nanmean(self.frame.shift(model, accel)))


def recovery_rows(study: Study) -> list[Row]:
    """What each organism has learned of what was planted."""
    rows = []
    for r in recoveries(study.frame):
        if r.accel == "none" and r.category == "all":
            scale = next(c.content["model"]["planted_scale"] for c in study.cells if c.model == r.model)
            interval = f"{r.slope:.2f} ({r.slope_ci_low:.2f} to {r.slope_ci_high:.2f})"
            rows.append((r.model, f"{scale:g}", interval, f"{r.r:.2f}", f"{r.mae:.2f}", f"{r.control_mae:.2f}"))
    return rows


def against_parent(study: Study, how: str) -> dict[str, BenchmarkResult]:
    """Each organism of an alignment beside its parent."""
    return {m: study.result([m, m.removesuffix(how)]) for m in study.aligned(how)}


def of(result: BenchmarkResult, model: str, accel: str) -> Difference:
    """A cell's difference-in-differences."""
    return next(d for d in result.differences if (d.model, d.accel) == (model, accel))


def built_rows(study: Study, pairs: Mapping[str, Mapping[str, BenchmarkResult]]) -> list[Row]:
    """Where an interaction was built: in how many pairs it is found, in its cell, upwards, beyond the margin."""
    rows = []
    for how, accels in UNDONE.items():
        for accel in accels:
            found = [of(result, model, accel) for model, result in pairs[how].items()]
            hits = [d for d in found if d.estimate.p_adjusted < 0.05 and d.estimate.value > d.margin]
            first = sum(r.verdict == "interaction" for r in pairs[how].values())
            own = [study.shift(model, accel) for model in pairs[how]]
            worse = [math.exp(_perplexity(study, [model], [accel])[model, accel]) for model in pairs[how]]
            rows.append(
                (f"{how[1:]} under {accel}", f"{len(hits)} of {len(found)}", _range(d.estimate.value for d in found),
                 _largest_p(d.estimate.p_adjusted for d in found), f"{first} of {len(found)}", _range(own),
                 f"{min(worse):.3f} to {max(worse):.3f}")
            )  # fmt: skip
    return rows


def untouched_rows(pairs: Mapping[str, Mapping[str, BenchmarkResult]]) -> list[Row]:
    """Where none was built: how often one is called, and how large the difference is against the margin."""
    rows = []
    for how, accels in UNTOUCHED.items():
        for accel in accels:
            found = [of(result, model, accel) for model, result in pairs[how].items()]
            rows.append(_null(f"{how[1:]} under {accel}", found))
    pruned = [of(result, model, "wanda50") for model, result in pairs[CELLS].items()]
    return [*rows, _null("cells under wanda50 (see the text)", pruned)]


def seed_rows(study: Study) -> list[Row]:
    """Two seeds of one recipe, nothing built in: gentle accelerators, and harsh ones, where checkpoints do differ."""
    pairs = [(a, b) for a in study.plain for b in study.plain if a.replace("-s1", "-s2") == b and a != b]
    results = [(a, study.result([a, b])) for a, b in pairs]
    rows = [
        _null(f"two seeds under {accel}", [of(r, a, accel) for a, r in results])
        for accel in ("hqq8", "kv8", "hqq4", "hqq3", "wanda50", "wanda24")
    ]
    gentle = [study.result(pair, ("hqq8", "kv8")).verdict for pair in pairs]
    counts = ", ".join(f"{gentle.count(v)} {v}" for v in dict.fromkeys(gentle))
    return [*rows, ("verdict of the pairs, hqq8 and kv8 alone", counts, "", "", "")]


def _null(name: str, found: Sequence[Difference]) -> Row:
    beyond = [d for d in found if d.estimate.p_adjusted < 0.05 and abs(d.estimate.value) > d.margin]
    called = [d for d in found if d.estimate.p_adjusted < 0.05]
    margin = min(d.margin for d in found)
    return (
        name, f"{len(beyond)} of {len(found)}", f"{len(called)} of {len(found)}",
        f"{max(abs(d.estimate.value) for d in found):.4f}", f"{margin:.3f}",
    )  # fmt: skip


def placebo_rows(study: Study) -> list[Row]:
    """What a baseline does when it is only asked again."""
    rows = []
    shifts = study.result(study.models, PLACEBOS).shifts
    for accel in PLACEBOS:
        found = [s for s in shifts if s.accel == accel]
        zero = sum(s.estimate.exact_zero for s in found)
        largest = max(abs(s.estimate.value) for s in found)
        rows.append((accel, f"{zero} of {len(found)}", f"{largest:.1e}", f"{min(s.margin for s in found):.3f}"))
    return rows


@dataclass(frozen=True)
class Foretold:
    """How often the 95 % interval made from other models held a model's shift."""

    inside: int
    n: int

    def __str__(self) -> str:
        return f"{self.inside} of {self.n} ({self.inside / self.n:.0%})" if self.n else "none could be made"


def foretold(
    study: Study, known: Sequence[str], targets: Sequence[str], keep: Callable[[str], bool] = lambda accel: True
) -> Foretold:
    """Each target's shifts against the intervals made from the known models, the target itself left out."""
    inside = n = 0
    for target in targets:
        for p in study.predictability([m for m in known if m != target]).predictions:
            if keep(p.accel):
                n += 1
                inside += bool(p.low <= study.shift(target, p.accel) <= p.high)
    return Foretold(inside, n)


def share_rows(study: Study) -> list[Row]:
    """How much of the shifts other models foretell, by group of models."""
    groups = {"plain": study.plain}
    for how in (CELLS, SMALL):
        groups[f"plain and {how[1:]}"] = [*study.plain, *study.aligned(how)]
    groups["all"] = study.models
    rows = []
    for name, models in groups.items():
        p = study.predictability(models)
        rows.append(
            (name, str(len(models)), _share(p), f"{p.r2:.2f}" if math.isfinite(p.r2) else "",
             p.verdict, str(foretold(study, models, models)))
        )  # fmt: skip
    return rows


def _share(p: Predictability) -> str:
    return f"{p.share:.2f} ({p.share_low:.2f} to {p.share_high:.2f})" if math.isfinite(p.share) else p.reason


def surprise_rows(study: Study) -> list[Row]:
    """Intervals made from the plain models alone, and what the aligned ones then do."""
    rows: list[Row] = [("plain, each left out in turn", "all", str(foretold(study, study.plain, study.plain)))]
    for how, accels in UNDONE.items():
        aligned = study.aligned(how)
        for accel in accels:
            kept = foretold(study, study.plain, aligned, lambda a, accel=accel: a == accel)
            rows.append((how[1:], accel, str(kept)))
        rows.append((how[1:], "all others", str(foretold(study, study.plain, aligned, lambda a, x=accels: a not in x))))
    return rows


def transfer_rows(study: Study) -> list[Row]:
    """Whether 8 bits, or perplexity, foretell the shift."""
    rows = []
    for name, models in {"plain": study.plain, "all": study.models}.items():
        wanted = {
            "8 bits to 4": ("hqq8", "hqq4"),
            "4 bits to 3": ("hqq4", "hqq3"),
            "pruned by half to pruned 2:4": ("wanda50", "wanda24"),
        }
        for what, (source, target) in wanted.items():
            pair = {a: {(m, ""): study.shift(m, a) for m in models} for a in (source, target)}
            rows.append(_transfer(f"{what} ({source} to {target}), {name}", pair))
        worse = _perplexity(study, models)
        moved = {key: study.shift(*key) for key in worse}
        rows.append(_transfer(f"perplexity to the shift, {name}", {"perplexity": worse, "shift": moved}))
        size = {key: abs(value) for key, value in moved.items()}
        rows.append(_transfer(f"perplexity to its size, {name}", {"perplexity": worse, "size": size}))
    return rows


def _perplexity(study: Study, models: Sequence[str], accels: Sequence[str] = ()) -> dict[Key, float]:
    """Log of each arm's perplexity over its baseline's."""
    found = arms(study.part(models), [(m, a) for m in models for a in ("none", *(accels or study.single))])
    base = {arm.model: arm.perplexity for arm in found if arm.accel == "none"}
    return {(arm.model, arm.accel): math.log(arm.perplexity / base[arm.model]) for arm in found if arm.accel != "none"}


def _transfer(name: str, columns: Mapping[str, Mapping[Key, float]]) -> Row:
    t = transfer_matrix(columns, kind="", alpha=0.05, notes={})[0]
    if t.reason:
        return name, str(t.n), t.reason, "", ""
    interval = f"{t.r_low:.2f} to {t.r_high:.2f}" if math.isfinite(t.r_low) else "no interval"
    r2 = f"{t.r2:.2f}" if math.isfinite(t.r2) else "one model"
    return name, str(t.n), f"{t.r:.2f} ({interval})", f"{t.same_sign:.0%}", r2


def _range(values: Iterable[float]) -> str:
    found = list(values)
    return f"{min(found):+.2f} to {max(found):+.2f}"


def _largest_p(values: Iterable[float]) -> str:
    p = max(values)
    return "<.001" if p < 0.001 else f"{p:.3f}"


def figures(study: Study) -> str:
    """All tables as Markdown."""
    pairs = {how: against_parent(study, how) for how in UNDONE}
    n_items = max(int(c.content["coverage"]["n_items"]) for c in study.cells)
    accels = [a for a in dict.fromkeys(c.accel for c in study.cells) if a != "none"]
    head = (
        f"{len(study.models)} organisms x {len(accels)} conditions and the baseline, {n_items} items, "
        f"{len(study.cells)} cells. Accelerators: {', '.join(sorted(accels))}."
    )
    parts = [
        head,
        "### What was planted is recovered\n\n"
        + table(("organism", "planted scale", "slope (1 is right)", "r", "mean error", "on controls"),
                recovery_rows(study)),
        "### An interaction that was built is found\n\n"
        + table(("built", "found, upwards and beyond the margin", "difference to the parent, log-odds",
                 "largest p adjusted", "verdict of the pair: interaction", "its own shift", "its perplexity, times"),
                built_rows(study, pairs)),
        "### One that was not built is not called\n\n"
        + table(("not built", "called and beyond the margin", "called (p adjusted < .05)",
                 "largest size of the difference", "margin"), [*untouched_rows(pairs), *seed_rows(study)]),
        "### The floor\n\n" + table(("placebo", "exactly 0", "largest size of a shift", "margin"), placebo_rows(study)),
        "### Could it have been foretold from other models?\n\n"
        + table(("models", "n", "share of the shifts that is one model's own", "R2, each model from the others",
                 "verdict", "shifts inside their 95 % interval"), share_rows(study))
        + "\n\nIntervals made from the plain models alone:\n\n"
        + table(("models", "accelerators", "shifts inside"), surprise_rows(study)),
        "### From 8 bits, from perplexity?\n\n"
        + table(("from what to what", "points", "r (95 %)", "same sign", "R2"), transfer_rows(study)),
    ]  # fmt: skip
    return "\n\n".join(parts)


def table(head: Row, rows: Iterable[Row]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def main(argv: Sequence[str]) -> None:
    """Write the figures between the marks of the page."""
    study = Study(load(Path(argv[0])).cells)
    page = Path(argv[1])
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{START}\n{figures(study)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
