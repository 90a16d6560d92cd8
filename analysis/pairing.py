"""Which cells a decision compares: two accelerators of one study, or two folders of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.contrasts import BASELINE
from analysis.errors import AnalysisError
from analysis.frame import Frame, make_frames
from analysis.importers.inputs import Inputs
from analysis.load import Cell, load
from analysis.study import Missing
from analysis.words import listing

NOT_ASKED = "only a sweep's folder records what was asked: a model or benchmark that is missing here is not known of"
CANDIDATE = "candidate"  # label of what its own folder does not name, or calls as the baseline is called


@dataclass(frozen=True)
class Compared:
    """Frames whose baseline is labelled `none`, the candidate's label in them, and the cells that are not there."""

    frames: list[Frame]
    candidate: str
    missing: list[Missing]
    notes: list[str]

    @property
    def models(self) -> list[str]:
        """Every model that has the candidate somewhere, or should."""
        there = [m for f in self.frames for m, a in f.cells if a == self.candidate]
        gone = [m.model for m in self.missing if m.accel == self.candidate]
        return list(dict.fromkeys([*there, *gone]))


def of_one_study(path: Path, inputs: Inputs, *, baseline: str, candidate: str) -> Compared:
    """The cells of `candidate` and of `baseline`, two accelerators of the study at `path`.

    candidate : its label, with or without what was changed (`hqq4` for `hqq4(group_size=32)`) where one alone is
        meant; "" for the only accelerator there, placebos aside.
    Raises AnalysisError for a label that no cell has, and for a candidate that is the baseline.
    """
    loaded = load(path, inputs)
    baseline = BASELINE if baseline == inputs.imports.baseline else baseline
    known = list(dict.fromkeys([c.accel for c in loaded.cells] + [m.accel for m in loaded.missing]))
    placebos = {c.accel for c in loaded.cells if c.kind == "placebo"}
    candidate = _meant(candidate, known) if candidate else _single(known, {baseline, *placebos})
    for key, label in (("baseline", baseline), ("candidate", candidate)):
        if label not in known:
            raise AnalysisError(f"{key}={label}: no cell has it; choose from {', '.join(known)}")
    if candidate == baseline:
        raise AnalysisError(f"candidate={candidate}: is the baseline itself")
    # "none" is the baseline's label in a frame, so another one stands for it where it is the candidate.
    labels = {baseline: BASELINE, candidate: candidate if candidate != BASELINE else CANDIDATE}
    cells = [_as(c, labels[c.accel]) for c in loaded.cells if c.accel in labels]
    missing = [replace(m, accel=labels[m.accel]) for m in loaded.missing if m.accel in labels]
    unasked = [] if loaded.ledger else [NOT_ASKED]
    return Compared(make_frames(cells), labels[candidate], missing, [*unasked, *loaded.notes])


def of_two_folders(baseline: Path, candidate: Path, inputs: Inputs) -> Compared:
    """The baseline cells of one place and the accelerated cells of another.

    Of the first, its baseline, or the only accelerator in it; of the second, its only accelerator besides a
    baseline, or its baseline where it has nothing else. Two single models are paired whatever they are called.
    """
    first, second = (
        load(p, _labelled(inputs, a)) for p, a in ((baseline, inputs.imports.baseline), (candidate, CANDIDATE))
    )
    base = _only(first.cells, prefer=BASELINE, key=f"baseline={baseline}")
    own = _only(
        [c for c in second.cells if c.accel != BASELINE] or second.cells, prefer="", key=f"candidate={candidate}"
    )
    mine, renamed = own[0].accel, dict[str, str]()
    label = mine if mine != BASELINE else CANDIDATE
    models = list(dict.fromkeys(c.model for c in base)), list(dict.fromkeys(c.model for c in own))
    notes = [*first.notes, *(n for n in second.notes if n not in first.notes)]
    if len(models[0]) == len(models[1]) == 1 and models[0] != models[1]:
        notes.append(f"{models[1][0]} is compared with {models[0][0]}: one model in each, under two names.")
        renamed = {models[1][0]: models[0][0]}
        own = [replace(c, model=models[0][0]) for c in own]
    elif not set(models[0]) & set(models[1]):
        raise AnalysisError(
            f"candidate={candidate}: its models ({listing(models[1])}) are none of the baseline's "
            f"({listing(models[0])})"
        )
    cells = [_as(c, BASELINE) for c in base] + [_as(c, label) for c in own]
    missing = [replace(m, accel=BASELINE) for m in first.missing if m.accel == base[0].accel]
    missing += [replace(m, accel=label, model=renamed.get(m.model, m.model)) for m in second.missing if m.accel == mine]
    return Compared(make_frames(cells), label, missing, notes)


def _meant(label: str, known: Sequence[str]) -> str:
    """The label itself, or the only one that begins with it and goes on with what was changed."""
    near = [name for name in known if name.startswith(f"{label}(")]
    return near[0] if label not in known and len(near) == 1 else label


def _single(known: Sequence[str], aside: set[str]) -> str:
    """The only label that is not set aside."""
    left = [name for name in known if name not in aside]
    if len(left) != 1:
        found = f"{len(left)} accelerators here ({', '.join(left)})" if left else "no accelerator here"
        raise AnalysisError(f"candidate= is needed: {found}")
    return left[0]


def chosen(frames: Sequence[Frame], benchmarks: Sequence[str]) -> list[Frame]:
    """The frames of the named benchmarks, all of them for none; AnalysisError for a name that is not there."""
    known = list(dict.fromkeys(f.benchmark for f in frames))
    for name in benchmarks:
        if name not in known:
            raise AnalysisError(f"benchmarks={name}: no cell of it here; choose from {', '.join(known)}")
    return [f for f in frames if not benchmarks or f.benchmark in benchmarks]


def _labelled(inputs: Inputs, accel: str) -> Inputs:
    """The inputs with `accel` for logs whose place names none, unless they have a label for these."""
    return replace(inputs, imports=replace(inputs.imports, accel=inputs.imports.accel or accel))


def _as(cell: Cell, accel: str) -> Cell:
    """The cell under the label and kind that the comparison gives it."""
    return replace(cell, accel=accel, kind="baseline" if accel == BASELINE else "accelerated")


def _only(cells: Sequence[Cell], *, prefer: str, key: str) -> list[Cell]:
    labels = list(dict.fromkeys(c.accel for c in cells))
    label = prefer if prefer in labels else labels[0]
    if label != prefer and len(labels) > 1:
        raise AnalysisError(f"{key}: holds {listing(labels)}; give a folder with one, or both in one with results=")
    return [c for c in cells if c.accel == label]
