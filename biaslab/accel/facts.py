"""What a step did, measured on the model afterwards: sizes, zeros, errors. Never what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biaslab.accel.layers import dense_weight, linears, storage

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class LayerChange:
    """One Linear layer after a step.

    sparsity : share of its weights that are exactly zero, [0, 1].
    error : ||W_after - W_before||_F / ||W_before||_F; 0 for a zero matrix left alone.
    """

    name: str
    sparsity: float
    error: float


def layer_change(name: str, before: Tensor, after: Tensor) -> LayerChange:
    """Compare one weight before and after a step."""
    norm = float(before.float().norm())
    change = float((after.float() - before.float()).norm())
    return LayerChange(name, zero_share(after), change / norm if norm else change)


def zero_share(weight: Tensor) -> float:
    """Share of exact zeros in a tensor."""
    return int((weight == 0).sum()) / weight.numel()


def weight_values(
    module: nn.Module, changes: Sequence[LayerChange], *, simulated: bool, seconds: float
) -> dict[str, Any]:
    """The values every weight-changing step reports, plain JSON.

    simulated : True where the arithmetic still runs in full precision on dense weights, so that no speed-up
        can be claimed from it.
    """
    sizes = {name: dense_size(layer) for name, layer in linears(module).items()}
    total = sum(sizes[change.name] for change in changes)
    return {
        "n_linear": len(changes),
        "n_weights": total,
        "sparsity": sum(c.sparsity * sizes[c.name] for c in changes) / total,
        "sparsity_layers": _spread([c.sparsity for c in changes]),
        "error_layers": _spread([c.error for c in changes]),
        "layers": [{"name": c.name, "sparsity": c.sparsity, "error": c.error} for c in changes],
        "bits_per_weight": bits_per_weight(module),
        "bytes": weight_bytes(module),
        "simulated": simulated,
        "seconds": seconds,
    }


def weight_bytes(module: nn.Module) -> int:
    """Bytes of everything the model keeps in memory to compute with; shared tensors count once."""
    tensors = [*module.parameters(), *module.buffers()]
    for layer in module.modules():
        if hasattr(layer, "W_q"):
            tensors += storage(layer)
            if layer.bias is not None:
                tensors.append(layer.bias)  # type: ignore[arg-type]
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.numel()}
    return sum(held.values())


def bits_per_weight(module: nn.Module) -> float:
    """Bits in memory per weight of the Linear layers (not embeddings and head), scales and zeros included."""
    layers = linears(module).values()
    held = sum(t.numel() * t.element_size() for layer in layers for t in storage(layer))
    return 8 * held / sum(dense_size(layer) for layer in layers)


def sparsity(module: nn.Module) -> float:
    """Share of exact zeros among the weights the Linear layers (not embeddings and head) compute with."""
    layers = linears(module).values()
    zeros = sum(int((dense_weight(layer) == 0).sum()) for layer in layers)
    return zeros / sum(dense_size(layer) for layer in layers)


def dense_size(layer: nn.Module) -> int:
    """Number of weights of a Linear layer, however it stores them."""
    return int(layer.in_features) * int(layer.out_features)  # type: ignore[arg-type]


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "mean": sum(values) / len(values), "max": max(values)}
