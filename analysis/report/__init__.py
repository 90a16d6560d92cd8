"""Writers of a report: one page that opens offline, Markdown, LaTeX, JSON, a csv per table, figures for papers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from analysis.errors import AnalysisError
from analysis.staging import staging_of
from analysis.study import Study, to_json

#: What a report's folder holds, by the names under which `write_all` gives them back.
PARTS = {"html": "report.html", "md": "report.md", "tex": "tables.tex", "json": "results.json", "tables": "tables",
         "figures": "figures"}  # fmt: skip


def refuse_other(out: Path) -> None:
    """Raise AnalysisError where a report written to `out` would take the place of something that is no report."""
    staging_of(out, "out")
    try:
        other = out.is_dir() and not (out / "results.json").is_file() and any(out.iterdir())
    except OSError as error:
        raise AnalysisError(f"out={out}: cannot be read ({error.strerror or error})") from error
    if other or (out.exists() and not out.is_dir()):
        raise AnalysisError(f"out={out}: is there and is no report; name a new folder, or a report's to replace it")


def write_all(study: Study, out: Path) -> dict[str, Path]:
    """Write the whole report into `out`, replacing an earlier one only when all of it is written.

    What else lies in an earlier report's folder stays. Returns paths of "html", "md", "tex", "json", "tables" and
    "figures" below `out`. Raises AnalysisError for a folder that holds something else than a report.
    """
    from analysis.report import html, latex, markdown
    from analysis.report.tables import all_tables

    refuse_other(out)
    staging = staging_of(out, "out")
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
        _take_the_place(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return {key: out / name for key, name in PARTS.items()}


def _take_the_place(staging: Path, out: Path) -> None:
    """`staging` becomes `out`; what is no part of an earlier report there is kept."""
    if not out.exists():
        staging.rename(out)
        return
    earlier = staging_of(out, "out")
    out.rename(earlier)
    staging.rename(out)
    for path in earlier.iterdir():
        if path.name not in PARTS.values():
            path.rename(out / path.name)
    shutil.rmtree(earlier)


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
