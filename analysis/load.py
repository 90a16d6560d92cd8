"""Find and read the cells of a sweep or of a whole results folder; one line for whatever is wrong with them.

Paths in a sweep are relative, so that outputs/ can be copied anywhere. What a file says is somebody else's
text: it is checked before it is used, and never evaluated.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Any

from analysis.errors import AnalysisError
from analysis.study import Missing

if TYPE_CHECKING:
    import pandas as pd

    from analysis.importers.inputs import Inputs

SCHEMA_VERSION = 1
KINDS = ("baseline", "accelerated", "placebo")
NO_ANSWER = ("refused", "unparsed", "too_long")
COLUMNS = ("item", "cluster", "category", "group", "repeat", "score", "outcome", "truth")
MAX_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Cell:
    """One complete cell: its identity, and `content`, all of its cell.json.

    records : of an imported cell, instead of a records.parquet in `folder`.
    """

    model: str
    accel: str
    benchmark: str
    decoding: str  # "greedy" or "sampled"
    seed: int
    calibration_seed: int | None
    kind: str
    stack: bool
    key: str
    folder: Path
    content: Mapping[str, Any]
    records: pd.DataFrame | None = field(default=None, repr=False, compare=False)

    @property
    def pool(self) -> str:
        """Which models it may be compared with: "embedded" ones are never pooled with "other" ones."""
        return "embedded" if self.content["model"].get("source") == "embedded" else "other"

    @property
    def inert(self) -> bool:
        """Whether the active check saw no logit change at all."""
        active = self.content.get("active") or {}
        return self.kind == "accelerated" and number(active.get("max_logit_change")) == 0.0

    @property
    def idle(self) -> list[str]:
        """Steps of a stack that moved no logit while another did; results that do not tell have none."""
        steps = (self.content.get("active") or {}).get("steps") or []
        idle = [str(s.get("step")) for s in steps if isinstance(s, dict) and number(s.get("max_logit_change")) == 0.0]
        return [] if self.inert else idle


@dataclass(frozen=True)
class Loaded:
    """What a sweep or results folder holds. `ledger` is sweep.json, empty for a results folder.

    notes : what a reader must know of results that were imported.
    """

    name: str
    command: str
    cells: list[Cell]
    missing: list[Missing]
    ledger: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)


def load(path: Path, inputs: Inputs | None = None) -> Loaded:
    """Read `path`: a sweep's folder or its sweep.json, a results folder, or the outputs folder above one.

    Anything else is left to the importers; `inputs` is how they read it.

    Raises AnalysisError when there is nothing to read, a file is broken or of another schema version, or two
    cells claim the same place with different settings.
    """
    path = Path(path)
    ledger = path if path.name == "sweep.json" else path / "sweep.json"
    if ledger.is_file():
        loaded = _load_sweep(ledger)
    elif not path.exists():
        raise AnalysisError(f"results={path}: no such folder or file; give a sweep's folder or a results folder")
    elif (root := path / "results" if (path / "results").is_dir() else path).is_dir() and _places(root):
        loaded = _load_results(root)
    else:
        from analysis.importers import import_results

        loaded = import_results(path, inputs)
    if not loaded.cells:
        why = f" ({loaded.missing[0].reason})" if loaded.missing else ""
        raise AnalysisError(f"results={path}: no complete cell in it{why}")
    refuse_conflicts(loaded.cells)
    return loaded


def read_records(cell: Cell) -> pd.DataFrame:
    """The records of a cell: COLUMNS, one row per item and repeat, checked.

    Raises AnalysisError, naming the file, for a file that is no Parquet, a lacking column, an item that
    occurs twice in one repeat, an item without a cluster, an infinite score, or a score that disagrees with
    its outcome.
    """
    import pandas as pd
    import pyarrow as pa

    if cell.records is not None:  # imported, and checked then
        return cell.records
    path = cell.folder / "records.parquet"
    try:
        frame = pd.read_parquet(path, columns=list(COLUMNS), use_threads=False, page_checksum_verification=True)
        pa.Table.from_pandas(frame, preserve_index=False).validate(full=True)  # text that is no text
    except Exception as error:  # pyarrow raises many kinds; the line names the file in every case
        reason = " ".join(str(error).split())
        raise AnalysisError(f"{path}: unreadable ({reason}); delete the cell and run it again") from error
    if frame.empty:
        raise AnalysisError(f"{path}: holds no records; delete the cell and run it again")
    try:
        frame = frame.astype({"repeat": "int64", "score": "float64", "truth": "float64"})
    except (TypeError, ValueError) as error:
        raise AnalysisError(f"{path}: repeat, score and truth must be numbers ({error})") from error
    _check_records(frame, path)
    return frame


def number(value: Any) -> float:
    """A finite float, or NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:  # an integer of more digits than a float holds
        return math.nan


