"""Free text: batched greedy or sampled decoding in which no request feels what else is in the batch.

transformers' generate is not used: it draws every sampled token of a batch from one global generator, so
an answer would depend on batch size and order. Here each request has a generator of its own. Greedy
decoding is tested to equal generate. A model's own generation settings (repetition penalty, temperature)
are not applied: `Decoding` says all there is, for every model alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from biaslab.engine.batching import (
    WRITTEN,
    Batch,
    Ids,
    Limits,
    OnBatch,
    broken,
    call,
    longest_first,
    pad,
    pad_id,
    read_by_token,
    run_batches,
    take_padded,
)
from biaslab.engine.onednn import quick_products
from biaslab.engine.prompts import EmptyRequest, Renderer, digest
from biaslab.engine.requests import Decoding, Generate, GenerateResponse
from biaslab.engine.scoring import ALONE, AUTO, PADDED
from biaslab.engine.ways import writing_way
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    import torch

#: A decoding step holds one token a row, and the cache is lighter than logits: so many times the token budget.
CACHED_TOKENS = 4
#: A CPU writes 32 rows together as fast as 128, in half the memory (256 prompts, 64 tokens, 16M parameters).
ROWS_ON_CPU = 32


@dataclass
class _Writing:
    """One request while its answer grows; `finish` is empty until it is complete."""

    request: Generate
    prompt: Ids
    seed: int
    generator: np.random.Generator = field(default_factory=np.random.default_rng)
    ids: list[int] = field(default_factory=list)
    finish: str = ""

    def restart(self) -> None:
        """Forget what was written; the same seed will draw the same answer."""
        self.ids, self.finish, self.generator = [], "", np.random.default_rng(self.seed)


def generate(
    model: LoadedModel,
    renderer: Renderer,
    requests: Sequence[Generate],
    seeds: Sequence[int] | None,
    decoding: Decoding,
    limits: Limits,
    on_done: Callable[[int], None] | None = None,
    on_batch: OnBatch | None = None,
    way: str = AUTO,
) -> list[GenerateResponse]:
    """An answer to each request, in order.

    seeds : of each request's own generator; only sampled decoding needs them.
    A prompt that does not leave room for max_new_tokens within the context window is `too_long`.
    on_done : called with the number of requests answered since the last call. on_batch : told each batch.
    way : "padded" or "alone"; "auto": in batches where they change nothing. `model.wrote` says which it was.
    Raises ValueError for a wrong decoding or missing seeds, CellFailed for NaN or infinite logits.
    """
    if not requests:
        return []
    _check(decoding, seeds)
    writings = [
        _Writing(request, _prompt(renderer, request), seed)
        for request, seed in zip(requests, seeds or [0] * len(requests), strict=True)
    ]
    lengths = [len(w.prompt) + w.request.max_new_tokens for w in writings]
    fitting = [i for i, n in enumerate(lengths) if n - 1 <= model.context_length]  # the last is never input

    def forward(batch: list[int]) -> None:
        mine = [writings[fitting[b]] for b in batch]
        for writing in mine:  # a batch that ran out of memory half way starts again
            writing.restart()
        _decode(model, mine, decoding)

    def done(batch: list[int], seconds: float) -> None:
        if on_done is not None:
            on_done(len(batch))
        if on_batch is not None:
            on_batch(Batch(WRITTEN, max(widths[b] for b in batch), seconds))

    if on_done is not None and len(fitting) < len(writings):
        on_done(len(writings) - len(fitting))
    widths = [lengths[i] for i in fitting]
    if way == AUTO and len(fitting) > 1:  # one alone is in no batch
        way = writing_way(model, [writings[i].prompt for i in fitting], limits)
    model.wrote = ALONE if way == ALONE else PADDED
    rows = 1 if model.wrote == ALONE else limits.max_batch
    if model.device.type == "cpu":
        rows = min(rows, ROWS_ON_CPU)
    roomy = dataclasses.replace(limits, batch_tokens=CACHED_TOKENS * limits.batch_tokens, max_batch=rows)
    with quick_products(model, sum(widths)):
        run_batches(longest_first(widths), roomy, take_padded(widths), forward, done)
    return [_response(model, writing) for writing in writings]


def _check(decoding: Decoding, seeds: Sequence[int] | None) -> None:
    if decoding.mode not in ("greedy", "sampled"):
        raise ValueError(f"decoding.mode={decoding.mode!r}: choose greedy or sampled")
    if decoding.mode == "sampled" and seeds is None:
        raise ValueError("decoding.mode=sampled needs one seed a request")
    if not decoding.temperature > 0 or not 0 < decoding.top_p <= 1:
        raise ValueError(
            f"decoding.temperature={decoding.temperature} top_p={decoding.top_p}: need temperature > 0 and "
            "0 < top_p <= 1; for no randomness use decoding.mode=greedy"
        )


def _prompt(renderer: Renderer, request: Generate) -> Ids:
    ids = renderer.prompt_ids(request.prompt)
    if not ids or request.max_new_tokens < 1:
        raise EmptyRequest(
            f"nothing to write: a prompt of {len(ids)} tokens, max_new_tokens={request.max_new_tokens}; "
            "both must be at least 1"
        )
    return ids


def _decode(model: LoadedModel, writings: Sequence[_Writing], decoding: Decoding) -> None:
    """Write all answers of one batch, token by token; a finished row leaves it, if the cache lets it go.

    Raises CellFailed for an architecture that gives no KV cache back.
    """
    import torch

    active = list(writings)
    ids, mask, positions = pad([w.prompt for w in active], "left", pad_id(model), model.device)
    cache = model.cache_factory() if model.cache_factory is not None else None
    ends = _end_ids(model)
    if model.reads_by_token and ids.shape[1] > 1:
        # All but the last token of the prompts; the loop below goes on with that one.
        read_by_token(model, cache, ids[:, :-1], mask[:, :-1], positions[:, :-1], ())
        ids, positions = ids[:, -1:], positions[:, -1:]
    while True:
        output = call(
            model.module,
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            raise CellFailed(
                f"{type(model.module).__name__} gives no key-value cache back, so no text can be written with it "
                "here; use benchmarks that score (python -m biaslab list)"
            )
        tokens = _next_tokens(model, output.logits[:, -1].float(), active, decoding)
        for writing, token in zip(active, tokens, strict=True):
            if not writing.finish:
                _append(model, writing, token, ends)
        rows = [k for k, w in enumerate(active) if not w.finish]
        if not rows:
            return
        if len(rows) < len(active) and _can_drop_rows(cache):
            index = torch.tensor(rows, dtype=torch.long, device=model.device)
            cache.batch_select_indices(index)
            mask, positions = mask[index], positions[index]
            active = [active[k] for k in rows]
        last = [(w.ids or w.prompt)[-1:] for w in active]
        ids = torch.tensor(last, dtype=torch.long, device=model.device)
        mask = torch.cat([mask, mask.new_ones((len(mask), 1))], 1)
        positions = positions[:, -1:] + 1


def _can_drop_rows(cache: Any) -> bool:
    """Whether every layer can; those of a recurrent state cannot."""
    return all(hasattr(layer, "batch_select_indices") for layer in getattr(cache, "layers", [cache]))


def _append(model: LoadedModel, writing: _Writing, token: int, ends: frozenset[int]) -> None:
    if token in ends:
        writing.finish = "stop"
        return
    writing.ids.append(token)
    text = _text(model, writing) if writing.request.stop else ""
    if any(stop in text for stop in writing.request.stop):
        writing.finish = "stop"
    elif len(writing.ids) >= writing.request.max_new_tokens:
        writing.finish = "length"


def _next_tokens(model: LoadedModel, logits: torch.Tensor, active: Sequence[_Writing], decoding: Decoding) -> list[int]:
    """The next token of each row of float32 `logits` (rows, vocabulary)."""
    finite = logits.isfinite().all(-1).tolist()
    if not all(finite):
        bad = [w.prompt for w, fine in zip(active, finite, strict=True) if not fine]
        raise broken(model, bad, len(active))
    if decoding.mode == "greedy":
        return [int(token) for token in logits.argmax(-1).tolist()]
    return draw(logits, [w.generator for w in active], decoding)


def draw(logits: torch.Tensor, generators: Sequence[np.random.Generator], decoding: Decoding) -> list[int]:
    """One token a row, by inversion: one uniform number from each row's own generator.

    Inversion runs in the order of token ids, not of probabilities: rounding noise may swap neighbours of
    nearly equal probability, and the draw must not notice. top_p keeps the smallest set of likeliest
    tokens whose mass reaches it (Holtzman et al. 2020, arXiv:1904.09751).
    """
    import torch

    p = torch.softmax(logits.double() / decoding.temperature, -1)
    if decoding.top_p < 1:
        ordered, index = torch.sort(p, dim=-1, descending=True, stable=True)
        mass_before = ordered.cumsum(-1) - ordered
        p = torch.zeros_like(p).scatter(-1, index, ordered.masked_fill(mass_before >= decoding.top_p, 0.0))
    edges = p.cumsum(-1)
    numbers = torch.tensor([[g.random()] for g in generators], dtype=p.dtype, device=p.device)
    found = torch.searchsorted(edges, numbers * edges[:, -1:], right=True)[:, 0]
    last = (edges < edges[:, -1:]).sum(-1)  # the last token of any mass, should rounding overshoot it
    return [int(token) for token in torch.minimum(found, last).tolist()]


def _response(model: LoadedModel, writing: _Writing) -> GenerateResponse:
    """new_tokens counts those of a stop string, which the text leaves out, but no end token."""
    if not writing.finish:
        return GenerateResponse("", "too_long", 0, len(writing.prompt), too_long=True, sent=digest([writing.prompt]))
    text = _text(model, writing)
    cuts = [text.index(stop) for stop in writing.request.stop if stop in text]
    n_new, n_prompt = len(writing.ids), len(writing.prompt)
    cut = text[: min(cuts, default=None)]
    return GenerateResponse(cut, writing.finish, n_new, n_prompt, sent=digest([writing.prompt]))


def _text(model: LoadedModel, writing: _Writing) -> str:
    # Some tokenizers drop a leading blank when they decode; beside the prompt's last token it stays.
    last = writing.prompt[-1:]
    alone, both = _plain(model, last), _plain(model, (*last, *writing.ids))
    return both[len(alone) :] if both.startswith(alone) else _plain(model, writing.ids)


def _plain(model: LoadedModel, ids: Sequence[int]) -> str:
    return str(model.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _end_ids(model: LoadedModel) -> frozenset[int]:
    """End tokens of the tokenizer and of the model's own generation config."""
    found: list[Any] = [getattr(model.tokenizer, "eos_token_id", None)]
    configured = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    found += configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in found if token is not None)
