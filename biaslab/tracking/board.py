"""The W&B workspace and report of a project, as objects of wandb-workspaces; nothing is sent here.

The workspace shows every sweep of the project, the report one of them in words and panels. Both show numbers that
the analysis' run carries: the dashboard computes none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biaslab.console import visible
from biaslab.tracking.charts import Chart, charts

#: Where a second call finds what the first one made; W&B names a saved view nw-<id>-v.
VIEW_NAME = "nw-biaslabview-v"
WORKSPACE_TITLE = "biaslab"
REPORT_TITLE = "biaslab report"
TABLE = "dashboard/cells"
MOST_SENTENCES = 40

LEGEND = (
    "≠ changed, = unchanged (shown to be within the margin), ? inconclusive, ∅ the accelerator changed nothing, "
    "○ placebo, ! missing, failed or refused. The number is the shift: the cell's mean score minus that of the same "
    "model without acceleration, in the benchmark's unit."
)
FAILURES = (
    "Cells that are not there, each with its reason. Their runs carry the tag `failed` or `refused`, and the reason as "
    "`error` in the summary; the same line, typed again, computes what is missing."
)


@dataclass(frozen=True)
class Board:
    """What a board is made from. results : a report's results.json; figures : stems of its images."""

    entity: str
    project: str
    sweep: str
    results: Mapping[str, Any]
    figures: Sequence[str]


def workspace(board: Board) -> Any:
    """The project's workspace."""
    import wandb_workspaces.workspaces as ws

    def section(name: str, panels: Sequence[Any], columns: int, rows: int = 1) -> Any:
        layout = ws.SectionLayoutSettings(columns=columns, rows=rows)
        return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)

    verdicts, shifts, perplexity, memory = (_chart(board, chart) for chart in charts())
    sections = [
        section("Verdicts", [verdicts, _markdown(LEGEND)], 2),
        section("Shift by accelerator", [shifts, _table(TABLE)], 2),
        section("Bias against perplexity and memory", [perplexity, memory], 2),
        section("Progress", _progress(), 3),
        section("Failures", [_table("tables/missing"), _markdown(FAILURES), _failed_bars()], 3),
        section("Report", [_media("Report", ["report"]), _media("Figures", _figure_keys(board))], 2),
    ]
    columns = ["run:displayName", "run:jobType", "summary:state", "summary:error", "summary:status"]
    made = ws.Workspace(
        entity=board.entity,
        project=board.project,
        name=WORKSPACE_TITLE,
        sections=sections,
        settings=ws.WorkspaceSettings(max_runs=100),
        runset_settings=ws.RunsetSettings(pinned_columns=columns),
    )
    made._internal_name = VIEW_NAME
    return made


def report(board: Board) -> Any:
    """The written report of one sweep. Names of models and errors stand as plain text, never as Markdown."""
    import wandb_workspaces.reports.v2 as wr

    results, (verdicts, shifts, perplexity, memory) = board.results, (_chart(board, chart) for chart in charts())
    sentences = [f"{b['title']}: {b['verdict']}. {b['sentence']}" for b in results["benchmarks"]]
    missing = [
        f"{m['model']} under {m['accel']}, {m['benchmark']}: {m['state']}. {m['reason']}" for m in results["missing"]
    ]
    blocks = [
        wr.H1(text="Answer"),
        _words(results["answer"]),
        _grid(board, "analysis", [verdicts]),
        _words(LEGEND),
        wr.H1(text="Missing"),
        *_list(missing or ["Every cell of the sweep is there."]),
        wr.H1(text="Each benchmark"),
        *_list(sentences),
        wr.H1(text="Shift by accelerator"),
        _grid(board, "analysis", [shifts, _table(TABLE)]),
        wr.H1(text="Bias against perplexity and memory"),
        _grid(board, "analysis", [perplexity, memory]),
        wr.H1(text="Read with care"),
        *_list(results["cautions"] or ["No caution is on record."]),
        wr.H1(text="Methods"),
        _words(results["methods"]),
        wr.H1(text="Progress and failures"),
        _grid(board, "sweep", _progress()),
        _words(f"Sweep {board.sweep}, made by: {results['command']}"),
        _words("This report is brought up to date by: python -m biaslab dashboard"),
    ]  # fmt: skip
    return wr.Report(
        entity=board.entity,
        project=board.project,
        title=REPORT_TITLE,
        description=f"{results['question']} Sweep {board.sweep}.",
        blocks=blocks,
        width="fluid",
    )


