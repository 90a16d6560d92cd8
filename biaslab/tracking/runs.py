"""A sweep's folders as offline W&B runs: what goes into config, summary, history and artifacts.

Every run's id follows from the sweep and what the run is of, so that writing it again is the same run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biaslab.results.ledger import read_ledger
from biaslab.results.store import read_json
from biaslab.secrets import redact
from biaslab.status import ORDER, cell_states
from biaslab.tracking import artifacts
from biaslab.tracking.tables import csv_table, dashboard_table, records_table

#: Of cell.json: what was measured. Everything else in it is how, and becomes the run's config.
MEASURED = ("metrics", "coverage", "efficiency", "active", "timings")
LONGEST_TAG = 64
LONGEST_WORDS = 1000  # of an error
TABLE_BYTES = 5 * 2**20  # of one csv file of a report
ROWS = 500  # of a sweep's progress
MARK = "biaslab.json"  # in a run's folder: which run it is, and when its turn to be sent comes

#: Whoever makes an artifact is sent before those that use it.
STAGES = {"sweep": 0, "baseline": 0, "arm": 1, "cell": 2, "analysis": 3}


@dataclass
class _Run:
    """One run before it is written. name : what its id is made of, beside the sweep and the job."""

    job: str
    name: str
    title: str
    config: Mapping[str, Any]
    tags: Sequence[str] = ()
    stage: str = ""
    exit_code: int = 0


def write_arm(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The run of the arm that a complete cell was asked on: it makes the accelerated model out of the model."""
    cell = read_json(folder / "cell.json")
    names = [cell["model"]["label"], cell["accel"]["label"]]
    baseline = cell["accel"]["kind"] == "baseline"
    kept = ("model", "accel", "dtype", "placement", "environment", "command")
    config = {key: cell[key] for key in kept}
    spec = _Run("arm", arm_of(cell), " ".join(names), config, [*names, cell["accel"]["kind"]])
    spec.stage = "baseline" if baseline else "arm"
    with _run(settings, spec) as run:
        run.summary.update(dict(flatten({key: cell.get(key) or {} for key in ("efficiency", "active")})))
        if baseline:
            run.log_artifact(artifacts.model_artifact(cell))
        else:
            artifacts.use(run, artifacts.model_artifact(cell))
            run.log_artifact(artifacts.accelerated_artifact(cell))
        return Path(run.dir).parent


