"""Models as llm-compressor's tracing reads them rightly, and the proof that it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from biaslab.accel.layers import decoder_layers
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

EMBEDDING = "token ids"


def traceable(module: Any, length: int) -> Any:
    """The model in a form that llm-compressor's tracing reads as it computes; all Linear layers are the model's own.

    Traced by 0.14.0.1, Mistral attends to the future as well. Where rows of `length` tokens fit its window it
    computes what a Llama of its layers computes, and Llama is read rightly. `check_inputs` has the last word.
    """
    window = getattr(module.config, "sliding_window", None)
    if module.config.model_type != "mistral" or (window and length > window):
        return module
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    values = {k: v for k, v in module.config.to_dict().items() if k not in ("model_type", "architectures")}
    with torch.device("meta"):
        llama = LlamaForCausalLM(LlamaConfig(**values)).eval()
    llama.config.name_or_path = module.config.name_or_path
    for name, child in module.model.named_children():
        if name != "layers":
            setattr(llama.model, name, child)
    for ours, shell in zip(module.model.layers, llama.model.layers, strict=True):
        for owner, own in ((shell, ours), (shell.self_attn, ours.self_attn)):
            for name, child in own.named_children():
                if name != "self_attn":
                    setattr(owner, name, child)
    llama.lm_head = module.lm_head
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
            if args and type(args[0]) is Tensor and not args[0].is_meta:  # the library traces with stand-ins first
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


def own_inputs(module: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """As `first_inputs`, of one forward of the model itself on token ids (rows, length)."""
    import torch

    with first_inputs(module) as seen, torch.no_grad():
        module(input_ids=ids, use_cache=False)
    return seen


def check_inputs(model: LoadedModel, expected: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> None:
    """CellFailed unless the library's calibration saw its first row as the model itself computes it.

    expected : `own_inputs` of that row, taken before the calibration changed a weight. The library's tracing rewrites
    the model's forward: what it misreads, everything behind would be calibrated on inputs that the model never has.
    """
    import torch

    limit = 1e-3 if model.dtype == torch.float32 else 0.05
    for name, inputs in expected.items():
        there = name in seen and seen[name].shape == inputs.shape
        if not there or (seen[name].to(inputs) - inputs).float().norm() > limit * inputs.float().norm():
            raise CellFailed(
                f"llm-compressor calibrates {model.info.architecture} on inputs that the model does not have "
                f"({name} reads others); rows no longer than a sliding window may help (calibration.length), or "
                "another engine or method"
            )
