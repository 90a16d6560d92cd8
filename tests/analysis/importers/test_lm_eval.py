"""Sample files as lm-evaluation-harness 0.4.13 wrote them, against the totals it printed itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.errors import AnalysisError
from analysis.frame import Frame, make_frames
from analysis.importers.inputs import Columns, Imports, Inputs
from analysis.load import load

HERE = Path(__file__).parent
#: (|difference|, share stereotyped) of results_*.json of the same runs.
TOTALS = {
    ("small", "none"): (4.4925797780354815, 0.5),
    ("small", "bf16"): (4.583333333333333, 0.5),
    ("other", "none"): (4.8446839650472, 1.0),
    ("other", "bf16"): (4.833333333333333, 0.5833333333333334),
}


def pairs(**columns: str) -> Frame:
    return make_frames(load(HERE / "lm_eval", Inputs(Columns(**columns))).cells)[0]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    shutil.copytree(HERE / "lm_eval", folder)
    return folder


def change(folder: Path, **fields: object) -> Path:
    """Change fields of the first sample of small/none; its file."""
    file = next((folder / "small" / "none").glob("*.jsonl"))
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps(json.loads(first) | fields), *rest]) + "\n")
    return file


@pytest.mark.parametrize("arm", TOTALS)
def test_signed_scores_have_the_size_and_the_direction_that_the_harness_gives(arm: tuple[str, str]) -> None:
    frame = pairs()
    scores = frame.score(*arm)
    size, share = TOTALS[arm]
    assert np.abs(scores).mean() == pytest.approx(size, rel=1e-6)  # responses are written as text of a float32
    assert (scores > 0).mean() == pytest.approx(share)
    assert ((frame.outcomes[arm] == "stereotyped").to_numpy() == (scores > 0)).all()


def test_fields_of_the_documents_become_columns() -> None:
    frame = pairs(cluster="template", group="pair")
    assert (frame.benchmark, len(frame.items), frame.clusters.n_clusters) == ("own_pairs", 12, 6)
    assert set(frame.items["category"]) == {"age", "origin"}  # bias_type, without being asked
    assert set(frame.items["group"]) == {f"p{i:02d}" for i in range(1, 13)}
    assert "log p(sent_more) - log p(sent_less)" in frame.meta["formula"]
    assert frame.meta["direction"].startswith("positive: the stereotyped")


def test_without_a_cluster_it_warns() -> None:
    assert "every item counts as independent" in " ".join(load(HERE / "lm_eval").notes)


def test_a_named_metric_is_the_score() -> None:
    inputs = Inputs(imports=Imports(metric="pct_stereotype"))
    frame = make_frames(load(HERE / "lm_eval", inputs).cells)[0]
    assert frame.score("other", "bf16").mean() == pytest.approx(TOTALS["other", "bf16"][1])
    assert frame.meta["score_kind"] == "rate"


def test_bbq_answers_are_signed(tmp_path: Path) -> None:
    folder = tmp_path / "bbq"
    shutil.copytree(HERE / "lm_eval_bbq", folder)
    frame = make_frames(load(folder).cells)[0]
    assert (frame.score("small", "none") == 0).all()  # the harness's own amb_bias_score of this run is 0.0
    assert set(frame.items["cluster"]) == {"Age-1", "Age-2", "Age-3"}
    change(folder, amb_bias_score=[0.0, 1.0, 1.0, False])
    assert make_frames(load(folder).cells)[0].score("small", "none")[0] == 1
    change(folder, amb_bias_score=[0.0, 0.0, 1.0, False])
    assert make_frames(load(folder).cells)[0].score("small", "none")[0] == -1


def test_a_whole_analysis_and_a_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"results={HERE / 'lm_eval'}", "columns.cluster=template"]
    assert main([*words, f"out={tmp_path}", "n_resamples=99"]) == 0
    assert main(["gate", *words, "candidate=bf16", "margin=1"]) == 0
    assert "own_pairs  other" in capsys.readouterr().out
    capsys.readouterr()


def test_a_gate_between_two_output_folders_of_the_harness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `--output_path base` and `--output_path int4` leave them: <folder>/<model>/samples_*.jsonl."""
    for accel in ("none", "bf16"):
        shutil.copytree(HERE / "lm_eval" / "small" / accel, tmp_path / f"out-{accel}" / "models__small")
    folders = [f"baseline={tmp_path / 'out-none'}", f"candidate={tmp_path / 'out-bf16'}"]
    assert main(["gate", *folders, "margin=1", "columns.cluster=template"]) == 0
    out = capsys.readouterr().out
    assert "own_pairs  models__small  PASS" in out
    shift = make_frames(load(HERE / "lm_eval").cells)[0].shift("small", "bf16").mean()
    assert f"{shift:+.3g} log-prob" in out
    assert main(["gate", f"baseline={HERE / 'lm_eval/small/none'}", f"candidate={HERE / 'lm_eval/small/bf16'}"]) == 0
    assert "bf16 is compared with none: one model in each" in capsys.readouterr().out


