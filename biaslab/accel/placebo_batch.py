"""A placebo: the baseline at another batch size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from biaslab.accel.base import Accelerator
from biaslab.accel.facts import weight_bytes
from biaslab.models.base import Fact, LoadedModel


@dataclass
class PlaceboBatch(Accelerator):
    """The same weights, but the engine packs its batches otherwise: only rounding can change.

    max_batch : sequences of one forward. batch_tokens : tokens of one forward; null: as the engine has it.
    """

    max_batch: int = 8
    batch_tokens: int | None = None

    family: ClassVar[str] = "placebo_batch"
    kind: ClassVar[str] = "placebo"
    summary: ClassVar[str] = "placebo: the baseline at another batch size, the floor of rounding"

    def check(self) -> str | None:
        """See Accelerator.check."""
        if self.max_batch < 1:
            return f"max_batch={self.max_batch}: at least 1"
        if self.batch_tokens is not None and self.batch_tokens < 1:
            return f"batch_tokens={self.batch_tokens}: at least 1, or null for the engine's own"
        return None

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply."""
        values: dict[str, Any] = {"max_batch": self.max_batch, "batch_tokens": self.batch_tokens}
        values["bytes"] = weight_bytes(model.module)
        model.facts.append(Fact(name, "the same weights in other batches", values))
        return replace(model, max_batch=self.max_batch, batch_tokens=self.batch_tokens)
