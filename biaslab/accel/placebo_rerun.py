"""A placebo: the baseline computed once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from biaslab.accel.base import Accelerator
from biaslab.accel.facts import weight_bytes
from biaslab.models.base import Fact, LoadedModel


@dataclass
class PlaceboRerun(Accelerator):
    """The same weights asked again in the same way: what is not reproducible shows here."""

    family: ClassVar[str] = "placebo_rerun"
    kind: ClassVar[str] = "placebo"
    summary: ClassVar[str] = "placebo: the baseline again, the floor of reproducibility"

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply."""
        model.facts.append(Fact(name, "the same weights again", {"bytes": weight_bytes(model.module)}))
        return model
