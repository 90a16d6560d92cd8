"""Wanda: prune by |weight| x input norm, without retraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.pruning import CalibratedPruner, Changes
from biaslab.accel.walker import SumOfSquares, walk
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class Wanda(CalibratedPruner):
    """Importance |W_ij| * ||X_j||_2 within each output row (Sun et al. 2024, arXiv:2306.11695, eq. 1).

    Sequential: a layer's input norms are measured behind the layers that are pruned already.
    """

    family: ClassVar[str] = "wanda"
    restorable: ClassVar[bool] = True
    method: ClassVar[str] = "Wanda, |W| x ||X||_2, sequential"
    summary: ClassVar[str] = "Wanda pruning by |weight| x input norm (native, calibrated)"
    modifier: ClassVar[str] = "WandaPruningModifier"

    def prune_native(self, model: LoadedModel, ids: Tensor, changes: Changes) -> dict[str, Any]:
        """See CalibratedPruner.prune_native."""

        def change(name: str, linear: nn.Linear, inputs: SumOfSquares) -> None:
            changes.prune(name, linear, importance(linear.weight, inputs))

        walk(model.module, ids, SumOfSquares, change)
        return {}


def importance(weight: Tensor, inputs: SumOfSquares) -> Tensor:
    """|W_ij| * ||X_j||_2 in float32, (out, in)."""
    weight = weight.detach()
    return weight.float().abs() * inputs.norm(weight)
