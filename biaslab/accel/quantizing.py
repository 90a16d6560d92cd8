"""What quantizers share: their targets, the walk of those that work layer by layer, and the Fact of the step."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.base import Accelerator
from biaslab.accel.facts import LayerChange, layer_change, sparsity, weight_values
from biaslab.accel.layers import dense_linears, dense_weight, replace
from biaslab.errors import CellFailed, ConfigError
from biaslab.models.base import Fact, LoadedModel, ModelInfo

if TYPE_CHECKING:
    from torch import nn

#: Groups below this cost more in scales than they save.
SMALLEST_GROUP = 8


@dataclass
class Quantizer(Accelerator):
    """Quantizes the weights of every Linear layer but the output head.

    skip : patterns of module names that are left alone, such as "*.down_proj".
    """

    skip: list[str] = field(default_factory=list)

    kind: ClassVar[str] = "quantizer"

    @abstractmethod
    def method(self) -> str:
        """The method in words, for the Fact."""

    def details(self, model: LoadedModel) -> Mapping[str, Any]:
        """More values of the Fact, taken after the last layer."""
        return {}


@dataclass
class LayerQuantizer(Quantizer):
    """Puts a quantized layer in the place of each dense one, one at a time."""

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply. Raises CellFailed where a layer cannot be quantized as asked."""
        start = time.perf_counter()
        before = sparsity(model.module)
        changes = [self._change(model, target) for target in targets(model.module, self.skip, name)]
        values = weight_values(
            model.module, changes, simulated=self.simulated(model), seconds=time.perf_counter() - start
        )
        values |= {"sparsity_before": before, **self.details(model)}
        model.facts.append(Fact(name, self.method(), values))
        return model

    @abstractmethod
    def quantized(self, model: LoadedModel, name: str, linear: nn.Linear) -> nn.Module:
        """The layer that takes the place of `linear`, on the same device, with the same bias."""

    @abstractmethod
    def simulated(self, model: LoadedModel) -> bool:
        """Whether the quantized model still multiplies in full precision on the model's device."""

    def _change(self, model: LoadedModel, name: str) -> LayerChange:
        from torch import nn

        linear = model.module.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        # A library may take the original's memory for itself.
        before = linear.weight.detach().clone()
        layer = self.quantized(model, name, linear)
        replace(model.module, name, layer)
        return layer_change(name, before, dense_weight(layer))


def targets(module: nn.Module, skip: Sequence[str], step: str) -> list[str]:
    """Names of the dense Linear layers that no pattern of `skip` matches.

    Raises ConfigError for a pattern that matches nothing, CellFailed where there is no dense layer.
    """
    names = list(dense_linears(module))
    if not names:
        raise CellFailed(f"{step}: {type(module).__name__} has no dense Linear layer to quantize")
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"skip={pattern}: matches no Linear layer; they are named like {names[0]}")
    kept = [name for name in names if not any(fnmatchcase(name, pattern) for pattern in skip)]
    if not kept:
        raise ConfigError(f"skip={','.join(skip)}: leaves no Linear layer to quantize")
    return kept


def fitting_group(width: int, group_size: int) -> int:
    """The largest divisor of a row's width that is at most `group_size`; 0 if none reaches SMALLEST_GROUP.

    >>> fitting_group(4096, 128), fitting_group(160, 128), fitting_group(97, 64)
    (128, 80, 0)
    """
    return next((g for g in range(min(group_size, width), SMALLEST_GROUP - 1, -1) if width % g == 0), 0)


def row_widths(model: ModelInfo) -> list[int]:
    """Inputs of each kind of projection as far as config.json tells; a step sees the rest when it runs."""
    hidden, heads = model.config.get("hidden_size"), model.config.get("num_attention_heads")
    if not hidden or not heads:
        return []
    head = model.config.get("head_dim") or hidden // heads
    return [hidden, heads * head, *filter(None, [model.config.get("intermediate_size")])]


def misfit(model: ModelInfo, group_size: int) -> str | None:
    """The reason why the rows of this model have no usable group, or None."""
    for width in row_widths(model):
        if not fitting_group(width, group_size):
            return f"group_size={group_size}: {no_group(width, group_size)}"
    return None


def no_group(width: int, group_size: int) -> str:
    """Why rows of this width have no usable group."""
    return f"rows of {width} weights have no divisor from {SMALLEST_GROUP} to {group_size}"


def group_words(sizes: Sequence[int]) -> str:
    """Words such as "groups of 128", or "groups of 64 to 128" where layers differ."""
    low, high = min(sizes), max(sizes)
    return f"groups of {high}" if low == high else f"groups of {low} to {high}"
