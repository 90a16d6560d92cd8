"""Large fake sweeps: the paper's grid with its real item counts, and any grid beyond it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.analysis.fake import make_sweep


@dataclass(frozen=True)
class Shape:
    """Items of one benchmark: clusters x items in each, and the kind of its score."""

    name: str
    n_clusters: int
    items_per_cluster: int
    score_kind: str = "log-odds"


#: The six of the paper by their real files: items and what they are clustered by.
PAPER = (
    Shape("crows_pairs", 1508, 1),
    Shape("discrim_eval", 70, 134),
    Shape("discrim_eval_gen", 70, 2, "rate"),
    Shape("dt_stereotyping", 48, 24, "rate"),
    Shape("global_opinion_qa", 2554, 9),
    Shape("worldbench", 200, 11),
)
PAPER_MODELS = ("llama", "llama2", "mistral")
PAPER_ACCELS = ("bnb8", "bnb4", "awq4", "kv8", "kv4", "wanda50", "wanda24")


def make_grid(
    root: Path,
    *,
    models: Sequence[str] = PAPER_MODELS,
    accels: Sequence[str] = PAPER_ACCELS,
    shapes: Sequence[Shape] = PAPER,
    failed: Sequence[tuple[str, str]] = (),
    response: str = "",
) -> Path:
    """The folder of one fake sweep over benchmarks of different sizes.

    response : what every record says was generated.
    """
    command = f"python -m biaslab -m model={','.join(models)} accel=none,{','.join(accels)}"
    parts = [
        make_sweep(
            root, models=models, accels=accels, benchmarks=(s.name,), n_clusters=s.n_clusters,
            items_per_cluster=s.items_per_cluster, score_kind=s.score_kind, interaction=0.4, notes={}, source="hub",
            failed=failed, sweep_id=s.name, command=command, response=response, seed=1,
        )
        for s in shapes
    ]  # fmt: skip
    ledgers = [json.loads((part / "sweep.json").read_text()) for part in parts]
    whole = ledgers[0] | {"id": "grid", "cells": [cell for ledger in ledgers for cell in ledger["cells"]]}
    folder = parts[0].with_name("grid")
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps(whole), encoding="utf-8")
    return folder
