"""Cost against the number of items: of a cell (pairs of distinct sentences, on tiny_llama) and of the analysis."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.analysis.fake import make_sweep
from tests.cli.run import environment

SIZES = (100, 1000, 10_000, 100_000)
#: Words of the embedded model's own small language, so that no two sentences become the same tokens.
WORDS = "teacher singer editor professor banker mechanic fisher waiter people what my of capital permit".split()
MODELS, ACCELS = ("a", "b"), ("hqq4", "wanda50")
#: In a process of its own, so that processor time is the analysis's.
ANALYSE = """
import sys, time
import numpy, pandas, scipy.special, scipy.stats, pingouin, pyarrow.parquet  # what every analysis imports once
from analysis.analyse import analyse
from analysis.settings import Settings
cpu = time.process_time()
study = analyse(sys.argv[1], Settings())
assert study.benchmarks
print(time.process_time() - cpu)
"""


def write_pairs(path: Path, n: int) -> Path:
    """A file of n pairs of 15 words that differ in the last; the same file every time."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(("more", "less"))
        for _ in range(n):
            begin = " ".join(["the", *draw.choices(WORDS, k=13)])
            out.writerow((f"{begin} waiter", f"{begin} fisher"))
    return path


def measure(folder: Path, sizes: Sequence[int] = SIZES) -> list[tuple[int, float]]:
    """(items, CPU seconds of computing a cell of so many on one thread), the model in memory already."""
    import torch

    from biaslab.benchmarks.pairs import Pairs
    from biaslab.cell import CellSpec, compute
    from biaslab.config import Config, DecodingConfig, PromptConfig
    from biaslab.engine.core import Engine
    from biaslab.models.loading import describe_embedded, load
    from biaslab.results.store import CellRef

    torch.set_num_threads(1)
    model = load(describe_embedded("tiny_llama"), device="cpu", dtype="float32")
    found = []
    for n in (sizes[0], *sizes):  # the first once more: it also warms up
        model.tokenizer = type(model.tokenizer).from_pretrained(model.info.path)  # nothing kept from a smaller file
        benchmark = Pairs(file=str(write_pairs(folder / f"{n}.csv", n)))
        spec = CellSpec(
            CellRef("pairs", "tiny_llama", "none", "0" * 32), benchmark, DecodingConfig(), PromptConfig(), {}
        )
        start = time.process_time()
        result = compute(spec, Config(), model, Engine())
        found.append((n, time.process_time() - start))
        assert len(result.records) == n
    return found[1:]


def measure_analysis(folder: Path, sizes: Sequence[int] = SIZES) -> list[tuple[int, float]]:
    """(items of a benchmark, CPU seconds of analysing 2 models under 2 accelerators on it), on one thread."""
    found = []
    for n in sizes:
        sweep = make_sweep(
            folder / str(n), models=MODELS, accels=ACCELS, n_clusters=n, items_per_cluster=1, notes={}, source="hub"
        )
        done = subprocess.run(
            [sys.executable, "-c", ANALYSE, str(sweep)],
            capture_output=True, text=True, env=environment(OMP_NUM_THREADS="1"), check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append((n, float(done.stdout)))
    return found


def steepness(points: Sequence[tuple[int, float]]) -> float:
    """How much more an item of the largest size costs than one of the size before it; 1 is linear, less is better."""
    (n, seconds), (more, longer) = points[-2:]
    return (longer / more) / (seconds / n)


def plot(curves: dict[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Seconds against items, both logarithmic, each with the straight line of equal cost per item."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    for marker, (name, points) in zip("os", curves.items(), strict=False):
        items, seconds = zip(*points, strict=True)
        per = seconds[-1] / items[-1]
        (line,) = axes.loglog(items, seconds, f"{marker}-", label=name)
        axes.loglog(items, [per * n for n in items], "--", color=line.get_color(), alpha=0.5)
    axes.plot([], [], "--", color="grey", label="as many seconds an item as at the end")
    axes.set(xlabel="items", ylabel="CPU seconds, one thread")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
