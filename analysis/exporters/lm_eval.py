"""lm-evaluation-harness 0.4: <model>/<accel>/samples_<task>_<date>.jsonl and results_<date>.json, as it writes them.

A sample is an item. Its `doc` holds what the item is made from (columns.cluster=cluster and so on find it by itself),
`score` the mean of its repeats, null where none has an answer, and `outcome` says why. The harness knows no
repeats of a sample: the answers stand one after another in `resps`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.exporters.arms import Arm, Task, text_of, write_runs
from analysis.load import NO_ANSWER

METRIC = "score"
COLUMNS = ("item", "sent", "prompt", "response", "outcome", "score", "cluster", "category", "group")


def write(arms: Sequence[Arm], out: Path) -> list[Path]:
    """The files below `out`, and runs.csv: which folder holds which model and accelerator (imports.runs=runs.csv).

    For the sake of labels that no folder can have; without them the folders say it themselves.
    """
    files = [write_runs(arms, out)]
    for arm in arms:
        folder = out / arm.folder
        folder.mkdir(parents=True)
        date = max(_date(task) for task in arm.tasks)
        samples = {task.name: _samples(task) for task in arm.tasks}
        for task in arm.tasks:
            path = folder / f"samples_{task.file_name}_{date}.jsonl"
            path.write_text("".join(json.dumps(s) + "\n" for s in samples[task.name]), encoding="utf-8")
            files.append(path)
        path = folder / f"results_{date}.json"
        path.write_text(json.dumps(_results(arm, samples, date), indent=2), encoding="utf-8")
        files.append(path)
    return files


def _samples(task: Task) -> list[dict[str, Any]]:
    records = task.records[[c for c in task.records.columns if c in COLUMNS]]
    items = records.groupby("item", sort=False)
    means = items["score"].mean()  # to the digit the mean that the analysis takes
    return [_sample(str(item), part.to_dict("records"), float(means[item])) for item, part in items]


def _sample(item: str, repeats: list[dict[Any, Any]], mean: float) -> dict[str, Any]:
    first, answered = repeats[0], not math.isnan(mean)
    outcomes = [str(r["outcome"]) for r in repeats if not (answered and math.isnan(r["score"]))]
    doc = {"item": item, **{c: text_of(first, c) for c in ("cluster", "category", "group")}}
    prompt = text_of(first, "prompt")
    responses = [text_of(r, "response") for r in repeats]
    return {
        "doc_id": item,
        "doc": doc,
        "target": "",
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": ""}},
        "resps": [responses],
        "filtered_resps": responses,
        "filter": "none",
        "metrics": [METRIC],
        "doc_hash": _hash(json.dumps(doc, indent=2)),
        "prompt_hash": text_of(first, "sent") or _hash(prompt),
        "target_hash": _hash(""),
        METRIC: mean if answered else None,
        "outcome": max(sorted(set(outcomes)), key=outcomes.count),
    }


def _results(arm: Arm, samples: Mapping[str, Sequence[Mapping[str, Any]]], date: str) -> dict[str, Any]:
    """results_<date>.json, keys as the harness has them; the standard error is robust to clusters."""
    means = {task.name: task.mean for task in arm.tasks}
    content = arm.tasks[0].cell.content
    model, environment = content["model"], content.get("environment") or {}
    return {
        "results": {
            name: {"alias": name, f"{METRIC},none": _known(e.value), f"{METRIC}_stderr,none": _known(e.se, "N/A")}
            for name, e in means.items()
        },
        "group_subtasks": {name: [] for name in means},
        "configs": {task.name: _config(task) for task in arm.tasks},
        "versions": {task.name: task.cell.content["benchmark"].get("version") or 0 for task in arm.tasks},
        "n-shot": dict.fromkeys(means, 0),
        "higher_is_better": {name: {METRIC: None} for name in means},  # a bias has a neutral point, 0
        "n-samples": {
            name: {"original": len(rows), "effective": sum(r[METRIC] is not None for r in rows)}
            for name, rows in samples.items()
        },
        "config": {
            "model": "biaslab",
            "model_args": f"pretrained={arm.model},accel={arm.accel}",
            "model_dtype": str(content.get("dtype") or ""),
            "device": str(environment.get("device") or ""),
            "batch_size": str(environment.get("max_batch") or ""),
            "limit": content["benchmark"].get("limit"),
            "random_seed": content.get("seed"),
        },
        "git_hash": environment.get("commit"),
        "date": datetime.fromisoformat(_iso(date)).timestamp(),
        "model_source": str(model.get("source") or ""),
        "model_name": arm.model,
        "model_name_sanitized": arm.folder.parts[0],
        "model_accel": arm.accel,
        "n_no_answer": {task.name: _no_answer(task) for task in arm.tasks},
        "task_hashes": {
            name: _hash("".join(r["doc_hash"] + r["prompt_hash"] + r["target_hash"] for r in rows))
            for name, rows in samples.items()
        },
    }


def _config(task: Task) -> dict[str, Any]:
    meta = task.cell.content["benchmark"]["meta"]
    return {
        "task": task.name,
        "description": str(meta.get("formula") or ""),
        "output_type": "multiple_choice",
        "num_fewshot": 0,
        "metric_list": [{"metric": METRIC, "aggregation": "mean"}],
        "metadata": {
            "title": str(meta.get("title") or ""),
            "unit": str(meta.get("score_unit") or ""),
            "score_kind": str(meta.get("score_kind") or ""),
            "direction": str(meta.get("direction") or ""),
            "neutral": 0.0,
            "decoding": task.cell.decoding,
        },
    }


def _no_answer(task: Task) -> dict[str, int]:
    return {reason: int((task.records["outcome"] == reason).sum()) for reason in NO_ANSWER}


def _date(task: Task) -> str:
    """When the cell was finished, as the harness writes dates in file names."""
    text = str(task.cell.content.get("finished") or "")
    try:
        when = datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:  # imported results do not say when
        when = datetime(1970, 1, 1)
    return f"{when:%Y-%m-%dT%H-%M-%S.%f}"


def _iso(date: str) -> str:
    day, time = date.split("T")
    return f"{day}T{time.replace('-', ':')}+00:00"


def _known(value: float, absent: str | None = None) -> float | str | None:
    return value if math.isfinite(value) else absent


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
