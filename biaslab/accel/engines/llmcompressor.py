"""Pruning by llm-compressor, in this process, on a copy of the model."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

from biaslab.accel.compressor import run_oneshot
from biaslab.accel.engines import Recipe
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn


def pruned_state(model: LoadedModel, ids: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """State dict of a pruned copy of the model; the model itself stays as it is."""
    module = copy.deepcopy(model.module)

    def modifier() -> list[Any]:
        from llmcompressor.modifiers import pruning

        cls = getattr(pruning, recipe.modifier)
        arguments = {"sparsity": recipe.sparsity, "mask_structure": recipe.mask_structure, **recipe.options}
        return [cls(targets=["Linear"], ignore=head_patterns(module), **arguments)]

    run_oneshot(dataclasses.replace(model, module=module), ids, modifier, "engine=llmcompressor")
    state: dict[str, Tensor] = module.state_dict()
    return state


def head_patterns(module: nn.Module) -> list[str]:
    """What keeps the output head out, for a pruning modifier.

    It compares the name with a dot behind it, so a plain "lm_head" is silently not honoured, and with tied
    weights the embedding would be pruned: a pattern matches either way.
    """
    head = module.get_output_embeddings()  # type: ignore[operator]
    return [f"re:.*{name}" for name, m in module.named_modules() if m is head]
