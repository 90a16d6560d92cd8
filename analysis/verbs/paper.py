"""python -m analysis paper: the seed paper's printed tables, alone or beside results of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from analysis.arguments import parse_words
from analysis.errors import AnalysisError
from analysis.importers.inputs import Inputs
from analysis.settings import Settings
from analysis.verbs.tables import render, write_text

RUNS_ALONE = True
OWN = ("results", "csv", "page")
HELP = """\
The printed figures of Kirsten et al. 2025 (arXiv:2410.22118), which compared 7 ways of acceleration on 3 models.

  python -m analysis paper                         what one value a cell allows: no model, no GPU, about a second
  python -m analysis paper page=FILE.md            the same as a page
  python -m analysis paper results=WHERE [csv=FILE]  a finished experiment=paper or paper_published, cell by cell

A cell agrees when the interval of the measured figure and the printed one, give or take half a unit of its last digit,
have a value in common; its shift agrees in direction when both changes from the baseline have one sign. Compared are
cells of the paper's own models, on whole, published data; everything else is listed with the reason.

Exit codes: 0 every compared cell agrees; 4 some do not; 5 nothing could be compared; 2 the request is wrong.
"""


def main(args: Sequence[str], stream: TextIO) -> int:
    """Print what was asked for; the exit code."""
    request = parse_words(args, OWN)
    own = request.own
    if (request.settings, request.inputs) != (Settings(), Inputs()):  # nothing here would heed them
        raise AnalysisError(f"paper takes {', '.join(f'{key}=' for key in OWN)} and no settings")
    if own.get("results"):
        from analysis.paper.compare import compare_and_print

        return compare_and_print(Path(own["results"]), own.get("csv", ""), stream)
    if "csv" in own:
        raise AnalysisError(f"csv={own['csv']}: is written of a comparison; give results= too")
    from analysis.paper import page
    from analysis.paper.table import SOURCE

    if own.get("page"):
        write_text(Path(own["page"]), page.markdown(), key="page")
        print(f"Page: {own['page']}", file=stream)
        return 0
    print(f"What {SOURCE} can show, one value a cell:\n", file=stream)
    print(render(page.HEAD, page.analysis_rows()), file=stream)
    print(f"\n{page.LEGEND}\n\nSentences of the paper, held to its tables:\n", file=stream)
    for row in page.claim_rows():
        print(page.wrapped(*row), file=stream)
    return 0
