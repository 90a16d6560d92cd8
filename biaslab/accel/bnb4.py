"""4-bit weights of bitsandbytes: NormalFloat (NF4) or a 4-bit float (FP4) in blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.layers import dequantize_4bit
from biaslab.accel.quantizing import LayerQuantizer
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

TYPES = ("nf4", "fp4")
BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
COMPUTE = ("model", "float32", "bfloat16", "float16")


@dataclass
class Bnb4(LayerQuantizer):
    """Every Linear layer but the head in 4 bits (Dettmers et al. 2023, arXiv:2305.14314), free of calibration.

    quant_type : "nf4", or "fp4", which the library takes where nobody chooses. block_size : weights of the
    flattened matrix that share a scale. double_quant : scales in 8 bits as well.
    compute_dtype : what the dequantized weights are multiplied in; "model": as the other arms compute.
    """

    quant_type: str = "nf4"
    block_size: int = 64
    double_quant: bool = False
    compute_dtype: str = "model"

    family: ClassVar[str] = "bnb4"
    summary: ClassVar[str] = "4-bit weights in blocks, nf4 or fp4 (bitsandbytes, no calibration)"
    requires: ClassVar[tuple[str, ...]] = ("bitsandbytes",)

    def check(self) -> str | None:
        """See Accelerator.check."""
        allowed = {"quant_type": TYPES, "block_size": BLOCK_SIZES, "compute_dtype": COMPUTE}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                return f"{name}={getattr(self, name)}: one of {', '.join(map(str, values))}"
        return None

    def quantized(self, model: LoadedModel, name: str, linear: nn.Linear) -> nn.Module:
        """See LayerQuantizer.quantized."""
        import bitsandbytes as bnb
        import torch

        if linear.weight.numel() % self.block_size:
            raise CellFailed(f"{name}: {linear.weight.numel()} weights do not divide by block_size={self.block_size}")
        compute = model.dtype if self.compute_dtype == "model" else getattr(torch, self.compute_dtype)
        how = {"compress_statistics": self.double_quant, "quant_type": self.quant_type}
        shape = (linear.in_features, linear.out_features, linear.bias is not None)
        layer = bnb.nn.Linear4bit(*shape, compute_dtype=compute, device="meta", **how)
        weight = bnb.nn.Params4bit(
            linear.weight.detach().clone(), requires_grad=False, blocksize=self.block_size, module=layer, **how
        )
        layer.weight = weight.to(model.device)  # quantized when it is moved
        layer.bias = linear.bias
        settle(layer, model.device.type)
        done: nn.Module = layer.eval()
        return done

    def method(self) -> str:
        """See Quantizer.method."""
        nested = ", scales in 8 bits" if self.double_quant else ""
        return f"bitsandbytes {self.quant_type}, blocks of {self.block_size}{nested}"

    def simulated(self, model: LoadedModel) -> bool:
        """See LayerQuantizer.simulated.

        On a CPU the weights are dequantized and multiplied in full. On a GPU the library has a kernel of its
        own for 4 bits.
        """
        return model.device.type == "cpu"

    def details(self, model: LoadedModel) -> Mapping[str, Any]:
        """See Quantizer.details."""
        compute = str(model.dtype).removeprefix("torch.") if self.compute_dtype == "model" else self.compute_dtype
        return {"bits": 4, "group_size": self.block_size, "quant_type": self.quant_type, "compute_dtype": compute}


def settle(layer: Any, device: str) -> None:
    """Make a Linear4bit compute the same on every CPU, and what its codes and scales say.

    On some CPUs the library repacks the weights at the first forward: it rounds otherwise, cannot read some
    widths, and saves what cannot be loaded again. And see `dequantize_4bit` in layers.py.
    """
    layer.support_avx512bf16_for_cpu = False
    state = layer.weight.quant_state
    if device == "cpu" and state.shape[-1] % state.blocksize:
        layer.__class__ = _block_by_block()


@cache
def _block_by_block() -> type:
    """Linear4bit that multiplies with `dequantize_4bit` of layers.py; made late, as the library is optional."""
    import bitsandbytes as bnb
    from torch.nn.functional import linear

    class BlockwiseLinear4bit(bnb.nn.Linear4bit):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            compute = self.compute_dtype or x.dtype
            weight = dequantize_4bit(self.weight.data, self.weight.quant_state).to(compute)
            bias = None if self.bias is None else self.bias.to(compute)
            return linear(x.to(compute), weight, bias).to(x.dtype)

    return BlockwiseLinear4bit
