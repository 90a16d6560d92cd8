"""HQQ: half-quadratic quantization of the weights, free of calibration data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.quantizing import LayerQuantizer
from biaslab.errors import CellFailed
from biaslab.libraries import import_hqq
from biaslab.models.base import LoadedModel, ModelInfo

if TYPE_CHECKING:
    from torch import nn

#: bits -> rows of codes that share a storage word, so that their number must divide by it.
PACKED_ROWS = {8: 1, 6: 1, 5: 1, 4: 2, 3: 1, 2: 4, 1: 8}


@dataclass
class Hqq(LayerQuantizer):
    """Weight-only quantization of every Linear layer but the output head (Badri and Shaji 2023, HQQ).

    bits : 8, 6, 5, 4, 3, 2 or 1 (6 and 5 are stored in 8). group_size : weights that share a scale and a
    zero point. axis : 1 groups along the inputs of the flattened matrix, 0 across. skip : patterns of
    module names that are left alone, such as "*.down_proj".

    The layers keep packed codes and dequantize at every forward, so memory falls and speed does not: the
    arithmetic is simulated. Quantized zeros of a pruned model are no longer exactly zero.
    """

    bits: int = 4
    group_size: int = 64
    axis: int = 1

    family: ClassVar[str] = "hqq"
    requires: ClassVar[tuple[str, ...]] = ("hqq",)
    extra: ClassVar[str] = ""
    summary: ClassVar[str] = "HQQ weight-only quantization in groups (hqq, no calibration)"

    def check(self) -> str | None:
        """See Accelerator.check."""
        if self.bits not in PACKED_ROWS:
            return f"bits={self.bits}: one of {', '.join(map(str, PACKED_ROWS))}"
        if self.axis not in (0, 1):
            return f"axis={self.axis}: 0 or 1"
        if self.group_size < 8 or self.group_size % 8:
            return f"group_size={self.group_size}: a positive multiple of 8"
        return None

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        if (absent := super().unsupported(model, device)) is not None:
            return absent
        return next((words for size in _sizes(model.config) if (words := self._misfit(size))), None)

    def quantized(self, model: LoadedModel, name: str, linear: nn.Linear) -> nn.Module:
        """See LayerQuantizer.quantized."""
        hqq = import_hqq()
        if words := self._misfit(linear.weight.numel()):
            raise CellFailed(f"{name}: {words}")
        hqq.HQQLinear.set_backend(hqq.HQQBackend.PYTORCH)
        layer: nn.Module = hqq.HQQLinear(
            linear,
            hqq.BaseQuantizeConfig(nbits=self.bits, group_size=self.group_size, axis=self.axis),
            compute_dtype=model.dtype,
            device=str(model.device),
        )
        return layer

    def method(self) -> str:
        """See Quantizer.method."""
        return f"HQQ {self.bits} bits, groups of {self.group_size}"

    def simulated(self, model: LoadedModel) -> bool:
        """See LayerQuantizer.simulated: the PyTorch backend dequantizes at every forward, on any device."""
        return True

    def details(self, model: LoadedModel) -> Mapping[str, Any]:
        """See Quantizer.details."""
        return {"bits": self.bits, "group_size": self.group_size}

    def _misfit(self, size: int) -> str | None:
        """Why a layer of `size` weights cannot be grouped and packed, or None."""
        rows = PACKED_ROWS[self.bits]
        # Rows of the grouped matrix are packed: its groups with axis 1, the places in a group with axis 0.
        step = self.group_size * rows if self.axis == 1 else math.lcm(self.group_size, rows)
        if size % step == 0:
            return None
        return (
            f"group_size={self.group_size}: a layer of {size} weights does not divide by {step}, "
            f"as {self.bits} bits need"
        )


def _sizes(config: Mapping[str, Any]) -> Iterator[int]:
    """Weights of each kind of projection as far as config.json tells; `apply` sees the rest."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if not hidden or not heads:
        return
    head = config.get("head_dim") or hidden // heads
    yield hidden * heads * head
    yield hidden * (config.get("num_key_value_heads") or heads) * head
    if config.get("intermediate_size"):
        yield hidden * config["intermediate_size"]