def outline(board: Board) -> Iterator[str]:
    """What would be made, a line for each section, panel and heading."""
    made, written = workspace(board), report(board)
    yield f"workspace {made.name}: {board.entity}/{board.project}"
    for part in made.sections:
        yield f"  {part.name}"
        yield from (f"    {_describe(panel)}" for panel in part.panels)
    yield f"report {written.title}: sweep {board.sweep}"
    for block in written.blocks:
        text = getattr(block, "text", "")
        heading = type(block).__name__ == "H1"
        if heading or type(block).__name__ == "P":
            yield f"  {visible(str(text))}" if heading else f"    {visible(str(text))[:110]}"
        for panel in getattr(block, "panels", ()):
            yield f"    {_describe(panel)}"


def _describe(panel: Any) -> str:
    kind = type(panel).__name__
    named = {chart.name: chart.title for chart in charts()}
    if kind == "CustomChart":
        return f"chart: {named[panel.chart_name.split('/')[-1]]}"
    if kind == "MarkdownPanel":
        return f"text: {panel.markdown[:80]} ..."
    if kind == "WeavePanelSummaryTable":
        return f"table: {panel.table_name}"
    return f"{kind}: {panel.title}"


def _chart(board: Board, chart: Chart) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.CustomChart(
        query={"summaryTable": {"tableKey": TABLE}},
        chart_name=f"{board.entity}/{chart.name}",
        chart_fields={column: column for column in chart.columns},
        layout=wr.Layout(w=24, h=12),
    )


def _table(key: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.WeavePanelSummaryTable(table_name=key, layout=wr.Layout(w=24, h=12))


def _markdown(text: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.MarkdownPanel(markdown=text)


def _media(title: str, keys: Sequence[str]) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.MediaBrowser(title=title, media_keys=list(keys), num_columns=2)


def _figure_keys(board: Board) -> list[str]:
    return [f"figures/{stem}" for stem in board.figures]


def _progress() -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    lines = [f"progress/{name}" for name in ("complete", "failed", "all")]
    return [
        wr.LinePlot(
            title="Cells, by minutes since the sweep began", x="progress/minutes", y=list(lines), layout=wr.Layout(w=12)
        ),
        wr.BarPlot(
            title="Cells complete, of each sweep",
            metrics=[wr.SummaryMetric("cells/complete"), wr.SummaryMetric("cells/all")],
            layout=wr.Layout(x=12, w=12),
        ),
    ]


def _failed_bars() -> Any:
    import wandb_workspaces.reports.v2 as wr

    names = ("cells/failed", "cells/refused", "cells/missing")
    return wr.BarPlot(title="Cells failed, refused and missing", metrics=[wr.SummaryMetric(name) for name in names])


def _grid(board: Board, job: str, panels: Sequence[Any]) -> Any:
    """Panels over the runs of one job of the board's sweep."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import expr

    runs = wr.Runset(
        entity=board.entity,
        project=board.project,
        name=f"{job} of {board.sweep}",
        filters=[expr.Metric("Group") == board.sweep, expr.Metric("JobType") == job],
    )
    return wr.PanelGrid(runsets=[runs], panels=list(panels))


def _words(text: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.P(text=text)


def _list(lines: Sequence[str]) -> list[Any]:
    """Lines as a list; the rest of a very long one is counted."""
    import wandb_workspaces.reports.v2 as wr

    shown = list(lines[:MOST_SENTENCES])
    if len(lines) > len(shown):
        shown.append(f"... and {len(lines) - len(shown)} more: see the report in the analysis' run")
    return [wr.UnorderedList(items=shown)]
