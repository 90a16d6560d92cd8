"""Pruning by llm-compressor, in this process, on a copy of the model."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from biaslab.accel.compressor import run_oneshot
from biaslab.accel.engines import Recipe
from biaslab.accel.layers import decoder_layers
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

EMBEDDING = "token ids"


def pruned_state(model: LoadedModel, ids: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """State dict of a pruned copy of the model; the model itself stays as it is."""
    module = traceable(model.module, ids.shape[1])

    def modifier() -> list[Any]:
        from llmcompressor.modifiers import pruning

        cls = getattr(pruning, recipe.modifier)
        arguments = {"sparsity": recipe.sparsity, "mask_structure": recipe.mask_structure, **recipe.options}
        return [cls(targets=["Linear"], ignore=head_patterns(module), **arguments)]

    with first_inputs(module) as seen:
        run_oneshot(dataclasses.replace(model, module=module), ids, modifier, "engine=llmcompressor")
    check_inputs(model, seen)
    state: dict[str, Tensor] = module.state_dict()
    return state


def traceable(module: Any, length: int) -> Any:
    """A copy of the model that the library's tracing reads as it computes.

    Traced by 0.14.0.1, Mistral attends to the future as well. Where rows of `length` tokens fit its window it
    computes what a Llama of its weights computes, and Llama is read rightly; `check_inputs` has the last word.
    """
    window = getattr(module.config, "sliding_window", None)
    if module.config.model_type != "mistral" or (window and length > window):
        return copy.deepcopy(module)
    from transformers import LlamaConfig, LlamaForCausalLM

    values = {k: v for k, v in module.config.to_dict().items() if k not in ("model_type", "architectures")}
    llama = LlamaForCausalLM(LlamaConfig(**values)).to(module.device, module.dtype).eval()
    llama.load_state_dict(module.state_dict())
    llama.config.name_or_path = module.config.name_or_path
    return llama


@contextmanager
def first_inputs(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What each Linear of the first decoder layer reads first, and the token ids they come from (EMBEDDING).

    Filled while the context lasts; (rows, tokens, in) and (rows, tokens).
    """
    from torch import Tensor, nn

    prefix, layers = decoder_layers(module)
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            if type(args[0]) is Tensor and not args[0].is_meta:  # the library traces with stand-ins first
                seen.setdefault(name, args[0].detach().clone())

        return hook

    targets = {f"{prefix}.0.{name}": m for name, m in layers[0].named_modules() if isinstance(m, nn.Linear)}
    targets[EMBEDDING] = module.get_input_embeddings()  # type: ignore[operator]
    handles = [m.register_forward_pre_hook(note(name)) for name, m in targets.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def check_inputs(model: LoadedModel, seen: Mapping[str, Tensor]) -> None:
    """CellFailed unless the library's calibration saw its first row as the model itself computes it.

    Its tracing rewrites the model's forward. Measured with 0.14.0.1: Mistral loses its causal mask by it, and
    everything behind would be calibrated on inputs that the model never has.
    """
    import torch

    with first_inputs(model.module) as expected, torch.no_grad():
        model.module(input_ids=seen[EMBEDDING], use_cache=False)
    limit = 1e-3 if model.dtype == torch.float32 else 0.05
    for name, inputs in expected.items():
        if name not in seen or (seen[name].to(inputs) - inputs).float().norm() > limit * inputs.float().norm():
            raise CellFailed(
                f"engine=llmcompressor calibrates {model.info.architecture} on inputs that the model does not have "
                f"({name} reads others); rows no longer than a sliding window may help (calibration.length), else "
                "use engine=native"
            )


def head_patterns(module: nn.Module) -> list[str]:
    """What keeps the output head out, for a pruning modifier.

    It compares the name with a dot behind it, so a plain "lm_head" is silently not honoured, and with tied
    weights the embedding would be pruned: a pattern matches either way.
    """
    head = module.get_output_embeddings()  # type: ignore[operator]
    return [f"re:.*{name}" for name, m in module.named_modules() if m is head]
