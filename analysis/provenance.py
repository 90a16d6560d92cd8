"""Where the figures of a study come from, and the paragraph that says how they were made."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from analysis.frame import Frame
from analysis.load import Cell, Loaded
from analysis.settings import Settings
from analysis.study import Arm, BenchmarkResult
from analysis.words import listing

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
            c.benchmark: {k: c.content["benchmark"].get(k) for k in ("version", "data_sha256", "limit")}
            for c in cells
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


def methods(frames: Sequence[Frame], results: Sequence[BenchmarkResult], settings: Settings) -> str:
    """The methods paragraph, with nothing in it that was not run."""
    alpha = settings.alpha
    names = listing([f"{r.title} ({r.n_items} of {r.n_items_all} items in {r.n_clusters} clusters)" for r in results])
    flips = sorted({"all sign patterns were enumerated" if r.omnibus.exact else
                    f"{r.omnibus.n_resamples} random flips" for r in results if r.omnibus.n_resamples})  # fmt: skip
    sentences = [
        f"Scores of {names} were compared item by item with those of the same model without acceleration.",
        "Repeats and seeds of a cell were averaged before anything else." if _averaged(frames) else "",
        f"Means, shifts and difference-in-differences carry cluster-robust standard errors and t intervals of "
        f"{1 - alpha:.0%} with one degree of freedom less than there are clusters; within a family their p values are "
        "adjusted by the largest |t| over cluster sign flips (Westfall and Young).",
    ]
    if flips:
        sentences.append(
            "The interaction was tested by flipping the signs of whole clusters of the interaction contrasts: sum of "
            "squares, Hotelling-type form (where clusters outnumber twice the contrasts) and largest |t| of the "
            f"difference-in-differences, combined by the smallest p ({listing(flips)}; seed {settings.seed})."
        )
    if any(t.rows for r in results for t in r.anova):
        units = list(dict.fromkeys(t.unit for r in results for t in r.anova if t.rows))
        sentences.append(
            f"Two-way repeated-measures ANOVA (model x accel, Greenhouse-Geisser corrected) was run by pingouin "
            f"{_version('pingouin')} on {listing(units)}; it takes these as independent and gives no verdict."
        )
    kinds = {r.score_kind for r in results}
    margins = [f"{settings.margins.log_odds_sd:g} of the baseline's item standard deviation for log-odds and "
               "log-probability scores"] if kinds & {"log-odds", "log-prob"} else []  # fmt: skip
    margins += [f"{100 * settings.margins.rate:g} points for rates"] if "rate" in kinds else []
    sentences += [
        f"A cell is unchanged only if its interval of {1 - 2 * alpha:.0%} lies inside the margin ({listing(margins)}): "
        "two one-sided tests.",
        "The p values speak of these models on new items of the same kind, not of other models. Level, margins and "
        "thresholds are settings; choose them before looking.",
    ]
    return " ".join(filter(None, sentences))


def _averaged(frames: Sequence[Frame]) -> bool:
    cells = [cs for f in frames for cs in f.cells.values()]
    return any(len(cs) > 1 or int(cs[0].content["decoding"].get("repeats") or 1) > 1 for cs in cells)


def _cell(cell: Cell) -> dict[str, Any]:
    names = ("benchmark", "model", "accel", "decoding", "seed", "calibration_seed", "key")
    return {name: getattr(cell, name) for name in names} | {"attempt": cell.content.get("attempt")}


def _arm(cell: Cell) -> Arm:
    from analysis.load import number

    content = cell.content
    active, efficiency = content.get("active") or {}, content.get("efficiency") or {}
    facts = [f for f in content["accel"].get("facts") or [] if isinstance(f, dict)]
    simulated = [v["simulated"] for f in facts if "simulated" in (v := f.get("values") or {})]
    return Arm(
        cell.model,
        cell.accel,
        cell.kind,
        cell.inert,
        number(active.get("max_logit_change")),
        number(active.get("mean_logit_change")),
        any(simulated) if simulated else None,
        facts,
        *(number(efficiency.get(k)) for k in ("weight_bytes", "bits_per_weight", "sparsity", "perplexity")),
        note=str(content["model"].get("note") or ""),
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


