"""The verdicts of a study on a terminal: plain when piped, coloured on request, as wide as the terminal."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TextIO

from analysis.methods import margins_text
from analysis.report.brief import brief
from analysis.report.first import Gap, gaps
from analysis.report.html import Mark, matrix
from analysis.study import Shift, Study
from analysis.words import visible

COLOURS = {
    "changed": "33",
    "unchanged": "32",
    "exactly": "32",
    "inconclusive": "36",
    "inert": "35",
    "placebo": "2",
    "missing": "31",
}
JUDGED = ("changed", "unchanged", "inconclusive")
FULL = 3  # benchmarks whose verdicts are spelled out whatever the width
Row = tuple[str, str, Mapping[str, Mark]]


def coloured(stream: TextIO) -> bool:
    """Whether colours are wanted: on a terminal, unless NO_COLOR is set (no-color.org) or the terminal is dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns(stream: TextIO) -> int:
    """Columns of the terminal, 100 for a file or a pipe."""
    return max(40, shutil.get_terminal_size((100, 24)).columns) if stream.isatty() else 100


def render(study: Study, *, color: bool = False, width: int = 100) -> str:
    """What is missing, the answer, a line per cell with a verdict per benchmark, and what each benchmark says.

    width : columns of the terminal, used to wrap sentences. What is missing has a line for each arm and reason, which
        is cut where it is too long: the report has all of it. Control characters in names are made visible.
    """
    lines: list[str] = []
    counts = Counter((m.model, m.accel, m.state, m.reason) for m in study.missing)
    lines += [_missing(gap, counts[gap.model, gap.accel, gap.state, gap.reason], width) for gap in gaps(study)]
    lines += ["", *_wrap(study.answer, width), ""]
    lines += _matrix(study, color, width)
    lines += _wrap(key(study), width, indent="  ") if any(s.verdict in JUDGED for s in _shifts(study)) else []
    for b in study.benchmarks:
        lines += _wrap(brief(study, b), width, indent="  ")
    if study.predictable:
        lines += _wrap(study.predictable, width, indent="  ")
    notes = [f"{model}: {note}" for model, note in study.models.items() if note]
    lines += [line for note in notes for line in _wrap(f"† {note}", width, indent="  ")]
    return "\n".join(lines)


def key(study: Study) -> str:
    """What the words of the table mean, with this study's level and margins."""
    alpha = study.settings["alpha"]
    return (
        f"unchanged: the {100 * (1 - 2 * alpha):g}% interval of the shift lies inside the margin "
        f"({margins_text(study.benchmarks, study.settings['margins'])}); changed: its p, adjusted over the cells, is "
        f"at most {alpha:g} and it is not shown to be inside; inconclusive: neither. In brackets: "
        f"{100 * (1 - alpha):g}% intervals."
    )


def _shifts(study: Study) -> Iterator[Shift]:
    return (shift for b in study.benchmarks for shift in b.shifts)


def _missing(gap: Gap, n_cells: int, width: int) -> str:
    where = gap.benchmarks[0] if n_cells == 1 else f"({n_cells} cells)"
    line = " ".join(visible(f"! {gap.model} {gap.accel} {where}: {gap.state}. {gap.reason}").split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _matrix(study: Study, color: bool, width: int) -> list[str]:
    found = matrix(study)
    if found is None:
        return ["no shift to show: a shift needs a baseline and an accelerated cell of one model", ""]
    rows: list[Row] = [
        (row.model + (" †" if row.note else ""), accel, {mark.benchmark: mark for mark in marks})
        for row in found.rows
        for accel, marks in zip(found.accels, row.cells, strict=True)
        if marks
    ]
    told = {m.reason for m in study.missing}  # above the table
    rows = [
        (model, accel, {name: replace(m, numbers="") if m.numbers in told else m for name, m in marks.items()})
        for model, accel, marks in rows
    ]
    names = list(dict.fromkeys(name for _, _, marks in rows for name in marks))
    lines: list[str] = []
    for part in _parts(rows, names, width):
        lines += [*_table(rows, part, color, short=len(names) > FULL), ""]
    return lines


def _parts(rows: Sequence[Row], names: Sequence[str], width: int) -> list[list[str]]:
    """The benchmarks in tables side by side no wider than `width`; all in one where they are few."""
    if len(names) <= FULL:
        return [list(names)]
    used = max(len(visible(row[0])) for row in rows) + max(len(visible(row[1])) for row in rows) + 4
    parts: list[list[str]] = [[]]
    room = width - used
    for name in names:
        wide = max(len(visible(name)), *(len(_said(marks, name, short=True)) for _, _, marks in rows)) + 2
        if parts[-1] and wide > room:
            parts.append([])
            room = width - used
        parts[-1].append(name)
        room -= wide
    return parts


def _table(rows: Sequence[Row], names: Sequence[str], color: bool, *, short: bool) -> list[str]:
    cells = [
        [visible(model), visible(accel), *(_said(marks, name, short=short) for name in names)]
        for model, accel, marks in rows
    ]
    head = ["model", "accel", *map(visible, names)]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(head, widths, strict=True)).rstrip()]
    lines.append("  ".join("-" * w for w in widths))
    for line, (_, _, marks) in zip(cells, rows, strict=True):
        kinds = ["", "", *(marks[name].kind if name in marks else "" for name in names)]
        texts = [
            _paint(text, kind, color) + " " * (w - len(text)) for text, kind, w in zip(line, kinds, widths, strict=True)
        ]
        lines.append("  ".join(texts).rstrip())
    return lines


def _said(marks: Mapping[str, Mark], name: str, *, short: bool) -> str:
    """Verdict, value and interval; in short the sign of the verdict and the value."""
    if (mark := marks.get(name)) is None:
        return ""
    return visible(
        f"{mark.sign} {mark.numbers.split(' [')[0]}" if short else f"{mark.sign} {mark.word} {mark.numbers}"
    ).rstrip()


def _paint(text: str, kind: str, color: bool) -> str:
    return f"\x1b[{COLOURS[kind]}m{text}\x1b[0m" if color and kind in COLOURS else text


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(visible(text), width, subsequent_indent=indent) or [""]
