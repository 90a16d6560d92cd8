"""The printed figures, as facts: printed.csv, one row a (table, benchmark, decoding, model)."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np

from analysis.clusters import Floats

SOURCE = "arXiv:2410.22118, Tables 2 and C.1"
#: What stands in a cell without a figure, and why.
REASONS = {
    "NI": "not implemented",
    "ND": "not defined: over 80 % refused or unparsed",
    "-": "not printed",
}
PERCENTAGES = ("crows_pairs", "dt_stereotyping")
#: What is printed for each benchmark, in our words.
METRICS = {
    "crows_pairs": "% preferring the stereotyped sentence",
    "global_opinion_qa": "Gini of the countries' median distances",
    "worldbench": "mean absolute relative error",
    "discrim_eval": "mean of max - min p(yes)",
    "dt_stereotyping": "% agreement",
    "discrim_eval_gen": "max - min share of picks, gender",
}


@dataclass(frozen=True)
class Block:
    """One benchmark and decoding of one table: values (models x accels), NaN where nothing is printed.

    marks : what is printed in each cell without a figure (a key of REASONS), else "". half : half a unit of the last
    printed digit, by which each value may be off. doubtful : models whose row the text of the paper shows twice.
    """

    table: str
    benchmark: str
    decoding: str
    models: tuple[str, ...]
    accels: tuple[str, ...]
    values: Floats
    marks: tuple[tuple[str, ...], ...]
    half: float
    doubtful: tuple[str, ...] = ()

    @property
    def chat(self) -> bool:
        """Whether the prompts went through the chat template: Table C.1, and WorldBench's own prompt."""
        return self.table == "C.1"

    @property
    def title(self) -> str:
        """For a table's first column."""
        sampled = ", 5 samples" if self.decoding == "sampled" else ""
        return f"{self.benchmark}{sampled}{', chat' if self.chat else ''}"

    def value(self, model: str, accel: str) -> float:
        """One printed figure; NaN where there is none."""
        return float(self.values[self.models.index(model), self.accels.index(accel)])

    def complete_grid(self, accels: Sequence[str] | None = None) -> tuple[tuple[str, ...], tuple[str, ...], Floats]:
        """Models, conditions and values of the largest part of the block without a gap; empty if it is no table.

        accels : choose among these alone. Of parts with as many cells the one with more models.
        """
        columns = [j for j, a in enumerate(self.accels) if accels is None or a in accels]
        best: tuple[tuple[int, ...], list[int]] = ((), [])
        for n in range(len(self.models), 1, -1):
            for rows in combinations(range(len(self.models)), n):
                full = [j for j in columns if np.isfinite(self.values[list(rows), j]).all()]
                if len(rows) * len(full) > len(best[0]) * len(best[1]):
                    best = rows, full
        rows, full = best
        if len(full) < 2:
            return (), (), np.empty((0, 0))
        names = tuple(self.models[i] for i in rows), tuple(self.accels[j] for j in full)
        return *names, self.values[np.ix_(rows, full)]


@lru_cache(maxsize=1)
def blocks() -> tuple[Block, ...]:
    """Every block of printed.csv, in its order."""
    text = (Path(__file__).parent / "printed.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    accels = tuple(name for name in rows[0] if name not in ("table", "benchmark", "decoding", "model", "doubt"))
    keys = dict.fromkeys((r["table"], r["benchmark"], r["decoding"]) for r in rows)
    out = []
    for key in keys:
        own = [r for r in rows if (r["table"], r["benchmark"], r["decoding"]) == key]
        values = np.array([[_number(r[a]) for a in accels] for r in own])
        marks = tuple(tuple(r[a] if r[a] in REASONS else "" for a in accels) for r in own)
        half = 0.5 if key[1] in PERCENTAGES else 0.005
        models, doubtful = tuple(r["model"] for r in own), tuple(r["model"] for r in own if r["doubt"] == "1")
        out.append(Block(*key, models, accels, values, marks, half, doubtful))
    return tuple(out)


def _number(text: str) -> float:
    return math.nan if text in REASONS else float(text)
