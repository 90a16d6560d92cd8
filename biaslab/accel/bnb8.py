"""LLM.int8() of bitsandbytes: 8-bit weights and activations, outlier columns in half precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.quantizing import LayerQuantizer
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Bnb8(LayerQuantizer):
    """Every Linear layer but the head in 8 bits (Dettmers et al. 2022, arXiv:2208.07339), free of calibration.

    threshold : inputs are not rounded to 8 bits in a column where one reaches this; 0 switches that off. A
        column counts as soon as one token of the batch reaches it, so with outliers a token's answer depends a
        little on what else is in its batch.

    The library rounds the inputs to float16 before it quantizes them, whatever the model's dtype.
    """

    threshold: float = 6.0

    family: ClassVar[str] = "bnb8"
    summary: ClassVar[str] = "LLM.int8(), 8-bit weights and activations (bitsandbytes, no calibration)"
    requires: ClassVar[tuple[str, ...]] = ("bitsandbytes",)

    def check(self) -> str | None:
        """See Accelerator.check."""
        if not 0 <= self.threshold < float("inf"):
            return f"threshold={self.threshold}: 0 (no outliers) or more"
        return None

    def quantized(self, model: LoadedModel, name: str, linear: nn.Linear) -> nn.Module:
        """See LayerQuantizer.quantized."""
        import bitsandbytes as bnb

        shape = (linear.in_features, linear.out_features, linear.bias is not None)
        layer: nn.Module = bnb.nn.Linear8bitLt(*shape, has_fp16_weights=False, threshold=self.threshold, device="meta")
        # Quantized when it is moved, and only from the CPU.
        weight = bnb.nn.Int8Params(linear.weight.detach().cpu().clone(), requires_grad=False, has_fp16_weights=False)
        layer.weight = weight.to(model.device)
        layer.bias = linear.bias
        return layer.eval()

    def method(self) -> str:
        """See Quantizer.method."""
        return f"LLM.int8(), outliers from {self.threshold:g}" if self.threshold else "LLM.int8() without outliers"

    def simulated(self, model: LoadedModel) -> bool:
        """See LayerQuantizer.simulated: on a CPU without AVX-512 the library multiplies the codes as floats."""
        from bitsandbytes.backends.cpu import ops

        return model.device.type == "cpu" and not getattr(ops, "_has_avx512", False)

    def details(self, model: LoadedModel) -> Mapping[str, Any]:
        """See Quantizer.details."""
        return {"bits": 8, "threshold": self.threshold, "activations": "int8, one scale a token"}
