"""What a notebook gets: frames that equal the report's tables, figures that show themselves, text that stays text."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.analyse import analyse
from analysis.errors import AnalysisError
from analysis.load import Loaded
from analysis.report.tables import all_tables
from analysis.results import Results
from analysis.settings import Settings
from tests.analysis.fake import make_sweep, two_decodings

FAST = {"n_resamples": 199}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("results"), benchmarks=("planted", "pairs"), interaction=0.4)


@pytest.fixture(scope="module")
def results(sweep: Path) -> Results:
    return analysis.load(sweep, **FAST)


def test_every_table_is_the_reports_own(sweep: Path, results: Results) -> None:
    study = analyse(sweep, Settings(n_resamples=199))
    assert results.answer == study.answer
    for table in all_tables(study):
        assert repr(results.table(table.name).to_dict("list")) == repr(
            pd.DataFrame(table.rows, columns=list(table.columns)).to_dict("list")
        )
    assert results.tables == {table.name: table.title for table in all_tables(study)}
    pd.testing.assert_frame_equal(results.shifts, results.table("shifts"))


def test_verdicts_are_one_row_a_cell(results: Results) -> None:
    found = results.verdicts
    shifts = [(b, s) for b in results.study.benchmarks for s in b.shifts]
    assert len(found) == len(shifts) == 16
    for row, (b, s) in zip(found.to_dict("records"), shifts, strict=True):
        assert (row["benchmark"], row["model"], row["accel"]) == (b.name, s.model, s.accel)
        assert (row["verdict"], row["value"], row["sentence"], row["unit"]) == (
            s.verdict, s.estimate.value, s.sentence, b.unit,
        )  # fmt: skip


def test_scores_and_records_hold_what_was_measured(sweep: Path, results: Results) -> None:
    shift = results.scores("planted")["tiny_mistral", "hqq4"] - results.scores("planted")["tiny_mistral", "none"]
    verdict = results.verdicts.set_index(["benchmark", "model", "accel"]).loc[("planted", "tiny_mistral", "hqq4")]
    assert shift.mean() == pytest.approx(verdict["value"])
    files = list((sweep.parents[1] / "results").rglob("records.parquet"))
    assert len(results.records) == sum(len(pd.read_parquet(f)) for f in files)
    assert {"response", "refused", "detail", "truth"} <= set(results.records.columns)
    assert len(results.cells) == len(files) == 20
    assert set(results.cells["kind"]) == {"baseline", "accelerated", "placebo"}


def test_an_interaction_shows_its_test_and_its_figure(results: Results) -> None:
    found = results.interaction("planted")
    assert (found.verdict, found.p) == ("interaction", results.benchmark("planted").omnibus.p)
    assert set(found.differences["model"]) == {"tiny_llama", "tiny_mistral"}
    html = found._repr_html_()
    (data,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert base64.b64decode(data).decode().startswith("<svg")
    assert repr(found).startswith("Planted: interaction. ")
    assert list(found.figure.numbers.columns[:2]) == ["model", "accel"]
    assert found.figure.draw().get_axes()


def test_figures_are_the_reports_by_name(results: Results, tmp_path: Path) -> None:
    page = results.report(tmp_path / "report")
    drawn = {f.stem for f in (page.parent / "figures").glob("*.svg")}
    assert set(results.figures) == drawn
    for name, picture in results.figures.items():
        assert (page.parent / "figures" / f"{name}.svg").read_text() == picture.svg
    assert "01-interaction" in results.figures
    assert "01-interaction: " in repr(results.figures)


def test_showing_results_is_the_answer_and_every_verdict(results: Results) -> None:
    html = results._repr_html_()
    assert results.answer.replace("†", "").split("(")[0] in html
    assert html.count("<tr") == 1 + len(results.verdicts)
    assert repr(results) == "<Results of fake: 20 cells (2 models, 5 accels, 2 benchmarks)>"


def test_text_of_others_stays_text(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\x1b[2J"
    rows = [(evil, a, f"i{i}", i % 5 + (a == evil)) for a in ("none", evil) for i in range(20)]
    rows += [("m", a, f"i{i}", i % 5 + (a == evil)) for a in ("none", evil) for i in range(20)]
    file = tmp_path / "own.csv"
    pd.DataFrame(rows, columns=["model", "accel", "item", "score"]).assign(benchmark=evil).to_csv(file, index=False)
    found = analysis.load(file, **FAST)
    shown = [found._repr_html_(), found.interaction(evil)._repr_html_(), found.figures._repr_html_()]
    shown += [picture._repr_html_() for picture in found.figures.values()]
    assert not any("<img src=x" in html or "\x1b" in html for html in shown)
    assert all("&lt;img src=x" in html for html in shown)
    assert not any("\x1b" in repr(x) for x in (found, found.interaction(evil), found.figures))


def test_several_places_are_read_as_one(tmp_path: Path, results: Results) -> None:
    one = make_sweep(tmp_path / "a", accels=("hqq4",))
    other = make_sweep(tmp_path / "b", accels=("wanda50",))
    both = analysis.load([one, str(other)], **FAST)
    assert sorted({(c.model, c.accel) for c in both.loaded.cells}) == [
        (m, a) for m in ("tiny_llama", "tiny_mistral") for a in ("hqq4", "none", "wanda50")
    ]
    assert len(both.loaded.cells) == 6  # the baselines are the same cells
    assert len(both.verdicts) == 4
    again = analysis.load([one, one], **FAST)
    assert repr(again.verdicts) == repr(analysis.load(one, **FAST).verdicts)


def test_what_one_place_lacks_another_may_have(tmp_path: Path) -> None:
    broken = make_sweep(tmp_path / "a", accels=("hqq4",), failed=[("tiny_llama", "hqq4")])
    whole = make_sweep(tmp_path / "b", accels=("hqq4",))
    assert len(analysis.load(broken).loaded.missing) == 1
    assert analysis.load([broken, whole]).loaded.missing == []


def test_places_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    one = make_sweep(tmp_path / "a", accels=("hqq4",))
    other = make_sweep(tmp_path / "b", accels=("hqq4",), overrides={("tiny_llama", "hqq4"): {"dtype": "bfloat16",
                       "key": "f" * 32}})  # fmt: skip
    with pytest.raises(AnalysisError, match="two cells differ in dtype"):
        analysis.load([one, other])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.table("x"), "table 'x': choose one of verdicts, shifts"),
        (lambda r: r.figures["x"], "figure 'x': choose one of 01-interaction"),
        (lambda r: r.interaction("x"), "benchmark 'x': unknown; one of 'planted', 'pairs'"),
    ],
)
def test_a_name_that_is_not_there_lists_those_that_are(results: Results, ask: object, message: str) -> None:
    with pytest.raises(AnalysisError, match=re.escape(message)):
        ask(results)  # type: ignore[operator]


def test_settings_are_those_of_the_line(sweep: Path) -> None:
    assert analysis.load(sweep, "margins.rate=0.05", alpha=0.01, accels=["hqq4"]).settings.accels == ["hqq4"]
    with pytest.raises(AnalysisError, match="n_resample: unknown; did you mean n_resamples"):
        analysis.load(sweep, n_resample=10)
    with pytest.raises(AnalysisError, match="as objects or as words and keywords"):
        analysis.load(sweep, alpha=0.1, settings=Settings())
    with pytest.raises(AnalysisError, match="at least one folder or file"):
        analysis.load([])
    with pytest.raises(AnalysisError, match="no such folder or file"):
        analysis.load("nowhere")


def test_settings_that_are_wrong_are_said_where_they_are_shown(sweep: Path) -> None:
    assert "alpha=0.9: must be above 0" in analysis.load(sweep, alpha=0.9)._repr_html_()


def test_the_module_is_the_function(sweep: Path) -> None:
    import analysis.load as module

    assert isinstance(analysis.load(sweep), Results)
    assert isinstance(module.load(sweep), Loaded)  # what the rest of the package calls


def test_a_copied_sweep_reads_alike(sweep: Path, tmp_path: Path, results: Results) -> None:
    shutil.copytree(sweep.parents[1], tmp_path / "outputs")
    copied = analysis.load(tmp_path / "outputs" / "sweeps" / "fake", **FAST)
    pd.testing.assert_frame_equal(copied.verdicts, results.verdicts)


def test_what_one_place_lacks_is_missing_unless_another_place_has_that_very_cell(tmp_path: Path) -> None:
    sweep = two_decodings(tmp_path / "a", sampled_fails=[("a", "hqq4")])
    greedy = make_sweep(tmp_path / "b", models=("a", "b"), accels=("hqq4",), notes={}, shift=0.0, noise=0.05)
    both = analysis.load([sweep, greedy], **FAST)
    assert [(m.model, m.accel, m.decoding) for m in both.loaded.missing] == [("a", "hqq4", "sampled")]
    whole = two_decodings(tmp_path / "c")
    assert analysis.load([sweep, whole], **FAST).loaded.missing == []
