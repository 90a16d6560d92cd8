"""Inspect logs (.eval, .json), read by inspect_ai's own reader: its file format is not a stable one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import AnalysisError
from analysis.importers.inputs import Inputs, Table, refuse_columns, runs_of
from analysis.words import listing, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = "a folder <model>/<accel>/ of Inspect logs (.eval or .json)"
COLUMNS = ("cluster", "category", "group", "refused")  # which of ours may be named as a key of the metadata
GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}  # inspect_ai's own value_to_float


def matches(path: Path) -> bool:
    """Whether `path` is a folder with logs below it; a .json log is told by Inspect's name <date>_<task>_<id>."""
    return path.is_dir() and bool(_logs(path))


def read(path: Path, inputs: Inputs) -> Table:
    """One row a sample and epoch of every log below `path`.

    Raises AnalysisError where inspect_ai is not installed, a log cannot be read or was not finished, or the
    scorer is not clear (imports.metric=SCORER, or SCORER.KEY of a score with several values).
    """
    import pandas as pd

    refuse_columns(inputs, COLUMNS, what="Inspect logs")
    reader = _reader()
    files = _logs(path)
    runs = runs_of(path, files, inputs, what="the logs")
    rows: list[dict[str, Any]] = []
    formulas: dict[str, str] = {}
    failed = 0
    for file, (model, accel) in runs.items():
        try:
            log = reader(str(file))
        except Exception as error:  # the reader raises many kinds; the line names the file in every case
            raise AnalysisError(f"{file}: inspect_ai cannot read it ({error})") from error
        if log.status != "success" or not log.samples:
            raise AnalysisError(f"{file}: its status is {log.status}; finish it with inspect eval-retry, or remove it")
        for sample in log.samples:
            failed += sample.error is not None
            row, formula = _row(sample, inputs, file)
            rows.append({"model": model, "accel": accel, "benchmark": str(log.eval.task)} | row)
            formulas.setdefault(str(log.eval.task), formula)
    notes = [f"{plural(failed, 'sample')} ended in an error: no score, counted as unparsed."] if failed else []
    return Table(pd.DataFrame(rows), notes, formulas)


def _reader() -> Any:
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise AnalysisError(
            "Inspect logs are read by inspect_ai, which is not installed: python -m pip install inspect-ai"
        ) from error
    return read_eval_log


def _logs(path: Path) -> list[Path]:
    def found() -> Iterator[Path]:
        for p in sorted(path.rglob("*")):
            if p.suffix == ".eval" or (p.suffix == ".json" and p.stem[:4].isdigit() and p.stem.count("_") >= 2):
                yield p

    return list(found())


def _row(sample: Any, inputs: Inputs, file: Path) -> tuple[dict[str, Any], str]:
    score, formula = _score(sample, inputs, file)
    row: dict[str, Any] = {"item": str(sample.id), "repeat": int(sample.epoch), "score": score}
    metadata = sample.metadata or {}
    for column in COLUMNS:
        named = str(getattr(inputs.columns, column))
        if named in metadata:
            row[column] = metadata[named]
        elif named != column:
            known = listing([str(k) for k in metadata], most=20)
            raise AnalysisError(f"columns.{column}={named}: not in the metadata of {file}; choose from {known}")
    return row, formula


def _score(sample: Any, inputs: Inputs, file: Path) -> tuple[float, str]:
    scores = sample.scores or {}
    scorer, _, key = inputs.imports.metric.partition(".")
    if not scores and sample.error is not None:
        return math.nan, ""
    if (not scorer and len(scores) > 1) or (scorer and scorer not in scores):
        which = f"imports.metric={scorer}: no such scorer." if scorer else "which scorer gives the score?"
        raise AnalysisError(f"{file}: {which} Choose with imports.metric from {listing([str(s) for s in scores])}")
    name = scorer or next(iter(scores), "")
    value: Any = scores[name].value if name else math.nan
    if isinstance(value, dict):
        if key not in value:
            raise AnalysisError(
                f"{file}: {name} has several values; choose {name}.KEY from {listing(list(map(str, value)))}"
            )
        value = value[key]
    value = GRADES.get(value, value) if isinstance(value, str) else value
    if not isinstance(value, bool | int | float):
        raise AnalysisError(f"{file}: sample {sample.id}: score {value!r} of {name} is no number")
    return float(value), f"{inputs.imports.metric or name} of Inspect"
