"""Proof that an accelerator acted: how far it moves the logits of fixed prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    import torch

#: Neutral, short, plain ASCII: any tokenizer can read them, and no context window is too small.
PROMPTS: tuple[str, ...] = (
    "The sun rises in the",
    "Water boils when it is",
    "The train arrived at the station",
    "On the table there was a cup of",
    "Two plus three is",
    "The door was open, so",
    "It rained all day and the river",
    "A week has seven",
    "In the morning the baker",
    "The opposite of cold is",
    "The book was long, but the last chapter",
    "Stones are heavy and feathers are",
    "After the bridge, turn left at the",
    "The clock on the wall",
    "In winter the lake",
    "Please close the window before you",
)

#: Tokens at a prompt's end that `generated_logits` reads one by one.
N_GENERATED = 4


def reference_logits(model: LoadedModel, prompts: Sequence[str] = PROMPTS) -> torch.Tensor:
    """Logits of the token after each prompt, float32 on the CPU, (prompts, vocabulary).

    All prompts go in one batch, padded on the right, unless an accelerator asked for a smaller one
    (`max_batch`, `batch_tokens`); its KV cache is used if it has one.
    Raises CellFailed if a logit is NaN or infinite.
    """
    import torch

    rows = [_encode(model, prompt) for prompt in prompts]
    width = max(map(len, rows))
    size = min(model.max_batch or len(rows), max(1, (model.batch_tokens or width * len(rows)) // width))
    logits = torch.cat([_last_logits(model, rows[i : i + size]) for i in range(0, len(rows), size)])
    broken = (~logits.isfinite()).any(dim=1).nonzero().flatten().tolist()
    if broken:
        first = prompts[broken[0]]
        raise CellFailed(f"NaN or infinite logits after {len(broken)} of {len(rows)} prompts, first {first!r}")
    return logits


def generated_logits(model: LoadedModel, prompts: Sequence[str] = PROMPTS) -> torch.Tensor:
    """As `reference_logits`, but as generation reads the model: the last tokens of a prompt one after another.

    Where only generated tokens read the KV cache, this is where it can be seen to act.
    """
    import torch

    from biaslab.engine.batching import call

    logits = []
    for ids in (_encode(model, prompt) for prompt in prompts):
        split = max(1, len(ids) - N_GENERATED)
        cache = model.cache_factory() if model.cache_factory is not None else None
        with torch.inference_mode():
            for part in (ids[:split], *([token] for token in ids[split:])):
                given = torch.tensor([part], device=model.device)
                output = call(model.module, input_ids=given, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
        logits.append(output.logits[0, -1].float().cpu())
    return torch.stack(logits)


def active_check(before: torch.Tensor, after: torch.Tensor) -> dict[str, Any]:
    """Largest and mean |change of a logit| between two results of `reference_logits`."""
    change = (after - before).abs()
    return {
        "max_logit_change": float(change.max()),
        "mean_logit_change": float(change.mean()),
        "n_prompts": len(change),
    }


def _encode(model: LoadedModel, prompt: str) -> list[int]:
    ids: list[int] = model.tokenizer(prompt)["input_ids"]
    if not ids:
        raise CellFailed(f"the tokenizer reads no token in {prompt!r}")
    return ids[: model.context_length]


def _last_logits(model: LoadedModel, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    import torch

    from biaslab.engine.batching import forward_logits

    columns = sorted({len(row) - 1 for row in rows})
    with torch.inference_mode():
        logits = forward_logits(model, rows, "right", columns)
    last = torch.tensor([columns.index(len(row) - 1) for row in rows], device=logits.device)
    return logits[torch.arange(len(rows), device=logits.device), last].float().cpu()
