"""What a step did, measured on the model afterwards: sizes, zeros, errors. Never what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biaslab.accel.layers import dense_weight, linears, storage, tensors_of

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

    simulated : True where the arithmetic still runs in full precision on dense weights on this device, so that
        no speed-up can be claimed from it; `arithmetic` says the same in words, beside the device's type.
    """
    sizes = {name: dense_size(layer) for name, layer in linears(module).items()}
    total = sum(sizes[change.name] for change in changes)
    return {
        "n_linear": len(changes),
        "n_weights": total,
        "sparsity": sum(c.sparsity * sizes[c.name] for c in changes) / total,
        "sparsity_layers": spread([c.sparsity for c in changes]),
        "error_layers": spread([c.error for c in changes]),
        "layers": [{"name": c.name, "sparsity": c.sparsity, "error": c.error} for c in changes],
        "bits_per_weight": bits_per_weight(module),
        "bytes": weight_bytes(module),
        "disk_bytes": disk_bytes(module),
        "simulated": simulated,
        "arithmetic": "simulated" if simulated else "real kernel",
        "device": tensors_of(module)[0].device.type,
        "seconds": seconds,
    }


def weight_bytes(module: nn.Module) -> int:
    """Bytes of everything the model keeps in memory to compute with; shared tensors count once."""
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors_of(module) if t.numel()}
    return sum(held.values())


def disk_bytes(module: nn.Module) -> int:
    """Bytes of the model's weights as a file would hold them: no padding of storage, no rebuilt buffers."""
    rebuilt = {
        id(m._buffers[name]) for m in module.modules() for name in m._non_persistent_buffers_set if name in m._buffers
    }
    held = {
        t.data_ptr(): t.numel() * t.element_size() for t in tensors_of(module) if t.numel() and id(t) not in rebuilt
    }
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


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, mean and greatest of some values."""
    return {"min": min(values), "mean": sum(values) / len(values), "max": max(values)}