def refuse_conflicts(cells: Iterable[Cell]) -> None:
    """Raise AnalysisError if two cells of one place differ in more than their seeds, naming what differs."""
    places: dict[tuple[str, ...], Cell] = {}
    versions: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        place = (cell.model, cell.accel, cell.benchmark, cell.decoding, cell.pool)
        first = places.setdefault(place, cell)
        if first is not cell and (field := _difference(first, cell)):
            raise AnalysisError(
                f"model {cell.model}, accel {cell.accel}, benchmark {cell.benchmark}, {cell.decoding}: two "
                f"cells differ in {field}, and only seeds may; analyse one sweep's folder, or label one anew"
            )
        other = versions.setdefault((cell.benchmark, cell.pool), cell)
        for field in ("version", "data_sha256"):
            a, b = (c.content["benchmark"].get(field) for c in (other, cell))
            if a != b:
                raise AnalysisError(
                    f"benchmark {cell.benchmark}: {field} is {a} in {other.model} {other.accel} and {b} in "
                    f"{cell.model} {cell.accel}; their scores cannot be compared: run the older cells again"
                )


def _load_sweep(path: Path) -> Loaded:
    ledger = _read_json(path)
    entries = ledger.get("cells")
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise AnalysisError(f"{path}: cells is no list of objects")
    results = path.parent / _relative(ledger.get("results"), path, up=True)
    if entries and not results.is_dir():
        raise AnalysisError(f"{path}: its results folder {results} is not there; copy outputs/results along")
    cells: list[Cell] = []
    missing: list[Missing] = []
    for entry in entries:
        folder = results / _relative(entry.get("path"), path)
        found = _latest(folder)
        if found is not None:
            cells.append(_read_cell(found))
        else:
            missing.append(_missing(entry, folder))
    name = str(ledger.get("id") or path.parent.name)
    return Loaded(name, str(ledger.get("command") or ""), _unique(cells), missing, ledger)


def _load_results(root: Path) -> Loaded:
    cells: list[Cell] = []
    missing: list[Missing] = []
    for place in _places(root):
        found = _latest(place)
        if found is not None:
            cells.append(_read_cell(found))
        else:
            benchmark, model, accel = place.parts[-4:-1]
            entry = {"benchmark": benchmark, "model": model, "accel": accel, "state": "failed"}
            missing.append(_missing(entry, place))
    order = {"baseline": 0, "accelerated": 1, "placebo": 2}
    cells.sort(key=lambda c: (c.benchmark, order[c.kind], c.stack))
    return Loaded(root.resolve().name or "results", "", cells, missing, {})


def _places(root: Path) -> list[Path]:
    """The folders <benchmark>/<model>/<accel>/<key> of a results folder, whatever their attempt."""
    names = ("cell.json", "failure.json")
    folders = {p.parent for p in root.glob("*/*/*/*/*.json") if p.name in names}
    return sorted({f.with_name(re.sub(r"-\d+$", "", f.name)) for f in folders})


def _latest(folder: Path) -> Path | None:
    """The folder of the latest complete attempt: <key>, or the highest <key>-N."""
    attempts = [(1, folder)]
    for path in folder.parent.glob(f"{folder.name}-*"):
        attempt = path.name[len(folder.name) + 1 :]
        attempts += [(int(attempt), path)] if attempt.isdigit() else []
    files = ("cell.json", "records.parquet")
    complete = [(n, p) for n, p in attempts if all((p / name).is_file() for name in files)]
    return max(complete)[1] if complete else None


def _missing(entry: Mapping[str, Any], folder: Path) -> Missing:
    state = str(entry.get("state") or "missing")
    reason = str(entry.get("error") or "")
    if (folder / "failure.json").is_file():
        failure = _read_json(folder / "failure.json")
        state, reason = "failed", str(failure.get("error") or reason)
    elif state == "complete":
        state, reason = "missing", "its files are gone from the results folder"
    elif state == "elsewhere":
        state, reason = "missing", reason or "another process was computing it"
    state = state if state in ("failed", "missing", "refused") else "missing"
    names = [str(entry.get(k) or "?") for k in ("model", "accel", "benchmark")]
    reason = " ".join((reason or "not run").split())
    return Missing(names[0], names[1], names[2], state, reason, str(entry.get("decoding") or ""))


