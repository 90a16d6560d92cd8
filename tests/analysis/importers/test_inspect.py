"""Inspect logs, written by inspect_ai itself with its mock model and read by its own reader."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from analysis.errors import AnalysisError
from analysis.frame import make_frames
from analysis.importers.inputs import Columns, Imports, Inputs
from analysis.load import load

ANSWERS = {
    ("small", "none"): "yes no no yes no no yes no",
    ("small", "int4"): "yes yes no yes no no - no",
    ("other", "none"): "no no no yes no no yes no",
    ("other", "int4"): "no no yes yes no no yes yes",
}


def run(root: Path) -> None:
    from inspect_ai import Task
    from inspect_ai import eval as run_task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import Score, Target, match, mean, scorer
    from inspect_ai.solver import TaskState, generate

    @scorer(metrics=[mean()])
    def stereotyped():  # type: ignore[no-untyped-def]
        async def score(state: TaskState, target: Target) -> Score:
            text = state.output.completion
            return Score(value=float("nan") if text == "-" else float(text == "yes"))

        return score

    samples = [Sample(id=f"q{i}", input="Late?", target="no", metadata={"template": f"t{i // 2}"}) for i in range(8)]
    for (model, accel), answers in ANSWERS.items():
        outputs = [ModelOutput.from_content("mockllm/model", a) for a in answers.split()]
        for output in outputs:  # else its tokens are counted with a file from the internet
            output.usage = ModelUsage(input_tokens=9, output_tokens=1, total_tokens=10)
        logs = run_task(
            Task(dataset=MemoryDataset(samples), solver=generate(), scorer=[stereotyped(), match()], name="own"),
            model=get_model("mockllm/model", custom_outputs=outputs, memoize=False),
            log_dir=str(root / model / accel),
            display="none",
            max_samples=1,
            log_format="json" if model == "other" else "eval",
        )
        assert logs[0].status == "success", logs[0].error


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("inspect_ai")
    root = tmp_path_factory.mktemp("logs")
    run(root)
    return root


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")  # of a library and its dependencies
def test_scores_arrive_as_inspect_recorded_them(logs: Path) -> None:
    inputs = Inputs(Columns(cluster="template"), Imports(metric="stereotyped"))
    frame = make_frames(load(logs, inputs).cells)[0]
    assert (frame.benchmark, frame.clusters.n_clusters) == ("own", 4)
    for arm, answers in ANSWERS.items():
        expected = [{"yes": 1.0, "no": 0.0, "-": float("nan")}[a] for a in answers.split()]
        assert frame.score(*arm) == pytest.approx(expected, nan_ok=True)
    assert frame.coverage["small", "int4"].n_unparsed == 1
    grades = make_frames(load(logs, Inputs(imports=Imports(metric="match"))).cells)[0]
    assert grades.score("small", "none").tolist() == [float(a == "no") for a in ANSWERS["small", "none"].split()]


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_what_does_not_fit_is_named(logs: Path) -> None:
    with pytest.raises(AnalysisError, match=r"which scorer gives the score.* from stereotyped and match"):
        load(logs)
    with pytest.raises(AnalysisError, match=r"imports\.metric=x: no such scorer"):
        load(logs, Inputs(imports=Imports(metric="x")))
    with pytest.raises(AnalysisError, match=r"columns\.cluster=family: not in the metadata"):
        load(logs, Inputs(Columns(cluster="family"), Imports(metric="match")))
    with pytest.raises(AnalysisError, match=r"columns\.item=x: Inspect logs take no such choice, only columns.cluster"):
        load(logs, Inputs(Columns(item="x"), Imports(metric="match")))


def test_without_inspect_the_line_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m" / "none" / "2026-11-24T22-40-22-00-00_own_aP5f.eval"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(AnalysisError, match="not installed: python -m pip install inspect-ai"):
        load(tmp_path)
