"""Makes sweep folders as biaslab writes them, with a planted interaction, without any model.

    make_sweep(tmp_path, models=["a", "b"], interaction=0.5)  ->  tmp_path/outputs/sweeps/fake

The score of item i under model m and accel a is
    truth_i + item effect + model effect + accel effect + cluster reaction + noise
with `interaction` added to the last model under the first accel that is not a placebo.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

STEPS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "hqq8": ("hqq", "quantizer", {"bits_per_weight": 8.5, "simulated": False}),
    "hqq4": ("hqq", "quantizer", {"bits_per_weight": 4.5, "simulated": False}),
    "wanda50": ("wanda", "pruner", {"sparsity": 0.5, "simulated": True}),
    "magnitude50": ("magnitude", "pruner", {"sparsity": 0.5, "simulated": True}),
    "placebo_batch": ("placebo", "placebo", {}),
    "placebo_rerun": ("placebo", "placebo", {}),
}
POSITIVE_CONTROL = "positive control: aligned inside its own 4-bit rounding cells"


def make_sweep(
    root: Path,
    *,
    models: Sequence[str] = ("tiny_llama", "tiny_mistral"),
    accels: Sequence[str] = ("hqq4", "wanda50", "wanda50+hqq4", "placebo_batch"),
    benchmarks: Sequence[str] = ("planted",),
    n_clusters: int = 20,
    items_per_cluster: int = 6,
    interaction: float = 0.0,
    shift: float = 0.15,
    noise: float = 0.2,
    icc: float = 0.3,
    seed: int = 0,
    seeds: Sequence[int] = (0,),
    repeats: int = 1,
    score_kind: str = "log-odds",
    direction: str | None = "positive: the stereotyped group is preferred",
    missing: float = 0.0,
    failed: Sequence[tuple[str, str]] = (),
    inert: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
    source: str = "embedded",
    sweep_id: str = "fake",
    command: str = "python -m biaslab -m model=tiny_llama,tiny_mistral accel=hqq4,wanda50",
    overrides: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    write_sweep: bool = True,
    response: str = "",
) -> Path:
    """Write outputs/results and outputs/sweeps/<sweep_id> under `root`; the path of the sweep's folder.

    interaction : added to the items of (last model, first accel that is no placebo).
    shift : effect of every real accel on every model; a placebo's is 0.
    noise, icc : sd of a cell's item noise, and the share of it that a cluster has in common.
    missing : share of items (each cell's own) without an answer.
    failed : (model, accel) pairs whose cells left a failure instead.
    inert : accels that change nothing at all: scores equal the baseline's, largest logit change 0.
    overrides : (model, accel) -> fields of cell.json replaced there, such as {"dtype": "bfloat16"}.
    response : the generated text of every record, with the accel's name after it.
    """
    outputs = Path(root) / "outputs"
    notes = {"tiny_mistral": POSITIVE_CONTROL} if notes is None else notes
    cells = []
    for benchmark in benchmarks:
        for cell_seed in seeds:
            scores = _scores(
                models,
                accels,
                seed=_number(benchmark, seed),
                replicate=cell_seed,
                n_clusters=n_clusters,
                items_per_cluster=items_per_cluster,
                interaction=interaction,
                shift=shift,
                noise=noise,
                icc=icc,
                missing=missing,
                repeats=repeats,
                inert=inert,
                score_kind=score_kind,
            )
            for (model, accel), records in scores.items():
                if response:
                    records["response"] = f"{response} {accel}"
                cell = _cell(
                    model,
                    accel,
                    benchmark,
                    records,
                    seed=cell_seed,
                    score_kind=score_kind,
                    note=notes.get(model, ""),
                    inert=accel in inert,
                    repeats=repeats,
                    source=source,
                    command=command,
                    direction=direction,
                )
                cell.update((overrides or {}).get((model, accel), {}))
                cells.append(_write_cell(outputs / "results", cell, records, fails=(model, accel) in set(failed)))
    sweep = outputs / "sweeps" / sweep_id
    if write_sweep:
        sweep.mkdir(parents=True)
        _write_json(
            sweep / "sweep.json",
            {
                "schema_version": 1,
                "id": sweep_id,
                "command": command,
                "argv": command.split()[3:],
                "created": "2026-11-24T10:00:00+00:00",
                "finished": "2026-11-24T10:02:30+00:00",
                "status": "failed" if failed else "complete",
                "results": "../../results",
                "cells": cells,
            },
        )
    return sweep


def two_decodings(
    root: Path, *, models: Sequence[str] = ("a", "b"), sampled_fails: Sequence[tuple[str, str]] = ()
) -> Path:
    """A sweep of hqq4 under greedy decoding and sampled (2 repeats); `sampled_fails` left failures there."""
    settings: dict[str, Any] = {"models": models, "accels": ("hqq4",), "notes": {}, "shift": 0.0, "noise": 0.05}
    sweep = make_sweep(root, **settings)
    other = make_sweep(root / "sampled", **settings, repeats=2, failed=sampled_fails)
    ledger = json.loads((sweep / "sweep.json").read_text())
    for entry in json.loads((other / "sweep.json").read_text())["cells"]:
        key = f"{entry['key'][:-7]}sampled"
        source, path = other.parents[1] / "results" / entry["path"], str(Path(entry["path"]).with_name(key))
        shutil.move(source, root / "outputs" / "results" / path)
        if (file := root / "outputs" / "results" / path / "cell.json").is_file():
            file.write_text(json.dumps(json.loads(file.read_text()) | {"key": key}))
        ledger["cells"].append(entry | {"key": key, "path": path})
    _write_json(sweep / "sweep.json", ledger)
    return sweep


def _scores(
    models: Sequence[str],
    accels: Sequence[str],
    *,
    seed: int,
    replicate: int,
    n_clusters: int,
    items_per_cluster: int,
    interaction: float,
    shift: float,
    noise: float,
    icc: float,
    missing: float,
    repeats: int,
    inert: Sequence[str],
    score_kind: str,
) -> dict[tuple[str, str], pd.DataFrame]:
    rng = np.random.default_rng(seed)
    n = n_clusters * items_per_cluster
    cluster = np.repeat(np.arange(n_clusters), items_per_cluster)
    truth = np.where(cluster % 5 == 0, 0.0, rng.normal(0.3, 0.8, n))
    base = truth + rng.normal(0, 0.1, n)
    real = [a for a in accels if not a.startswith("placebo")]
    items = pd.DataFrame(
        {
            "item": [f"t{c:02d}-{i % items_per_cluster:02d}" for i, c in enumerate(cluster)],
            "cluster": [f"template {c:02d}" for c in cluster],
            "category": np.where(cluster % 5 == 0, "control", np.where(cluster % 2 == 0, "gender", "religion")),
            "group": [f"group {i % 3}" for i in range(n)],
            "truth": truth,
        }
    )
    out = {}
    rng = np.random.default_rng((seed, replicate))  # a replicate has the same items, with noise of its own
    for model in models:
        own = base + rng.normal(0, 0.15, n)
        for accel in ("none", *accels):
            size = 0.02 if accel.startswith("placebo") else noise
            common = rng.normal(0, size * icc**0.5, n_clusters)[cluster]
            moved = common + rng.normal(0, size * (1 - icc) ** 0.5, n) + (shift if accel in real else 0.0)
            if real and model == models[-1] and accel == real[0]:
                moved = moved + interaction
            if accel == "none" or accel in inert:
                moved = np.zeros(n)
            gone = rng.random(n) < missing
            out[model, accel] = _records(items, own + moved, gone, rng, repeats, score_kind)
    return out


def _records(
    items: pd.DataFrame,
    mean: np.ndarray,
    gone: np.ndarray,
    rng: np.random.Generator,
    repeats: int,
    score_kind: str,
) -> pd.DataFrame:
    frames = []
    for repeat in range(repeats):
        score = mean + (rng.normal(0, 0.05, len(mean)) if repeats > 1 else 0.0)
        if score_kind == "rate":
            score = (score > 0).astype(float) - 0.5
        score = np.where(gone, np.nan, score)
        outcome = np.where(gone, "refused", np.where(score > 0, "stereotyped", "other"))
        frames.append(
            items.assign(
                repeat=np.int32(repeat),
                score=score,
                outcome=outcome,
                refused=gone,
                prompt_tokens=np.int32(12),
                response="",
                detail="{}",
            )
        )
    columns = [
        "item",
        "cluster",
        "category",
        "group",
        "repeat",
        "score",
        "outcome",
        "refused",
        "truth",
        "prompt_tokens",
        "response",
        "detail",
    ]
    return pd.concat(frames, ignore_index=True)[columns]


def _cell(
    model: str,
    accel: str,
    benchmark: str,
    records: pd.DataFrame,
    *,
    seed: int,
    score_kind: str,
    note: str,
    inert: bool,
    repeats: int,
    source: str,
    command: str,
    direction: str | None,
) -> dict[str, Any]:
    steps = [] if accel == "none" else accel.split("+")
    kind = "baseline" if not steps else "placebo" if accel.startswith("placebo") else "accelerated"
    values = {s: STEPS.get(s, ("custom", "custom", {}))[2] for s in steps}
    valid = int(records["score"].notna().sum())
    change = 0.0 if inert else 1e-6 if kind == "placebo" else 1.25
    bits = next((v["bits_per_weight"] for v in values.values() if "bits_per_weight" in v), 32.0)
    return {
        "schema_version": 1,
        "key": _hash(model, accel, benchmark, seed)[:32],
        "status": "complete",
        "attempt": 1,
        "model": {
            "label": model,
            "source": source,
            "identity": "sha256:" + _hash(model),
            "architecture": "LlamaForCausalLM",
            "note": note,
            "planted_scale": 1.0,
        },
        "accel": {
            "label": accel,
            "kind": kind,
            "stack": len(steps) > 1,
            "steps": [
                {
                    "name": s,
                    "family": STEPS.get(s, ("custom",))[0],
                    "kind": STEPS.get(s, ("custom", "custom"))[1],
                    "config": {},
                }
                for s in steps
            ],
            "facts": [{"step": s, "method": s, "values": values[s]} for s in steps if values[s]],
            "calibration_seed": 0 if any("wanda" in s for s in steps) else None,
        },
        "active": None
        if not steps
        else {"max_logit_change": change, "mean_logit_change": change / 10, "n_prompts": 16},
        "benchmark": {
            "name": benchmark,
            "version": 1,
            "config": {},
            "data_sha256": "",
            "limit": None,
            "meta": {
                "title": benchmark.replace("_", " ").capitalize(),
                "source": "embedded",
                "licence": "Apache-2.0",
                "score_unit": "share" if score_kind == "rate" else score_kind,
                "score_kind": score_kind,
                "formula": "log p(stereotyped) - log p(other)",
                "cluster": "template",
                "direction": direction,
                "neutral": 0.0,
                "content_warning": False,
            },
        },
        "decoding": {
            "mode": "sampled" if repeats > 1 else "greedy",
            "temperature": 1.0,
            "top_p": 1.0,
            "repeats": repeats,
        },
        "prompt": {},
        "seed": seed,
        "dtype": "float32",
        "environment": {
            "device": "cpu",
            "device_name": "a cpu",
            "threads": 1,
            "batch_tokens": 4096,
            "max_batch": 64,
            "python": "3.11.2",
            "platform": "Linux",
            "versions": {"torch": "2.13.0", "transformers": "5.17.0"},
            "commit": None,
            "dirty": None,
        },
        "metrics": {
            "mean_score": {
                "value": float(records["score"].mean()) if valid else None,
                "ci_low": None,
                "ci_high": None,
                "n": valid,
                "n_clusters": int(records["cluster"].nunique()),
                "unit": score_kind,
                "reason": "" if valid else "no answers",
            }
        },
        "coverage": {
            "n_items": int(records["item"].nunique()),
            "n_records": len(records),
            "n_valid": valid,
            "n_refused": int(records["refused"].sum()),
            "n_unparsed": 0,
            "n_too_long": 0,
        },
        "efficiency": {
            "weight_bytes": 380_000 * bits / 32,
            "bits_per_weight": bits,
            "sparsity": 0.5 if any("50" in s for s in steps) else 0.0,
            "perplexity": 12.5 + len(steps),
            "accelerate_s": 0.2,
            "load_s": 0.1,
        },
        "timings": {"load_s": 0.1, "accelerate_s": 0.2, "engine_s": 1.0, "score_s": 0.01, "store_s": 0.01},
        "started": "2026-11-24T10:00:00+00:00",
        "finished": "2026-11-24T10:00:02+00:00",
        "command": command,
    }


def _write_cell(results: Path, cell: dict[str, Any], records: pd.DataFrame, *, fails: bool) -> dict[str, Any]:
    """Write one cell, or its failure, and return its entry in the sweep's ledger."""
    benchmark, model, accel = cell["benchmark"]["name"], cell["model"]["label"], cell["accel"]["label"]
    path = f"{benchmark}/{model}/{accel}/{cell['key']}"
    folder = results / path
    folder.mkdir(parents=True)
    entry = {
        "key": cell["key"],
        "path": path,
        "model": model,
        "accel": accel,
        "benchmark": benchmark,
        "decoding": cell["decoding"]["mode"],
        "seed": cell["seed"],
        "reused": False,
    }
    if fails:
        error = "RuntimeError: logits hold NaN"
        kept = {k: cell[k] for k in ("schema_version", "key", "model", "accel", "started", "finished", "command")}
        _write_json(
            folder / "failure.json",
            {
                **kept,
                "status": "failed",
                "benchmark": {"name": benchmark},
                "error": error,
                "traceback": "Traceback ...",
            },
        )
        return {**entry, "state": "failed", "error": error}
    _write_json(folder / "cell.json", cell)
    records.to_parquet(folder / "records.parquet", index=False)
    return {**entry, "state": "complete", "error": ""}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _number(*parts: object) -> int:
    return int(_hash(*parts)[:8], 16)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
