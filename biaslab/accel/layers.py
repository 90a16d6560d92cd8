"""Where a model keeps the weights that can be compressed, whatever its architecture and storage."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from biaslab.errors import CellFailed

if TYPE_CHECKING:
    from torch import Tensor, nn


def decoder_layers(module: nn.Module) -> tuple[str, nn.ModuleList]:
    """Dotted name and list of the decoder layers: the outermost module list that holds most Linear weights.

    Raises CellFailed if no list of modules with Linear layers is there.
    """
    from torch import nn

    lists = [(name, m) for name, m in module.named_modules() if isinstance(m, nn.ModuleList)]
    outermost = [(name, m) for name, m in lists if not any(name.startswith(f"{other}.") for other, _ in lists)]
    sized = [(_linear_size(m), name, m) for name, m in outermost]
    size, name, layers = max(sized, key=lambda entry: entry[0], default=(0, "", nn.ModuleList()))
    if size == 0:
        raise CellFailed(f"{type(module).__name__}: found no list of decoder layers that hold Linear layers")
    return name, layers


def linears(module: nn.Module) -> dict[str, nn.Module]:
    """Dotted name -> Linear layer, dense or packed, of everything but the output head and tied embeddings."""
    kept = _untouchable(module)
    return {
        name: m
        for name, m in module.named_modules()
        if is_linear(m) and m not in kept and getattr(m, "weight", None) not in kept
    }


def dense_linears(module: nn.Module) -> dict[str, nn.Linear]:
    """As `linears`, but only layers whose weight is still a plain matrix: what a step can still change."""
    from torch import nn

    return {name: m for name, m in linears(module).items() if isinstance(m, nn.Linear) and _is_plain(m.weight)}


def is_linear(module: nn.Module) -> bool:
    """True for torch's Linear (bitsandbytes and torchao build on it) and for packed ones (hqq's, ours)."""
    from torch import nn

    return isinstance(module, nn.Linear) or _is_packed(module)


def dense_weight(layer: nn.Module) -> Tensor:
    """The weight the layer computes with, (out, in), dequantized where it is held in another form."""
    if _is_packed(layer):
        packed: Tensor = layer.dequantize()  # type: ignore[operator]
        return packed.detach()
    weight: Any = layer.weight
    if getattr(weight, "quant_state", None) is not None:  # bitsandbytes, 4 bits
        return dequantize_4bit(weight.data, weight.quant_state)
    if (scales := _int8_scales(layer)) is not None:  # bitsandbytes, 8 bits: codes times row maximum over 127
        codes: Tensor = weight.data
        return codes.float() * scales[:, None] / 127
    if not _is_plain(weight):  # torchao
        return weight.dequantize().detach()  # type: ignore[no-any-return]
    return weight.detach()  # type: ignore[no-any-return]


def storage(layer: nn.Module) -> list[Tensor]:
    """The plain tensors that hold the layer's weight in memory: the matrix, or codes, scales and zeros."""
    from torch import Tensor

    if _is_packed(layer):
        meta: dict[str, Any] = layer.meta  # type: ignore[assignment]
        return [layer.W_q, *(value for value in meta.values() if isinstance(value, Tensor))]  # type: ignore[list-item]
    weight: Any = layer.weight
    if (state := getattr(weight, "quant_state", None)) is not None:
        nested = [state.offset, state.state2.absmax, state.state2.code] if state.nested else []
        return [weight.data, state.absmax, state.code, *nested]
    if (scales := _int8_scales(layer)) is not None:
        return [weight.data, scales]
    return _plain_parts(weight)


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Every plain tensor the model keeps: parameters, buffers, and what packed layers hold beside them."""
    held = [*module.buffers(), *(p for p in module.parameters() if _is_plain(p))]
    for layer in module.modules():
        if _is_packed(layer) or (is_linear(layer) and not _is_plain(layer.weight)):
            bias = getattr(layer, "bias", None)
            held += [*storage(layer), *([bias] if bias is not None else [])]
    return held


def dequantize_4bit(codes: Tensor, state: Any) -> Tensor:
    """The matrix a bitsandbytes QuantState and its codes stand for, in the state's dtype.

    On a CPU with AVX-512 the library (0.50.2) takes wrong scales where a row does not divide into blocks, such
    as rows of 160 in blocks of 64: 27 % of error instead of 9. Read as rows of one block each, it is right.
    """
    from bitsandbytes.functional import dequantize_4bit as dequantize

    shape = state.shape
    if shape[-1] % state.blocksize and shape.numel() % state.blocksize == 0:
        state = copy.copy(state)
        state.shape = type(shape)((shape.numel() // state.blocksize, state.blocksize))
    return dequantize(codes, state).reshape(shape).detach()  # type: ignore[no-any-return]


def replace(module: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where the submodule of this dotted name is."""
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, new)


def _is_packed(module: nn.Module) -> bool:
    # By shape, not by class: hqq must not be imported to look at a dense model.
    return hasattr(module, "W_q") and hasattr(module, "meta") and hasattr(module, "dequantize")


def _is_plain(weight: Any) -> bool:
    """Whether a weight is a floating-point matrix itself, and no codes or a library's subclass of Tensor."""
    from torch import Tensor, nn

    return type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()


def _plain_parts(weight: Any) -> list[Tensor]:
    """The plain tensors inside a tensor subclass that wraps others (torchao's), itself if it is plain."""
    if not hasattr(weight, "__tensor_flatten__"):
        return [weight]
    return [part for name in weight.__tensor_flatten__()[0] for part in _plain_parts(getattr(weight, name))]


def _int8_scales(layer: nn.Module) -> Tensor | None:
    """The row maxima of a bitsandbytes Linear8bitLt, wherever the first forward has moved them; else None."""
    if type(getattr(layer, "weight", None)).__name__ != "Int8Params":
        return None
    weight, state = layer.weight, layer.state
    return weight.SCB if weight.SCB is not None else state.SCB  # type: ignore[union-attr, return-value]


def _untouchable(module: nn.Module) -> set[Any]:
    """The output head, and the weights of input and output embeddings (one tensor where they are tied)."""
    kept: set[Any] = set()
    for getter in ("get_input_embeddings", "get_output_embeddings"):
        layer = getattr(module, getter, lambda: None)()
        if layer is not None:
            kept |= {layer, layer.weight}
    return kept


def _linear_size(module: nn.Module) -> int:
    layers: list[Any] = [m for m in module.modules() if is_linear(m)]
    return sum(int(layer.in_features) * int(layer.out_features) for layer in layers)
