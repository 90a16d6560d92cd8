"""A placebo: the baseline in another precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from biaslab.accel.base import Accelerator
from biaslab.accel.facts import weight_bytes
from biaslab.errors import ConfigError
from biaslab.models.base import Fact, LoadedModel

OTHER = {"float32": "bfloat16", "bfloat16": "float16", "float16": "bfloat16"}


@dataclass
class PlaceboDtype(Accelerator):
    """The same weights and arithmetic in another half-precision type: what a choice of format alone moves.

    dtype : "bfloat16" or "float16"; "other": bfloat16, or float16 where the arms compute in bfloat16.
    """

    dtype: str = "other"

    family: ClassVar[str] = "placebo_dtype"
    kind: ClassVar[str] = "placebo"
    summary: ClassVar[str] = "placebo: the baseline in another half-precision type, the floor of number formats"

    def check(self) -> str | None:
        """See Accelerator.check."""
        allowed = ("other", "bfloat16", "float16")
        return None if self.dtype in allowed else f"dtype={self.dtype}: one of {', '.join(allowed)}"

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply. Raises ConfigError where the arms compute in this dtype already."""
        import torch

        before = str(model.dtype).removeprefix("torch.")
        after = OTHER[before] if self.dtype == "other" else self.dtype
        if after == before:
            raise ConfigError(f"{name}.dtype={after}: the arms compute in it already; choose another or dtype=float32")
        dtype = getattr(torch, after)
        # Weights only, as when a model is loaded in this dtype: rotary frequencies stay in full precision.
        for parameter in model.module.parameters():
            parameter.data = parameter.data.to(dtype)
        model.module.config.dtype = dtype
        model.facts.append(
            Fact(name, f"the same weights in {after}", {"dtype": after, "bytes": weight_bytes(model.module)})
        )
        return replace(model, dtype=dtype)
