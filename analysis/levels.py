"""Which arms enter the omnibus and the contrasts, and which are only shown beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.contrasts import BASELINE, ArmKey
from analysis.errors import AnalysisError
from analysis.frame import Frame
from analysis.words import listing


@dataclass(frozen=True)
class Levels:
    """The arms of one frame by their part in the analysis; baselines are in none of the lists.

    tested : in the omnibus and its family of contrasts. beside : shown with shifts and contrasts in a family
    of their own (stacks, and what the settings leave out). empty : no item is answered in them and their baseline.
    unpaired : their model has no baseline.
    """

    tested: list[ArmKey] = field(default_factory=list)
    beside: list[ArmKey] = field(default_factory=list)
    placebo: list[ArmKey] = field(default_factory=list)
    inert: list[ArmKey] = field(default_factory=list)
    empty: list[ArmKey] = field(default_factory=list)
    unpaired: list[ArmKey] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    @property
    def grid(self) -> list[ArmKey]:
        """Tested arms and the baselines of their models, baselines first."""
        return _with_baselines(self.tested)

    @property
    def asked(self) -> list[ArmKey]:
        """As `grid`, with the arms that gave no answer: they did refuse."""
        return _with_baselines(self.tested + self.empty)


def _with_baselines(arms: Sequence[ArmKey]) -> list[ArmKey]:
    return [(m, BASELINE) for m in dict.fromkeys(m for m, _ in arms)] + list(arms)


def choose_levels(frame: Frame, named: Sequence[str]) -> Levels:
    """Sort the arms of a frame.

    named : accelerator labels to test; empty for all that were asked for: not placebos, not arms that changed
        no logit, and not stacks, unless stacks are all there is.
    """
    kinds = {arm: cells[0] for arm, cells in frame.cells.items() if arm[1] != BASELINE}
    inert = {arm for arm, cell in kinds.items() if cell.inert and arm[1] not in named}
    empty = {arm for arm in kinds if (arm[0], BASELINE) in frame.cells and np.isnan(frame.shift(*arm)).all()}
    plain = any(c.kind != "placebo" and not c.stack and arm not in inert | empty for arm, c in kinds.items())
    levels = Levels()
    for arm, cell in kinds.items():
        if (arm[0], BASELINE) not in frame.cells:
            levels.unpaired.append(arm)
        elif cell.kind == "placebo":
            levels.placebo.append(arm)
        elif arm in inert:
            levels.inert.append(arm)
        elif arm in empty:
            levels.empty.append(arm)
        elif (arm[1] not in named) if named else (cell.stack and plain):
            levels.beside.append(arm)
        else:
            levels.tested.append(arm)
    _caution(levels, named, plain)
    return levels


def check_named(frames: Sequence[Frame], named: Sequence[str]) -> None:
    """Raise AnalysisError for a named accelerator that no cell has, or that is a placebo."""
    kinds = {a: cells[0].kind for frame in frames for (_, a), cells in frame.cells.items()}
    known = [a for a, kind in kinds.items() if kind == "accelerated"]
    for name in named:
        if kinds.get(name) == "placebo":
            raise AnalysisError(f"accels={name}: a placebo sets the noise floor and is never tested")
        if name not in kinds:
            raise AnalysisError(f"accels={name}: no cell has it; choose from {', '.join(known) or 'none'}")


def _caution(levels: Levels, named: Sequence[str], plain: bool) -> None:
    beside = list(dict.fromkeys(a for _, a in levels.beside))
    if beside and named:
        levels.cautions.append(f"{listing(beside)}: not named in accels, so shown beside those that are tested.")
    elif beside:
        is_are, it = ("a stack", "it") if len(beside) == 1 else ("stacks", "them")
        levels.cautions.append(
            f"{listing(beside)}: {is_are}, shown with shifts and contrasts in a family of their own, but "
            f"outside the omnibus and the ANOVA; name {it} in accels to test {it}."
        )
    if not plain and not named and levels.tested:
        levels.cautions.append("Only stacks were measured, so the omnibus tests them.")
    for model, accel in levels.inert:
        levels.cautions.append(
            f"{accel} changed no logit of {model} (an inert arm): it is left out of the pooled tests."
        )
    for model, accel in levels.empty:
        levels.cautions.append(f"No item is answered in {accel} of {model} and its baseline: no test holds it.")
    for model, accel in levels.unpaired:
        levels.cautions.append(f"{model} has no baseline here, so {accel} has no shift.")