def _read_cell(folder: Path) -> Cell:
    path = folder / "cell.json"
    content = _read_json(path)

    def get(dotted: str, kind: type) -> Any:
        value: Any = content
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, kind) or value == "":
            raise AnalysisError(f"{path}: {dotted} is {value!r}, not {kind.__name__}; the file is broken")
        return value

    for part in ("benchmark.meta", "environment"):
        get(part, dict)
    for part in ("active", "coverage", "efficiency", "metrics"):
        if content.get(part) is not None:
            get(part, dict)
    lists: dict[str, type] = {"accel.facts": list, "accel.steps": list, "active.steps": list}
    for part, kind_of in (lists | {"decoding.repeats": int, "coverage.n_records": int}).items():
        whole, _, name = part.partition(".")
        if content.get(whole) is not None and get(whole, dict).get(name) is not None:
            get(part, kind_of)
    for part in ("title", "score_unit", "score_kind"):
        get(f"benchmark.meta.{part}", str)
    kind = get("accel.kind", str)
    if kind not in KINDS:
        raise AnalysisError(f"{path}: accel.kind is {kind!r}, not one of {', '.join(KINDS)}")
    calibration = content["accel"].get("calibration_seed")
    return Cell(
        model=get("model.label", str),
        accel=get("accel.label", str),
        benchmark=get("benchmark.name", str),
        decoding=get("decoding.mode", str),
        seed=get("seed", int),
        calibration_seed=calibration if isinstance(calibration, int) else None,
        kind=kind,
        stack=bool(content["accel"].get("stack")),
        key=get("key", str),
        folder=folder,
        content=content,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise AnalysisError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MB, so no file of biaslab's")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AnalysisError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise AnalysisError(f"{path}: holds no JSON object")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        advice = "use a newer biaslab" if newer else "run the line again with this biaslab"
        raise AnalysisError(f"{path}: schema_version {version!r}, this analysis reads {SCHEMA_VERSION}: {advice}")
    return content


def _relative(value: Any, source: Path, *, up: bool = False) -> Path:
    """A relative path from a file, with ".." only where `up` allows it."""
    path = PurePosixPath(value) if isinstance(value, str) and value else None
    if path is None or path.is_absolute() or "\\" in str(path) or (".." in path.parts and not up):
        raise AnalysisError(f"{source}: path {value!r} is not a relative path inside the results folder")
    return Path(path)


def _check_records(frame: pd.DataFrame, path: Path) -> None:
    import numpy as np

    for column in ("item", "cluster"):
        empty = frame[column].isna() | (frame[column].astype(str) == "")
        if empty.any():
            raise AnalysisError(f"{path}: row {int(empty.to_numpy().argmax())} has no {column}")
    key = ["item", "repeat"] if (frame["repeat"] != frame["repeat"].iloc[0]).any() else ["item"]
    wrong = {
        "item {item} occurs twice in repeat {repeat}": frame.duplicated(key),
        "item {item} has an infinite score": np.isinf(frame["score"]),
        "item {item} has score {score} but outcome {outcome!r}": (
            frame["score"].isna() != frame["outcome"].isin(NO_ANSWER)
        ),
    }
    for text, rows in wrong.items():
        if rows.any():
            row = frame[rows].iloc[0].to_dict()
            raise AnalysisError(f"{path}: {text.format(**{str(k): v for k, v in row.items()})}")


def _difference(a: Cell, b: Cell) -> str:
    """The first recorded setting, seeds apart, in which two cells of one place differ, with both values."""
    if a.key == b.key:
        return ""
    flat_a, flat_b = _flat(_identity(a)), _flat(_identity(b))
    for name in sorted(flat_a.keys() | flat_b.keys()):
        if not re.search(r"(^|\.)(\w*_)?seed$", name) and flat_a.get(name) != flat_b.get(name):
            return f"{name} ({flat_a.get(name)!r} and {flat_b.get(name)!r})"
    if (a.seed, a.calibration_seed) != (b.seed, b.calibration_seed):
        return ""
    return f"their keys alone ({a.key[:8]} and {b.key[:8]}: a setting that cell.json does not record)"


BENCHMARK_SETTINGS = ("version", "config", "data_sha256", "limit", "categories", "sample")


def _identity(cell: Cell) -> dict[str, Any]:
    c = cell.content
    whole = c.get("identity") if isinstance(c.get("identity"), dict) else {}
    return {
        "model.identity": c["model"].get("identity"),
        "accel.steps": c["accel"].get("steps"),
        "benchmark": {k: c["benchmark"].get(k) for k in BENCHMARK_SETTINGS},
        **{k: c.get(k) for k in ("decoding", "prompt", "dtype")},
        "identity": whole,  # what the key is made of; among it the source of a class of one's own
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    else:
        return {prefix: value}
    return {k: v for name, x in pairs for k, v in _flat(x, f"{prefix}.{name}".lstrip(".")).items()}


def _unique(cells: Iterable[Cell]) -> list[Cell]:
    return list({cell.folder: cell for cell in cells}.values())


class _Callable(ModuleType):
    """A module that can be called: `analysis.load(...)` in a notebook is analysis.results.load."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from analysis.results import load as load_results

        return load_results(*args, **options)


sys.modules[__name__].__class__ = _Callable
