"""Results from anywhere (logs of other tools, tables, a results folder): read, or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.errors import AnalysisError
from analysis.frame import make_frames
from analysis.importers.inputs import Inputs
from analysis.load import Cell, load, read_records
from biaslab.results.store import CellRef, Store
from tests.results.test_store import records
from tests.security.test_fuzz import JSON

FUZZ = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD = JSON | st.sampled_from(["nan", "inf", "1e400", "'", "=1+1", "\x1b[2J", "../../x", "\u202e", "", "none", "crows"])


def read(path: Path) -> str:
    """Reads results whole; "" or the refusal, which is one line for people."""
    try:
        loaded = load(path, Inputs())
        for cell in loaded.cells:
            read_records(cell)
        make_frames(loaded.cells)
    except AnalysisError as error:
        return str(error)
    return ""


def check(path: Path) -> None:
    words = read(path)
    assert "Traceback" not in words
    assert "\n" not in words


def objects(**fields: Any) -> st.SearchStrategy[list[Any]]:
    """Lines of a log: objects of the right fields, some left out, some with odd values; some lines no objects."""
    line = st.fixed_dictionaries({}, optional={name: values | ODD for name, values in fields.items()})
    return st.lists(line | ODD, min_size=1, max_size=4)


SAMPLES = objects(
    doc_id=st.integers(0, 3), doc=st.dictionaries(st.sampled_from(["bias_type", "category", "question_index"]), ODD),
    metrics=st.lists(st.sampled_from(["acc", "likelihood_diff", "pct_stereotype", "amb_bias_score"]), max_size=3),
    acc=st.floats(), likelihood_diff=st.floats(), pct_stereotype=st.integers(0, 1),
    amb_bias_score=st.lists(st.integers(-2, 2), max_size=5),
    filtered_resps=st.lists(st.lists(ODD, max_size=2), max_size=3), filter=st.sampled_from(["none", "strict"]),
    doc_hash=st.text(max_size=3),
)  # fmt: skip


@FUZZ
@given(baseline=SAMPLES, other=SAMPLES)
def test_any_samples_of_a_harness(tmp_path: Path, baseline: list[Any], other: list[Any]) -> None:
    for accel, lines in (("none", baseline), ("int4", other)):
        file = tmp_path / "logs" / "m" / accel / "samples_crows_2026-11-25T01-02-03.456.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    check(tmp_path / "logs")


@FUZZ
@given(
    lines=objects(
        schema_version=st.just("0.2"), evaluation_id=st.just("e"), model_id=st.text(max_size=4),
        evaluation_name=st.text(max_size=4), sample_id=st.text(max_size=3), error=ODD,
        evaluation=st.fixed_dictionaries({}, optional={"score": st.floats() | ODD}),
        metadata=st.dictionaries(st.sampled_from(["accel", "cluster", "repeat"]), ODD),
    )
)  # fmt: skip
def test_any_records_of_the_shared_schema(tmp_path: Path, lines: list[Any]) -> None:
    head = {"evaluation_id": "e", "sample_id": "s", "evaluation": {"score": 1}, "metadata": {"accel": "none"}}
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, [head, *lines])), encoding="utf-8")
    check(tmp_path / "all.jsonl")


FIELD = st.text(max_size=6) | st.sampled_from(["1", "nan", "inf", "none", "a"])


@FUZZ
@given(
    rows=st.lists(st.lists(FIELD, max_size=6), max_size=5),
    quote=st.booleans(),
    suffix=st.sampled_from([".csv", ".tsv"]),
)
def test_any_table(tmp_path: Path, rows: list[list[str]], quote: bool, suffix: str) -> None:
    separator = "," if suffix == ".csv" else "\t"
    quoted = [[json.dumps(text) if quote else text for text in row] for row in rows]
    header = separator.join(["model", "accel", "item", "score", "repeat", "refused"])
    path = tmp_path / f"table{suffix}"
    path.write_text("\n".join([header, *map(separator.join, quoted)]), encoding="utf-8", errors="surrogatepass")
    check(path)


@FUZZ
@given(data=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".tsv", ".parquet"]))
def test_any_bytes_as_a_table(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    path.write_bytes(data)
    check(path)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of a baseline and one accelerated cell, as the store writes them."""
    root = tmp_path_factory.mktemp("fuzz") / "results"
    for accel, kind in (("none", "baseline"), ("hqq4", "accelerated")):
        cell = {
            "model": {"label": "m", "identity": "m"}, "decoding": {"mode": "greedy"}, "seed": 0,
            "accel": {"label": accel, "kind": kind, "stack": False, "calibration_seed": None}, "environment": {},
            "benchmark": {
                "name": "planted", "version": 1, "data_sha256": "0",
                "meta": {"title": "t", "score_unit": "log-odds", "score_kind": "log-odds"},
            },
        }  # fmt: skip
        Store(root).write(CellRef("planted", "m", accel, f"{len(accel):032x}"), records(12), cell)
    assert read(root) == ""
    return root


@FUZZ
@given(data=st.data())
def test_any_change_of_a_cells_file(results: Path, tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / "results"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(results, root)
    path = data.draw(st.sampled_from(sorted(root.rglob("cell.json"))))
    content: Any = json.loads(path.read_text())
    place = content
    for _ in range(data.draw(st.integers(0, 2))):  # somewhere in it
        inner = [name for name, value in place.items() if isinstance(value, dict) and value]
        if inner:
            place = place[data.draw(st.sampled_from(inner))]
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(ODD)
    path.write_text(json.dumps(content))
    check(root)


@FUZZ
@given(data=st.data())
def test_any_damage_of_a_cells_records(results: Path, tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / "results"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(results, root)
    path = data.draw(st.sampled_from(sorted(root.rglob("records.parquet"))))
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[at] ^= data.draw(st.integers(1, 255))
    else:
        del raw[at:]
    path.write_bytes(raw)
    check(root)


def test_a_changed_bit_is_noticed_or_changes_no_answer(tmp_path: Path) -> None:
    frame = records(200).assign(score=[k / 7 for k in range(200)])
    folder = Store(tmp_path).write(CellRef("planted", "m", "none", "0" * 32), frame, {})
    path = folder / "records.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0)
    scores = next(c for c in map(column.column, range(column.num_columns)) if c.path_in_schema == "score")
    start = scores.dictionary_page_offset or scores.data_page_offset
    cell = Cell("m", "none", "planted", "greedy", 0, None, "baseline", False, "0" * 32, folder, {})
    whole, true = path.read_bytes(), read_records(cell)
    refused = 0
    for at in range(start, start + scores.total_compressed_size, 5):
        raw = bytearray(whole)
        raw[at] ^= 1
        path.write_bytes(raw)
        try:
            assert read_records(cell).equals(true)  # a page's header holds statistics that nobody reads
        except AnalysisError as error:
            assert "records.parquet: unreadable" in str(error)  # noqa: PT017
            refused += 1
    assert refused > scores.total_compressed_size / 5 * 0.8
