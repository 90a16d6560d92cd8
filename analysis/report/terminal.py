"""The verdict table of a terminal: plain when piped, coloured on request."""

from __future__ import annotations

from analysis.report.html import Mark, matrix
from analysis.study import Study

COLOURS = {
    "changed": "33",
    "unchanged": "32",
    "exactly": "32",
    "inconclusive": "36",
    "inert": "35",
    "placebo": "2",
    "missing": "31",
}


def render(study: Study, *, color: bool = False, width: int = 100) -> str:
    """What is missing, the answer, a line per cell with a verdict per benchmark, and what each benchmark says.

    width : columns of the terminal, used to wrap sentences. Control characters in names are made visible.
    """
    lines: list[str] = []
    for m in study.missing:
        lines += _wrap(f"! {m.model} {m.accel} {m.benchmark}: {m.state}. {m.reason}", width)
    lines += ["", *_wrap(study.answer, width), ""]
    lines += _matrix(study, color)
    for b in study.benchmarks:
        lines += _wrap(f"{b.name}: {b.verdict}. {b.sentence}", width)
    if study.predictable:
        lines += _wrap(study.predictable, width)
    notes = [f"{model}: {note}" for model, note in study.models.items() if note]
    lines += [line for note in notes for line in _wrap(f"† {note}", width)]
    return "\n".join(_visible(line) if not color else line for line in lines)


def _matrix(study: Study, color: bool) -> list[str]:
    found = matrix(study)
    if found is None:
        return ["no shift to show: a shift needs a baseline and an accelerated cell of one model", ""]
    rows: list[tuple[str, str, list[Mark]]] = [
        (row.model + (" †" if row.note else ""), accel, marks)
        for row in found.rows
        for accel, marks in zip(found.accels, row.cells, strict=True)
        if marks
    ]
    names = list(dict.fromkeys(mark.benchmark for _, _, marks in rows for mark in marks))
    cells = [[_visible(model), _visible(accel), *_per_benchmark(names, marks)] for model, accel, marks in rows]
    head = ["model", "accel", *names]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(head, widths, strict=True)).rstrip()]
    lines.append("  ".join("-" * w for w in widths))
    for line, (_, _, marks) in zip(cells, rows, strict=True):
        kinds = {mark.benchmark: mark.kind for mark in marks}
        texts = [text.ljust(w) for text, w in zip(line, widths, strict=True)]
        for i, name in enumerate(names):
            texts[2 + i] = _paint(texts[2 + i], kinds.get(name, ""), color)
        lines.append("  ".join(texts).rstrip())
    return [*lines, ""]


def _per_benchmark(names: list[str], marks: list[Mark]) -> list[str]:
    texts = {mark.benchmark: f"{mark.sign} {mark.word} {mark.numbers}" for mark in marks}
    return [_visible(texts.get(name, "")) for name in names]


def _paint(text: str, kind: str, color: bool) -> str:
    return f"\x1b[{COLOURS[kind]}m{text}\x1b[0m" if color and kind in COLOURS else text


def _wrap(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(_visible(text), width) or [""]


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
