"""Writers of a report: one page that opens offline, Markdown, JSON, a csv per table, figures for papers."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from analysis.study import Study, to_json


def write_all(study: Study, out: Path) -> dict[str, Path]:
    """Write the whole report into `out`, replacing an earlier one only when all of it is written.

    Returns paths of "html", "md", "json", "tables" and "figures" below `out`.
    """
    from analysis.report import html, markdown
    from analysis.report.tables import all_tables

    staging = out.with_name(f".{out.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        (staging / "tables").mkdir(parents=True)
        (staging / "report.html").write_text(html.render(study), encoding="utf-8")
        (staging / "report.md").write_text(markdown.render(study), encoding="utf-8")
        text = json.dumps(to_json(study), indent=1, ensure_ascii=False, allow_nan=False)
        (staging / "results.json").write_text(text + "\n", encoding="utf-8")
        for table in all_tables(study):
            (staging / "tables" / f"{table.name}.csv").write_text(table.to_csv(), encoding="utf-8", newline="")
        _write_figures(study, staging / "figures")
        if out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    names = {"html": "report.html", "md": "report.md", "json": "results.json", "tables": "tables", "figures": "figures"}
    return {key: out / name for key, name in names.items()}


def _write_figures(study: Study, folder: Path) -> None:
    from analysis.report import mpl, traces
    from analysis.report.cost import cost_figure

    folder.mkdir()
    for k, b in enumerate(study.benchmarks, 1):
        lines, forest, heat = traces.interaction(study, b), traces.forest(study, b), traces.shift_heat(study, b)
        height = 1.2 + 0.28 * len(forest.bars)
        drawings: list[tuple[str, float, Callable[[Any], None]]] = [
            ("interaction", 4.0, partial(mpl.draw_lines, trace=lines)),
            ("forest", height, partial(mpl.draw_forest, trace=forest)),
            ("shifts", 1.4 + 0.5 * len(heat.rows), partial(mpl.draw_heat, trace=heat)),
        ]
        if (scatter := cost_figure(study, b)) is not None:
            drawings.append(("cost", 4.0, partial(mpl.draw_scatter, trace=scatter)))
        for name, tall, draw in drawings:
            if name != "interaction" and not b.shifts:
                continue
            figure, axes = mpl.new_figure(6.4, tall)
            draw(axes)
            for ending in ("svg", "png"):
                # Numbered: a benchmark's name comes from a results file and is no path.
                mpl.save(figure, folder / f"{k:02d}-{name}.{ending}")
