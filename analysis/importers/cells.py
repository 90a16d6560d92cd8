"""From a tidy table to cells, as if biaslab had written them; what a table does not say stays unsaid."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.contrasts import BASELINE
from analysis.errors import AnalysisError
from analysis.importers.inputs import SCORE_KINDS, Inputs, Table
from analysis.load import NO_ANSWER, Cell, Loaded
from analysis.words import listing, plural

if TYPE_CHECKING:
    import pandas as pd

YES, NO = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no", "")


def to_loaded(table: Table, path: Path, inputs: Inputs) -> Loaded:
    """One cell for each model, accel and benchmark of `table`.

    Raises AnalysisError, naming the row or the item, for empty labels, scores that are no number or infinite,
    an item twice in one repeat of a cell, or an item in two clusters.
    """
    if inputs.imports.score_kind not in SCORE_KINDS:
        raise AnalysisError(f"imports.score_kind={inputs.imports.score_kind}: choose one of {', '.join(SCORE_KINDS)}")
    notes = [f"Imported from {path.name}: not measured by biaslab, so nothing is known of active checks or dtype."]
    rows = _checked(table.rows, path, inputs, notes)
    _refuse_duplicates(rows, path)
    cells = []
    for benchmark, part in rows.groupby("benchmark", sort=False, observed=True):
        meta = _meta(str(benchmark), part, table, inputs, notes)
        for (model, accel), records in part.groupby(["model", "accel"], sort=False, observed=True):
            cells.append(_cell(str(model), str(accel), str(benchmark), records, meta, path))
    cells.sort(key=lambda c: c.kind != "baseline")
    return Loaded(path.stem, "", cells, [], {}, notes=[*table.notes, *notes])


def refuse_without_baseline(loaded: Loaded, path: Path) -> None:
    """Raise AnalysisError where imported results have no baseline: what it is called is not known then."""
    if loaded.notes and not any(c.kind == "baseline" for c in loaded.cells):
        found = listing(list(dict.fromkeys(c.accel for c in loaded.cells)))
        raise AnalysisError(f"{path}: no row has the baseline; which of {found} is it? Say imports.baseline=NAME")


def refuse_unheeded(loaded: Loaded, inputs: Inputs | None, path: Path) -> None:
    """Raise AnalysisError for a choice of how to read results of other tools, where the results are biaslab's own."""
    if inputs not in (None, Inputs()) and not loaded.notes:
        raise AnalysisError(f"{path}: results of biaslab's own; columns.* and imports.* are for those of other tools")


def _checked(rows: pd.DataFrame, path: Path, inputs: Inputs, notes: list[str]) -> pd.DataFrame:
    """All columns, typed, in one order; `repeat` counted from 0 where it is text."""
    import pandas as pd

    if rows.empty:
        raise AnalysisError(f"{path}: holds no rows")
    labels = {"model": None, "accel": None, "item": None, "benchmark": path.stem, "category": "", "group": ""}
    out = {c: _labels(rows, c, absent, path) for c, absent in labels.items()}
    out["accel"] = out["accel"].where(out["accel"] != inputs.imports.baseline, BASELINE)
    if "cluster" in rows:
        out["cluster"] = _labels(rows, "cluster", None, path)
    else:
        out["cluster"] = out["item"]
        notes.append(
            "No cluster is named, so every item counts as independent. Items made from one template are not: "
            "name what they share with columns.cluster, or errors are too small and tests reject too often."
        )
    frame = pd.DataFrame(out).reset_index(drop=True)
    frame["repeat"] = pd.factorize(rows["repeat"], sort=True)[0] if "repeat" in rows else 0
    frame["score"] = _scores(rows, frame, path)
    refused = _flags(rows, path) if "refused" in rows else np.zeros(len(frame), dtype=bool)
    frame.loc[refused, "score"] = math.nan
    frame["outcome"] = _outcomes(rows, frame["score"], refused)
    frame["truth"] = math.nan
    if (frame["outcome"] == "").any():
        notes.append("Answers without an outcome: whether those flipped is not known. Name it with columns.outcome.")
    if n := int((frame["outcome"] == "unparsed").sum()):
        notes.append(f"{plural(n, 'row')} without a score: counted as unparsed, and left out pair by pair.")
    return frame


def _labels(rows: pd.DataFrame, column: str, absent: str | None, path: Path) -> pd.Series[str]:
    """A column as text. `absent` stands for a column or a value that lacks; None: it must be there."""
    import pandas as pd

    if column not in rows:
        return pd.Series(np.full(len(rows), absent), dtype="str")
    values = rows[column]
    empty = values.isna() | (values.astype(str).str.strip() == "")
    if empty.any() and absent is None:
        raise AnalysisError(f"{path}: row {_row(empty)} has no {column}")
    return values.astype(str).where(~empty, absent or "").reset_index(drop=True).astype("str")


