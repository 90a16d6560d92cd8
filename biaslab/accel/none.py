"""The baseline: nothing is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from biaslab.accel.base import Accelerator
from biaslab.models.base import LoadedModel


@dataclass
class NoAccelerator(Accelerator):
    """The model as it was loaded; every other arm is compared with it."""

    family: ClassVar[str] = "none"
    kind: ClassVar[str] = "baseline"
    summary: ClassVar[str] = "the baseline: full precision, nothing removed"

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply; leaves no Fact, for nothing was done."""
        return model
