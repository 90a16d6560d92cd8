"""Pruning by llm-compressor, in this process, on a copy of the model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

from biaslab.accel.engines import Recipe
from biaslab.accel.layers import decoder_layers
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

EMBEDDING = "token ids"


def pruned_state(model: LoadedModel, ids: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """State dict of a pruned copy of the model; the model itself stays as it is."""
    module = copy.deepcopy(model.module)
    with quiet():
        from llmcompressor.modifiers import pruning

        modifier = getattr(pruning, recipe.modifier)(
            sparsity=recipe.sparsity,
            mask_structure=recipe.mask_structure,
            targets=["Linear"],
            ignore=head_patterns(module),
            **recipe.options,
        )
    with first_inputs(module) as seen:
        oneshot(module, model.tokenizer, ids, [modifier])
    check_inputs(model, seen)
    state: dict[str, Tensor] = module.state_dict()
    return state


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

    Its tracing rewrites the model's forward. Measured with 0.14.0.1: Mistral loses its attention mask by it,
    and everything behind would be calibrated on inputs that the model never has.
    """
    import torch

    with first_inputs(model.module) as expected, torch.no_grad():
        model.module(input_ids=seen[EMBEDDING], use_cache=False)
    limit = 1e-3 if model.dtype == torch.float32 else 0.05
    for name, inputs in expected.items():
        if name not in seen or (seen[name].to(inputs) - inputs).float().norm() > limit * inputs.float().norm():
            raise CellFailed(
                f"engine=llmcompressor calibrates {model.info.architecture} on inputs that the model does not have "
                f"({name} reads others); use engine=native"
            )


def head_patterns(module: nn.Module) -> list[str]:
    """What keeps the output head out, for a pruning modifier.

    It compares the name with a dot behind it, so a plain "lm_head" is silently not honoured, and with tied
    weights the embedding would be pruned: a pattern matches either way.
    """
    head = module.get_output_embeddings()  # type: ignore[operator]
    return [f"re:.*{name}" for name, m in module.named_modules() if m is head]


def oneshot(module: nn.Module, tokenizer: Any, ids: Tensor, recipe: Sequence[Any]) -> None:
    """Run llm-compressor's oneshot on `module`, in place, on rows of token ids, in their order.

    It writes no file and prints nothing. Raises CellFailed with the first line of whatever it raised.
    """
    with quiet():
        import llmcompressor
        from datasets import Dataset

        rows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids.tolist()]
        try:
            llmcompressor.oneshot(
                model=module,
                tokenizer=tokenizer,
                dataset=Dataset.from_list(rows),
                max_seq_length=ids.shape[1],
                num_calibration_samples=len(rows),
                shuffle_calibration_samples=False,
                recipe=list(recipe),
            )
        except Exception as error:  # a foreign library's, of any kind
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise CellFailed(f"llm-compressor failed: {first.strip()}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log lines, progress bars and warnings of llm-compressor and what it imports."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        import llmcompressor  # noqa: F401  it sets its log up when it is first imported
        from loguru import logger

        logger.disable("llmcompressor")
        try:
            yield
        finally:
            logger.enable("llmcompressor")
