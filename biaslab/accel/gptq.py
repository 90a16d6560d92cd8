"""GPTQ: rounding with second-order correction of the columns not yet rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.calibration import Calibration
from biaslab.accel.compressor import Compressed
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class Gptq(Compressed):
    """Frantar et al. 2023 (arXiv:2210.17323) by llm-compressor; a layer is calibrated behind the quantized ones.

    dampening : added to the Hessian's diagonal, as a share of its mean. order : in which order columns are
    rounded: "static" (by activation, the library's default) or "none" (as they stand).
    """

    dampening: float = 0.01
    order: str = "static"

    family: ClassVar[str] = "gptq"
    summary: ClassVar[str] = "GPTQ weight-only quantization in groups (llm-compressor, calibrated)"

    def check(self) -> str | None:
        """See Accelerator.check."""
        if not 0 < self.dampening <= 1:
            return f"dampening={self.dampening}: above 0, at most 1"
        if self.order not in ("static", "none"):
            return f"order={self.order}: static or none"
        return super().check()

    def recipe(self, model: LoadedModel, groups: Mapping[str, Any]) -> list[Any]:
        """See Compressed.recipe."""
        from llmcompressor.modifiers.gptq import GPTQModifier

        order = None if self.order == "none" else self.order
        return [GPTQModifier(config_groups=dict(groups), dampening_frac=self.dampening, actorder=order)]

    def before(self, original: Tensor, linear: nn.Linear) -> Tensor:
        """See Compressed.before: the library has written the corrected weight over the original."""
        return original

    def method(self) -> str:
        """See Quantizer.method."""
        return f"GPTQ {self.bits} bits"

    def details(self, model: LoadedModel) -> Mapping[str, Any]:
        """See Quantizer.details."""
        return {"dampening": self.dampening, "order": self.order}

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """See Accelerator.test_config."""
        return {"calibration": Calibration(samples=4, length=16)}