def test_runs_can_be_named_by_a_csv(copy: Path) -> None:
    (copy / "small" / "none").rename(copy / "first")
    (copy / "small" / "bf16").rename(copy / "second")
    shutil.rmtree(copy / "other")
    shutil.rmtree(copy / "small")
    with pytest.raises(AnalysisError, match=r"which model and accelerator is this\? Put samples_\*.jsonl into"):
        load(copy)
    runs = copy / "runs.csv"
    runs.write_text("folder,model,accel\nfirst,m,none\nsecond,m,int8\n")
    assert make_frames(load(copy, Inputs(imports=Imports(runs=str(runs)))).cells)[0].arms == [
        ("m", "none"),
        ("m", "int8"),
    ]
    runs.write_text("folder,model\nfirst,m\n")
    with pytest.raises(AnalysisError, match="has no column accel"):
        load(copy, Inputs(imports=Imports(runs=str(runs))))


def test_a_newer_file_of_a_run_replaces_the_older_one(copy: Path) -> None:
    file = next((copy / "small" / "none").glob("*.jsonl"))
    old = file.with_name(file.name.replace("2026-11", "2026-10"))
    old.write_text("not read\n")
    assert "1 older sample files of the same runs were left out." in load(copy).notes


@pytest.mark.parametrize(
    ("fields", "inputs", "message"),
    [
        ({"doc_hash": "0"}, Inputs(), "document 0 of own_pairs is another one than in the other runs"),
        ({"doc": None}, Inputs(), "no samples of lm-evaluation-harness"),
        ({"filtered_resps": [["much", "False"]]}, Inputs(), "document 0: no score"),
        ({"filter": "strict"}, Inputs(), "scored under filters strict and none; say imports.metric=METRIC,FILTER"),
        ({"metrics": ["a", "b"], "a": 1.0, "b": 2.0}, Inputs(), "which metric is the score.* from a and b"),
        ({}, Inputs(imports=Imports(metric="pct_stereotype,x")), "has no filter x; choose from none"),
        ({}, Inputs(Columns(cluster="family")), "columns.cluster=family: no such field .* choose from pair, template"),
    ],
)
def test_what_does_not_fit_is_named(copy: Path, fields: dict[str, object], inputs: Inputs, message: str) -> None:
    change(copy, **fields)
    with pytest.raises(AnalysisError, match=message):
        load(copy, inputs)


def test_a_document_twice_in_a_run_is_refused_by_name(copy: Path) -> None:
    file = next((copy / "small" / "none").glob("*.jsonl"))
    file.write_text(file.read_text() * 2)  # as when a run appends to its own file
    with pytest.raises(AnalysisError, match=r"item 0 occurs twice in model small, accel none.*\(12 such rows\)"):
        load(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "line 1: cannot be read as JSON"), ("[]", "line 1: no JSON object"), ("", "holds no lines")],
)
def test_files_that_are_broken(copy: Path, text: str, message: str) -> None:
    next((copy / "small" / "none").glob("*.jsonl")).write_text(text)
    with pytest.raises(AnalysisError, match=message):
        load(copy)


@pytest.mark.parametrize("column", ["model", "accel", "item", "score", "benchmark", "repeat", "outcome", "refused"])
def test_a_column_that_samples_do_not_have_is_refused(column: str) -> None:
    message = rf"columns.{column}=x: samples of lm-evaluation-harness take no such choice, only columns.cluster, "
    with pytest.raises(AnalysisError, match=message):
        load(HERE / "lm_eval", Inputs(Columns(**{column: "x"})))
