"""docs/extending.md as its reader follows it: the files are saved, the lines are typed."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch

from biaslab.benchmarks import registry
from biaslab.benchmarks.custom import Custom, resolved
from biaslab.engine.requests import LogLikelihoodResponse
from biaslab.errors import ConfigError
from biaslab.models import embedded
from biaslab.models.base import ModelInfo, Planted
from biaslab.models.custom import describe_custom
from biaslab.tracking.base import NoTracker, TrackerConfig, make_tracker
from tests.cli.run import biaslab
from tests.docs import pages
from tests.models import plain

PAGE = pages.ROOT / "docs" / "extending.md"
LINES = [shlex.split(command.text)[3:] for command in pages.commands(PAGE) if command.block]
MODEL = ModelInfo("tiny", "embedded", "sha256:0", "", "LlamaForCausalLM", {}, planted=Planted(1.0))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pages.write_files(PAGE, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_benchmark_stands_under_its_own_name_and_scores(folder: Path) -> None:
    made = resolved({"custom": Custom(target="at_work.AtWork", params={"case": False})}, registry())
    (benchmark,) = made.values()
    assert list(made) == ["at_work"]
    items = benchmark.items(MODEL)
    assert (len(items), len({item.cluster for item in items})) == (12, 6)
    first, second = benchmark.requests(items[0])
    assert (first.continuation, second.continuation) == ("he fixed the machine .", "she fixed the machine .")
    answers = [LogLikelihoodResponse((-1.0, -2.0), ("a", "b"), 2), LogLikelihoodResponse((-2.0, -3.0), ("a", "b"), 2)]
    assert benchmark.score(items[0], answers).score == pytest.approx(1.0)
    too_long = LogLikelihoodResponse((), (), 9, too_long=True)
    assert math.isnan(benchmark.score(items[0], [answers[0], too_long]).score)


WRONG = {
    "": "benchmark.custom.target=: name a class as package.module.Class",
    "nowhere.AtWork": "benchmark.custom.target=nowhere.AtWork: no module nowhere; it is looked for in",
    "at_work.Work": "at_work has no Work; its benchmarks: ['AtWork']",
    "shrink.Shrink": "it does not extend biaslab.benchmarks.base.Benchmark",
    "other.Clash": "benchmark.custom: the name 'bbq' is taken by biaslab; choose another",
    "other.NoMeta": "it lacks the class attributes meta (Meta)",
}


@pytest.mark.parametrize("target", WRONG)
def test_a_wrong_benchmark_is_one_line(folder: Path, target: str) -> None:
    (folder / "other.py").write_text(
        "from dataclasses import dataclass\nfrom at_work import AtWork\n\n@dataclass\nclass Clash(AtWork):\n"
        "    name = 'bbq'\n\n@dataclass\nclass NoMeta(AtWork):\n    meta = None\n"
    )
    with pytest.raises(ConfigError) as raised:
        resolved({"custom": Custom(target=target)}, registry())
    assert WRONG[target] in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wrong_field_of_it_is_one_line(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"benchmark.custom.params.caps: no such field; AtWork has case"):
        resolved({"custom": Custom(target="at_work.AtWork", params={"caps": True})}, registry())


def test_the_models_head_writes_nothing_and_all_else_is_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIASLAB_CACHE_DIR", str(folder / "cache"))
    info = describe_custom("ablated.Ablated", {"layer": 1, "head": 2})
    assert info.label == "ablated(layer=1,head=2)"
    edited, before = (plain.load(Path(path))[0].state_dict() for path in (info.path, embedded.folder("tiny_llama")))
    name = "model.layers.1.self_attn.o_proj.weight"
    assert {key for key in before if not torch.equal(edited[key].float(), before[key].float())} == {name}
    size = before[name].shape[1] // 4
    other = [i for i in range(4 * size) if i // size != 2]
    assert not edited[name][:, 2 * size : 3 * size].any()
    assert torch.equal(edited[name][:, other].float(), before[name][:, other].float())
    with pytest.raises(ConfigError, match=r"ablated.Ablated: load\(\) failed \(ValueError: head=4: it has 4"):
        describe_custom("ablated.Ablated", {"head": 4})


def test_a_tracker_that_raises_costs_no_sweep(folder: Path) -> None:
    config = TrackerConfig(name="custom", target="ledger.Ledger", params={"file": str(folder / "none" / "x.csv")})
    tracker = make_tracker(config, folder, folder, hub=False)
    tracker.begin()
    tracker.cell(folder)
    tracker.cell(folder)  # told once
    line = tracker.finish(None)
    assert line.startswith("ledger: ")
    assert "tracker Ledger: 2 calls failed (FileNotFoundError: " in line
    assert re.search(r" in Ledger\.begin, \S*ledger\.py:\d+\); no result", line)
    assert line.endswith("; no result is lost")


def test_a_wrong_tracker_is_one_line(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"tracker.target=ledger.Leger: ledger has no Leger; its trackers: \['Ledger'\]"
    ):
        make_tracker(TrackerConfig(name="custom", target="ledger.Leger"), folder, folder, hub=False)
    assert isinstance(make_tracker(TrackerConfig(name="none"), folder, folder, hub=False), NoTracker)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_as_typed(tmp_path: Path) -> None:
    pages.write_files(PAGE, tmp_path)
    for line in LINES:
        ended = biaslab(tmp_path, *line, "analysis.n_resamples=199", env={"BIASLAB_CACHE_DIR": str(tmp_path / "cache")})
        assert ended.code == 0, ended
    cells = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "results").rglob("cell.json")]
    arms = {(cell["benchmark"]["name"], cell["model"]["label"], cell["accel"]["label"]) for cell in cells}
    assert {(b, m, a) for b, m, a in arms if b == "at_work"} == {
        ("at_work", model, accel) for model in ("tiny_llama", "no_head") for accel in ("none", "hqq4", "shrink_half")
    } | {
        ("at_work", model, accel)
        for model in ("ablated", "ablated(head=1)", "ablated(head=2)")
        for accel in ("none", "hqq4")
    } | {("at_work", "tiny_llama", accel) for accel in ("none", "hqq4")}
    assert {a for b, m, a in arms if b == "planted" and "shrink" in a} == {"shrink(factor=0.8)", "shrink+hqq4"}
    table = pd.read_csv(tmp_path / "ledger.csv")
    assert table[["accel", "n_valid"]].to_numpy().tolist() == [["none", 30], ["hqq4", 30]]
    own = next(cell for cell in cells if cell["benchmark"]["name"] == "at_work" and cell["model"]["label"] == "no_head")
    assert set(own["identity"]["benchmark"]) >= {"code", "case"}
    assert own["identity"]["model"].endswith(f"+code:{own['model']['made_of']['code']}")
    assert {k: own["model"]["made_of"]["params"][k] for k in ("layer", "head")} == {"layer": 1, "head": 2}
    assert len(list((tmp_path / "cache" / "models").glob("ablated-*/model.safetensors"))) == 4  # each loaded once
