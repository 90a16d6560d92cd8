"""every_eval_ever: the instance-level records of its shared schema, one JSON line a sample of an evaluation.

Field names after instance_level_eval.schema.json 0.2 of evaleval/every_eval_ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.errors import AnalysisError
from analysis.importers.inputs import Inputs, Table, refuse_columns, runs_of
from analysis.importers.jsonl import objects
from analysis.words import listing

FORMAT = "a folder <model>/<accel>/ of every_eval_ever instance records (*.jsonl)"
COLUMNS = ("cluster", "category", "group", "repeat")  # which of ours may be named as a key of the metadata
NEEDED = ("schema_version", "evaluation_id", "model_id", "evaluation_name", "sample_id", "evaluation")


def matches(path: Path) -> bool:
    """Whether `path` is a record file, or a folder with one below it (its first line tells)."""
    files = [path] if path.is_file() else sorted(path.rglob("*.jsonl"))
    return any(p.suffix == ".jsonl" and _is_record(p) for p in files[:50])


def read(path: Path, inputs: Inputs) -> Table:
    """The records below `path`. The accelerator is metadata.accel, else the folder's name or imports.runs.

    Where it is in the metadata, so may be the model's label (metadata.model) and each answer's outcome.

    Raises AnalysisError for a record that lacks what the schema needs, and where no accelerator is named.
    """
    import pandas as pd

    refuse_columns(inputs, ("model", "accel", *COLUMNS), what="records of every_eval_ever")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*.jsonl") if _is_record(p))
    read_files = {file: objects(file) for file in files}
    silent = [
        f for f, records in read_files.items() if not all(_metadata(r).get(inputs.columns.accel) for r in records)
    ]
    runs = runs_of(path if path.is_dir() else path.parent, silent, inputs, what="the records") if silent else {}
    rows = [_row(record, runs.get(file), inputs, file) for file, records in read_files.items() for record in records]
    return Table(pd.DataFrame(rows), formulas={"": "evaluation.score of every_eval_ever"})


def _row(record: Mapping[str, Any], run: tuple[str, str] | None, inputs: Inputs, file: Path) -> dict[str, Any]:
    lacking = [k for k in NEEDED if not record.get(k)]
    if lacking or not isinstance(record["evaluation"], dict) or "score" not in record["evaluation"]:
        raise AnalysisError(f"{file}: a record lacks {listing(lacking) if lacking else 'evaluation.score'}")
    metadata = _metadata(record)
    row: dict[str, Any] = {
        "model": run[0] if run else str(metadata.get(inputs.columns.model) or record["model_id"]),
        "accel": run[1] if run else str(metadata[inputs.columns.accel]),
        "benchmark": str(record["evaluation_name"]),
        "item": str(record["sample_id"]),
        "score": record["evaluation"]["score"] if not record.get("error") else None,
    }
    if not run and isinstance(metadata.get("outcome"), str):
        row["outcome"] = metadata["outcome"]
    for column in COLUMNS:
        named = str(getattr(inputs.columns, column))
        if named in metadata:
            row[column] = metadata[named]
        elif named != column:
            known = listing([str(k) for k in metadata], most=20)
            raise AnalysisError(f"columns.{column}={named}: not in the metadata of {file}; choose from {known}")
    return row


def _metadata(record: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = record.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _is_record(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as lines:
            first = json.loads(lines.readline(2**24) or "null")
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and {"evaluation_id", "sample_id", "evaluation"} <= first.keys()
