"""One picture of a sweep for a README: `python -m analysis.report.picture results=SWEEP out=docs/quickstart.png`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from analysis.errors import AnalysisError
from analysis.study import Study

WORDS = ("results", "out")
WIDE, HIGH = 11.0, 3.9  # inches


def draw(study: Study, out: Path) -> Path:
    """Interaction plot of the first benchmark beside the heat map of its shifts, as one PNG."""
    from analysis.report import mpl, traces

    b = study.benchmarks[0]
    figure, (left, right) = mpl.new_figure(WIDE, HIGH, columns=2)
    mpl.draw_lines(left, traces.interaction(study, b))
    mpl.draw_heat(right, traces.shift_heat(study, b))
    notes = [f"† {model}: {note}" for model, note in study.models.items() if note]
    notes.append(f"{traces.INTERVALS.format(level=traces.level(study))}. {traces.answered(b)}")
    lines = [line for note in notes for line in textwrap.wrap(note, 150)]
    figure.supxlabel("\n".join(lines).replace("$", r"\$"), fontsize=8, x=0.01, ha="left", color=mpl.SOFT)
    out.parent.mkdir(parents=True, exist_ok=True)
    return mpl.save(figure, out, dpi=110)


def main(argv: list[str]) -> int:
    """Analyse a sweep and draw it; 2 for a wrong argument."""
    from analysis.analyse import analyse

    given = dict(word.split("=", 1) for word in argv if "=" in word)
    if set(given) != set(WORDS) or len(argv) != len(WORDS):
        print("usage: python -m analysis.report.picture results=SWEEP out=FILE.png", file=sys.stderr)
        return 2
    try:
        print(draw(analyse(Path(given["results"])), Path(given["out"])))
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
