"""The whole analysis: from a folder of results to a Study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from analysis.benchmark import analyse_benchmark
from analysis.cautions import study_cautions
from analysis.contrasts import BASELINE
from analysis.effects import holm
from analysis.errors import AnalysisError
from analysis.foresight import predictable, transfers
from analysis.frame import Frame, make_frames
from analysis.importers.cells import refuse_unheeded, refuse_without_baseline
from analysis.importers.inputs import Inputs
from analysis.levels import check_named
from analysis.load import Cell, Loaded, load
from analysis.methods import methods
from analysis.provenance import arms, provenance
from analysis.settings import Settings
from analysis.study import BenchmarkResult, Missing, Shift, Study
from analysis.words import p_text, plural, signed

QUESTION = "Does making these models cheaper change their bias, and does that change depend on the model?"


def analyse(results: Path | str, settings: Settings | None = None, inputs: Inputs | None = None) -> Study:
    """Analyse a sweep's folder, a results folder, or results of other tools; `inputs` is how those are read.

    Raises AnalysisError, in one line, for wrong settings, nothing to analyse, or files that are broken, of
    another schema version, or contradict each other.
    """
    settings = settings or Settings()
    check_settings(settings)
    loaded = load(Path(results), inputs)
    refuse_without_baseline(loaded, Path(results))
    refuse_unheeded(loaded, inputs, Path(results))
    return analyse_loaded(loaded, settings)


def analyse_loaded(loaded: Loaded, settings: Settings) -> Study:
    """Analyse results that were read. Raises AnalysisError as `analyse` does."""
    check_settings(settings)
    frames = make_frames(loaded.cells)
    check_named(frames, settings.accels)
    _check_margins(frames, settings)
    found = [analyse_benchmark(frame, _absent(frame, frames, loaded.missing), settings) for frame in frames]
    found = adjust_over_benchmarks(_titled(found))
    models = {c.model: str(c.content["model"].get("note") or "") for c in loaded.cells}
    accels = _accels(loaded)
    order = [(m, a) for m in models for a in accels]
    known = arms(loaded.cells, order)
    return Study(
        question=QUESTION,
        answer=answer(found, models),
        sweep=loaded.name,
        command=loaded.command,
        settings=asdict(settings),
        models=models,
        accels=accels,
        benchmarks=found,
        arms=known,
        missing=loaded.missing,
        cautions=[*loaded.notes, *study_cautions(frames, loaded.missing, models)],
        provenance=provenance(loaded),
        methods=methods(frames, found, settings),
        transfers=transfers(found, known, loaded.cells, alpha=settings.alpha),
        predictable=predictable(found, settings.predictable_share),
    )


def check_settings(settings: Settings) -> None:
    """Raise AnalysisError for a setting out of range."""
    margins = settings.margins
    few = f"at least 1/alpha - 1 ({1 / settings.alpha - 1:.0f})" if settings.alpha else ""
    rules = [
        ("alpha", settings.alpha, 0 < settings.alpha < 0.5, "above 0 and below 0.5"),
        ("n_resamples", settings.n_resamples, settings.n_resamples >= 99, "at least 99"),
        ("n_resamples", settings.n_resamples, (1 + settings.n_resamples) * settings.alpha >= 1, few),
        ("seed", settings.seed, settings.seed >= 0, "at least 0"),
        ("coverage", settings.coverage, 0 <= settings.coverage <= 1, "from 0 to 1"),
        ("perplexity_ratio", settings.perplexity_ratio, settings.perplexity_ratio > 1, "above 1"),
        ("repetition", settings.repetition, 0 < settings.repetition <= 1, "above 0 and at most 1"),
        ("power", settings.power, settings.alpha < settings.power < 1, "above alpha and below 1"),
        ("predictable_share", settings.predictable_share, 0 < settings.predictable_share < 1, "above 0 and below 1"),
        ("floor_quantile", settings.floor_quantile, 0 < settings.floor_quantile < 1, "above 0 and below 1"),
        ("margins.log_odds_sd", settings.margins.log_odds_sd, settings.margins.log_odds_sd > 0, "above 0"),
        ("margins.rate", settings.margins.rate, 0 < settings.margins.rate < 1, "above 0 and below 1"),
        *((f"margins.by_benchmark.{k}", v, 0 < v < math.inf, "above 0") for k, v in margins.by_benchmark.items()),
    ]
    for name, value, allowed, text in rules:
        if not allowed:  # NaN is allowed by none of the comparisons
            raise AnalysisError(f"{name}={value}: must be {text}")


def _check_margins(frames: Sequence[Frame], settings: Settings) -> None:
    names = list(dict.fromkeys(frame.benchmark for frame in frames))
    for name in settings.margins.by_benchmark:
        if name not in names:
            raise AnalysisError(f"margins.by_benchmark.{name}: no such benchmark here; choose from {', '.join(names)}")


def adjust_over_benchmarks(results: Sequence[BenchmarkResult]) -> list[BenchmarkResult]:
    """The results, their omnibus p adjusted over all that have one.

    Holm (1979) keeps the chance of any false interaction at alpha; Benjamini & Hochberg (1995) the expected
    share of false ones among those found.
    """
    tested = [r for r in results if math.isfinite(r.omnibus.p)]
    if not tested:
        return list(results)
    from scipy.stats import false_discovery_control

    p = [r.omnibus.p for r in tested]
    by_holm = dict(zip(map(id, tested), holm(p), strict=True))
    by_bh = {id(r): float(q) for r, q in zip(tested, false_discovery_control(p), strict=True)}
    return [
        replace(r, omnibus=replace(r.omnibus, p_holm=by_holm[id(r)], p_bh=by_bh[id(r)])) if id(r) in by_holm else r
        for r in results
    ]


def answer(results: Sequence[BenchmarkResult], notes: Mapping[str, str]) -> str:
    """The question answered in one short sentence, with its figures.

    notes : model -> what a reader must know of it ("" for nothing); a model with a note is marked with a dagger.
    """
    shifts = [s for r in results for s in r.shifts if s.verdict not in ("placebo", "missing")]
    n_gone = sum(s.verdict == "missing" for r in results for s in r.shifts)
    if not shifts:
        return "It cannot be told: no accelerated cell has answers to compare with a baseline's."
    changed = [s for s in shifts if s.verdict == "changed"]
    same = [s for s in shifts if s.verdict in ("unchanged", "exactly unchanged")]
    n_inert = sum(s.verdict == "inert" for s in shifts)
    n_open = len(shifts) - len(changed) - len(same) - n_inert
    counts = [f"{len(changed)} changed{_largest(results, notes)}"]
    counts += [f"{len(same)} did not"] if same or not n_open + n_inert else []
    counts += [f"{n_open} {'is' if n_open == 1 else 'are'} undecided"] if n_open else []
    counts += (
        [f"{n_inert} {'is' if n_inert == 1 else 'are'} inert (no logit moved, so nothing is shown)"] if n_inert else []
    )
    one = len({s.model for s in shifts}) == 1
    depends = "with one model nothing is said of whether it depends on the model" if one else _interactions(results)
    gone = f" ({n_gone} more {'has' if n_gone == 1 else 'have'} no shift)" if n_gone else ""
    return f"Of {plural(len(shifts), 'accelerated cell')}{gone} {', '.join(counts)}; {depends}."


def _largest(results: Sequence[BenchmarkResult], notes: Mapping[str, str]) -> str:
    """The changed cell that moved most, measured in its own margin, so that units can be compared."""
    changed = [(s, r) for r in results for s in r.shifts if s.verdict == "changed"]
    if not changed:
        return ""
    s, r = max(changed, key=lambda pair: _size(pair[0]))
    dagger = " †" if notes.get(s.model) else ""
    where = f" on {r.title}" if len(results) > 1 else ""
    e = s.estimate
    interval = f" [{signed(e.ci_low)}, {signed(e.ci_high)}]" if math.isfinite(e.ci_low) else ""
    return f" (most: {s.model}{dagger} under {s.accel}{where}, {signed(e.value)} {r.unit}{interval})"


def _size(shift: Shift) -> tuple[float, float]:
    """In margins, then in its unit: a baseline whose items are all alike has a margin of 0."""
    size = abs(shift.estimate.value)
    return (size / shift.margin if shift.margin else math.inf), size


def _interactions(results: Sequence[BenchmarkResult]) -> str:
    texts = {
        "interaction": "the change depends on the model on",
        "additive": "it is shown to be alike for these models on",
        "undecided": "it is open whether it depends on the model on",
        "cannot be tested": "dependence on the model cannot be tested on",
    }
    parts = []
    for verdict, text in texts.items():
        if found := [r for r in results if r.verdict == verdict]:
            n_tested = sum(math.isfinite(r.omnibus.p) for r in results)
            where = _where(found, len(results), none=verdict == "cannot be tested")
            parts.append(f"{text} {where}{_over_all(found, n_tested)}")
    return ", ".join(parts)


def _where(found: Sequence[BenchmarkResult], n: int, *, none: bool = False) -> str:
    """The benchmarks in words. none : of what holds on none of them."""
    if len(found) == 1:
        return found[0].title
    if len(found) == n:
        both, all_n = ("either benchmark", "any of the") if none else ("both benchmarks", "all")
        return both if n == 2 else f"{all_n} {n} benchmarks"
    return f"{len(found)} of {n} benchmarks"


def _over_all(found: Sequence[BenchmarkResult], n_tested: int) -> str:
    """The p value of an interaction, or of none shown: the one that says least for it, adjusted over the benchmarks."""
    if found[0].verdict not in ("interaction", "undecided"):
        return ""
    p = [r.omnibus.p_holm if math.isfinite(r.omnibus.p_holm) else r.omnibus.p for r in found]
    shown = found[0].verdict == "interaction"
    which = "" if len(found) == 1 else "largest " if shown else "smallest "
    adjusted = "Holm-adjusted " if n_tested > 1 else ""
    return f" ({which}{adjusted}{p_text(max(p) if shown else min(p))})"


def _titled(results: Sequence[BenchmarkResult]) -> list[BenchmarkResult]:
    """The results with titles that differ: where a benchmark has one for each decoding or kind of model, and where
    variants of one benchmark, which have names of their own, share a title.
    """
    out = []
    for r in results:
        same = [x for x in results if x.name == r.name]
        notes = [r.name] if len({x.name for x in results if x.title == r.title}) > 1 else []
        notes += [r.decoding] if len({x.decoding for x in same}) > 1 else []
        notes += [f"{r.pool} models"] if len({x.pool for x in same}) > 1 else []
        out.append(replace(r, title=f"{r.title} ({', '.join(notes)})" if notes else r.title))
    return out


def _absent(frame: Frame, frames: Sequence[Frame], missing: Sequence[Missing]) -> list[Missing]:
    """The missing cells of a frame's benchmark and decoding; a model that no frame has goes to the first."""
    out = []
    for m in missing:
        same = [f for f in frames if f.benchmark == m.benchmark and m.decoding in ("", f.decoding)]
        owners = [f for f in same if m.model in f.models] or same[:1]
        if any(f is frame for f in owners):
            out.append(m)
    return out


def _accels(loaded: Loaded) -> list[str]:
    def labels(cells: Sequence[Cell]) -> list[str]:
        return [c.accel for c in cells]

    rest = [*labels(loaded.cells), *(m.accel for m in loaded.missing)]
    return list(dict.fromkeys([BASELINE, *rest]))
