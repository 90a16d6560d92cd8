"""How results of other tools are read: the settings, and the tidy table that every importer yields."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import AnalysisError

if TYPE_CHECKING:
    import pandas as pd

SCORE_KINDS = ("auto", "log-odds", "log-prob", "rate")
NEEDED = ("model", "accel", "item", "score")
OPTIONAL = ("benchmark", "cluster", "category", "group", "repeat", "outcome", "refused")


@dataclass
class Columns:
    """What each column is called in a table; in logs, the field of a sample that holds it."""

    model: str = "model"
    accel: str = "accel"
    item: str = "item"
    score: str = "score"
    benchmark: str = "benchmark"
    cluster: str = "cluster"
    category: str = "category"
    group: str = "group"
    repeat: str = "repeat"
    outcome: str = "outcome"
    refused: str = "refused"


@dataclass
class Imports:
    """What a table or a log does not say of itself.

    baseline : label of the accelerator that is none. metric : which figure of a sample is its score.
    score_kind : "log-odds", "log-prob" or "rate", for the margin; "auto": a rate if the scores take two values
        that are 1 apart, else log-odds, whose margin is a share of the spread of items.
    direction : in words, what a positive score means; empty: nothing is said of the direction of a shift.
    accel : label of the logs whose place names no accelerator (gate gives its two folders one each).
    runs : csv with columns folder, model, accel, for logs whose folders are not named <model>/<accel>.
    """

    baseline: str = "none"
    metric: str = ""
    score_kind: str = "auto"
    direction: str = ""
    accel: str = ""
    runs: str = ""


@dataclass
class Inputs:
    """Settings of the import; results of biaslab need none of them."""

    columns: Columns = field(default_factory=Columns)
    imports: Imports = field(default_factory=Imports)


@dataclass(frozen=True)
class Table:
    """What an importer yields.

    rows : NEEDED and OPTIONAL columns, one row an item and repeat of a cell; the optional ones may lack.
    formulas : benchmark -> how its scores come about. kinds : benchmark -> kind of score, where it is known.
    directions : benchmark -> what a positive score means, where it is known.
    """

    rows: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    formulas: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    directions: dict[str, str] = field(default_factory=dict)


def refuse_columns(inputs: Inputs, known: Iterable[str], *, what: str) -> None:
    """AnalysisError for a column that was named and that logs of this kind do not have; `known` are those they have."""
    named = vars(inputs.columns)
    for column, default in vars(Columns()).items():
        if named[column] != default and column not in known:
            choices = ", ".join(f"columns.{name}" for name in known)
            raise AnalysisError(f"columns.{column}={named[column]}: {what} take no such choice, only {choices}")


def runs_of(root: Path, files: Iterable[Path], inputs: Inputs, *, what: str) -> dict[Path, tuple[str, str]]:
    """(model, accel) of each log file: from imports.runs, else from its place <model>/<accel>/... below root.

    Raises AnalysisError for a file whose place says nothing, naming it and both ways out.
    """
    named = _read_runs(Path(inputs.imports.runs), root) if inputs.imports.runs else None
    out = {}
    for file in files:
        parents = [p for p in file.parents if p == root or root in p.parents]
        if named is not None:
            found = next((named[p.resolve()] for p in (file, *parents) if p.resolve() in named), None)
            if found is not None:
                out[file] = found
            continue
        parts = file.relative_to(root).parts[:-1]
        if len(parts) < 2 and inputs.imports.accel:
            out[file] = (parts[0] if parts else root.resolve().name, inputs.imports.accel)
            continue
        if len(parts) < 2:
            raise AnalysisError(
                f"{file}: which model and accelerator is this? Put {what} into <model>/<accel>/ below {root}, "
                "or name a csv with columns folder, model, accel: imports.runs=FILE"
            )
        out[file] = (parts[0], parts[1])
    if not out:
        raise AnalysisError(f"imports.runs={inputs.imports.runs}: none of its folders holds {what} below {root}")
    return out


def _read_runs(path: Path, root: Path) -> dict[Path, tuple[str, str]]:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise AnalysisError(f"imports.runs={path}: cannot be read as csv ({error})") from error
    if lacking := [c for c in ("folder", "model", "accel") if c not in table]:
        raise AnalysisError(f"imports.runs={path}: has no column {', '.join(lacking)}; it needs folder, model, accel")
    return {(root / f).resolve(): (m, a) for f, m, a in zip(table.folder, table.model, table.accel, strict=True)}
