"""What one benchmark says, in one short line with its figures: the terminal's, and a page's first screen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from analysis.study import BenchmarkResult, Shift, Study
from analysis.words import p_text, plural, signed

UNJUDGED = ("placebo", "missing")


def brief(study: Study, b: BenchmarkResult) -> str:
    """Verdict with its p, cells by verdict, and the cell that moved most."""
    judged = [s for s in b.shifts if s.verdict not in UNJUDGED]
    untested = b.verdict == "cannot be tested" or not math.isfinite(b.omnibus.p)
    p = b.omnibus.reason if untested else p_text(b.omnibus.p)
    counts = Counter(s.verdict for s in judged)
    parts = [f"{n} {word}" for word, n in counts.most_common()]
    cells = f" Of {plural(len(judged), 'cell')} {', '.join(parts)}{_furthest(study, b, judged)}." if judged else ""
    if untested and len({s.model for s in judged}) == 1:  # an interaction takes two models: nobody asked for one
        return f"{b.title}.{cells}"
    return f"{b.title}: {b.verdict}{f' ({p})' if p else ''}.{cells}"


def _furthest(study: Study, b: BenchmarkResult, judged: Sequence[Shift]) -> str:
    known = [s for s in judged if math.isfinite(s.estimate.value) and s.estimate.value]
    if not known:
        return ""
    s = max(known, key=lambda s: abs(s.estimate.value))  # not in margins: one may be next to nothing
    e = s.estimate
    interval = f" [{signed(e.ci_low)}, {signed(e.ci_high)}]" if math.isfinite(e.ci_low) else ""
    dagger = " †" if study.models.get(s.model) else ""
    return f"; furthest: {s.model}{dagger} under {s.accel}, {signed(e.value)} {b.unit}{interval}"
