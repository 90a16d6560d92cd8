"""Records of the shared schema (instance_level_eval 0.2): field by field as the schema names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import AnalysisError
from analysis.frame import make_frames
from analysis.importers.inputs import Columns, Inputs
from analysis.load import load


def record(i: int, score: float, **changes: Any) -> dict[str, Any]:
    """A single-turn record with every field that the schema requires."""
    return {
        "schema_version": "0.2.1",
        "evaluation_id": "own/small/1795500000",
        "model_id": "own/small",
        "evaluation_name": "own_questions",
        "sample_id": f"q{i}",
        "interaction_type": "single_turn",
        "input": {"raw": f"Is person {i} late?", "reference": ["no"]},
        "output": {"raw": ["no"]},
        "answer_attribution": [],
        "evaluation": {"score": score, "is_correct": bool(score)},
        "metadata": {"template": f"t{i // 2}"},
    } | changes


def write(folder: Path, accel: str, scores: list[float], **changes: Any) -> Path:
    file = folder / "small" / accel / "run_samples.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(json.dumps(record(i, s, **changes)) for i, s in enumerate(scores)) + "\n")
    return file


def test_records_by_folder(tmp_path: Path) -> None:
    write(tmp_path, "none", [0, 1, 0, 1])
    write(tmp_path, "int4", [1, 1, 0, 1])
    (tmp_path / "small" / "aggregate.json").write_text("{}")
    frame = make_frames(load(tmp_path, Inputs(Columns(cluster="template"))).cells)[0]
    assert (frame.benchmark, frame.arms) == ("own_questions", [("small", "none"), ("small", "int4")])
    assert frame.shift("small", "int4").tolist() == [1, 0, 0, 0]
    assert frame.clusters.n_clusters == 2
    assert frame.meta["score_kind"] == "rate"


def test_records_that_name_their_accelerator_need_no_folder(tmp_path: Path) -> None:
    lines = [record(i, i % 2, metadata={"accel": accel}) for accel in ("none", "int4") for i in range(4)]
    file = tmp_path / "all.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    assert make_frames(load(file).cells)[0].arms == [("own/small", "none"), ("own/small", "int4")]


def test_an_error_is_no_score(tmp_path: Path) -> None:
    write(tmp_path, "none", [0, 1, 0])
    write(tmp_path, "int4", [0, 0, 0], error="timeout")
    coverage = make_frames(load(tmp_path).cells)[0].coverage["small", "int4"]
    assert (coverage.n_valid, coverage.n_unparsed) == (0, 3)


@pytest.mark.parametrize(
    ("changes", "inputs", "message"),
    [
        ({"evaluation": {"is_correct": True}}, Inputs(), "a record lacks evaluation.score"),
        ({"evaluation_name": ""}, Inputs(), "a record lacks evaluation_name"),
        ({"evaluation": {"score": "high"}}, Inputs(), "score 'high' is no number"),
        (
            {},
            Inputs(Columns(cluster="family")),
            "columns.cluster=family: not in the metadata of",
        ),
        (
            {},
            Inputs(Columns(score="x")),
            "columns.score=x: records of every_eval_ever take no such choice",
        ),
        ({"sample_id": "same"}, Inputs(), r"item same occurs twice in model small, accel none"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], inputs: Inputs, message: str) -> None:
    write(tmp_path, "none", [0, 1], **changes)
    with pytest.raises(AnalysisError, match=message):
        load(tmp_path, inputs)


def test_no_folder_and_no_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(record(0, 1)))
    with pytest.raises(AnalysisError, match="which model and accelerator is this"):
        load(tmp_path)
