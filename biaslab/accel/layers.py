"""Where a model keeps the weights that can be compressed, whatever its architecture and storage."""

from __future__ import annotations

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

    return {name: m for name, m in linears(module).items() if isinstance(m, nn.Linear)}


def is_linear(module: nn.Module) -> bool:
    """True for torch's Linear and for hqq's packed one."""
    from torch import nn

    return isinstance(module, nn.Linear) or _is_packed(module)


def dense_weight(layer: nn.Module) -> Tensor:
    """The weight the layer computes with, (out, in), dequantized where it is packed."""
    weight: Tensor = layer.dequantize() if _is_packed(layer) else layer.weight  # type: ignore[operator, assignment]
    return weight.detach()


def storage(layer: nn.Module) -> list[Tensor]:
    """The tensors that hold the layer's weight in memory: the matrix, or packed codes, scales and zeros."""
    from torch import Tensor

    if not _is_packed(layer):
        return [layer.weight]  # type: ignore[list-item]
    meta: dict[str, Any] = layer.meta  # type: ignore[assignment]
    return [layer.W_q, *(value for value in meta.values() if isinstance(value, Tensor))]  # type: ignore[list-item]


def replace(module: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where the submodule of this dotted name is."""
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, new)


def _is_packed(module: nn.Module) -> bool:
    # By shape, not by class: hqq must not be imported to look at a dense model.
    return hasattr(module, "W_q") and hasattr(module, "meta") and hasattr(module, "dequantize")


def _untouchable(module: nn.Module) -> set[Any]:
    """The output head, and the weights of input and output embeddings (one tensor where they are tied)."""
    kept: set[Any] = set()
    for getter in ("get_input_embeddings", "get_output_embeddings"):
        layer = getattr(module, getter, lambda: None)()
        if layer is not None:
            kept |= {layer, layer.weight}
    return kept


def _linear_size(module: nn.Module) -> int:
    from torch import nn

    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))
