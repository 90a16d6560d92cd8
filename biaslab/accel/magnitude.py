"""Magnitude pruning, the naive control: it looks at no data at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from biaslab.accel.layers import decoder_layers, dense_linears
from biaslab.accel.pruning import Changes, Pruner
from biaslab.models.base import LoadedModel


@dataclass
class Magnitude(Pruner):
    """Importance |W_ij|, compared within each layer's matrix ("layer"), each row ("row") or group (n:m)."""

    pattern: str = "layer"

    family: ClassVar[str] = "magnitude"
    method: ClassVar[str] = "magnitude, |W|"
    summary: ClassVar[str] = "magnitude pruning of each layer, the naive control (native, no calibration)"
    patterns: ClassVar[tuple[str, ...]] = ("layer", "row")

    def prune(self, model: LoadedModel, changes: Changes) -> dict[str, Any]:
        """See Pruner.prune."""
        prefix, _ = decoder_layers(model.module)
        for name, linear in dense_linears(model.module).items():
            if name.startswith(f"{prefix}."):
                changes.prune(name, linear, linear.weight.detach().float().abs())
        return {}
