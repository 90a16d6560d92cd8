"""What the first screen of the page says beside the answer: what is not there, how to get it, what was run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from analysis.study import Study
from analysis.words import listing, plural

MOST_GAPS = 6


@dataclass(frozen=True)
class Gap:
    """Cells of one arm that are not there for one reason."""

    model: str
    accel: str
    benchmarks: list[str]
    state: str
    reason: str

    @property
    def text(self) -> str:
        """Such as "failed on crows_pairs and bbq"."""
        return f"{self.state} on {listing(self.benchmarks, most=4)}"


def gaps(study: Study) -> list[Gap]:
    """What is not there, an arm and reason a row; failures first."""
    found: dict[tuple[str, str, str, str], Gap] = {}
    for m in sorted(study.missing, key=lambda m: m.state != "failed"):
        gap = found.setdefault((m.model, m.accel, m.state, m.reason), Gap(m.model, m.accel, [], m.state, m.reason))
        name = m.where
        if name not in gap.benchmarks:
            gap.benchmarks.append(name)
    return list(found.values())


def retry_line(study: Study) -> str:
    """The line that computes what is missing, "" where the results are of no sweep of biaslab's."""
    return f"python -m biaslab retry {_folder(study)}" if study.command and study.missing else ""


def again_line(study: Study) -> str:
    """The line that makes this report again from results that are there."""
    return f"python -m analysis results={_folder(study)}" if study.command else ""


def facts(study: Study) -> str:
    """Models, accelerators, placebos and benchmarks in one line, and the day."""
    placebos = {s.accel for b in study.benchmarks for s in b.shifts if s.verdict == "placebo"}
    accels = [a for a in study.accels if a not in ("none", *placebos)]
    parts = [plural(len(study.models), "model"), plural(len(accels), "accelerator")]
    parts += [plural(len(placebos), "placebo")] if placebos else []
    parts.append(plural(len(study.benchmarks), "benchmark"))
    finished = str(study.provenance.get("finished") or "")[:10]
    return " · ".join([*parts, *([finished] if finished else [])])


def _folder(study: Study) -> str:
    return shlex.quote(f"outputs/sweeps/{study.sweep}")
