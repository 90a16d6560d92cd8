"""What all pruners share: their fields, the change of one layer, and the Fact of the step."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.base import Accelerator
from biaslab.accel.facts import LayerChange, layer_change, weight_values
from biaslab.accel.layers import dense_weight
from biaslab.accel.masks import check_pattern, parse_pattern, pattern_holds, prune_mask
from biaslab.errors import CellFailed
from biaslab.models.base import Fact, LoadedModel, ModelInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Architectures whose projections are not Linear layers, so that there is nothing to find.
WITHOUT_LINEAR = ("GPT2LMHeadModel", "OpenAIGPTLMHeadModel", "ImageGPTForCausalImageModeling")


@dataclass
class Pruner(Accelerator):
    """Sets weights of the decoder's Linear layers to zero; embeddings, head and biases stay as they are.

    sparsity : share of the weights to remove, in (0, 1).
    pattern : among which weights the least important are chosen: a word of `patterns`, or "n:m" (at most
        n of every m consecutive weights of a row stay; `sparsity` must then be 1 - n/m).
    """

    sparsity: float = 0.5
    pattern: str = "row"

    kind: ClassVar[str] = "pruner"
    method: ClassVar[str]
    patterns: ClassVar[tuple[str, ...]] = ("row",)

    def check(self) -> str | None:
        """See Accelerator.check."""
        return check_pattern(self.sparsity, self.pattern, self.patterns)

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        if model.architecture in WITHOUT_LINEAR:
            return f"{model.architecture} has no Linear layers that {self.family} could prune"
        return None

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply. The weights stay dense: zeros save neither memory nor time here."""
        start = time.perf_counter()
        changes = Changes(self)
        extra = self.prune(model, changes)
        if not changes.layers:
            raise CellFailed(f"{name}: {type(model.module).__name__} has no dense Linear layer to prune")
        seconds = time.perf_counter() - start
        values = weight_values(model.module, changes.layers, simulated=True, seconds=seconds)
        values |= {"pattern": self.pattern, **self._pattern_holds(model, changes), **extra}
        model.facts.append(Fact(name, self.method, values))
        return model

    @abstractmethod
    def prune(self, model: LoadedModel, changes: Changes) -> dict[str, Any]:
        """Prune every target through `changes.prune`; returns more values for the Fact."""

    def _pattern_holds(self, model: LoadedModel, changes: Changes) -> dict[str, bool]:
        """Whether every group of every pruned layer keeps to n:m, measured; nothing for other patterns."""
        if (parsed := parse_pattern(self.pattern)) is None:
            return {}
        weights = [dense_weight(model.module.get_submodule(change.name)) for change in changes.layers]
        return {"pattern_holds": all(pattern_holds(weight, *parsed) for weight in weights)}


@dataclass
class Changes:
    """Prunes layers one at a time and keeps what came of each."""

    pruner: Pruner
    layers: list[LayerChange] = field(default_factory=list)

    def prune(self, name: str, linear: nn.Linear, metric: Tensor) -> None:
        """Zero the least important weights of one layer in place.

        metric : importance of each weight, (out, in). Raises CellFailed if one is NaN or infinite.
        """
        if not metric.isfinite().all():
            raise CellFailed(f"{name}: an importance is NaN or infinite, so nothing can be ranked")
        weight = linear.weight.data
        mask = prune_mask(weight, metric, self.pruner.sparsity, self.pruner.pattern)
        self.replace(name, linear, weight.masked_fill(mask, 0))

    def replace(self, name: str, linear: nn.Linear, weight: Tensor) -> None:
        """Put `weight` (out, in), of any float dtype, in the place of a layer's own."""
        self.layers.append(layer_change(name, linear.weight.data, weight))
        linear.weight.data.copy_(weight)
