"""python -m analysis power: how large must a study be to find a given effect, planned from a pilot?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from analysis.arguments import Request, names, number_of, parse_words
from analysis.clusters import Floats
from analysis.contrasts import BASELINE, ArmKey
from analysis.errors import AnalysisError
from analysis.estimates import difference_in_differences
from analysis.frame import Frame, make_frames
from analysis.load import load
from analysis.pairing import chosen
from analysis.power import Components, Plan, components, detectable, plan
from analysis.report.curve import curve_svg, curve_text
from analysis.verbs.newest import results_of
from analysis.verbs.tables import render, write_text
from analysis.verdict import equivalence_margin
from analysis.words import plural

RUNS_ALONE = True
OWN = ("results", "effect", "of", "benchmarks", "models", "cells", "svg")
OF = ("shift", "difference")
HELP = """\
How many items, clusters and repeats does a study need to find an effect? Planned from a pilot.

  python -m analysis power [results=PILOT] [effect=SIZE] [of=shift] [svg=FILE] ...

results     the pilot: a sweep's folder, a results folder or a table (default: the newest sweep below outputs/sweeps)
effect      mean that is to be found, in the unit of the score (default: each cell's equivalence margin)
of          shift (a cell minus its baseline) or difference (its shift minus the other models' under the same
            accelerator, which is what an interaction is made of)
benchmarks, models, cells   names, to plan from some of the pilot (cells: accelerators)
svg         file for the curve of the cell that needs most

power=0.8 and alpha=0.05 are settings. With many cells, alpha divided by their number is a safe choice.
Exit codes: 0 done, 2 wrong request, 3 the pilot says nothing about some cell.
"""
HEAD = ("benchmark", "model", "accel", "effect", "pilot", "icc", "detectable", "clusters", "items", "repeats")


@dataclass(frozen=True)
class Planned:
    """One cell of the pilot and its plan; `reason` says why there is none."""

    benchmark: str
    arm: ArmKey
    unit: str
    plan: Plan | None = None
    reason: str = ""


def main(args: Sequence[str], stream: TextIO) -> int:
    """Plan from every cell of the pilot, print one table and the curve of the hardest cell; the exit code."""
    request = parse_words(args, OWN)
    if (of := request.own.get("of", "shift")) not in OF:
        raise AnalysisError(f"of={of}: choose one of {', '.join(OF)}")
    effect = number_of(request.own, "effect")
    if effect == 0:
        raise AnalysisError("effect=0: give the size of the mean that is to be found")
    results, said = results_of(request.own, needed=" (the pilot: a sweep's folder or a table)")
    loaded = load(results, request.inputs)
    frames = chosen(make_frames(loaded.cells), names(request.own.get("benchmarks", "")))
    planned = [p for frame in frames for p in plans(frame, request, of=of, effect=effect)]
    if not planned:
        raise AnalysisError("no cell of the pilot has a baseline and was asked for: see models= and cells=")
    for line in said:
        print(f"note: {line}", file=stream)
    print(render(HEAD, [_row(p, request.settings.alpha, request.settings.power) for p in planned]), file=stream)
    _explain(planned, request, stream)
    return 3 if any(p.plan is None for p in planned) else 0


def plans(frame: Frame, request: Request, *, of: str, effect: float | None) -> list[Planned]:
    """A plan for every accelerated cell of `frame` that was asked for."""
    settings, asked = request.settings, request.own
    models, cells = names(asked.get("models", "")), names(asked.get("cells", ""))
    out = []
    for model, accel in frame.arms:
        placebo = frame.cells[model, accel][0].kind != "accelerated"
        if placebo or (models and model not in models) or (cells and accel not in cells):
            continue
        place = (frame.benchmark, (model, accel), str(frame.meta["score_unit"]))
        if (model, BASELINE) not in frame.cells:
            out.append(Planned(*place, reason="no baseline"))
            continue
        pilot = _components(frame, (model, accel), of)
        base = frame.score(model, BASELINE)
        sd = float(np.nanstd(base, ddof=1)) if (~np.isnan(base)).sum() > 1 else math.nan
        target = effect or equivalence_margin(frame.benchmark, str(frame.meta["score_kind"]), sd, settings)
        if pilot is None:
            out.append(Planned(*place, reason="fewer than 2 clusters with answers in all cells of the contrast"))
        elif not target > 0 and not target < 0:
            out.append(Planned(*place, reason="the margin is 0: give effect="))
        elif pilot.between + pilot.within == 0:
            out.append(Planned(*place, reason="every item of the pilot moved alike: no error to plan with"))
        else:
            out.append(Planned(*place, plan(pilot, target=target, alpha=settings.alpha, power=settings.power)))
    return out


def _components(frame: Frame, arm: ArmKey, of: str) -> Components | None:
    values = frame.shift(*arm)
    if of == "difference":
        same = [a for a in frame.arms if a[1] == arm[1] and (a[0], BASELINE) in frame.cells]
        columns: Floats = np.column_stack([frame.shift(*a) for a in same])
        values = difference_in_differences(columns)[:, same.index(arm)]
    sds = [frame.repeat_sd[a] for a in (arm, (arm[0], BASELINE))]
    cells = frame.cells[arm]
    repeats = len(cells) * int(cells[0].content["decoding"].get("repeats") or 1)
    known = repeats > 1 and of == "shift" and all(math.isfinite(sd) for sd in sds)
    variance = sum(sd**2 for sd in sds) if known else math.nan
    return components(values, frame.clusters, repeat_variance=variance, repeats=repeats)


def _row(p: Planned, alpha: float, power: float) -> list[str]:
    if p.plan is None:
        return [p.benchmark, *p.arm, p.reason, "", "", "", "", "", ""]
    c = p.plan.components
    se = c.se(c.n_clusters, c.items_per_cluster)
    now = detectable(se=se, df=c.n_clusters - 1, alpha=alpha, power=power)
    needed = [str(x) if x is not None else "never" for x in (p.plan.n_clusters, p.plan.items_per_cluster)]
    repeats = "not known" if math.isnan(c.repeat) else str(p.plan.repeats or "never")
    pilot = f"{plural(c.n_clusters, 'cluster')} of {c.items_per_cluster:.3g}"
    return [p.benchmark, *p.arm, f"{p.plan.target:.3g} {p.unit}", pilot, f"{c.icc:.2f}", f"{now:.3g}", *needed, repeats]


def _explain(planned: Sequence[Planned], request: Request, stream: TextIO) -> None:
    known = [p for p in planned if p.plan is not None]
    if not known:
        return
    print(
        "detectable: by a study as large as the pilot. clusters: needed at the pilot's items a cluster; items: a "
        "cluster, at the pilot's clusters (never: clusters differ too much); repeats: likewise.",
        file=stream,
    )
    hardest = max(known, key=lambda p: p.plan.n_clusters or math.inf if p.plan else 0)
    assert hardest.plan is not None
    title = (
        f"{hardest.benchmark}: {hardest.arm[0]} under {hardest.arm[1]}, effect {hardest.plan.target:.3g} {hardest.unit}"
    )
    print(f"\n{title}\n{curve_text(hardest.plan)}", file=stream)
    if request.own.get("svg"):
        write_text(Path(request.own["svg"]), curve_svg(hardest.plan, title, hardest.unit), key="svg")
        print(f"curve: {request.own['svg']}", file=stream)
