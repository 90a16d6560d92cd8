"""One picture of a sweep for a README: `python -m analysis.report.picture results=SWEEP out=docs/quickstart.png`."""

from __future__ import annotations

import sys
from pathlib import Path

from analysis.study import Study


def draw(study: Study, out: Path) -> Path:
    """Interaction plot of the first benchmark beside the heat map of its shifts, as one PNG."""
    from analysis.report import mpl, traces

    b = study.benchmarks[0]
    figure, (left, right) = mpl.new_figure(11.0, 3.6, columns=2)
    mpl.draw_lines(left, traces.interaction(study, b))
    mpl.draw_heat(right, traces.shift_heat(study, b))
    notes = [f"† {model}: {note}" for model, note in study.models.items() if note]
    figure.supxlabel("\n".join(notes), fontsize=8, x=0.01, ha="left")
    out.parent.mkdir(parents=True, exist_ok=True)
    return mpl.save(figure, out, dpi=110)


def main(argv: list[str]) -> int:
    """Analyse a sweep and draw it; 2 for a wrong argument."""
    from analysis.analyse import analyse

    given = dict(argument.split("=", 1) for argument in argv if "=" in argument)
    if set(given) != {"results", "out"}:
        print("usage: python -m analysis.report.picture results=SWEEP out=FILE.png", file=sys.stderr)
        return 2
    print(draw(analyse(Path(given["results"])), Path(given["out"])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
