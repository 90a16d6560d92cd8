"""Ten thousand cells of fake work through the real store, resume and status; and what real work would cost.

    python -m tests.reliability.scale 10000 docs/scale.md

The cells are planned by the real line; their records and cell.json are made up, of the size that a benchmark
of a few hundred items has. Then the line is typed again (it must compute nothing) and its status is asked. Last,
two processes want the same cells, each of them at the same moment.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.cli.run import ROOT, environment
from tests.results.test_claims import contend

ACCELS = ("hqq2", "hqq3", "hqq4", "hqq8", "wanda50", "wanda24", "magnitude50", "placebo_rerun", "placebo_batch")
BENCHMARKS = ("planted", "planted_choices", "planted_answers")
CONTENDED = 1000
START, END = "<!-- scale: written by tests/reliability/scale.py -->", "<!-- end of scale -->"

#: Runs the line, but instead of launching jobs writes every planned cell as a worker would.
FILL = """
import json, sys, time
import pandas as pd
from biaslab import sweep
from biaslab.results.schema import RECORD_COLUMNS
from biaslab.results.store import CellRef, Store
from tests.results.test_store import records
frame = records(300).assign(response="a sentence of some length, made up", detail='{"logprobs": [-1.25, -2.5]}')
cell = {"model": {"label": "m"}, "environment": {"versions": {str(k): "1.2.3" for k in range(9)}}, "seed": 0,
        "identity": {str(k): "x" * 40 for k in range(12)}, "metrics": {str(k): {"value": k / 7} for k in range(12)}}
def fill(self):
    store, spent = Store(self.outputs / "results"), []
    for entry in self.cells.values():
        ref = CellRef(entry["benchmark"], entry["model"], entry["accel"], entry["key"])
        start = time.perf_counter()
        attempts = len(store.attempts(ref))
        with store.lock(ref, wait=True):
            if len(store.attempts(ref)) == attempts:
                store.write(ref, frame, cell, attempt=attempts + 1)
        spent.append(time.perf_counter() - start)
    spent.sort()
    told = {"cells": len(spent), "mean_ms": 1e3 * sum(spent) / len(spent)}
    told["p99_ms"] = 1e3 * spent[len(spent) * 99 // 100]
    print("FILLED", json.dumps(told), flush=True)
    raise SystemExit(0)
sweep.Sweep.take_complete = fill
sys.argv = ["biaslab", *sys.argv[1:]]
from biaslab.__main__ import run_line
run_line()
"""


def line(n_cells: int) -> list[str]:
    """A sweep of about so many cells: 2 models x baseline and 9 accelerators x 3 benchmarks x seeds."""
    seeds = round(n_cells / (2 * (len(ACCELS) + 1) * len(BENCHMARKS)))
    return [
        "-m", "model=tiny_llama,tiny_mistral", f"accel={','.join(ACCELS)}", f"benchmark=[{','.join(BENCHMARKS)}]",
        f"seed=range(0,{seeds})", "analysis=skip", "tracker=none",
    ]  # fmt: skip


def measure(n_cells: int, folder: Path) -> dict[str, Any]:
    """Fill a store, resume the complete sweep, ask its status; seconds of each and the store's own time a cell."""
    filled = _timed(folder, [sys.executable, "-c", FILL, *line(n_cells)])
    told = json.loads(filled["out"].split("FILLED ", 1)[1].splitlines()[0])
    told["size_mb"] = sum(path.stat().st_size for path in (folder / "outputs/results").rglob("*.*")) / 2**20
    resumed = _timed(folder, [sys.executable, "-m", "biaslab", *line(n_cells)])
    assert "nothing was computed" in resumed["out"], resumed
    status = _timed(folder, [sys.executable, "-m", "biaslab", "status"])
    assert f"{told['cells']} cells: {told['cells']} complete" in status["out"], status
    (a, _), (b, _) = contend(folder / "contended", CONTENDED)
    there = len(list((folder / "contended").glob("results/*/*/*/*/cell.json")))
    told |= {"writers": f"{a} and {b}", "lost": CONTENDED - there, "twice": a + b - there}
    return {**told, "resume_s": resumed["seconds"], "status_s": status["seconds"]}


def _timed(folder: Path, command: list[str]) -> dict[str, Any]:
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environment() | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done
    return {"out": done.stdout, "seconds": seconds}


def table(found: dict[str, Any]) -> str:
    """The measurement as Markdown, beside what was asked of it."""
    rows = [
        ("cells", f"{found['cells']}", ""),
        (
            "store operations of a cell (look up, claim, write, sync, release), mean",
            f"{found['mean_ms']:.1f} ms",
            "50 ms",
        ),
        ("the same, 99th percentile", f"{found['p99_ms']:.1f} ms", ""),
        ("the complete sweep's line again", f"{found['resume_s']:.1f} s", "30 s"),
        ("`status`", f"{found['status_s']:.1f} s", "3 s"),
        ("size of the store", f"{found['size_mb']:.0f} MB", ""),
        (f"{CONTENDED} cells that two processes want at once: written by each", found["writers"], ""),
        ("the same: lost, written twice", f"{found['lost']}, {found['twice']}", "0, 0"),
    ]
    return "\n".join(["| what | measured | at most |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)])


def main(argv: list[str]) -> int:
    """Measure as many cells as asked and put the table into a document between its two marks."""
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(int(argv[0]), Path(scratch))
    text = f"{table(found)}\n\n{os.cpu_count()} cores, local disk."
    print(text)
    if len(argv) > 1:
        path = Path(argv[1])
        old = path.read_text(encoding="utf-8")
        path.write_text(re.sub(f"{START}.*{END}", f"{START}\n{text}\n{END}", old, flags=re.DOTALL), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
