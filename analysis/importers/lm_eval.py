"""lm-evaluation-harness (0.4.x): the samples_<task>_<date>.jsonl files that --log_samples writes.

A sample file says neither which accelerator it was run under nor which documents share a template: the first is
the folder's name (or imports.runs), the second a field of the document (columns.cluster=FIELD).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.errors import AnalysisError
from analysis.importers.inputs import Inputs, Table, refuse_columns, runs_of
from analysis.importers.jsonl import objects
from analysis.words import listing

FORMAT = "a folder <model>/<accel>/ of lm-evaluation-harness samples_*.jsonl"
COLUMNS = ("cluster", "category", "group")  # which of ours may be named as a field of a document
NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d[.\d]*)\.jsonl")
Sample = Mapping[str, Any]
Scored = tuple[float, str]  # score, outcome ("" where the sample has none)


@dataclass(frozen=True)
class Scorer:
    """How the score of a sample comes about, and what it means."""

    formula: str
    score: Callable[[Sample], Scored]
    kind: str = "auto"
    direction: str = ""
    defaults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # our column -> fields of the document


def matches(path: Path) -> bool:
    """Whether `path` is a folder with sample files below it."""
    return path.is_dir() and any(NAME.fullmatch(p.name) for p in path.rglob("samples_*.jsonl"))


def read(path: Path, inputs: Inputs) -> Table:
    """The samples below `path`, one row a document of a task in a run.

    Raises AnalysisError for a column that samples do not have, a run without a model or accelerator, a line that is
    no sample, a metric that is not there or not a number, and a document that differs between runs.
    """
    import pandas as pd

    refuse_columns(inputs, COLUMNS, what="samples of lm-evaluation-harness")
    found = sorted(p for p in path.rglob("samples_*.jsonl") if NAME.fullmatch(p.name))
    runs = runs_of(path, found, inputs, what="samples_*.jsonl")
    latest, notes = _latest(runs)
    rows: list[dict[str, Any]] = []
    scorers: dict[str, Scorer] = {}
    hashes: dict[tuple[str, str], str] = {}
    for (model, accel, task), file in latest.items():
        for sample in _filtered(objects(file), file, inputs):
            scorer = scorers.get(task) or scorers.setdefault(task, scorer_of(sample, inputs, file))
            row = _row(sample, scorer, inputs, file)
            _same_document(hashes, (task, row["item"]), str(sample.get("doc_hash", "")), file)
            rows.append({"model": model, "accel": accel, "benchmark": task} | row)
    frame = pd.DataFrame(rows)
    if "cluster" in frame and frame["cluster"].isna().all():
        frame = frame.drop(columns="cluster")
    return Table(
        frame,
        notes,
        {task: s.formula for task, s in scorers.items()},
        {task: s.kind for task, s in scorers.items()},
        {task: s.direction for task, s in scorers.items() if s.direction},
    )


def scorer_of(sample: Sample, inputs: Inputs, file: Path) -> Scorer:
    """The scorer of a task from one of its samples and imports.metric; AnalysisError where it is not clear."""
    asked = inputs.imports.metric.partition(",")[0]
    names = [str(n) for n in sample.get("metrics") or []]
    numeric = [n for n in names if n in sample and isinstance(sample[n], int | float | None)]
    if asked not in numeric:  # one name for several tasks: those known here keep their own score
        if {"likelihood_diff", "pct_stereotype"} <= set(names):
            return CROWS_PAIRS
        if "amb_bias_score" in names:
            return BBQ
        if asked or len(numeric) != 1:
            which = f"imports.metric={asked}: no number of that name." if asked else "which metric is the score?"
            raise AnalysisError(f"{file}: {which} Choose with imports.metric from {listing(numeric, most=20)}")
        asked = numeric[0]
    return Scorer(f"{asked} of lm-evaluation-harness", lambda s: (_number(s.get(asked)), ""))


def _crows_pairs(sample: Sample) -> Scored:
    """The harness stores |difference| alone; its responses still hold the two log-likelihoods."""
    more, less = (float(r[0]) for r in sample["filtered_resps"][:2])
    return more - less, "stereotyped" if sample["pct_stereotype"] == 1 else "other"


def _bbq(sample: Sample) -> Scored:
    """[accuracy, biased, not "unknown", disambiguated] of one question: +1, -1, or 0 for "unknown"."""
    _, biased, known, _ = sample["amb_bias_score"]
    score = known * (2 * biased - 1)
    return float(score), {1: "biased", -1: "counter", 0: "unknown"}[int(score)]


CROWS_PAIRS = Scorer(
    "log p(sent_more) - log p(sent_less), summed over tokens, from the responses (likelihood_diff has no sign)",
    _crows_pairs,
    "log-prob",
    "positive: the stereotyped sentence is the likelier",
    {"category": ("bias_type",)},
)
BBQ = Scorer(
    "+1 for a biased answer, -1 for one against the stereotype, 0 for unknown (from amb_bias_score)",
    _bbq,
    "rate",
    "positive: the biased answer is given",
    {"category": ("category",), "cluster": ("category", "question_index")},
)


def _latest(runs: Mapping[Path, tuple[str, str]]) -> tuple[dict[tuple[str, str, str], Path], list[str]]:
    """The newest file of each (model, accel, task), and a note where there are older ones."""
    out: dict[tuple[str, str, str], Path] = {}
    older = 0
    for file in sorted(runs, key=lambda p: p.name):
        match = NAME.fullmatch(file.name)
        assert match
        key = (*runs[file], match["task"])
        older += key in out
        out[key] = file
    return out, [f"{older} older sample files of the same runs were left out."] if older else []


def _filtered(samples: list[Sample], file: Path, inputs: Inputs) -> list[Sample]:
    """The samples of one filter of answers: the only one, or the one after the comma of imports.metric."""
    asked = inputs.imports.metric.partition(",")[2]
    filters = list(dict.fromkeys(str(s.get("filter", "none")) for s in samples))
    if not asked and len(filters) > 1:
        raise AnalysisError(f"{file}: scored under filters {listing(filters)}; say imports.metric=METRIC,FILTER")
    if asked and asked not in filters:
        raise AnalysisError(f"{file}: has no filter {asked}; choose from {listing(filters)}")
    return [s for s in samples if str(s.get("filter", "none")) == (asked or filters[0])]


def _row(sample: Sample, scorer: Scorer, inputs: Inputs, file: Path) -> dict[str, Any]:
    if "doc_id" not in sample or not isinstance(sample.get("doc"), dict):
        raise AnalysisError(f"{file}: a line without doc_id or doc: these are no samples of lm-evaluation-harness 0.4")
    try:
        score, outcome = scorer.score(sample)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise AnalysisError(f"{file}: document {sample['doc_id']}: no score ({scorer.formula})") from error
    row: dict[str, Any] = {"item": str(sample["doc_id"]), "score": score}
    if outcome or isinstance(sample.get("outcome"), str):  # of a task that says so itself, as exported ones do
        row["outcome"] = outcome or sample["outcome"]
    for column in COLUMNS:
        named = str(getattr(inputs.columns, column))
        fields = scorer.defaults.get(column, (named,)) if named == column else (named,)
        if all(f in sample["doc"] for f in fields):
            row[column] = "-".join(str(sample["doc"][f]) for f in fields)
        elif named != column:
            known = listing([str(k) for k in sample["doc"]], most=20)
            raise AnalysisError(
                f"columns.{column}={named}: no such field in the documents of {file}; choose from {known}"
            )
    return row


def _same_document(hashes: dict[tuple[str, str], str], key: tuple[str, str], own: str, file: Path) -> None:
    if hashes.setdefault(key, own) != own:
        raise AnalysisError(
            f"{file}: document {key[1]} of {key[0]} is another one than in the other runs (doc_hash differs): "
            "runs must be of one version of the data to be compared item by item"
        )


def _number(value: Any) -> float:
    """A number; NaN where the harness has none."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(json.dumps(value, default=str))
    return float(value) if math.isfinite(value) else math.nan
