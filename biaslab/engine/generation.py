"""Free text: batched greedy or sampled decoding in which no request feels what else is in the batch.

transformers' generate is not used: it draws every sampled token of a batch from one global generator, so
an answer would depend on batch size and order. Here each request has a generator of its own. Greedy
decoding is tested to equal generate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from biaslab.engine.batching import Limits, pad, pad_id, run_batches
from biaslab.engine.requests import Decoding, Generate, GenerateResponse
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel


@dataclass
class _Writing:
    """One request while its answer grows."""

    request: Generate
    prompt: tuple[int, ...]
    seed: int
    generator: np.random.Generator = field(default_factory=np.random.default_rng)
    ids: list[int] = field(default_factory=list)
    finish: str = ""

    def restart(self) -> None:
        """Forget what was written; the same seed will draw the same answer."""
        self.ids, self.finish, self.generator = [], "", np.random.default_rng(self.seed)


def generate(
    model: LoadedModel,
    requests: Sequence[Generate],
    prompts: Sequence[tuple[int, ...]],
    seeds: Sequence[int] | None,
    decoding: Decoding,
    limits: Limits,
    on_done: Callable[[int], None] | None,
) -> list[GenerateResponse]:
    """An answer to each request, in order. `seeds` are used by sampled decoding only (None: all zero)."""
    writings = [
        _Writing(request, prompt, seed)
        for request, prompt, seed in zip(requests, prompts, seeds or [0] * len(requests), strict=True)
    ]
    lengths = [len(w.prompt) + w.request.max_new_tokens for w in writings]
    fitting = [i for i, n in enumerate(lengths) if n <= model.context_length]

    def forward(batch: list[int]) -> None:
        mine = [writings[fitting[b]] for b in batch]
        for writing in mine:  # a batch that ran out of memory half way starts again
            writing.restart()
        _decode(model, mine, decoding)

    def done(batch: list[int]) -> None:
        if on_done is not None:
            on_done(len(batch))

    if on_done is not None and len(fitting) < len(writings):
        on_done(len(writings) - len(fitting))
    run_batches([lengths[i] for i in fitting], limits, forward, done)
    return [_response(model, writing) for writing in writings]


def _decode(model: LoadedModel, writings: list[_Writing], decoding: Decoding) -> None:
    """Write all answers of one batch; a finished row leaves it."""
    import torch
    from transformers import DynamicCache

    active = list(writings)
    ids, mask, positions = pad([w.prompt for w in active], "left", pad_id(model), model.device)
    cache: Any = model.cache_factory() if model.cache_factory else DynamicCache(config=model.module.config)
    ends = _end_ids(model)
    while active:
        output = model.module(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        cache = output.past_key_values
        chosen = _choose(output.logits[:, -1].float(), active, decoding)
        for writing, token in zip(active, chosen, strict=True):
            _append(model, writing, token, ends)
        rows = [k for k, w in enumerate(active) if not w.finish]
        if not rows:
            return
        if len(rows) < len(active):
            index = torch.tensor(rows, dtype=torch.long, device=model.device)
            cache.batch_select_indices(index)
            mask, positions = mask[index], positions[index]
            active = [active[k] for k in rows]
        ids = torch.tensor([[w.ids[-1]] for w in active], dtype=torch.long, device=model.device)
        mask = torch.cat([mask, torch.ones((len(active), 1), dtype=mask.dtype, device=model.device)], 1)
        positions = positions[:, -1:] + 1


def _append(model: LoadedModel, writing: _Writing, token: int, ends: frozenset[int]) -> None:
    if token in ends:
        writing.finish = "stop"
        return
    writing.ids.append(token)
    if writing.request.stop:
        text = _text(model, writing)
        if any(stop in text for stop in writing.request.stop):
            writing.finish = "stop"
            return
    if len(writing.ids) >= writing.request.max_new_tokens:
        writing.finish = "length"


def _choose(logits: Any, active: Sequence[_Writing], decoding: Decoding) -> list[int]:
    import torch

    if not torch.isfinite(logits).all():
        raise CellFailed("NaN or infinite logits while generating; the model is broken in this dtype or accelerator")
    if decoding.mode == "greedy":
        return [int(token) for token in logits.argmax(-1).tolist()]
    probabilities = torch.softmax(logits.double() / decoding.temperature, -1).cpu().numpy()
    return [_draw(p, w.generator, decoding.top_p) for p, w in zip(probabilities, active, strict=True)]


def _draw(probabilities: Any, generator: np.random.Generator, top_p: float) -> int:
    """One token by inversion of the distribution, cut to the smallest set with mass `top_p`."""
    order = np.argsort(-probabilities, kind="stable")
    mass = np.cumsum(probabilities[order])
    n_kept = int(np.searchsorted(mass, min(top_p, 1.0) * mass[-1] * (1 - 1e-12))) + 1
    u = generator.random() * mass[n_kept - 1]
    return int(order[min(int(np.searchsorted(mass[:n_kept], u, side="right")), n_kept - 1)])


def _response(model: LoadedModel, writing: _Writing) -> GenerateResponse:
    if not writing.finish:
        return GenerateResponse("", "too_long", 0, len(writing.prompt), too_long=True)
    text = _text(model, writing)
    cuts = [text.index(stop) for stop in writing.request.stop if stop in text]
    text = text[: min(cuts)] if cuts else text
    return GenerateResponse(text, writing.finish, len(writing.ids), len(writing.prompt))


def _text(model: LoadedModel, writing: _Writing) -> str:
    # Some tokenizers drop a leading blank when they decode; beside the prompt's last token it stays.
    last = writing.prompt[-1:]
    alone = str(model.tokenizer.decode(last, skip_special_tokens=True))
    both = str(model.tokenizer.decode([*last, *writing.ids], skip_special_tokens=True))
    return both[len(alone) :] if both.startswith(alone) else str(model.tokenizer.decode(writing.ids))


def _end_ids(model: LoadedModel) -> frozenset[int]:
    """End tokens of the tokenizer and of the model's own generation config."""
    found = [getattr(model.tokenizer, "eos_token_id", None)]
    configured = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    found += configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in found if token is not None)
