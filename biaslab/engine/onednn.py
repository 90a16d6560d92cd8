"""Products of oneDNN with weights packed once, on a CPU: measured faster there than torch's default library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Tokens from which on packing the weights pays for itself.
LEAST_TOKENS = 512
#: Rows of a product that the packed layout is made for.
ROWS = 1024


@contextmanager
def quick_products(model: LoadedModel, n_tokens: int) -> Iterator[None]:
    """Within it, each plain Linear layer of a model on a CPU multiplies by a packed copy of its weight.

    Only layers of exactly that class: a quantized or wrapped layer keeps its own forward. A weight that
    nothing else uses is given up for its packed copy and unpacked, bit by bit the same, at the end; one of a
    mapped file stays where it is: to give it up frees nothing, and where it is other processes share it.
    """
    import torch

    if n_tokens < LEAST_TOKENS or not _can(model):
        yield
        return
    kept = _shared(model.module) | _read_beside(model.module)
    layers = [m for m in model.module.modules() if type(m) is torch.nn.Linear and m.weight.data_ptr() not in kept]
    undo: list[Callable[[], None]] = []
    try:
        for layer in layers:
            undo.append(_pack(layer))
        yield
    finally:
        for back in undo:
            back()


def _can(model: LoadedModel) -> bool:
    import torch

    return (
        model.device.type == "cpu"
        and model.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _shared(module: nn.Module) -> set[int]:
    """Addresses of weights that more than one module holds (an embedding tied to the head)."""
    seen: dict[int, int] = {}
    for part in module.modules():
        for weight in part.parameters(recurse=False):
            seen[weight.data_ptr()] = seen.get(weight.data_ptr(), 0) + 1
    return {address for address, n in seen.items() if n > 1}


def _read_beside(module: nn.Module) -> set[int]:
    """Addresses of weights beside a convolution: a state space mixer (mamba, jamba) reads one without its layer."""
    import torch

    mixers = (m for m in module.modules() if any(isinstance(part, torch.nn.Conv1d) for part in m.children()))
    return {w.data_ptr() for mixer in mixers for part in mixer.children() for w in part.parameters(recurse=False)}


def _pack(layer: nn.Linear) -> Callable[[], None]:
    """Pack one layer; the returned function undoes it."""
    import torch

    dense = layer.weight
    packed = torch.ops.mkldnn._reorder_linear_weight(dense.data, ROWS)
    bias = layer.bias
    mapped = None if dense.untyped_storage().resizable() else dense.data
    layer.weight = torch.nn.Parameter(dense.data.new_empty(0, dense.shape[1]), requires_grad=False)
    dense.data = layer.weight.data
    layer.forward = partial(_forward, packed=packed, bias=bias)  # type: ignore[method-assign]

    def undo() -> None:
        del layer.forward
        dense.data = packed.to_dense() if mapped is None else mapped
        layer.weight = dense

    return undo


def _forward(x: torch.Tensor, packed: Any, bias: torch.Tensor | None) -> torch.Tensor:
    import torch

    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return out
