"""What all pruners share: their fields, the change of one layer, and the Fact of the step."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.base import Accelerator
from biaslab.accel.calibration import Calibration, calibration_ids
from biaslab.accel.engines import ENGINES, NATIVE, Recipe, pruned_weights, unavailable, version
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
class CalibratedPruner(Pruner):
    """A pruner that looks at the inputs of each layer.

    engine : "native", or "llmcompressor" or "sparseml", which compute the weights on the same token ids.
    """

    calibration: Calibration = field(default_factory=Calibration)
    engine: str = NATIVE

    modifier: ClassVar[str]  # the class of llm-compressor and SparseML
    foreign_patterns: ClassVar[tuple[str, ...]] = ("row",)  # what their "0:0" means, beside n:m

    def check(self) -> str | None:
        """See Accelerator.check."""
        if self.engine not in ENGINES:
            return f"engine={self.engine}: one of {', '.join(ENGINES)}"
        if self.engine != NATIVE and self.pattern not in self.foreign_patterns and parse_pattern(self.pattern) is None:
            return f"pattern={self.pattern}: {', '.join(self.foreign_patterns)} or n:m with engine={self.engine}"
        return super().check() or self.calibration.check()

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        return super().unsupported(model, device) or unavailable(self.engine, model)

    def prune(self, model: LoadedModel, changes: Changes) -> dict[str, Any]:
        """See Pruner.prune."""
        calibrated = calibration_ids(model, self.calibration)
        values = {"engine": self.engine, "engine_version": version(self.engine), "calibration": calibrated.facts}
        if self.engine == NATIVE:
            return values | self.prune_native(model, calibrated.ids, changes)
        weights = pruned_weights(self.engine, model, calibrated.ids, self._recipe())
        for name, weight in weights.items():
            changes.replace(name, model.module.get_submodule(name), weight.to(model.device))
        return values

    @abstractmethod
    def prune_native(self, model: LoadedModel, ids: Tensor, changes: Changes) -> dict[str, Any]:
        """Prune every target on calibration rows `ids`; returns more values for the Fact."""

    def foreign_options(self) -> dict[str, float]:
        """Arguments of `modifier` beside sparsity and pattern."""
        return {}

    def _recipe(self) -> Recipe:
        n, m = parse_pattern(self.pattern) or (0, 0)
        return Recipe(self.modifier, self.sparsity, f"{m - n}:{m}", self.foreign_options())

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """See Accelerator.test_config."""
        return {"calibration": Calibration(samples=4, length=16)}


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
