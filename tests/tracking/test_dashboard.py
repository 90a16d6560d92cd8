"""The project's workspace and report, as a real client sends them to the recorder."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from biaslab.tracking.charts import VERDICTS, charts
from biaslab.tracking.tables import DASHBOARD, SIGNS, dashboard_rows
from tests.cli.run import biaslab
from tests.tracking.recorder import KEY, Recorder, View, serve

HERE = find_spec("wandb_workspaces") is not None
needs_library = [pytest.mark.extras, pytest.mark.skipif(not HERE, reason="wandb-workspaces is not installed")]
LINE = ("-m", "model=tiny_llama,tiny_mistral", "accel=hqq4", "benchmark=[planted,planted_answers]", "limit=24")


def test_charts_ask_for_columns_of_the_dashboards_table() -> None:
    for chart in charts():
        asked = set(re.findall(r"\$\{field:(\w+)\}", json.dumps(chart.spec)))
        assert asked <= set(chart.columns) <= set(DASHBOARD), chart.key
        assert {"sweep", "panel"} <= asked, chart.key  # two analyses are never drawn as one
    assert {chart.key for chart in charts()} == {"verdicts", "shifts", "perplexity", "memory"}
    assert {"shift", "ci_low", "ci_high"} <= set(charts()[1].columns)
    assert set(SIGNS) <= set(VERDICTS)


def test_a_chart_of_another_spec_has_another_name() -> None:
    first, second = charts()[:2]
    assert first.name == charts()[0].name
    changed = type(first)(first.key, first.title, {**first.spec, "title": "x"}, first.columns)
    assert len({first.name, second.name, changed.name}) == 3


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "no sweep in outputs"),
        (("nowhere",), "no sweep in nowhere"),
        (("tracker.nonsense=1",), "nonsense"),
    ],
)
def test_a_wrong_line_is_refused_in_one(tmp_path: Path, argv: tuple[str, ...], words: str) -> None:
    ended = biaslab(tmp_path, "dashboard", *argv)
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(f".*dashboard.*{words}.*\n", ended.err), ended.err


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with a report, and with a failed cell on record."""
    folder = tmp_path_factory.mktemp("board")
    ended = biaslab(folder, *LINE, env={"WANDB_MODE": "disabled"})
    assert ended.code == 0, ended
    return folder


@pytest.fixture
def server() -> Iterator[Recorder]:
    with serve() as recorder:
        recorder.projects.add("biaslab")
        yield recorder
    assert recorder.unknown == []


def views(server: Recorder) -> dict[str, View]:
    return {view.kind: view for view in server.views.values()}


def texts(value: Any) -> list[str]:
    """Every text in a spec."""
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


