"""Records and a report's csv files as W&B tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

#: The table that the dashboard's charts are drawn from: one row for every accelerated cell of an analysis.
DASHBOARD = ("sweep", "model", "accel", "benchmark", "unit", "panel", "verdict", "label", "shift", "ci_low", "ci_high",
             "p_adjusted", "margin", "memory_ratio", "peak_ratio", "decode_ratio", "perplexity_ratio",
             "reason")  # fmt: skip
WORDS = ("model", "accel", "benchmark", "decoding", "pool", "verdict", "title", "unit", "state", "reason")
SIGNS = {"changed": "≠", "unchanged": "=", "exactly unchanged": "=", "inconclusive": "?", "inert": "∅", "placebo": "○"}
OF_COST = ("memory_ratio", "peak_ratio", "decode_ratio", "perplexity_ratio")


def records_table(path: Path, limit: int) -> tuple[Any, dict[str, int]]:
    """The records as a W&B table, at most `limit` of them evenly spaced, and how many there are and are shown."""
    import pandas as pd
    import wandb

    frame = pd.read_parquet(path, use_threads=False)
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


def dashboard_table(folder: Path, sweep: str) -> Any:
    """The rows of `dashboard_rows` as a W&B table."""
    import wandb

    rows = [[row.get(name) for name in DASHBOARD] for row in dashboard_rows(folder, sweep)]
    return wandb.Table(columns=list(DASHBOARD), data=rows, allow_mixed_types=True)


def dashboard_rows(folder: Path, sweep: str) -> list[dict[str, Any]]:
    """Every accelerated cell of a report: its shift with interval and verdict beside its cost, or why it is missing.

    Ratios are to the same model without acceleration. What is unknown is None. A cell that is missing or
    failed has that word as its verdict, and no numbers.
    """
    titles = {row["benchmark"]: (row["title"], row["unit"]) for row in _rows(folder, "verdicts")}
    cost = {_place(row): row for row in _rows(folder, "cost")}
    rows = []
    for row in _rows(folder, "shifts"):
        title, unit = titles.get(row["benchmark"], (row["benchmark"], ""))
        measured = cost.get(_place(row), {})
        known = {"sweep": sweep, "benchmark": _benchmark(title, row), "unit": unit, "shift": row["value"]}
        known |= {name: row[name] for name in ("model", "accel", "ci_low", "ci_high", "p_adjusted", "margin", "reason")}
        known["verdict"] = row["verdict"] or "no verdict"
        known["label"] = (
            f"{SIGNS.get(known['verdict'], '')} {row['value']:+.3g}".strip() if row["value"] is not None else ""
        )
        rows.append(known | {name: measured.get(name) for name in OF_COST})
    for row in _rows(folder, "missing"):
        title, unit = titles.get(row["benchmark"], (row["benchmark"], ""))
        known = {"sweep": sweep, "benchmark": _benchmark(title, row), "unit": unit, "verdict": row["state"]}
        known["label"] = f"! {row['state']}"
        rows.append(known | {name: row[name] for name in ("model", "accel", "reason")})
    for row in rows:
        row["panel"] = f"{row['benchmark']} [{row['unit']}]" if row["unit"] else row["benchmark"]
    return rows


def _rows(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / "tables" / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return [
            {key: value if key in WORDS else _number(value) for key, value in row.items()}  # a label may look like 1e5
            for row in csv.DictReader(handle)
        ]


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("benchmark", "decoding", "pool", "model", "accel"))


def _benchmark(title: Any, row: dict[str, Any]) -> str:
    return str(title) if row["decoding"] == "greedy" else f"{title} ({row['decoding']})"


def _number(value: str) -> Any:
    try:
        return float(value) if value else None
    except ValueError:
        return value
