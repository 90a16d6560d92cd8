"""The printed tables through what one value a cell allows: rows for a terminal, and docs/paper_table.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill

import numpy as np

from analysis.paper.claims import WEIGHTS, claims
from analysis.paper.table import METRICS, SOURCE, Block, blocks
from analysis.paper.twoway import rounding, tukey, two_way

HEAD = (
    "block", "models x conditions", "common share", "by rounding", "rounding alone", "Tukey p", "p < .05 by rounding",
    "Tukey p, logs",
)  # fmt: skip
CLAIMS_HEAD = ("the paper says (our words)", "its tables", "figures")
LEGEND = """\
common share: part of the variation between conditions (KV caches left out, Mistral has none) that is the same for all
models, the rest being interaction and noise together. by rounding: its 95 % range over all tables that print alike.
rounding alone: could an additive table print like this one? if no, by how many half units it must miss at the least.
Tukey p: one-degree-of-freedom test for effects that multiply; logs: the same where ratios are compared. It has 9 or
fewer degrees of freedom and takes the noise of all cells for equal, which nobody knows: they describe, no more."""


def analysis_rows() -> list[tuple[str, ...]]:
    """One row of HEAD a block."""
    return [_row(block) for block in blocks()]


def claim_rows() -> list[tuple[str, str, str]]:
    """One row of CLAIMS_HEAD a claim."""
    return [(c.says, c.verdict, c.figures) for c in claims(blocks())]


def _row(block: Block) -> tuple[str, ...]:
    models, accels, values = block.complete_grid(WEIGHTS)
    doubt = " (?)" if block.doubtful else ""
    if not models:
        return (block.title, "no part without a gap", *[""] * 6)
    r, logs = rounding(values, block.half), tukey(np.log(values)).p if (values > 0).all() else math.nan
    could = "yes" if r.least <= block.half else f"no, {r.least / block.half:.1f} half units"
    return (
        block.title + doubt, f"{len(models)} x {len(accels)}", f"{two_way(values).common:.2f}",
        f"{r.common_low:.2f} to {r.common_high:.2f}", could, _p(tukey(values).p), f"{r.significant:.0%}",
        _p(logs) if math.isfinite(logs) else "holds a 0",
    )  # fmt: skip


def _p(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def markdown() -> str:
    """docs/paper_table.md."""
    printed = "\n\n".join(_printed(block) for block in blocks())
    said = "\n".join(f"- **{verdict}**: {says}. {figures}." for says, verdict, figures in claim_rows())
    return PAGE.format(
        source=SOURCE, legend=LEGEND, analysis=_table(HEAD, analysis_rows()), claims=said, printed=printed
    )


def _printed(block: Block) -> str:
    digits = 0 if block.half == 0.5 else 2
    rows = [
        (model, *(mark or f"{v:.{digits}f}" for v, mark in zip(values, marks, strict=True)))
        for model, values, marks in zip(block.models, block.values, block.marks, strict=True)
    ]
    return f"**{block.title}** ({METRICS[block.benchmark]})\n\n" + _table(("", *block.accels), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def wrapped(says: str, verdict: str, figures: str) -> str:
    """A claim for a terminal."""
    return fill(f"{verdict.upper()}: {says}. {figures}.", 116, subsequent_indent="  ")


PAGE = """\
# The paper's printed tables, looked at again

Written by `python -m analysis paper page=docs/paper_table.md`; a test holds it to that. No model is run. The figures
are those printed in {source} (Kirsten, Habernal, Nanda and Zafar, *The Impact of Inference Acceleration on Bias of
LLMs*, NAACL 2025): three models, a baseline and seven strategies, one value a cell, rounded to two decimals
(percentages to integers). They were read from a converted text of the paper; `(?)` marks a block of which that text
shows a row twice with differing cells.

## What one value a cell can show

An interaction of model and strategy is what an additive table does not explain, and with one value a cell that is also
where all the noise is: **these tables can neither show an interaction nor exclude one.** Item-level results can, which
is what biaslab stores. What the tables do allow:

{analysis}

{legend}

Where it says no, rounding alone cannot have made the interaction; the noise of the items still can.

## Sentences of the paper, held to its tables

{claims}

## The printed figures

NI: not implemented there. ND: no figure there, over 80 % of the answers were refused or unparsed. -: not printed.

{printed}
"""
