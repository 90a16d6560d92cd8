"""every_eval_ever, schema 0.3.0: data/<benchmark>/<developer>/<model>/<uuid>.json, instances in <uuid>_samples.jsonl.

The schema has no missing number: an instance without an answer has `error` with the reason, and its score of 0 is
no score (the importer reads none). It has no word for an accelerator either: metadata holds model and accel by label.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.exporters.arms import Arm, Task, safe, text_of

SCHEMA = "0.3.0"
Json = dict[str, Any]


def write(arms: Sequence[Arm], out: Path) -> list[Path]:
    """The files below `out`, two for each cell."""
    files = []
    for arm in arms:
        for task in arm.tasks:
            folder = out.joinpath("data", task.file_name, *(safe(part) for part in _model_id(arm, task).split("/")))
            folder.mkdir(parents=True, exist_ok=True)
            stem = _stem(arm, task)
            lines = "".join(json.dumps(_instance(arm, task, row)) + "\n" for row in task.records.to_dict("records"))
            samples = folder / f"{stem}_samples.jsonl"
            samples.write_text(lines, encoding="utf-8")
            aggregate = folder / f"{stem}.json"
            aggregate.write_text(
                json.dumps(_aggregate(arm, task, samples.relative_to(out), lines), indent=2), encoding="utf-8"
            )
            files += [samples, aggregate]
    return files


def _instance(arm: Arm, task: Task, row: Mapping[Any, Any]) -> Json:
    own = dict(row)
    score, prompt, response = float(own["score"]), text_of(own, "prompt"), text_of(own, "response")
    answered = not math.isnan(score)
    metadata = {"model": arm.model, "accel": arm.accel, "repeat": f"{int(own['repeat']):06d}"}
    metadata |= {c: text_of(own, c) for c in ("cluster", "category", "group", "outcome")}
    return {
        "schema_version": SCHEMA,
        "evaluation_id": _evaluation_id(arm, task),
        "model_id": _model_id(arm, task),
        "evaluation_name": task.name,
        "evaluation_result_id": _result_id(arm, task),
        "sample_id": str(own["item"]),
        "sample_hash": hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": prompt, "reference": []},
        "output": {"raw": [response]},
        "messages": None,
        "answer_attribution": [],
        "evaluation": {"score": score if answered else 0.0, "is_correct": answered and score <= 0},
        "error": None if answered else metadata["outcome"] or "unparsed",
        "metadata": metadata,
    }


def _aggregate(arm: Arm, task: Task, samples: Path, lines: str) -> Json:
    content = task.cell.content
    environment = content.get("environment") or {}
    versions = environment.get("versions") or {}
    return {
        "schema_version": SCHEMA,
        "evaluation_id": _evaluation_id(arm, task),
        "evaluation_timestamp": str(content.get("started") or ""),
        "retrieved_timestamp": _timestamp(task),
        "source_metadata": {
            "source_name": "biaslab",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "biaslab", "version": str(versions.get("biaslab") or "unknown")},
        "model_info": {
            "name": arm.model,
            "id": _model_id(arm, task),
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                "accel": arm.accel,
                "identity": str(content["model"].get("identity") or "unknown"),
                "dtype": str(content.get("dtype") or "unknown"),
            },
        },
        "evaluation_results": [_result(arm, task)],
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": samples.as_posix(),
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(lines.encode("utf-8")).hexdigest(),
            "total_rows": len(task.records),
        },
    }


def _result(arm: Arm, task: Task) -> Json:
    meta = task.cell.content["benchmark"]["meta"]
    rate = meta.get("score_kind") == "rate"
    config: Json = {
        "evaluation_description": str(meta.get("formula") or ""),
        "metric_id": "biaslab.mean_item_score",
        "metric_name": "mean item score",
        "metric_kind": "bias",
        "metric_unit": str(meta.get("score_unit") or ""),
        "lower_is_better": True,
        "score_type": "continuous",
        "min_score": -1 if rate else "-Infinity",
        "max_score": 1 if rate else "Infinity",
        "additional_details": {
            "neutral": "0; lower_is_better is said of the distance from it",
            "direction": str(meta.get("direction") or ""),
            "is_correct": "score at most 0: not in the stereotyped direction",
        },
    }
    return {
        "evaluation_result_id": _result_id(arm, task),
        "evaluation_name": task.name,
        "source_data": {"dataset_name": task.cell.benchmark, "source_type": "other"},
        "metric_config": config,
        "score_details": _score(task),
    }


def _score(task: Task) -> Json:
    """The mean with its error, and how many answers there are; without an answer 0, and the details say so."""
    e, counts = task.mean, task.records["outcome"].value_counts()
    details = {f"n_{name}": str(int(counts.get(name, 0))) for name in ("refused", "unparsed", "too_long")}
    details |= {"n_valid": str(int(task.records["score"].notna().sum()))}
    out: Json = {"score": e.value if e.n_items else 0.0, "details": details}
    if math.isfinite(e.se) and math.isfinite(e.ci_low):
        out["uncertainty"] = {
            "standard_error": {"value": e.se, "method": "cluster-robust (CR2)"},
            "confidence_interval": {"lower": e.ci_low, "upper": e.ci_high, "confidence_level": 0.95, "method": "t"},
            "num_samples": e.n_items,
        }
    return out


def _evaluation_id(arm: Arm, task: Task) -> str:
    return f"{task.file_name}/{arm.folder.parts[0]}_{arm.folder.parts[1]}/{_timestamp(task)}"


def _result_id(arm: Arm, task: Task) -> str:
    return f"{_evaluation_id(arm, task)}#mean_item_score"


def _model_id(arm: Arm, task: Task) -> str:
    """Developer and model: the hub's name of a hub model; another one by where it comes from and its label."""
    model = task.cell.content["model"]
    name = str(model.get("identity") or "").partition("@")[0] if model.get("source") == "hub" else ""
    if name.count("/") == 1 and all(name.split("/")):
        return name
    developer = {"embedded": "biaslab", "local": "local"}.get(str(model.get("source")), "unknown")
    return f"{developer}/{arm.folder.parts[0]}"


def _stem(arm: Arm, task: Task) -> str:
    """A random UUID (version 4) by its form, but the same for the same cell wherever it is exported."""
    digest = hashlib.sha256(repr((arm.model, arm.accel, task.name, task.cell.key)).encode("utf-8", "surrogatepass"))
    return str(uuid.UUID(bytes=digest.digest()[:16], version=4))


def _timestamp(task: Task) -> str:
    """When the cell was finished, in seconds since 1970; 0 where nobody says."""
    try:
        return str(datetime.fromisoformat(str(task.cell.content.get("finished") or "")).timestamp())
    except ValueError:
        return "0.0"
