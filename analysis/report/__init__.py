"""Writers of a report: one page that opens offline, Markdown, LaTeX, JSON, a csv per table, figures for papers."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

from analysis.study import Study, to_json


def write_all(study: Study, out: Path) -> dict[str, Path]:
    """Write the whole report into `out`, replacing an earlier one only when all of it is written.

    Returns paths of "html", "md", "tex", "json", "tables" and "figures" below `out`.
    """
    from analysis.report import html, latex, markdown
    from analysis.report.tables import all_tables

    staging = out.with_name(f".{out.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        (staging / "tables").mkdir(parents=True)
        (staging / "report.html").write_text(html.render(study), encoding="utf-8")
        (staging / "report.md").write_text(markdown.render(study), encoding="utf-8")
        text = json.dumps(to_json(study), indent=1, ensure_ascii=False, allow_nan=False)
        (staging / "results.json").write_text(text + "\n", encoding="utf-8")
        (staging / "tables.tex").write_text(latex.render(study), encoding="utf-8")
        for table in all_tables(study):
            (staging / "tables" / f"{table.name}.csv").write_text(table.to_csv(), encoding="utf-8", newline="")
        _write_figures(study, staging / "figures")
        if out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    names = {"html": "report.html", "md": "report.md", "tex": "tables.tex", "json": "results.json",
             "tables": "tables", "figures": "figures"}  # fmt: skip
    return {key: out / name for key, name in names.items()}


def _write_figures(study: Study, folder: Path) -> None:
    """Each figure as svg and png, its numbers as csv beside them, and all of them in figures.pdf, a page each."""
    from analysis.report import mpl, svg
    from analysis.report.figures import all_figures

    folder.mkdir()
    figures = all_figures(study)
    for figure in figures:
        (folder / f"{figure.name}.csv").write_text(figure.numbers.to_csv(), encoding="utf-8", newline="")
        (folder / f"{figure.name}.svg").write_text(svg.alone(figure.trace), encoding="utf-8")
    if not figures:
        return
    with mpl.pages(folder / "figures.pdf") as add:
        for figure in figures:
            drawn = mpl.draw(figure.trace)
            mpl.save(drawn, folder / f"{figure.name}.png")
            add(drawn)
