"""python -m analysis recommend: which measured accelerators leave bias as it was, and what do they cost?"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from analysis import provenance
from analysis.arguments import Request, names, number_of, parse_words
from analysis.contrasts import BASELINE
from analysis.decision import FAIL, PASS, Judgement, decided, judge
from analysis.errors import AnalysisError
from analysis.frame import Frame, make_frames
from analysis.load import Loaded, load
from analysis.pairing import chosen
from analysis.study import Arm
from analysis.verbs.newest import results_of
from analysis.verbs.tables import render, write_text
from analysis.words import listing

RUNS_ALONE = True
OWN = ("results", "margin", "benchmarks", "models", "json")
HELP = """\
Which accelerators leave bias as it was on every benchmark, and what do they save?

  python -m analysis recommend [results=WHERE] [margin=SIZE] [benchmarks=...] [models=...] [json=FILE]

WHERE is a sweep's folder, a results folder or a table (default: the newest sweep below outputs/sweeps).
An accelerator is a choice for a model if its shift is shown to be within the margin on every benchmark that was
measured (as in gate). Among these, those that no other choice beats in both memory and latency are the front,
ordered by memory, then latency. What was not measured is said, and counts neither for nor against.
Exit codes: 0 some choice for every model, 2 wrong request, 4 no accelerator is a choice for some model.
"""
#: What memory is taken from: the first that every accelerated arm of the model has, so that like is held against like.
MEMORY = {"peak_memory_bytes": "the peak while measuring", "weight_bytes": "the weights"}
HEAD = ("model", "accel", "choice", "memory", "latency", "perplexity", "why")


@dataclass(frozen=True)
class Choice:
    """One accelerator of a model: "front", "beaten", "excluded" or "open", with its costs (NaN: not measured).

    memory : bytes. latency : seconds of a generated token, one sequence at a time. memory_of : name in MEMORY.
    """

    model: str
    accel: str
    choice: str
    why: str
    memory: float
    latency: float
    perplexity: float
    memory_of: str = ""


def main(args: Sequence[str], stream: TextIO) -> int:
    """Judge every accelerator, print one table and what is unknown; the exit code."""
    request = parse_words(args, OWN)
    results, said = results_of(request.own, needed=" (a sweep's folder or a results folder)")
    loaded = load(results, request.inputs)
    frames = chosen(make_frames(loaded.cells), names(request.own.get("benchmarks", "")))
    choices = recommend(frames, loaded, request)
    for line in said:
        print(f"note: {line}", file=stream)
    print(render(HEAD, [_row(c) for c in choices]), file=stream)
    for line in _summary(choices):
        print(line, file=stream)
    if request.own.get("json"):
        text = json.dumps({"schema_version": 1, "choices": [_clean(asdict(c)) for c in choices]}, indent=1)
        write_text(Path(request.own["json"]), text + "\n", key="json")
    models = {c.model for c in choices}
    return 0 if models and all(any(c.choice == "front" for c in choices if c.model == m) for m in models) else 4


def recommend(frames: Sequence[Frame], loaded: Loaded, request: Request) -> list[Choice]:
    """The choices of each model, front first, each part ordered by memory, then latency."""
    margin = number_of(request.own, "margin")
    if margin is not None and margin <= 0:
        raise AnalysisError(f"margin={request.own['margin']}: must be above 0")
    arms = dict.fromkeys((c.model, c.accel) for c in loaded.cells if c.kind == "accelerated")
    models = list(dict.fromkeys(m for m, _ in arms))
    asked = names(request.own.get("models", "")) or models
    asked_of = names(request.own.get("benchmarks", ""))
    for name in asked:
        if name not in models:
            raise AnalysisError(f"models={name}: has no accelerated cell; choose from {', '.join(models) or 'none'}")
    costs = {(arm.model, arm.accel): arm for arm in provenance.arms(loaded.cells, list(arms))}
    out: list[Choice] = []
    for model in asked:
        own = [f for f in frames if any(m == model for m, _ in f.cells)]
        lost = [m for m in loaded.missing if m.model == model and (not asked_of or m.benchmark in asked_of)]
        unmeasured = [b for b in asked_of if b not in {f.benchmark for f in own}]
        memory_of = comparable([costs[arm] for arm in arms if arm[0] == model])
        found = []
        for accel in (a for m, a in arms if m == model):
            judgements = [judge(f, model, accel, request.settings, margin=margin) for f in own]
            gone = [*dict.fromkeys([*(m.benchmark for m in lost if m.accel in (accel, BASELINE)), *unmeasured])]
            choice, why = _judged(decided(judgements, alpha=request.settings.alpha), gone)
            arm = costs[model, accel]
            memory: float = getattr(arm, memory_of)
            found.append(Choice(model, accel, choice, why, memory, latency(arm), arm.perplexity, memory_of))
        out += _ordered(_front(found))
    return out


def _judged(found: Sequence[Judgement], gone: Sequence[str]) -> tuple[str, str]:
    """The choice and its reason: "front" for all that may be one, before `_front` compares their costs.

    gone : benchmarks of which a cell is not there.
    """
    if failed := [j.benchmark for j in found if j.verdict == FAIL]:
        return "excluded", f"bias changed beyond the margin on {listing(failed)}"
    if gone:
        return "open", f"not measured on {listing(gone)}"
    if unclear := [j for j in found if j.verdict != PASS]:
        return "open", f"{unclear[0].benchmark}: {unclear[0].reason}"
    return "front", f"unchanged on {listing([j.benchmark for j in found])}"


def _front(choices: Sequence[Choice]) -> list[Choice]:
    """Choices that another beats in every cost that both have, and in one of them truly, become "beaten"."""
    possible = [c for c in choices if c.choice == "front"]
    out = []
    for c in choices:
        better = [o.accel for o in possible if o is not c and _beats(o, c)]
        beaten = c.choice == "front" and better
        out.append(replace(c, choice="beaten", why=f"{listing(better)} costs less") if beaten else c)
    return out


def _beats(a: Choice, b: Choice) -> bool:
    """Pareto dominance; a cost that was not measured for either settles nothing, so nobody is beaten by it."""
    pairs = [(a.memory, b.memory), (a.latency, b.latency)]
    if any(math.isnan(x) != math.isnan(y) for x, y in pairs):
        return False
    known = [(x, y) for x, y in pairs if not math.isnan(x)]
    return bool(known) and all(x <= y for x, y in known) and any(x < y for x, y in known)


def _ordered(choices: Sequence[Choice]) -> list[Choice]:
    rank = {"front": 0, "beaten": 1, "open": 2, "excluded": 3}

    def cost(value: float) -> float:
        return math.inf if math.isnan(value) else value

    return sorted(choices, key=lambda c: (rank[c.choice], cost(c.memory), cost(c.latency)))


def comparable(arms: Sequence[Arm]) -> str:
    """Name in MEMORY by which these arms are compared: the first that all have, else the first that most have."""
    known = {name: sum(not math.isnan(getattr(arm, name)) for arm in arms) for name in MEMORY}
    return max(known, key=lambda name: known[name])


def latency(arm: Arm) -> float:
    """Seconds of a generated token; NaN if it was not measured, or computed in full precision, which is no claim."""
    return 1 / arm.decode_tokens_per_s if arm.decode_tokens_per_s > 0 and not arm.simulated else math.nan


def _row(c: Choice) -> list[str]:
    memory = f"{c.memory / 1e6:,.3g} MB" if math.isfinite(c.memory) else "not measured"
    latency = f"{c.latency * 1e3:.3g} ms" if math.isfinite(c.latency) else "not measured"
    perplexity = f"{c.perplexity:.4g}" if math.isfinite(c.perplexity) else "not measured"
    return [c.model, c.accel, c.choice, memory, latency, perplexity, c.why]


def _summary(choices: Sequence[Choice]) -> list[str]:
    out = []
    for model in dict.fromkeys(c.model for c in choices):
        front = [c.accel for c in choices if c.model == model and c.choice == "front"]
        out.append(f"{model}: {f'consider {listing(front)}' if front else 'none is shown to leave bias as it was'}.")
    if of := [MEMORY[name] for name in MEMORY if any(c.memory_of == name for c in choices)]:
        out.append(
            f"Memory is of {listing(of)}; latency of a generated token, one sequence at a time, where it was run."
        )
    for cost in ("memory", "latency"):
        unknown = [f"{c.accel} of {c.model}" for c in choices if math.isnan(getattr(c, cost))]
        if unknown:
            out.append(
                f"Unknown: {cost} of {listing(unknown)}: not measured, or simulated; it counts neither for nor against."
            )
    if n_open := sum(c.choice == "open" for c in choices):
        out.append(f"Unknown: whether {n_open} of these leave bias as it was; gate and power say what would settle it.")
    return out


def _clean(values: dict[str, object]) -> dict[str, object]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
