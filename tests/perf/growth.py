"""CPU seconds of a cell against its number of items: pairs of distinct sentences, on tiny_llama."""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Sequence
from pathlib import Path

SIZES = (100, 300, 1000, 3000, 10_000)
#: Words of the embedded model's own small language, so that no two sentences become the same tokens.
WORDS = "teacher singer editor professor banker mechanic fisher waiter people what my of capital permit".split()


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
        benchmark = Pairs(file=str(write_pairs(folder / f"{n}.csv", n)))
        spec = CellSpec(
            CellRef("pairs", "tiny_llama", "none", "0" * 32), benchmark, DecodingConfig(), PromptConfig(), {}
        )
        start = time.process_time()
        result = compute(spec, Config(), model, Engine())
        found.append((n, time.process_time() - start))
        assert len(result.records) == n
    return found[1:]


def plot(points: Sequence[tuple[int, float]], path: Path) -> None:
    """Seconds against items, both logarithmic, with the straight line of equal cost per item."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot

    items, seconds = zip(*points, strict=True)
    per = seconds[-1] / items[-1]
    figure, axes = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    axes.loglog(items, seconds, "o-", label="measured")
    axes.loglog(items, [per * n for n in items], "--", color="grey", label="as many seconds per item as at the end")
    axes.set(xlabel="items (pairs of sentences)", ylabel="CPU seconds, one thread")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
