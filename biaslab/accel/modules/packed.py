"""A Linear layer that holds its weight as integer codes in groups, and multiplies in full precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """Codes of up to 8 bits (two in a byte where they have up to 4), a scale and perhaps a zero point a group.

    The weight is scale * (code - zero), of groups of consecutive weights of a row; it is made anew at every
    forward. Attributes W_q and meta and the method dequantize are what layers.py knows a packed layer by.
    """

    def __init__(self, codes: Tensor, scale: Tensor, zero: Tensor | None, bias: Tensor | None, bits: int) -> None:
        """Pack a layer.

        codes : (out, in) signed integers of `bits` bits. scale, zero : (out, groups); zero in the codes' range,
        None for zero. bias : (out,) or None. The layer computes in the scale's dtype.
        """
        super().__init__()
        self.out_features, self.in_features = codes.shape
        self.bits = bits
        self.register_buffer("W_q", _pack((codes.to(torch.int16) + 2 ** (bits - 1)).to(torch.uint8), bits))
        self.register_buffer("scale", scale.detach().clone())
        self.register_buffer("zero", None if zero is None else zero.detach().to(torch.int8).clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    @classmethod
    def restored(cls, parts: Mapping[str, Tensor | None], in_features: int, bits: int) -> PackedLinear:
        """A layer from its tensors W_q, scale, zero and bias, as another one held them."""
        packed, scale = parts["W_q"], parts["scale"]
        assert packed is not None
        assert scale is not None
        codes = _unpack(packed, bits, in_features).to(torch.int16) - 2 ** (bits - 1)
        return cls(codes, scale, parts["zero"], parts["bias"], bits)

    @property
    def meta(self) -> dict[str, Any]:
        """What is kept beside the codes."""
        return {"scale": self.scale, "zero": self.zero}

    def dequantize(self) -> Tensor:
        """The weight the layer computes with, (out, in)."""
        scale: Tensor = self.scale  # type: ignore[assignment]
        codes = _unpack(self.W_q, self.bits, self.in_features)  # type: ignore[arg-type]
        codes = codes.reshape(*scale.shape, -1).to(scale.dtype) - 2 ** (self.bits - 1)
        if self.zero is not None:
            codes -= self.zero[..., None].to(scale.dtype)  # type: ignore[index]
        weight: Tensor = codes * scale[..., None]
        return weight.reshape(self.out_features, self.in_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (..., in) to (..., out)."""
        return nn.functional.linear(inputs, self.dequantize(), self.bias)

    def extra_repr(self) -> str:
        """As torch.nn.Linear tells its shape."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={self.bits}"


def _pack(codes: Tensor, bits: int) -> Tensor:
    if bits > 4:
        return codes
    codes = nn.functional.pad(codes, (0, codes.shape[1] % 2))
    return codes[:, ::2] << 4 | codes[:, 1::2]


def _unpack(packed: Tensor, bits: int, width: int) -> Tensor:
    if bits > 4:
        return packed
    return torch.stack([packed >> 4, packed & 15], dim=-1).flatten(1)[:, :width]
