"""Wanda: prune by |weight| x input norm, without retraining."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.calibration import Calibration, calibration_ids
from biaslab.accel.pruning import Changes, Pruner
from biaslab.accel.walker import SumOfSquares, walk
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class Wanda(Pruner):
    """Importance |W_ij| * ||X_j||_2 within each output row (Sun et al. 2024, arXiv:2306.11695, eq. 1).

    Sequential: a layer's input norms are measured behind the layers that are pruned already.
    """

    calibration: Calibration = field(default_factory=Calibration)

    family: ClassVar[str] = "wanda"
    method: ClassVar[str] = "Wanda, |W| x ||X||_2, sequential"
    summary: ClassVar[str] = "Wanda pruning by |weight| x input norm (native, calibrated)"

    def check(self) -> str | None:
        """See Accelerator.check."""
        return super().check() or self.calibration.check()

    def prune(self, model: LoadedModel, changes: Changes) -> dict[str, Any]:
        """See Pruner.prune."""
        calibrated = calibration_ids(model, self.calibration)

        def change(name: str, linear: nn.Linear, inputs: SumOfSquares) -> None:
            changes.prune(name, linear, importance(linear.weight, inputs))

        walk(model.module, calibrated.ids, SumOfSquares, change)
        return {"calibration": calibrated.facts}

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """See Accelerator.test_config."""
        return {"calibration": Calibration(samples=4, length=16)}


def importance(weight: Tensor, inputs: SumOfSquares) -> Tensor:
    """|W_ij| * ||X_j||_2 in float32, (out, in)."""
    weight = weight.detach()
    return weight.float().abs() * inputs.norm(weight)
