"""torchao: 8-bit and 4-bit integer weights, 8-bit float weights and activations, free of calibration."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.layers import linears
from biaslab.accel.quantizing import LayerQuantizer, fitting_group, group_words, misfit, no_group
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel, ModelInfo

if TYPE_CHECKING:
    from torch import nn


@dataclass
class TorchAo(LayerQuantizer):
    """What the three share: torchao's `quantize_` on one Linear layer at a time."""

    requires: ClassVar[tuple[str, ...]] = ("torchao",)

    @abstractmethod
    def config(self, name: str, linear: nn.Linear) -> Any:
        """The library's config for this layer."""

    def quantized(self, model: LoadedModel, name: str, linear: nn.Linear) -> nn.Module:
        """See LayerQuantizer.quantized."""
        from torchao.quantization import quantize_

        quantize_(linear, self.config(name, linear))
        return linear.requires_grad_(False)


@dataclass
class AoInt8(TorchAo):
    """8-bit integer weights, one scale a row; the inputs stay as they are.

    The codes are converted to the model's dtype and multiplied there: memory falls, the arithmetic is simulated.
    """

    family: ClassVar[str] = "ao_int8"
    summary: ClassVar[str] = "8-bit integer weights, one scale a row (torchao, no calibration)"

    def config(self, name: str, linear: nn.Linear) -> Any:
        """See TorchAo.config."""
        from torchao.quantization import Int8WeightOnlyConfig

        return Int8WeightOnlyConfig()

    def method(self) -> str:
        """See Quantizer.method."""
        return "torchao int8 weights, one scale a row"

    def simulated(self, model: LoadedModel) -> bool:
        """See LayerQuantizer.simulated."""
        return True

    def details(self, model: LoadedModel) -> Mapping[str, Any]:
        """See Quantizer.details."""
        return {"bits": 8}


@dataclass
class AoInt4(TorchAo):
    """4-bit integer weights in groups; the inputs stay as they are.

    group_size : weights of a row that share a scale; a row it does not divide uses the largest divisor of its
        width below it, and the Fact tells.

    The library's 4-bit kernels need a GPU and a package of their own. This is its portable form: each code in a
    byte of its own, dequantized at every forward, so the memory is that of 8 bits and the arithmetic simulated.
    """

    group_size: int = 64

    family: ClassVar[str] = "ao_int4"
    summary: ClassVar[str] = "4-bit integer weights in groups (torchao, no calibration)"

    def check(self) -> str | None:
        """See Accelerator.check."""
        return None if self.group_size >= 8 else f"group_size={self.group_size}: at least 8"

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        return super().unsupported(model, device) or misfit(model, self.group_size)

    def config(self, name: str, linear: nn.Linear) -> Any:
        """See TorchAo.config."""
        import torch
        from torchao.quantization import IntxWeightOnlyConfig, PerGroup

        if not (group := fitting_group(linear.in_features, self.group_size)):
            raise CellFailed(f"{name}: {no_group(linear.in_features, self.group_size)}")
        return IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(group))  # type: ignore[attr-defined]

    def method(self) -> str:
        """See Quantizer.method."""
        return f"torchao int4 weights, groups of at most {self.group_size}"

    def simulated(self, model: LoadedModel) -> bool:
        """See LayerQuantizer.simulated."""
        return True

    def details(self, model: LoadedModel) -> Mapping[str, Any]:
        """See Quantizer.details."""
        weights: list[Any] = [layer.weight for layer in linears(model.module).values()]
        sizes = [weight.block_size[-1] for weight in weights if hasattr(weight, "block_size")]
        return {"bits": 4, "groups": group_words(sizes)}


@dataclass
class AoFp8(TorchAo):
    """8-bit float (e4m3) weights and activations, one scale a row and one a token.

    Needs a GPU with 8-bit float arithmetic (compute capability 8.9: Ada, Hopper, or newer).
    """

    family: ClassVar[str] = "ao_fp8"
    needs_gpu: ClassVar[str] = "8-bit float arithmetic (compute capability 8.9 or more)"
    summary: ClassVar[str] = "8-bit float weights and activations (torchao, no calibration, GPU)"

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        if (reason := super().unsupported(model, device)) is not None:
            return reason
        import torch  # only where a GPU was asked for

        found = torch.cuda.get_device_capability()
        return None if found >= (8, 9) else f"this GPU has compute capability {found[0]}.{found[1]}, 8.9 is needed"

    def quantized(self, model: LoadedModel, name: str, linear: nn.Linear) -> nn.Module:
        """See LayerQuantizer.quantized. Raises CellFailed for another dtype than the library takes."""
        if str(linear.weight.dtype) != "torch.bfloat16":
            raise CellFailed(f"{name}: float8 with a scale a row is made of bfloat16 weights; choose dtype=bfloat16")
        return super().quantized(model, name, linear)

    def config(self, name: str, linear: nn.Linear) -> Any:
        """See TorchAo.config."""
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow

        return Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())

    def method(self) -> str:
        """See Quantizer.method."""
        return "torchao float8 e4m3, one scale a row and a token"

    def simulated(self, model: LoadedModel) -> bool:
        """See LayerQuantizer.simulated."""
        return False

    def details(self, model: LoadedModel) -> Mapping[str, Any]:
        """See Quantizer.details."""
        return {"bits": 8, "activations": "float8 e4m3, one scale a token"}
