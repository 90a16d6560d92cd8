"""Tidy tables: what they say arrives unchanged, what they get wrong is named by row or item."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.analyse import analyse
from analysis.errors import AnalysisError
from analysis.frame import make_frames
from analysis.importers.inputs import Columns, Imports, Inputs
from analysis.load import load
from analysis.settings import Settings
from tests.analysis.fake import make_sweep


def table(**changes: Any) -> pd.DataFrame:
    """2 models x 2 accels x 12 items in 6 clusters; the last model moves by 1 under q."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(12):
        base = rng.normal()
        for model in ("a", "b"):
            for accel in ("none", "q"):
                moved = rng.normal(0, 0.1) + (model == "b") * 1.0 if accel == "q" else 0.0
                rows.append((model, accel, f"i{i}", base + moved, f"c{i // 2}"))
    frame = pd.DataFrame(rows, columns=["model", "accel", "item", "score", "cluster"])
    return frame.assign(**changes)


def write(path: Path, frame: pd.DataFrame, name: str = "study.csv") -> Path:
    file = path / name
    frame.to_parquet(file) if name.endswith("parquet") else frame.to_csv(
        file, index=False, sep="\t" if name.endswith("tsv") else ","
    )
    return file


@pytest.mark.parametrize("name", ["study.csv", "study.tsv", "study.parquet"])
def test_scores_arrive_unchanged(tmp_path: Path, name: str) -> None:
    given = table()
    frame = make_frames(load(write(tmp_path, given, name)).cells)[0]
    for (model, accel), part in given.groupby(["model", "accel"]):
        expected = part.set_index("item")["score"].reindex(frame.items.index)
        assert frame.score(model, accel).tolist() == expected.tolist()
    assert frame.clusters.n_clusters == 6
    assert (frame.benchmark, frame.models, frame.accels) == ("study", ["a", "b"], ["none", "q"])


def test_a_table_gives_the_figures_of_the_sweep_it_was_taken_from(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, accels=("hqq4",), interaction=0.4, source="hub", missing=0.1)
    loaded = load(sweep)
    parts = [
        pd.read_parquet(c.folder / "records.parquet").assign(model=c.model, accel=c.accel, benchmark=c.benchmark)
        for c in loaded.cells
    ]
    file = write(tmp_path, pd.concat(parts).drop(columns=["truth"]), "same.parquet")
    own, copied = (analyse(p, Settings(n_resamples=199)).benchmarks[0] for p in (sweep, file))
    assert copied.omnibus == own.omnibus
    assert [s.estimate for s in copied.shifts] == [s.estimate for s in own.shifts]
    assert [(c.n_valid, c.n_refused) for c in copied.coverage] == [(c.n_valid, c.n_refused) for c in own.coverage]


def test_other_names_are_mapped_and_the_baseline_is_named(tmp_path: Path) -> None:
    given = table().rename(columns={"score": "bias", "accel": "precision", "cluster": "template"})
    given["precision"] = given["precision"].replace("none", "bf16")
    file = write(tmp_path, given)
    words = ["columns.score=bias", "columns.accel=precision", "columns.cluster=template", "imports.baseline=bf16"]
    assert main([f"results={file}", f"out={tmp_path / 'out'}", "n_resamples=99", *words]) == 0
    inputs = Inputs(Columns(score="bias", accel="precision", cluster="template"), Imports(baseline="bf16"))
    assert make_frames(load(file, inputs).cells)[0].accels == ["none", "q"]


def test_optional_columns_and_refusals(tmp_path: Path) -> None:
    given = table(benchmark="bbq", group="g", repeat=1)
    again = given.assign(repeat=2, score=given["score"] + 1)
    both = pd.concat([given, again], ignore_index=True)
    both["refused"] = both["item"].eq("i3")  # with a score beside it, which must not count
    both.loc[both["item"].eq("i4"), "score"] = np.nan
    loaded = load(write(tmp_path, both))
    frame = make_frames(loaded.cells)[0]
    coverage = frame.coverage["a", "none"]
    assert (coverage.n_items, coverage.n_valid, coverage.n_refused, coverage.n_unparsed) == (12, 10, 1, 1)
    assert frame.score("a", "none")[0] == pytest.approx(given["score"].iloc[0] + 0.5)
    assert frame.repeat_sd["a", "none"] == pytest.approx(2**-0.5)
    assert "8 rows without a score: counted as unparsed" in " ".join(loaded.notes)


def test_one_column_may_stand_for_two(tmp_path: Path) -> None:
    file = write(tmp_path, table())
    cells = load(file, Inputs(columns=Columns(category="cluster"))).cells
    assert {c.records["cluster"].nunique() for c in cells if c.records is not None} == {6}
    cells = load(file, Inputs(columns=Columns(cluster="item"))).cells
    assert {c.records["cluster"].nunique() for c in cells if c.records is not None} == {12}


def test_without_clusters_it_warns(tmp_path: Path) -> None:
    study = analyse(write(tmp_path, table().drop(columns="cluster")), Settings(n_resamples=99))
    assert study.benchmarks[0].n_clusters == 12
    assert "every item counts as independent" in " ".join(study.cautions)


def test_the_kind_of_score_is_guessed_aloud_or_told(tmp_path: Path) -> None:
    binary = table()
    binary["score"] = (binary["score"] > 0).astype(float)
    file = write(tmp_path, binary)
    loaded = load(file)
    assert loaded.cells[0].content["benchmark"]["meta"]["score_kind"] == "rate"
    assert "taken for rate" in " ".join(loaded.notes)
    told = load(file, Inputs(imports=Imports(score_kind="log-prob", direction="positive: more")))
    meta = told.cells[0].content["benchmark"]["meta"]
    assert (meta["score_kind"], meta["direction"]) == ("log-prob", "positive: more")


def broken(column: str, row: int, value: object) -> pd.DataFrame:
    frame = table().astype(object)
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "words", "message"),
    [
        (broken("score", 2, "high"), [], "row 3: score 'high' is no number"),
        (broken("score", 4, float("inf")), [], "row 5: item i1 has an infinite score"),
        (broken("item", 1, None), [], "row 2 has no item"),
        (broken("model", 0, ""), [], "row 1 has no model"),
        (broken("cluster", 0, None), [], "row 1 has no cluster"),
        (broken("cluster", 4, "other"), [], "item i1: its cluster is"),
        (
            pd.concat([table(), table()[:2]]),
            [],
            r"item i0 occurs twice in model a, accel none.*\(2 such rows\); if these",
        ),
        (
            table().drop(columns="accel"),
            [],
            r"no column 'accel' for accel; its columns are model, item.*columns.accel=",
        ),
        (table()[:0], [], "holds no rows"),
        (table()[lambda t: t["accel"] == "q"], [], "no row has the baseline; which of q is it"),
        (table(refused="maybe"), [], "row 1: refused is 'maybe', not true or false"),
        (table(), ["columns.cluster=family"], "columns.cluster=family: .* has no such column"),
        (table(), ["imports.score_kind=bits"], "imports.score_kind=bits: choose one of auto, log-odds"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    tmp_path: Path, frame: pd.DataFrame, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"results={write(tmp_path, frame)}", f"out={tmp_path / 'out'}", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(AnalysisError, match=r"x.parquet: cannot be read as a table"):
        load(tmp_path / "x.parquet")
    (tmp_path / "x.txt").write_text("model")
    with pytest.raises(AnalysisError, match=r"x.txt: neither results of biaslab nor one of these: a .csv"):
        load(tmp_path / "x.txt")
