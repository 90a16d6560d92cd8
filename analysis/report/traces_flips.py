"""Figures of the answers that flipped: by how sure the baseline was, in which direction, in which group."""

from __future__ import annotations

import math
from dataclasses import replace

from analysis.flips import FlipTest
from analysis.report.palette import Look
from analysis.report.shapes import Heat, Mark, Opposed, Pair
from analysis.report.traces import (
    alpha_of,
    arm_grid,
    arm_label,
    estimate_mark,
    furthest,
    left_out,
    level,
    model_looks,
)
from analysis.study import BenchmarkResult, Study
from analysis.words import plural

UNIT = "% of items"
MOST_ARMS = 24


def flip_heat(study: Study, b: BenchmarkResult) -> Heat:
    """Share of flipped answers by decile of the baseline's |score|, an arm a row, placebos left out."""
    placebos = {(s.model, s.accel) for s in b.shifts if s.verdict == "placebo"}
    cells = {}
    for f in sorted((f for f in b.flip_profile if (f.model, f.accel) not in placebos), key=lambda f: f.bin):
        names = {"model": f.model, "accel": f.accel, "bin": str(f.bin)}
        more = {"n_flipped": f.n_flipped, "score_from": f.low, "score_to": f.high}
        mark = estimate_mark(f.rate, names, UNIT, study, scale=100, more=more)
        label = f"{mark.value:.0f}" if math.isfinite(mark.value) else "—"
        cells[(f.model, f.accel), str(f.bin)] = replace(mark, label=label)
    ordered = {key: cells[key] for key in sorted(cells, key=lambda key: _order(study, key[0]))}
    return arm_grid(
        study, f"{b.title}: flipped answers by how sure the baseline was", UNIT, ordered, ranked=False,
        columns_are="tenth of the items, the baseline least sure of 1",
        note="Each cell is the share of a tenth of the items, by |baseline score|, whose answer changed.",
        most=MOST_ARMS,
    )  # fmt: skip


def flip_directions(study: Study, b: BenchmarkResult) -> Opposed | None:
    """Items that flipped towards the stereotype and away from it, with the net; None without an arm whose flips can be
    counted.
    """
    kept, others = furthest(b.flips, lambda f: f.rate.value, MOST_ARMS)
    known = [f for f in kept if math.isfinite(f.rate.value)]
    if not known:
        return None
    styles, alpha = model_looks(study, b.flips), alpha_of(study)
    rows = tuple(_pair(study, f, arm_label(study, f.model, f.accel), styles[f.model], alpha) for f in kept)
    sides = ("away from the stereotype", "towards the stereotype") if b.direction else ("score fell", "score rose")
    most = max(known, key=lambda f: f.rate.value)
    masked = [f"{f.model} under {f.accel}" for f in kept if f.masked]
    text = (
        f"Most flips: {most.model} under {most.accel}, {100 * most.rate.value:.3g} % of {plural(most.n, 'item')}, "
        f"{most.up} {sides[1]} and {most.down} {sides[0]}. "
        + (f"Masked, at least half of the flips cancelling: {', '.join(masked[:6])}." if masked else "None is masked.")
    )
    note = (
        f"Bars: items whose answer changed. Mark: net (right minus left) with its {level(study):g} % interval, robust "
        "to clusters; a net near 0 beside long bars is bias that an average hides."
        + f" n = {plural(max(f.n for f in kept), 'item')} a row, or fewer.{left_out(others, 'arms', 'flipped least')}"
    )
    return Opposed(f"{b.title}: flipped answers by direction", UNIT, text, note, rows, sides)


def group_heat(study: Study, b: BenchmarkResult) -> Heat | None:
    """Net flips of a group minus those of all other items, an arm a row; None with fewer than two groups."""
    alpha = alpha_of(study)
    cells = {
        ((g.model, g.accel), g.group): estimate_mark(
            g.difference, {"model": g.model, "accel": g.accel, "group": g.group}, "points", study, scale=100,
            strong=g.difference.p_adjusted <= alpha, more={"n": g.n, "up": g.up, "down": g.down},
        )
        for g in b.flip_groups
    }  # fmt: skip
    if len({group for _, group in cells}) < 2:
        return None
    return arm_grid(
        study, f"{b.title}: net flips of a group minus those of all other items", "points", cells, columns_are="group",
        strong=f"adjusted p at most {alpha:g}, over every arm and group",
        note="Net flips: % of items that flipped up minus % that flipped down.",
    )  # fmt: skip


def _pair(study: Study, f: FlipTest, label: str, look: Look, alpha: float) -> Pair:
    names = {"model": f.model, "accel": f.accel}

    def side(direction: str, count: int) -> Mark:
        value = 100 * count / f.n if f.n else math.nan
        return Mark(names | {"direction": direction}, value, UNIT, n_items=f.n, n_clusters=f.net.n_clusters,
                    alpha=alpha, more={"flips": count}, label=str(count))  # fmt: skip

    beside = {"masked": f.masked, "p_mcnemar": f.p_mcnemar}
    net = estimate_mark(f.net, names | {"direction": "net"}, UNIT, study, scale=100,
                        strong=f.net.p_adjusted <= alpha, more=beside)  # fmt: skip
    shown = "not known" if not math.isfinite(net.value) else f"{net.value:+.2g}" if net.value else "0"
    said = f"net {shown}{', masked' if f.masked else ''}"
    return Pair(label, look, side("up", f.up), side("down", f.down), replace(net, label=said))


def _order(study: Study, arm: tuple[str, str]) -> tuple[int, int]:
    accels, models = study.accels, list(study.models)
    return (accels.index(arm[1]) if arm[1] in accels else len(accels), models.index(arm[0]) if arm[0] in models else 0)
