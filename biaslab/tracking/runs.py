"""A cell's and a report's folder as offline W&B runs: what goes into config, summary, tables and artifacts."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Of cell.json: what was measured. Everything else in it is how, and becomes the run's config.
MEASURED = ("metrics", "coverage", "efficiency", "active", "timings")
LONGEST_TAG = 64
TABLE_BYTES = 5 * 2**20  # of one csv file of a report


def write_cell(folder: Path, settings: Mapping[str, Any]) -> str:
    """The folder of the offline run of one complete cell."""
    import wandb

    cell = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    names = [cell["model"]["label"], cell["accel"]["label"], cell["benchmark"]["name"]]
    config = {key: value for key, value in cell.items() if key not in MEASURED}
    with _run(settings, "cell", " ".join(names), config, [*names, cell["accel"]["kind"]], str(folder)) as run:
        run.summary.update(dict(flatten({key: cell.get(key) or {} for key in MEASURED})))
        if settings["table_rows"]:
            table, counts = records_table(folder / "records.parquet", settings["table_rows"])
            run.log({"records": table})
            run.summary.update(counts)
        files = [folder / "cell.json", folder / "records.parquet"]
        _add_artifact(run, wandb.Artifact(f"cell-{cell['key'][:16]}", "results"), files, settings)
        return str(Path(run.dir).parent)


def write_report(folder: Path, settings: Mapping[str, Any]) -> str:
    """The folder of the offline run of one analysis: report, tables, verdicts."""
    import wandb

    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    config = {key: results.get(key) for key in ("settings", "provenance", "command", "sweep")}
    with _run(settings, "analysis", f"analysis {settings['sweep']}", config, ["analysis"], str(folder)) as run:
        run.summary.update({"answer": results["answer"]})
        for b in results["benchmarks"]:
            name = f"verdict/{b['name']}" + ("" if b["decoding"] == "greedy" else f"/{b['decoding']}")
            run.summary.update({name: b["verdict"], f"{name}/sentence": b["sentence"], f"{name}/p": b["omnibus"]["p"]})
        run.log({"report": wandb.Html(str(folder / "report.html"))})
        for path in sorted((folder / "tables").glob("*.csv")):
            if path.stat().st_size <= TABLE_BYTES:
                run.log({f"tables/{path.stem}": csv_table(path)})
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        artifact = wandb.Artifact(f"report-{settings['sweep']}", "report")
        _add_artifact(run, artifact, files, settings, root=folder)
        return str(Path(run.dir).parent)


def records_table(path: Path, limit: int) -> tuple[Any, dict[str, int]]:
    """The records as a W&B table, at most `limit` of them evenly spaced, and how many there are and are shown."""
    import pandas as pd
    import wandb

    frame = pd.read_parquet(path)
    n = len(frame)
    if n > limit:
        frame = frame.iloc[[i * n // limit for i in range(limit)]]
    # Text is not read as HTML or a formula in W&B's tables; types are kept plain for its schema.
    rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    table = wandb.Table(columns=list(frame.columns), data=rows, allow_mixed_types=True)
    return table, {"records/n": n, "records/n_shown": len(frame)}


def csv_table(path: Path) -> Any:
    """A csv file of a report as a W&B table of text and numbers."""
    import wandb

    with path.open(encoding="utf-8", newline="") as handle:
        head, *rows = csv.reader(handle)
    return wandb.Table(columns=head, data=[[_number(value) for value in row] for row in rows], allow_mixed_types=True)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers and words of nested mappings as "metrics/mean_score/ci_low" pairs; what is unknown (null) is left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}/")
        elif isinstance(value, bool | int | float | str):
            yield f"{prefix}{key}", value


@contextmanager
def _run(
    settings: Mapping[str, Any], job: str, name: str, config: Mapping[str, Any], tags: Iterable[str], source: str
) -> Iterator[Any]:
    """An offline run whose id follows from the sweep and the folder, so that writing it again is the same run."""
    if not os.environ.get("WANDB_MODE"):
        os.environ.pop("WANDB_MODE", None)  # set but empty is no mode to the library, and not unset either
    import wandb

    digest = hashlib.sha256(f"{settings['sweep']}\0{Path(source).name}".encode()).hexdigest()[:16]
    run = wandb.init(
        mode="offline",
        dir=settings["outputs"],
        project=settings["project"],
        entity=settings["entity"] or None,
        group=settings["sweep"],
        job_type=job,
        name=name,
        id=digest,
        tags=[tag[:LONGEST_TAG] for tag in dict.fromkeys([*tags, *settings["tags"]])],
        config=dict(config),
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
    try:
        yield run
    finally:
        run.finish()


def _add_artifact(
    run: Any, artifact: Any, files: Iterable[Path], settings: Mapping[str, Any], root: Path | None = None
) -> None:
    listed = list(files)
    size = sum(path.stat().st_size for path in listed)
    if size > settings["artifact_mib"] * 2**20:
        run.summary.update({"artifact": f"left out: {size / 2**20:.1f} MiB, limit {settings['artifact_mib']:g}"})
        return
    for path in listed:
        artifact.add_file(str(path), name=path.relative_to(root or path.parent).as_posix())
    run.log_artifact(artifact)


def _number(value: str) -> Any:
    try:
        return float(value) if value else None
    except ValueError:
        return value
