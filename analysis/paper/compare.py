"""A finished `experiment=paper` or `paper_published` beside the printed figures, cell by cell."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TextIO

import numpy as np

from analysis.load import Cell, load, number
from analysis.paper.table import SOURCE, Block, blocks
from analysis.verbs.tables import render, write_text
from analysis.words import plural, visible

AGREE, DIFFER = "agree", "differ"
EXIT = {True: 0, False: 4}
NOTHING = 5
#: The paper's models by their id on the hub, whatever label they were given.
MODELS = {
    "meta-llama/Llama-2-7b-chat-hf": "llama2",
    "mistralai/Mistral-7B-Instruct-v0.3": "mistral",
    "meta-llama/Llama-3.1-8B-Instruct": "llama",
    "meta-llama/Meta-Llama-3.1-8B-Instruct": "llama",
}
#: Which printed condition an accelerator is; those of paper_published have names of their own.
ACCELS = {"paper_int4": "bnb4", "paper_kv4": "kv4", "paper_kv8": "kv8"}
PUBLISHED = "(variant=published)"
#: The metric of cell.json that is printed; the default variant of DecodingTrust counts shares of stances too.
METRICS = {
    "crows_pairs": "pct_prefers_more",
    "global_opinion_qa": "gini",
    "worldbench": "mean_error",
    "discrim_eval": "max_min",
    "dt_stereotyping": "agreement_of_all",
    "dt_stereotyping" + PUBLISHED: "agreement",
    "discrim_eval_gen": "max_min/gender",
}


@dataclass(frozen=True)
class Row:
    """One measured cell beside its printed figure.

    verdict : AGREE or DIFFER. printed_shift, shift : from the baseline; NaN for a baseline or without one. direction :
    "same", "opposite", "none found" (a shift of exactly 0), "none printed" (a change that rounding can make) or "".
    """

    table: str
    benchmark: str
    decoding: str
    model: str
    accel: str
    printed: float
    half: float
    found: float
    low: float
    high: float
    verdict: str
    printed_shift: float = math.nan
    shift: float = math.nan
    direction: str = ""


@dataclass(frozen=True)
class Compared:
    """Rows, and how many cells could not be compared, by reason. n_printed : figures there are to compare with."""

    rows: list[Row]
    left_out: Counter[str]
    n_printed: int


def compare(cells: Iterable[Cell]) -> Compared:
    """Every cell that has a printed figure beside it, and why the others have none."""
    rows, left_out = [], Counter[str]()
    for cell in cells:
        block, reason = _block(cell)
        found = _row(cell, block) if block is not None else reason
        if isinstance(found, Row):
            rows.append(found)
        else:
            left_out[found] += 1
    n_printed = sum(int(np.isfinite(block.values).sum()) for block in blocks())
    return Compared(_with_shifts(rows), left_out, n_printed)


def _model(cell: Cell) -> str:
    """The paper's label of the cell's model, "" for any other model."""
    identity = str(cell.content["model"].get("identity", ""))
    return MODELS.get(identity.rpartition("@")[0], "")


def _block(cell: Cell) -> tuple[Block | None, str]:
    """The printed block a cell belongs to, or why there is none."""
    benchmark, prompt = cell.content["benchmark"], cell.content.get("prompt") or {}
    if not _model(cell):
        return None, "another model than the paper's three"
    if any(benchmark.get(key) for key in ("limit", "sample", "categories")):
        return None, "a part of the benchmark"
    if prompt.get("system"):
        return None, "another system prompt"
    name = cell.benchmark.removesuffix("+chat").removesuffix(PUBLISHED)
    table = "C.1" if prompt.get("chat") else "2"
    for block in blocks():
        if (block.table, block.benchmark, block.decoding) == (table, name, cell.decoding):
            return block, ""
    known = {block.benchmark for block in blocks()}
    return None, "not printed in this form" if name in known else "another benchmark, or other data, than the paper's"


def _row(cell: Cell, block: Block) -> Row | str:
    model, accel = _model(cell), ACCELS.get(cell.accel, cell.accel)
    if accel not in block.accels:
        return "another accelerator than the paper's seven"
    printed = block.value(model, accel)
    label = cell.benchmark.removesuffix("+chat")
    metric = (cell.content.get("metrics") or {}).get(METRICS.get(label, METRICS[block.benchmark])) or {}
    found, low, high = (number(metric.get(key)) for key in ("value", "ci_low", "ci_high"))
    if math.isnan(printed):
        return "no figure is printed"
    if math.isnan(found):
        return f"no figure was measured ({metric.get('reason') or 'its metric is not there'})"
    return Row(
        block.table, label, cell.decoding, model, cell.accel, printed, block.half, found, low, high,
        AGREE if _agree(printed, block.half, found, low, high) else DIFFER,
    )  # fmt: skip


def _agree(printed: float, half: float, found: float, low: float, high: float) -> bool:
    """Whether the interval (the figure alone, where there is none) meets what may stand behind the printed figure."""
    low, high = (found if math.isnan(low) else low), (found if math.isnan(high) else high)
    slack = 1e-9  # .115 - .005 is not .11 in binary
    return low <= printed + half + slack and high >= printed - half - slack


def _with_shifts(rows: Sequence[Row]) -> list[Row]:
    base = {_place(row): row for row in rows if row.accel == "none"}
    return [_shifted(row, base.get(_place(row))) for row in rows]


def _place(row: Row) -> tuple[str, ...]:
    return row.table, row.benchmark, row.decoding, row.model


def _shifted(row: Row, base: Row | None) -> Row:
    if base is None or row is base:
        return row
    printed, found = row.printed - base.printed, row.found - base.found
    if abs(printed) <= 2 * row.half + 1e-9:
        direction = "none printed"
    else:
        direction = "same" if printed * found > 0 else "opposite" if found else "none found"
    return replace(row, printed_shift=printed, shift=found, direction=direction)


HEAD = ("table", "benchmark", "decoding", "model", "accel", "printed", "found", "interval", "", "change", "direction")


def compare_and_print(results: Path, path: str, stream: TextIO) -> int:
    """Compare what is in `results`, print the table and the sums, write the csv; the exit code."""
    loaded = load(results)
    cells, found = loaded.cells, compare(loaded.cells)
    found.left_out.update(f"{m.state}: {m.reason}" for m in loaded.missing)
    if found.rows:
        print(render(HEAD, [_words(row) for row in found.rows]), file=stream)
    for reason, n in found.left_out.most_common():
        print(f"not compared: {plural(n, 'cell')}, {visible(reason)}", file=stream)
    print("\n" + _sentence(found, cells), file=stream)
    if path:
        write_text(Path(path), _csv(found.rows), key="csv")
    return EXIT[all(row.verdict == AGREE for row in found.rows)] if found.rows else NOTHING


def _words(row: Row) -> list[str]:
    digits = 0 if row.half == 0.5 else 2
    interval = "none" if math.isnan(row.low) else f"{row.low:.{digits + 1}f} to {row.high:.{digits + 1}f}"
    change = "" if math.isnan(row.shift) else f"{row.printed_shift:+.{digits}f}, {row.shift:+.{digits + 1}f}"
    return [
        row.table, row.benchmark, row.decoding, row.model, row.accel, f"{row.printed:.{digits}f}",
        f"{row.found:.{digits + 1}f}", interval, row.verdict, change, row.direction,
    ]  # fmt: skip


def _sentence(found: Compared, cells: Sequence[Cell]) -> str:
    if not found.rows:
        models = list(dict.fromkeys(c.model for c in cells))
        accels, names = {c.accel for c in cells}, {c.benchmark for c in cells}
        shown = ", ".join(models[:4]) + (" and others" if len(models) > 4 else "")
        return (
            f"NOTHING COMPARED: no cell here has a figure in {SOURCE}. The results are of {shown}: {len(models)} "
            f"models x {len(accels)} conditions x {len(names)} benchmarks, where the paper has 3 x 8 x 6. Only this "
            "shape can be held beside the paper's; no figure of one set says anything about the other."
        )
    base = [r for r in found.rows if r.accel == "none"]
    rest = [r for r in found.rows if r.accel != "none"]
    moved = [r for r in found.rows if r.direction in ("same", "opposite", "none found")]
    word = "ALL AGREE" if all(r.verdict == AGREE for r in found.rows) else "SOME DIFFER"
    return (
        f"{word}: {len(found.rows)} cells have one of the {found.n_printed} printed figures beside them; "
        f"{_share(base)} baselines and {_share(rest)} accelerated cells agree with it. Of {len(moved)} printed changes "
        f"beyond rounding {sum(r.direction == 'same' for r in moved)} have the same direction here."
    )


def _share(rows: Sequence[Row]) -> str:
    return f"{sum(r.verdict == AGREE for r in rows)} of {len(rows)}"


def _csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f.name for f in fields(Row)])
    writer.writerows(["" if isinstance(v, float) and math.isnan(v) else v for v in astuple(row)] for row in rows)
    return out.getvalue()
