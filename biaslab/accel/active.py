"""Proof that an accelerator acted: how far it moves the logits of fixed prompts.

Two ways of reading one model (another batch, token by token) differ by rounding, about 1e-7, and no threshold tells
that from a small effect. So what a step did is found between two readings of one way, where what did nothing moves
exactly nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biaslab.errors import CellFailed
from biaslab.models.base import GENERATED_ONLY, LoadedModel

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

#: Asked of a cache that moves nothing on the others: its window of newest tokens may be longer than they are.
LONG = " ".join(PROMPTS * 8)
#: Tokens of a prompt that are read, at most.
N_READ = 512
#: Tokens at a prompt's end that `generated_logits` reads one by one.
N_GENERATED = 4
#: Fields of a LoadedModel that say how it is read, apart from its module.
READING = ("cache_factory", "cache_use", "max_batch", "batch_tokens")

Read = Callable[[LoadedModel, Sequence[str]], "torch.Tensor"]


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


def reading(model: LoadedModel) -> dict[str, Any]:
    """How a model is read: kept from before a step, so that `step_check` can read in the same way after it."""
    return {name: getattr(model, name) for name in READING}


def step_check(before: torch.Tensor, was_read: Mapping[str, Any], now: LoadedModel) -> dict[str, dict[str, Any]]:
    """What one step moved, as `active_check` says it: exactly 0 where it changed nothing that is computed.

    before : `reference_logits` of the model before the step, and `was_read` its `reading`.
    now : after the step. Its module is read as before the step; a KV cache that the step brought is compared with
        one that keeps every key and value as it came, read in the very same way.
    "active" is of scores. "active_generating" is of generated text, where only that reads the cache.
    """
    weights = active_check(before, reference_logits(dataclasses.replace(now, **was_read)))
    if now.cache_factory is None or now.cache_factory is was_read["cache_factory"]:
        return {"active": weights}
    if now.cache_use == GENERATED_ONLY:
        return {"active": weights, "active_generating": _larger(weights, _cache_check(now, generated_logits))}
    return {"active": _larger(weights, _cache_check(now, reference_logits))}


def stack_check(
    reference: torch.Tensor, logits: Callable[[], torch.Tensor], steps: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What an arm moved, with what each of its steps did: `steps`, of {"step": name, "max_logit_change": ...}.

    reference : logits of the untouched model. logits : reads those of the arm; not called if no step moved anything,
        because what would be left is the rounding of another way of reading.
    """
    if steps and not any(step["max_logit_change"] for step in steps):
        found = active_check(reference, reference)
    else:
        found = active_check(reference, logits())
    return found | ({"steps": list(steps)} if steps else {})


def _cache_check(model: LoadedModel, read: Read) -> dict[str, Any]:
    """The change that a model's own KV cache makes, on LONG too if the prompts show none."""
    from transformers import DynamicCache

    plain = dataclasses.replace(model, cache_factory=DynamicCache)
    found = active_check(read(plain, PROMPTS), read(model, PROMPTS))
    return found if found["max_logit_change"] else active_check(read(plain, [LONG]), read(model, [LONG]))


def _larger(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return max(one, other, key=lambda check: check["max_logit_change"])


def _encode(model: LoadedModel, prompt: str) -> list[int]:
    ids: list[int] = model.tokenizer(prompt)["input_ids"]
    if not ids:
        raise CellFailed(f"the tokenizer reads no token in {prompt!r}")
    return ids[: min(model.context_length, N_READ)]


def _last_logits(model: LoadedModel, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    import torch

    from biaslab.engine.batching import forward_logits

    columns = sorted({len(row) - 1 for row in rows})
    with torch.inference_mode():
        logits = forward_logits(model, rows, "right", columns)
    last = torch.tensor([columns.index(len(row) - 1) for row in rows], device=logits.device)
    return logits[torch.arange(len(rows), device=logits.device), last].float().cpu()
