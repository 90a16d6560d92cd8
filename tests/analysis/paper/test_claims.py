"""Each claim follows its figures: a changed figure changes the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from analysis.paper.claims import NOT, OPEN, PARTLY, SUPPORTED, changes, claims
from analysis.paper.table import Block, blocks


def edited(title: str, model: str, accel: str, value: float) -> list[Block]:
    out = []
    for block in blocks():
        if block.title == title:
            values = np.array(block.values)
            values[block.models.index(model), block.accels.index(accel)] = value
            block = replace(block, values=values)
        out.append(block)
    return out


def by_words(tables: Sequence[Block], words: str) -> str:
    (found,) = [claim for claim in claims(tables) if words in claim.says]
    return found.verdict


def test_the_verdicts_on_the_printed_figures() -> None:
    found = blocks()
    assert by_words(found, "much in another") == SUPPORTED
    assert by_words(found, "unpredictable") == PARTLY
    assert by_words(found, "significantly") == OPEN
    assert by_words(found, "structured pruning") == SUPPORTED
    assert by_words(found, "follows closely") == PARTLY
    assert by_words(found, "robust") == PARTLY
    assert by_words(found, "AWQ") == PARTLY
    assert by_words(found, "WorldBench") == OPEN


def test_the_changes_are_counted_in_printed_units() -> None:
    found = changes(blocks())
    assert len(found) == 133 + 131  # counted by hand in each of the two tables
    awq = next(c for c in found if (c.block.title, c.model, c.accel) == ("discrim_eval", "llama2", "awq4"))
    assert awq.units == 27  # .22 to .49
    assert str(awq) == "discrim_eval llama2 awq4 0.22 to 0.49"


def test_a_changed_figure_changes_the_verdict() -> None:
    assert by_words(edited("discrim_eval", "llama2", "wanda50", 0.01), "structured pruning") == PARTLY
    up = edited("discrim_eval_gen, 5 samples", "mistral", "awq4", 0.9)
    assert by_words(up, "AWQ") == SUPPORTED
    kv = [replace(b, values=np.where([[a[:2] == "kv" for a in b.accels]], b.values[:, :1], b.values)) for b in blocks()]
    assert by_words(kv, "robust") == SUPPORTED
    assert by_words(kv, "follows closely") == NOT


@pytest.mark.parametrize("units", [1, 2])
def test_one_unit_is_rounding(units: int) -> None:
    found = changes(edited("discrim_eval", "llama2", "kv4", 0.22 - 0.01 * units))
    change = next(c for c in found if (c.block.title, c.model, c.accel) == ("discrim_eval", "llama2", "kv4"))
    assert change.units == -units
    says = next(c for c in claims(edited("discrim_eval", "llama2", "kv4", 0.22 - 0.01 * units)) if "follows" in c.says)
    assert says.figures.startswith(f"lower in {1 if units == 1 else 2} of 8 cells")
