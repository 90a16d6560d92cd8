"""Where the figures of a study come from."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from analysis.load import Cell, Loaded, number
from analysis.study import Arm

#: Fields of an arm that are cell.json's efficiency, name by name.
COSTS = ("disk_bytes", "peak_memory_bytes", "load_s", "accelerate_s", "prefill_tokens_per_s", "decode_tokens_per_s",
         "prefill_tokens_per_s_batched", "decode_tokens_per_s_batched", "repetition")  # fmt: skip
LIBRARIES = ("numpy", "scipy", "pandas", "pingouin")


def provenance(loaded: Loaded) -> dict[str, Any]:
    """Versions, hashes, seeds, command lines and counts, all taken from the files that were read."""
    cells = loaded.cells
    return {
        "analysis_versions": {"python": platform.python_version()} | {n: _version(n) for n in LIBRARIES},
        "run_versions": _distinct(c.content["environment"].get("versions") for c in cells),
        "python": _distinct(c.content["environment"].get("python") for c in cells),
        "platforms": _distinct(c.content["environment"].get("platform") for c in cells),
        "devices": _distinct(c.content["environment"].get("device_name") for c in cells),
        "dtypes": _distinct(c.content.get("dtype") for c in cells),
        "commits": _distinct(c.content["environment"].get("commit") for c in cells),
        "dirty": any(bool(c.content["environment"].get("dirty")) for c in cells),
        "models": {c.model: c.content["model"].get("identity") for c in cells},
        "data": {
            c.benchmark: {k: c.content["benchmark"].get(k) for k in ("version", "data_sha256", "limit")} for c in cells
        },
        "seeds": sorted({c.seed for c in cells}),
        "calibration_seeds": sorted({c.calibration_seed for c in cells if c.calibration_seed is not None}),
        "commands": _distinct([loaded.command or None, *(c.content.get("command") for c in cells)]),
        "started": min((str(c.content.get("started") or "") for c in cells), default=""),
        "finished": max((str(c.content.get("finished") or "") for c in cells), default=""),
        "counts": {
            "cells": len(cells),
            "missing": len(loaded.missing),
            "records": sum(int((c.content.get("coverage") or {}).get("n_records") or 0) for c in cells),
        },
        "cells": [_cell(c) for c in cells],
    }


def arms(cells: Iterable[Cell], order: Sequence[tuple[str, str]]) -> list[Arm]:
    """One Arm for each (model, accel), from the first cell that has it, in the given order."""
    first: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        first.setdefault((cell.model, cell.accel), cell)
    return [_arm(first[key]) for key in order if key in first]


def _cell(cell: Cell) -> dict[str, Any]:
    names = ("benchmark", "model", "accel", "decoding", "seed", "calibration_seed", "key")
    return {name: getattr(cell, name) for name in names} | {"attempt": cell.content.get("attempt")}


def _arm(cell: Cell) -> Arm:
    content = cell.content
    active, efficiency = content.get("active") or {}, content.get("efficiency") or {}
    facts = [f for f in content["accel"].get("facts") or [] if isinstance(f, dict)]
    facts = [f for f in facts if isinstance(f.get("values") or {}, dict)]
    simulated = [v["simulated"] for f in facts if "simulated" in (v := f.get("values") or {})]
    return Arm(
        cell.model,
        cell.accel,
        cell.kind,
        inert=cell.inert,
        max_logit_change=number(active.get("max_logit_change")),
        mean_logit_change=number(active.get("mean_logit_change")),
        simulated=any(simulated) if simulated else None,
        facts=facts,
        weight_bytes=number(efficiency.get("weight_bytes")),
        bits_per_weight=number(efficiency.get("bits_per_weight")),
        sparsity=number(efficiency.get("sparsity")),
        perplexity=number(efficiency.get("perplexity")),
        note=str(content["model"].get("note") or ""),
        **{name: number(efficiency.get(name)) for name in COSTS},
    )


def _distinct(values: Iterable[Any]) -> list[Any]:
    out: list[Any] = []
    for value in values:
        if value is not None and value not in out:
            out.append(value)
    return out


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
