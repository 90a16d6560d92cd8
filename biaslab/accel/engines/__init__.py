"""Who prunes: biaslab's own code ("native"), or a library whose finished weights are taken over.

A foreign engine gets the model and the very token ids that the native one would see, and gives back the
pruned matrices. What it must not touch (embeddings, head, norms, biases) is held to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel, ModelInfo

if TYPE_CHECKING:
    from torch import Tensor

NATIVE, LLM_COMPRESSOR, SPARSEML = "native", "llmcompressor", "sparseml"
ENGINES = (NATIVE, LLM_COMPRESSOR, SPARSEML)


@dataclass(frozen=True)
class Recipe:
    """One pruning in the words that llm-compressor and SparseML share.

    modifier : name of their class. mask_structure : "0:0", or "n:m" where n of every m are *removed*.
    options : further arguments of the modifier.
    """

    modifier: str
    sparsity: float
    mask_structure: str
    options: Mapping[str, float]


def unavailable(engine: str, model: ModelInfo) -> str | None:
    """Why an engine cannot prune this model here, with what to run, or None."""
    if engine == LLM_COMPRESSOR:
        from biaslab.libraries import missing

        return missing(("llmcompressor", "datasets"), "quantizers")
    if engine == SPARSEML:
        from biaslab.accel.engines.sparseml import unavailable as sparseml_unavailable

        return sparseml_unavailable(model)
    return None


def version(engine: str) -> str:
    """What the Fact calls an engine's version; "" for the native one, which is biaslab's own."""
    if engine == NATIVE:
        return ""
    if engine == LLM_COMPRESSOR:
        return metadata.version("llmcompressor")
    from biaslab.accel.engines.sparseml import PINS

    return next(pin for pin in PINS if pin.startswith("sparseml==")).partition("==")[2]


def pruned_weights(engine: str, model: LoadedModel, ids: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """Name of each decoder Linear layer -> its pruned matrix, computed by `engine` on a copy of the model.

    ids : (rows, length), see calibration_ids. Raises CellFailed if the engine fails, or changed a weight that
    no pruner may touch.
    """
    if engine == LLM_COMPRESSOR:
        from biaslab.accel.engines.llmcompressor import pruned_state
    else:
        from biaslab.accel.engines.sparseml import pruned_state
    state = pruned_state(model, ids, recipe)
    targets = _targets(model)
    _check_untouched(engine, model, state, targets)
    return {name: state[f"{name}.weight"] for name in targets}


def _targets(model: LoadedModel) -> list[str]:
    from biaslab.accel.layers import decoder_layers, dense_linears

    prefix, _ = decoder_layers(model.module)
    return [name for name in dense_linears(model.module) if name.startswith(f"{prefix}.")]


def _check_untouched(engine: str, model: LoadedModel, state: Mapping[str, Tensor], targets: list[str]) -> None:
    import torch

    changed = {f"{name}.weight" for name in targets}
    for name, before in model.module.named_parameters():
        after = state.get(name)
        if after is None or after.shape != before.shape:
            raise CellFailed(f"engine={engine} gave no {name} of shape {tuple(before.shape)} back")
        if name not in changed and not torch.equal(after.to(before.device, before.dtype), before.detach()):
            raise CellFailed(f"engine={engine} changed {name}, which no pruner may touch")