class TestWithLibrary:
    pytestmark = needs_library

    def test_twice_is_one_workspace_and_one_report(self, swept: Path, server: Recorder) -> None:
        for word in ("made", "updated"):
            ended = biaslab(swept, "dashboard", env=server.env())
            assert (ended.code, ended.err) == (0, ""), ended
            where = f"{server.url}/{server.entity}/biaslab"
            workspace, report = ended.out.splitlines()
            assert workspace == f"W&B workspace {word}: {where}?nw=biaslabview"
            assert report.startswith(f"W&B report {word}: {where}/reports/biaslab-report--")
        assert sorted((v.kind, v.saves) for v in server.views.values()) == [("project-view", 2), ("runs", 2)]
        assert len(server.charts) == len(charts())

    def test_the_workspace_shows_what_the_analysis_run_carries(self, swept: Path, server: Recorder) -> None:
        assert biaslab(swept, "dashboard", env=server.env()).code == 0
        sections = views(server)["project-view"].spec["section"]["panelBankConfig"]["sections"]
        assert [section["name"] for section in sections] == [
            "Verdicts", "Shift by accelerator", "Bias against perplexity and memory", "Progress", "Failures", "Report",
        ]  # fmt: skip
        shown = [panel["config"] for section in sections for panel in section["panels"]]
        drawn = [config for config in shown if "panelDefId" in config]
        assert [config["panelDefId"] for config in drawn] == [f"{server.entity}/{chart.name}" for chart in charts()]
        assert set(server.charts) == {config["panelDefId"] for config in drawn}
        for config, chart in zip(drawn, charts(), strict=True):
            assert "dashboard/cells" in texts(config["userQuery"])
            assert config["fieldSettings"] == {column: column for column in chart.columns}
        (progress,) = [config for config in shown if config.get("xAxis") == "progress/minutes"]
        assert progress["metrics"] == ["progress/complete", "progress/failed", "progress/all"]

    def test_the_report_says_what_the_analysis_said_of_this_sweep(self, swept: Path, server: Recorder) -> None:
        assert biaslab(swept, "dashboard", env=server.env()).code == 0
        (path,) = (swept / "outputs" / "reports").glob("*/results.json")
        results, view = json.loads(path.read_text()), views(server)["runs"]
        said = texts(view.spec)
        assert results["answer"] in said
        assert results["methods"] in said
        for b in results["benchmarks"]:
            assert f"{b['title']}: {b['verdict']}. {b['sentence']}" in said
        assert "Every cell of the sweep is there." in said
        grids = [block for block in view.spec["blocks"] if block["type"] == "panel-grid"]
        assert len(grids) == 4
        for grid in grids:
            (runs,) = grid["metadata"]["runSets"]
            assert path.parent.name in texts(runs["filters"])
            assert {"group", "jobType"} <= set(texts(runs["filters"]))

    def test_print_shows_it_without_a_server_or_a_login(self, swept: Path) -> None:
        env = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "", "NETRC": str(swept / "none")}
        ended = biaslab(swept, "dashboard", "print=true", env=env)
        assert (ended.code, ended.err) == (0, "")
        for chart in charts():
            assert ended.out.count(f"chart: {chart.title}") == 2  # in the workspace and in the report
        assert "workspace biaslab: <your entity>/biaslab" in ended.out

    def test_who_is_not_logged_in_is_told_so(self, swept: Path, server: Recorder) -> None:
        ended = biaslab(swept, "dashboard", env=server.env(WANDB_API_KEY="", NETRC=str(swept / "none")))
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == "biaslab: dashboard: not logged in to W&B: run `wandb login`, or set WANDB_API_KEY\n"
        assert server.n_requests == 0

    def test_a_project_that_is_not_there_is_not_made(self, swept: Path, server: Recorder) -> None:
        ended = biaslab(swept, "dashboard", "tracker.project=elsewhere", env=server.env())
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith(f"biaslab: dashboard: no project {server.entity}/elsewhere that you may see")
        assert ended.err.count("\n") == 1
        assert server.views == {}

    @pytest.mark.parametrize(
        ("mood", "words"),
        [
            ({"refuse_key": True}, "the server refused .*user is not logged in.*"),
            ({"status": 500}, "no answer from .* in 15 s.*"),
            ({"delay_s": 60.0}, "no answer from .* in 15 s.*"),
            (None, "no answer from http://127.0.0.1:9 in 15 s.*"),  # nobody listens
        ],
    )
    def test_a_server_that_fails_costs_seconds_and_one_line(
        self, swept: Path, mood: dict[str, Any] | None, words: str
    ) -> None:
        start = time.perf_counter()
        with serve(**(mood or {})) as server:
            env = server.env() if mood is not None else server.env(WANDB_BASE_URL="http://127.0.0.1:9")
            ended = biaslab(swept, "dashboard", env=env)
            seconds = time.perf_counter() - start
        assert ended.code == 3
        assert re.fullmatch(f"biaslab: dashboard: {words}\n", ended.err), ended.err
        assert KEY not in ended.err
        assert seconds < 20 + 5  # and the start of the program

    def test_a_chart_that_is_there_already_is_not_made_again(self, swept: Path, server: Recorder) -> None:
        server.charts[f"{server.entity}/{charts()[0].name}"] = {}
        assert biaslab(swept, "dashboard", env=server.env()).code == 0
        server.refused.add("CreateCustomChart")
        assert biaslab(swept, "dashboard", env=server.env()).code == 0  # the workspace shows them: none is asked for

    def test_a_chart_that_is_refused_is_said_so(self, swept: Path, server: Recorder) -> None:
        server.refused.add("CreateCustomChart")
        ended = biaslab(swept, "dashboard", env=server.env())
        assert ended.code == 3
        assert "did not take the chart biaslab-verdicts-" in ended.err
        assert server.views == {}


@pytest.mark.extras
def test_charts_draw_every_cell_with_its_sign_and_its_interval(swept: Path) -> None:
    """In Vega-Lite itself, as W&B fills them: columns under their own names, the table's rows as data."""
    vega = pytest.importorskip("vl_convert")
    (report,) = (swept / "outputs" / "reports").iterdir()
    rows = dashboard_rows(report, report.name)
    for chart in charts():
        text = re.sub(r"\$\{field:(\w+)\}", r"\1", json.dumps(chart.spec))
        spec = {**json.loads(text), "data": {"values": rows}}
        drawn = vega.vegalite_to_svg(spec, vl_version="5.20")
        assert all(row["panel"] in drawn for row in rows)
        if chart.key == "verdicts":
            assert all(f">{row['label']}<" in drawn for row in rows)
        else:
            assert drawn.count('aria-roledescription="rule mark"') == len(rows)  # the intervals
            points = [text for text in re.findall(r'aria-label="([^"]*)"', drawn) if "verdict: " in text]
            named = {(row["model"], row["accel"], row["benchmark"]) for row in rows}
            read = [re.search(f"{key}: ([^;]*)", text) for text in points for key in ("model", "accel", "benchmark")]
            assert len(points) == len(rows)
            assert {tuple(m.group(1) for m in read[i : i + 3] if m) for i in range(0, len(read), 3)} == named
