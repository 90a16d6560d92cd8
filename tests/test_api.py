"""biaslab.run: the line's own sweep, its errors as exceptions, its results at hand."""

from __future__ import annotations

import doctest
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import biaslab
from biaslab import api
from biaslab.errors import BiaslabError, ConfigError
from tests.cli.run import biaslab as typed
from tests.cli.run import environment

WORDS = ("accel=placebo_rerun", "limit=12", "tracker=none", "analysis.n_resamples=99", "efficiency.budget_s=1")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def result(outputs: Path) -> biaslab.SweepResult:
    return biaslab.run(*WORDS, model="tiny_llama", benchmark=["planted"], outputs=outputs, progress=False)


def test_the_examples_are_true() -> None:
    found = doctest.testmod(api, optionflags=doctest.ELLIPSIS)
    assert (found.failed, found.attempted) == (0, 4)


def test_it_is_the_line_and_the_line_finds_it_done(result: biaslab.SweepResult, outputs: Path) -> None:
    ledger = json.loads((result.sweep / "sweep.json").read_text())
    words = [*WORDS, "model=tiny_llama", "benchmark=[planted]", f"outputs={outputs}"]
    assert ledger["argv"] == result.line == words
    done = typed(outputs, *words)
    assert done.code == 0, done
    assert "Every cell was complete already: nothing was computed." in done.out


def test_what_comes_back_is_what_was_computed(result: biaslab.SweepResult) -> None:
    assert (result.exit_code, len(result.failed)) == (0, 0)
    assert set(result.cells["accel"]) == {"none", "placebo_rerun"}
    assert len(result.records) == 24
    assert result.records["score"].notna().all()
    assert result.verdicts["verdict"].tolist() == ["placebo"]
    assert result.report is not None
    assert result.report.is_file()
    assert result.results.settings.n_resamples == 99  # those of the sweep
    assert "○ placebo 0 [0, 0]" in repr(result)
    assert "[1/" not in repr(result)  # a line a cell is for whoever waits
    html = result._repr_html_()
    assert "<td>placebo</td>" in html
    assert "not there" not in html


def test_a_wrong_request_is_the_lines_own_words(outputs: Path) -> None:
    with pytest.raises(ConfigError, match=r"^limit=0: must be at least 1, or null for all$"):
        biaslab.run("limit=0", outputs=outputs)
    with pytest.raises(ConfigError, match=r"^--help: write group=choice or key=value"):
        biaslab.run("--help")
    with pytest.raises(ConfigError, match=r"cannot be read"):
        biaslab.run("accel=[hqq4")


def test_a_dry_run_says_what_would_be_done(outputs: Path) -> None:
    found = biaslab.run("dry_run=true", "limit=13", outputs=outputs, progress=False)
    assert "to run" in repr(found)
    assert (found.sweep, found.report, len(found.cells)) == (None, None, 0)
    assert found._repr_html_().startswith("<pre>")
    with pytest.raises(BiaslabError, match="a dry run has no results"):
        _ = found.verdicts


@given(text=st.text(max_size=30))
def test_any_text_is_read_by_hydra_as_itself(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides([f"key={api._word(text)}"])
    found = override.value()
    quoted = api._word(text).startswith("'")
    assert (str(found) if quoted else api._word(text)) == text
    assert not override.is_sweep_override()


def test_lists_sweep_and_tuples_do_not() -> None:
    assert api.line_of([], {"decoding.repeats": [1, 2]}) == ["-m", "decoding.repeats=1,2"]
    assert api.line_of([], {"categories": ("gender",)}) == ["categories=[gender]"]
    assert api.line_of(["accel=hqq4,wanda50"], {}) == ["-m", "accel=hqq4,wanda50"]
    assert api.line_of(["-m", "seed=1"], {}) == ["-m", "seed=1"]
    assert api.line_of([], {"accel": ["hqq4"]}) == ["accel=hqq4"]
    with pytest.raises(ConfigError, match="accel=\\[\\]: a list is swept over"):
        api.line_of([], {"accel": []})


FAILING = """
from dataclasses import dataclass
from typing import ClassVar

from biaslab.accel.base import Accelerator


@dataclass
class Broken(Accelerator):
    family: ClassVar[str] = "broken"
    kind: ClassVar[str] = "quantizer"
    summary: ClassVar[str] = "fails"

    def check(self):
        return None

    def unsupported(self, model, device):
        return None

    def apply(self, model, name):
        raise RuntimeError("<b>no</b>")
"""


@pytest.mark.slow
def test_cells_that_fail_are_a_result_and_no_exception(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_broken.py").write_text(FAILING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = biaslab.run(
        *WORDS[1:], model="tiny_llama", accel="custom", benchmark="planted", outputs=outputs,
        **{"accel.custom.target": "mine_broken.Broken"},
    )  # fmt: skip
    assert found.exit_code == 3
    assert found.failed["state"].tolist() == ["failed"]
    assert "<b>no</b>" in found.failed["error"].iloc[0]
    html = found._repr_html_()
    assert "1 of 2 cells are not there" in html
    assert "<b>no</b>" not in html


@pytest.mark.slow
def test_an_interruption_reaches_the_sweep_and_leaves_what_is_complete(tmp_path: Path) -> None:
    def interrupt() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(tmp_path.glob("results/*/*/*/*/cell.json")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        biaslab.run(model=["tiny_llama", "tiny_mistral"], accel=["hqq4", "wanda50"], outputs=tmp_path, tracker="none")
    (ledger,) = tmp_path.glob("sweeps/*/sweep.json")
    assert json.loads(ledger.read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_a_sweep_does_not_outlive_the_kernel(tmp_path: Path) -> None:
    call = "biaslab.run(model=['tiny_llama', 'tiny_mistral'], accel=['hqq4', 'wanda50'], tracker='none', outputs="
    code = f"import biaslab; {call}{str(tmp_path)!r})"
    kernel = subprocess.Popen([sys.executable, "-c", code], env=environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("results/*/*/*/*/cell.json")):
        time.sleep(0.05)
    kernel.kill()
    kernel.wait()
    (ledger,) = tmp_path.glob("sweeps/*/sweep.json")
    while time.monotonic() < deadline and json.loads(ledger.read_text())["status"] == "running":
        time.sleep(0.1)
    assert json.loads(ledger.read_text())["status"] == "interrupted"


def test_a_process_that_was_killed_says_what_to_do() -> None:
    assert "SIGKILL (no memory left?)" in api._ended(-9, [])
    assert api._ended(1, ["Traceback", "ValueError: x", ""]) == "ValueError: x"