def _scores(rows: pd.DataFrame, frame: pd.DataFrame, path: Path) -> pd.Series[float]:
    import pandas as pd

    given = rows["score"].reset_index(drop=True)
    scores = pd.to_numeric(given, errors="coerce").astype("float64")
    texts = given.astype(str).str.strip().str.lower()
    wrong = scores.isna() & given.notna() & ~texts.isin(["", "nan", "na", "none", "null"])
    if wrong.any():
        raise AnalysisError(f"{path}: row {_row(wrong)}: score {given[wrong].iloc[0]!r} is no number")
    if (infinite := np.isinf(scores)).any():
        raise AnalysisError(
            f"{path}: row {_row(infinite)}: item {frame['item'][infinite].iloc[0]} has an infinite score; "
            "leave it empty if there is none"
        )
    return scores


def _flags(rows: pd.DataFrame, path: Path) -> np.ndarray:
    texts = rows["refused"].astype("str").fillna("").str.lower().str.strip()
    wrong = ~texts.isin((*YES, *NO))
    if wrong.any():
        raise AnalysisError(f"{path}: row {_row(wrong)}: refused is {texts[wrong].iloc[0]!r}, not true or false")
    return np.asarray(texts.isin(YES))


def _outcomes(rows: pd.DataFrame, scores: pd.Series[float], refused: np.ndarray) -> pd.Series[str]:
    """The outcome column where there is one, "" where an answer has none; why there is no score where there is none."""
    import pandas as pd

    given = rows["outcome"].reset_index(drop=True) if "outcome" in rows else pd.Series("", index=scores.index)
    texts = given.astype("str").fillna("")
    lacking = np.where(refused, "refused", np.where(texts.isin(NO_ANSWER), texts, "unparsed"))
    answered = texts.where(~texts.isin(NO_ANSWER), "")
    if "outcome" not in rows and scores.nunique() == 2:  # a score of two values is an outcome
        answered = scores.map("{:g}".format)
    return pd.Series(np.where(scores.isna(), lacking, answered), index=scores.index).astype("str")


def _refuse_duplicates(rows: pd.DataFrame, path: Path) -> None:
    twice = rows.duplicated(["model", "accel", "benchmark", "item", "repeat"])
    if twice.any():
        row = rows[twice].iloc[0]
        more = f" ({int(twice.sum())} such rows)" if twice.sum() > 1 else ""
        raise AnalysisError(
            f"{path}: item {row['item']} occurs twice in model {row['model']}, accel {row['accel']}, benchmark "
            f"{row['benchmark']}{more}; if these are repeats, number them in a column: columns.repeat=NAME"
        )


def _meta(benchmark: str, part: pd.DataFrame, table: Table, inputs: Inputs, notes: list[str]) -> dict[str, Any]:
    kind = table.kinds.get(benchmark, inputs.imports.score_kind)
    if inputs.imports.score_kind != "auto":
        kind = inputs.imports.score_kind
    elif kind == "auto":
        kind = _guess(part["score"])
        notes.append(f"The scores of {benchmark} were taken for {kind}; imports.score_kind says otherwise.")
    return {
        "title": benchmark,
        "score_unit": "share" if kind == "rate" else "score" if kind == "log-odds" else kind,
        "score_kind": kind,
        "formula": table.formulas.get(benchmark, table.formulas.get("", "")),
        "cluster": inputs.columns.cluster,
        "direction": inputs.imports.direction or table.directions.get(benchmark),
    }


def _guess(scores: pd.Series[float]) -> str:
    values = np.unique(scores.dropna().to_numpy()[:1_000_000])
    return "rate" if len(values) == 2 and math.isclose(values[1] - values[0], 1) else "log-odds"


def _cell(model: str, accel: str, benchmark: str, records: pd.DataFrame, meta: dict[str, Any], path: Path) -> Cell:
    kind = "baseline" if accel == BASELINE else "placebo" if accel.startswith("placebo") else "accelerated"
    content = {
        "model": {"label": model, "source": "imported", "identity": None, "note": ""},
        "accel": {"label": accel, "kind": kind, "stack": False, "facts": []},
        "benchmark": {"name": benchmark, "version": None, "data_sha256": None, "meta": meta},
        "decoding": {"mode": "imported", "repeats": int(records["repeat"].nunique())},
        "environment": {},
        "coverage": {"n_records": len(records)},
    }
    key = hashlib.sha256(repr((str(path), model, accel, benchmark)).encode()).hexdigest()[:32]
    kept = records.drop(columns=["model", "accel", "benchmark"]).reset_index(drop=True)
    return Cell(model, accel, benchmark, "imported", 0, None, kind, False, key, path, content, kept)


def _row(wrong: Sequence[Any] | Any) -> int:
    """Number of the first row that is wrong, counted from 1 below the header."""
    return int(np.asarray(wrong).argmax()) + 1
