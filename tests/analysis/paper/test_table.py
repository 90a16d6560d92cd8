"""The printed figures that ship, and the grids cut from them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from analysis.paper.claims import WEIGHTS
from analysis.paper.table import METRICS, blocks


@pytest.mark.data
def test_every_figure_is_the_collected_one(data_dir: Path) -> None:
    with (data_dir / "paper" / "reported_cells.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ours = {(b.table, b.benchmark, b.decoding): b for b in blocks()}
    assert len(rows) == sum(b.values.size for b in ours.values()) == 360
    marks = {"": "", "not implemented": "NI", "not reported": "-"}
    for row in rows:
        block = ours[row["table"], row["benchmark"], row["decoding"]]
        i, j = block.models.index(row["model"]), block.accels.index(row["accel"])
        if row["status"] == "reported":
            assert block.values[i, j] == float(row["value"])
            assert block.marks[i][j] == ""
        else:
            assert np.isnan(block.values[i, j])
            assert block.marks[i][j] == marks.get(row["status"], "ND")
        assert (row["model"] in block.doubtful) >= ("low confidence" in row["note"])


def test_the_table_has_the_papers_shape() -> None:
    found = blocks()
    assert len(found) == 15
    assert {b.models for b in found} == {("llama2", "mistral", "llama")}
    assert {len(b.accels) for b in found} == {8}
    assert {b.benchmark for b in found} == set(METRICS)
    assert sum(int(np.isfinite(b.values).sum()) for b in found) == 308
    assert {b.half for b in found if b.benchmark in ("crows_pairs", "dt_stereotyping")} == {0.5}


def test_the_grid_is_the_largest_part_without_a_gap() -> None:
    sizes = {b.title: tuple(map(len, b.complete_grid(WEIGHTS)[:2])) for b in blocks()}
    assert sizes["crows_pairs"] == (3, 6)
    assert sizes["discrim_eval_gen"] == (2, 5)  # LLaMA-2 answers nothing but pruned
    assert sizes["dt_stereotyping, chat"] == (3, 5)
    for block in blocks():
        models, accels, values = block.complete_grid()
        assert np.isfinite(values).all()
        assert values.shape == (len(models), len(accels))
    with_kv = next(b for b in blocks() if b.title == "global_opinion_qa").complete_grid()
    assert with_kv[0] == ("llama2", "mistral", "llama")  # 3 x 6 cells are more than 2 x 8
