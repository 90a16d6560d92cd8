"""python -m analysis gate: may a candidate ship in place of its baseline?"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from analysis.arguments import Request, names, number_of, parse_words
from analysis.decision import CANNOT_TELL, FAIL, PASS, Judgement, decided, judge, overall
from analysis.errors import AnalysisError
from analysis.frame import Frame
from analysis.pairing import Compared, chosen, of_one_study, of_two_folders
from analysis.study import Missing
from analysis.verbs.newest import results_of
from analysis.verbs.tables import render, write_text
from analysis.words import plural, signed

EXIT = {PASS: 0, FAIL: 4, CANNOT_TELL: 5}
RUNS_ALONE = True
OWN = ("results", "baseline", "candidate", "margin", "benchmarks", "models", "json")
HELP = """\
May a candidate ship in place of its baseline? Only if its bias is shown to be unchanged.

  python -m analysis gate                                                       the newest sweep below outputs/sweeps
  python -m analysis gate [results=WHERE] candidate=ACCEL [baseline=none] ...   two accelerators of one study
  python -m analysis gate baseline=FOLDER candidate=FOLDER ...                  two results, or logs, or tables

candidate   its label, or the beginning before the bracket; may be left out where results= holds one accelerator
margin      largest |mean shift| that does not matter, in the unit of the score, for every benchmark;
            one alone: margins.by_benchmark.NAME=...; default: the settings margins.* (choose before looking)
benchmarks  names, such as crows_pairs,bbq (default: all that are there)
models      names (default: all that have the candidate)
json        file that the decision is written to, for CI

PASS (exit 0): in every cell the 1 - 2 alpha interval of the mean shift, with cluster-robust errors, lies inside
the margin (two one-sided tests). FAIL (4): in some cell the shift is shown to be beyond it (Holm over cells).
CANNOT TELL (5): neither, or a cell is missing, inert (or a step of its stack is), under the coverage threshold or
degenerate. 2: wrong request.
"""


def main(args: Sequence[str], stream: TextIO) -> int:
    """Decide, print one table, write the JSON; the exit code."""
    request = parse_words(args, OWN)
    own, settings = request.own, request.settings
    margin = number_of(own, "margin")
    if margin is not None and margin <= 0:
        raise AnalysisError(f"margin={own['margin']}: must be above 0")
    compared = _compared(request)
    judgements = _judgements(compared, request, margin)
    verdict = overall(judgements)
    print(render(HEAD, [_row(j) for j in judgements]), file=stream)
    for note in compared.notes:
        print(f"note: {note}", file=stream)
    if margin is None:
        print(
            "note: margins are the defaults; choose them before looking: margin=... in the unit of the score",
            file=stream,
        )
    print(f"{verdict}: {_sentence(verdict, judgements, settings.alpha)}", file=stream)
    if own.get("json"):
        write_text(Path(own["json"]), json.dumps(_report(verdict, judgements, request), indent=1) + "\n", key="json")
    return EXIT[verdict]


def _compared(request: Request) -> Compared:
    own = request.own
    if own.get("baseline") and not own.get("results"):
        if not own.get("candidate"):
            raise AnalysisError("candidate= is needed: a folder beside baseline=FOLDER, or an accelerator of results=")
        baseline, candidate = Path(own["baseline"]), Path(own["candidate"])
        # else two accelerators of the newest sweep, whose labels are no paths
        if baseline.exists() or candidate.exists() or len(baseline.parts) > 1:
            return of_two_folders(baseline, candidate, request.inputs)
    results, said = results_of(own, needed=", or baseline=FOLDER beside candidate=FOLDER")
    label = own.get("baseline") or request.inputs.imports.baseline
    found = of_one_study(results, request.inputs, baseline=label, candidate=own.get("candidate", ""))
    return replace(found, notes=[*said, *found.notes])


def _judgements(compared: Compared, request: Request, margin: float | None) -> list[Judgement]:
    benchmarks, models = names(request.own.get("benchmarks", "")), names(request.own.get("models", ""))
    frames = chosen(compared.frames, [b for b in benchmarks if b not in {m.benchmark for m in compared.missing}])
    frames = [f for f in frames if not benchmarks or f.benchmark in benchmarks]
    for name in models:
        if name not in compared.models:
            raise AnalysisError(f"models={name}: has no candidate here; choose from {', '.join(compared.models)}")
    out = []
    for model in models or compared.models:
        own = [f for f in frames if any(m == model for m, _ in f.cells)]
        gone = [m for m in compared.missing if m.model == model and (not benchmarks or m.benchmark in benchmarks)]
        for frame in own:
            lost = [m for m in gone if _of(m, frame)]
            found = judge(frame, model, compared.candidate, request.settings, margin=margin)
            if lost and (found.estimate is None or found.verdict == PASS):  # the cell, or some of its seeds
                found = replace(found, verdict=CANNOT_TELL, reason=_gone(lost[0]))
            out.append(found)
        rest = {m.benchmark: _gone(m) for m in reversed(gone) if not any(_of(m, f) for f in own)}
        there = {f.benchmark for f in own} | rest.keys()
        rest |= {b: "no cell of this model was measured on it" for b in benchmarks if b not in there}
        out += [Judgement(b, "", model, compared.candidate, CANNOT_TELL, why) for b, why in rest.items()]
    return decided(out, alpha=request.settings.alpha)


def _of(lost: Missing, frame: Frame) -> bool:
    return lost.benchmark == frame.benchmark and lost.decoding in ("", frame.decoding)


def _gone(lost: Missing) -> str:
    return f"the cell of {lost.accel} is {lost.state}: {lost.reason}"


HEAD = ("benchmark", "model", "verdict", "shift", "interval", "margin", "pairs", "clusters", "unpaired", "why")


def _row(j: Judgement) -> list[str]:
    e = j.estimate
    figures = ["", "", "", "", "", ""]
    if e is not None:
        interval = f"{signed(j.ci_low)} to {signed(j.ci_high)}" if math.isfinite(j.ci_low) else "none"
        figures = [
            f"{signed(e.value)} {j.unit}" if math.isfinite(e.value) else "none",
            interval,
            f"{j.margin:.3g}" if math.isfinite(j.margin) else "none",
            str(e.n_items),
            str(e.n_clusters),
            str(j.only_baseline + j.only_candidate),
        ]
    return [j.benchmark, j.model, j.verdict, *figures, j.reason]


def _sentence(verdict: str, found: Sequence[Judgement], alpha: float) -> str:
    n = len(found)
    counts = {v: sum(j.verdict == v for j in found) for v in EXIT}
    if verdict == PASS:
        level = f"{100 * (1 - 2 * alpha):g}%"
        return f"in {'all ' * (n > 1)}{plural(n, 'cell')} the {level} interval of the shift lies inside the margin."
    if verdict == FAIL:
        return f"{counts[FAIL]} of {n} cells shifted beyond the margin; {counts[PASS]} are within it."
    return (
        f"{counts[CANNOT_TELL]} of {n} cells are open; {counts[PASS]} are within the margin, none is shown beyond it."
    )


def _report(verdict: str, found: Sequence[Judgement], request: Request) -> dict[str, Any]:
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {
        "schema_version": 1,
        "verdict": verdict,
        "exit_code": EXIT[verdict],
        "request": dict(request.own),
        "settings": clean(asdict(request.settings)),
        "cells": [clean(asdict(j)) for j in found],
    }