def write_cell(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The run of one complete cell: it makes records out of its arm's model."""
    cell = read_json(folder / "cell.json")
    names = [cell["model"]["label"], cell["accel"]["label"], cell["benchmark"]["name"]]
    config = {key: value for key, value in cell.items() if key not in MEASURED}
    spec = _Run("cell", cell["key"], " ".join(names), config, [*names, cell["accel"]["kind"]])
    with _run(settings, spec) as run:
        run.summary.update({"state": "complete", **dict(flatten({key: cell.get(key) or {} for key in MEASURED}))})
        baseline = cell["accel"]["kind"] == "baseline"
        artifacts.use(run, (artifacts.model_artifact if baseline else artifacts.accelerated_artifact)(cell))
        records = artifacts.records_artifact(folder, cell, settings)
        if "left_out.json" in records.manifest.entries:
            run.summary.update({"artifact": _left_out(folder, settings)})
        run.log_artifact(records)
        if settings["table_rows"]:
            table, counts = records_table(folder / "records.parquet", settings["table_rows"])
            run.log({"records": table})
            run.summary.update(counts)
        return Path(run.dir).parent


def write_failure(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> Path:
    """The run of a cell that is not there: a failed one, with the reason in one line."""
    sweep = Path(settings["sweep_folder"])
    record = sweep / read_ledger(sweep)["results"] / entry["path"] / "failure.json"
    known = read_json(record) if entry["state"] != "refused" and record.is_file() else {}
    config = {key: value for key, value in known.items() if key not in (*MEASURED, "error", "traceback")} or {
        key: entry[key] for key in ("model", "accel", "benchmark", "decoding", "seed")
    }
    names = [entry["model"], entry["accel"], entry["benchmark"]]
    spec = _Run("cell", entry["key"] or entry["path"], " ".join(names), config, [*names, entry["state"]], exit_code=1)
    with _run(settings, spec) as run:
        run.summary.update({"state": entry["state"], "error": one_line(entry["error"])})
        return Path(run.dir).parent


def write_sweep(settings: Mapping[str, Any]) -> Path:
    """The run of the sweep itself: how many cells are complete or failed, as time went on and now."""
    folder = Path(settings["sweep_folder"])
    ledger = read_ledger(folder)
    config = {key: ledger.get(key) for key in ("id", "command", "created")}
    with _run(settings, _Run("sweep", "", f"sweep {settings['sweep']}", config)) as run:
        run.define_metric("progress/*", step_metric="progress/minutes")
        for row in _progress(folder, ledger):
            run.log(row)
        run.summary.update(sweep_summary(folder))
        return Path(run.dir).parent


def sweep_summary(folder: Path) -> dict[str, Any]:
    """How a sweep stands: its status, cells by state, and the first of what failed, each with its reason."""
    ledger = read_ledger(folder)
    states = cell_states(folder, ledger)
    counts = Counter(state.state for state in states)
    bad = [
        f"{s.model} {s.accel} {s.benchmark}: {s.state} {s.words}" for s in states if s.state in ("failed", "refused")
    ]
    known: dict[str, Any] = {"status": ledger["status"], "cells/all": len(states)}
    known |= {f"cells/{name}": counts[name] for name in ORDER}
    return known | {"failures": one_line("; ".join(bad[:20]))}


def write_report(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The run of one analysis: it makes the report, with figures, tables and verdicts, out of the records."""
    import wandb

    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    config = {key: results.get(key) for key in ("settings", "provenance", "command", "sweep")}
    spec = _Run("analysis", "analysis", f"analysis {settings['sweep']}", config, ["analysis"])
    with _run(settings, spec) as run:
        for path in complete_cells(Path(settings["sweep_folder"])):
            artifacts.use(run, artifacts.records_artifact(path, read_json(path / "cell.json"), settings))
        run.summary.update({"answer": results["answer"]})
        for b in results["benchmarks"]:
            name = f"verdict/{b['name']}" + ("" if b["decoding"] == "greedy" else f"/{b['decoding']}")
            run.summary.update({name: b["verdict"], f"{name}/sentence": b["sentence"], f"{name}/p": b["omnibus"]["p"]})
        run.log({"dashboard/cells": dashboard_table(folder, settings["sweep"])})
        run.log({"report": wandb.Html(str(folder / "report.html"))})
        for path in sorted((folder / "tables").glob("*.csv")):
            if path.stat().st_size <= TABLE_BYTES:
                run.log({f"tables/{path.stem}": csv_table(path)})
        for path in sorted((folder / "figures").glob("*.png")):
            run.log({f"figures/{path.stem}": wandb.Image(str(path), caption=path.stem)})
        report = artifacts.report_artifact(folder, settings)
        if "left_out.json" in report.manifest.entries:
            run.summary.update({"artifact": artifacts.too_large(_files(folder), settings)})
        run.log_artifact(report)
        return Path(run.dir).parent


def arm_of(cell: Mapping[str, Any]) -> str:
    """What tells arms of one sweep apart: the very weights, by their labels' names too."""
    return f"{cell['model']['label']} {cell['accel']['label']} {artifacts.digest_of(artifacts.arm_identity(cell))}"


def complete_cells(sweep: Path) -> Iterator[Path]:
    """Folders of the latest attempts of every complete cell of a sweep, reused ones included."""
    from biaslab.tracking.track import found_cells

    ledger = read_ledger(sweep)
    return found_cells(sweep / ledger["results"], ledger["cells"])


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers and words of nested mappings as "metrics/mean_score/ci_low" pairs; what is unknown (null) is left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}/")
        elif isinstance(value, bool | int | float | str):
            yield f"{prefix}{key}", value


def one_line(words: str) -> str:
    """Words of an error for a server: one line, no secret, of bounded length."""
    return redact(" ".join(words.split()))[:LONGEST_WORDS]


def read_mark(folder: Path) -> dict[str, Any]:
    """What a run's folder is of; a run that is not ours comes last."""
    try:
        mark: dict[str, Any] = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"id": folder.name, "stage": max(STAGES.values())}
    return mark


def remove_superseded(folder: Path) -> None:
    """Delete the folders of the same run that were written before this one, which says all they say."""
    mark = read_mark(folder)
    for older in folder.parent.glob(f"offline-run-*-{mark['id']}"):
        if older.name < folder.name and read_mark(older) == mark:
            shutil.rmtree(older, ignore_errors=True)


@contextmanager
def _run(settings: Mapping[str, Any], spec: _Run) -> Iterator[Any]:
    """An offline run, finished and marked at the end of the block."""
    if not os.environ.get("WANDB_MODE"):
        os.environ.pop("WANDB_MODE", None)  # set but empty is no mode to the library, and not unset either
    import wandb

    digest = hashlib.sha256(f"{settings['sweep']}\0{spec.job}\0{spec.name}".encode()).hexdigest()[:16]
    while list((Path(settings["outputs"]) / "wandb").glob(f"offline-run-{time.strftime('%Y%m%d_%H%M%S')}-{digest}")):
        time.sleep(0.1)  # W&B names a run's folder by the second: written twice in one, it would be the same folder
    run = wandb.init(
        mode="offline",
        dir=settings["outputs"],
        project=settings["project"],
        entity=settings["entity"] or None,
        group=settings["sweep"],
        job_type=spec.job,
        name=spec.title,
        id=digest,
        tags=[tag[:LONGEST_TAG] for tag in dict.fromkeys([*spec.tags, *settings["tags"]])],
        config=dict(spec.config),
        # What the library would gather by itself is on record in the config already, or nobody's business.
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_save_requirements=False,
        ),
    )
    folder = Path(run.dir).parent
    try:
        yield run
    finally:
        run.finish(exit_code=spec.exit_code)
    mark = {"id": digest, "stage": STAGES[spec.stage or spec.job], "group": settings["sweep"]}
    mark |= {"project": settings["project"], "entity": settings["entity"]}
    (folder / MARK).write_text(json.dumps(mark), encoding="utf-8")


