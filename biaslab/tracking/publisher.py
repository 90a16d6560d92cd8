"""Saves a board on the server: run by the dashboard as `python -m biaslab.tracking.publisher SETTINGS`.

Says as JSON lines that the server answered, and then what was made, or why not. What is there already is
looked up by its name and updated, so a second call makes nothing new.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from biaslab.secrets import redact
from biaslab.tracking.board import REPORT_TITLE, VIEW_NAME, Board, report, workspace
from biaslab.tracking.charts import charts
from biaslab.tracking.dashboard import load_board

#: How a server says that a chart of this name is there already; the name carries the spec's hash, so it is the same.
THERE = ("exist", "duplicate", "already", "unique", "taken")


def main(settings: Mapping[str, Any], tell: Callable[..., None]) -> None:
    """Contact the server, then make or update charts, workspace and report."""
    import wandb

    try:
        api = wandb.Api()
        entity = settings["entity"] or os.environ.get("WANDB_ENTITY") or api.default_entity
        if not entity:
            raise LookupError("your account names no default entity: give tracker.entity=NAME")
        view = find_workspace(api, entity, settings["project"])
    except LookupError as error:
        return tell(error=str(error), config=True)
    except Exception as error:  # whatever the library raises becomes the user's line
        return tell(error=_refusal(error))
    tell(reached=True)
    try:
        board = load_board(Path(settings["report"]), entity, settings["project"])
        tell(made=publish(api, board, view))
    except Exception as error:
        return tell(error=redact(_line(error)))
    return None


def publish(api: Any, board: Board, view: Mapping[str, Any] | None) -> dict[str, Any]:
    """Save everything; for workspace and report its address, and whether it is new."""
    make_charts(api, board.entity, known=str((view or {}).get("spec", "")))
    made = workspace(board)
    made._internal_id = view["id"] if view else ""
    made.save()
    written = report(board)
    written.id = find_report(api, board) or ""
    new = not written.id
    written.save()
    return {"workspace": {"url": made.url, "new": view is None}, "report": {"url": written.url, "new": new}}


def find_workspace(api: Any, entity: str, project: str) -> dict[str, Any] | None:
    """The view that an earlier call saved, or None; LookupError where the project is not there."""
    from wandb_workspaces._graphql import execute_graphql

    query = """query View($entityName: String, $name: String, $viewType: String, $viewName: String) {
        project(name: $name, entityName: $entityName) {
            allViews(viewType: $viewType, viewName: $viewName) { edges { node { id name displayName spec } } }
        }
    }"""
    asked = {"entityName": entity, "name": project, "viewType": "project-view", "viewName": VIEW_NAME}
    found = execute_graphql(api, query, asked).get("project")
    if found is None:
        raise LookupError(f"no project {entity}/{project} that you may see; track a sweep there first, or name another "
                          "by tracker.project and tracker.entity")  # fmt: skip
    edges = (found.get("allViews") or {}).get("edges") or []
    return dict(edges[0]["node"]) if edges else None


def find_report(api: Any, board: Board) -> str | None:
    """The id of the project's report by its title, or None."""
    there = [r for r in api.reports(f"{board.entity}/{board.project}") if r.display_name == REPORT_TITLE]
    return str(there[0].id) if there else None


def make_charts(api: Any, entity: str, known: str) -> None:
    """Create the charts that no earlier workspace shows. known : the text of that workspace."""
    for chart in charts():
        if f"{entity}/{chart.name}" in known:
            continue
        try:
            api.create_custom_chart(
                entity=entity,
                name=chart.name,
                display_name=f"biaslab: {chart.title}"[:100],
                spec_type="vega2",
                access="private",
                spec=dict(chart.spec),
            )
        except Exception as error:
            if not any(word in str(error).lower() for word in THERE):
                raise RuntimeError(f"the server did not take the chart {chart.name} ({_line(error)})") from error


def _refusal(error: Exception) -> str:
    words = _line(error)
    if "did not respond in time" in words or "timed out" in words.lower():
        return f"the server does not answer ({redact(words)}); nothing was changed, try again later"
    return f"the server refused ({redact(words)}); nothing was changed. Is the key right? `wandb login` takes another"


def _line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


if __name__ == "__main__":
    _say = sys.stdout
    sys.stdout = sys.stderr  # whatever the library prints is no message
    main(json.loads(sys.argv[1]), lambda **message: print(json.dumps(message), file=_say, flush=True))