def _progress(folder: Path, ledger: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    """Cells complete and failed by minute since the sweep began; a longer sweep's rows begin with a shorter one's."""
    from datetime import datetime

    began = datetime.fromisoformat(ledger["created"]).timestamp()
    results = folder / ledger["results"]
    times = [(_written(results / cell["path"]), cell["path"]) for cell in ledger["cells"]]
    events = sorted((max(when - began, 0.0), path, name) for (when, name), path in times if name)
    every = 1 + len(ledger["cells"]) // ROWS
    counts = Counter({"complete": 0, "failed": 0})
    for number, (seconds, _, name) in enumerate(events, 1):
        counts[name] += 1
        if number % every == 0 or number == len(ledger["cells"]):
            yield {"progress/minutes": seconds / 60, "progress/all": len(ledger["cells"])} | {
                f"progress/{key}": value for key, value in counts.items()
            }


def _written(cell: Path) -> tuple[float, str]:
    """When a cell's outcome was written and what it was; "" where there is none."""
    for file, name in (("cell.json", "complete"), ("failure.json", "failed")):
        if (cell / file).is_file():
            return (cell / file).stat().st_mtime, name
    return 0.0, ""


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _left_out(folder: Path, settings: Mapping[str, Any]) -> str:
    return artifacts.too_large([folder / "cell.json", folder / "records.parquet"], settings)
