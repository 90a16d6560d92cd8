"""Forwards over packs: the model's own modules do the work, only what attends to what is ours.

Quantized, pruned and wrapped layers keep their forward. Attention goes through transformers' interface, which
every model written against it calls by name; the head is applied to the places that are asked for, in chunks,
so that logits of a whole batch never exist. Whether a model can be asked this way is tried, not assumed: see
biaslab.engine.ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from biaslab.engine.batching import call
from biaslab.engine.packing import Group, Pack
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    import torch

ATTENTION = "biaslab_paths"
#: Rows of logits at once, and their numbers at most: memory stays flat with any vocabulary, and below 32 MiB
#: the allocator hands the same pages out again (measured: a third of the time with a vocabulary of 128k).
ROWS_PER_HEAD = 256
NUMBERS_PER_HEAD = 2**23

Masks = dict[tuple[int, int | None], "torch.Tensor | None"]
#: The pack of the forward that is running and its masks, alike in all layers of one window. Not an argument:
#: not every architecture hands arguments down.
_running: list[tuple[Pack, Masks]] = []


def last_hidden(model: LoadedModel, pack: Pack) -> torch.Tensor:
    """Last hidden state (n, hidden) of every token of a pack."""
    with _attending(model.module, pack):
        body = model.module.base_model
        output = call(
            body, input_ids=pack.tokens[None], position_ids=pack.positions[None], use_cache=False,
            attention_mask=None,
        )  # fmt: skip
    hidden: torch.Tensor = output.last_hidden_state[0]
    return hidden


def logprobs_at(model: LoadedModel, hidden: torch.Tensor, places: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Natural log p, float32, of `token` after `place` for each (place, token); softmax in float32."""
    import torch

    numbers = {place: j for j, place in enumerate(dict.fromkeys(place for place, _ in places))}
    needed = torch.tensor(list(numbers), dtype=torch.long, device=hidden.device)
    of = torch.tensor([numbers[place] for place, _ in places], dtype=torch.long, device=hidden.device)
    targets = torch.tensor([token for _, token in places], dtype=torch.long, device=hidden.device)
    order = torch.argsort(of, stable=True)
    head, found = model.module.get_output_embeddings(), []
    size = max(1, min(ROWS_PER_HEAD, NUMBERS_PER_HEAD // getattr(head, "out_features", 1)))
    bounds = torch.searchsorted(of[order], torch.arange(0, len(needed) + size, size, device=of.device)).tolist()
    for j, start in enumerate(range(0, len(needed), size)):
        mine = order[bounds[j] : bounds[j + 1]]
        table = head(hidden[needed[start : start + size]]).float()
        torch.log_softmax(table, -1, out=table)  # in place: measured a quarter faster than amax, exp and sum
        found.append(table[of[mine] - start, targets[mine]])
    values = torch.empty(len(places), dtype=torch.float32, device=hidden.device)
    values[order] = torch.cat(found)
    return values


@contextmanager
def _attending(module: Any, pack: Pack) -> Iterator[None]:
    """Let the module attend along the pack's paths; its own attention is back afterwards."""
    _register()
    config = module.config
    before = config._attn_implementation
    _running.append((pack, {}))
    try:
        config._attn_implementation = ATTENTION
        yield
    finally:
        config._attn_implementation = before
        _running.pop()


def _register() -> None:
    from transformers import AttentionInterface

    if ATTENTION not in AttentionInterface._global_mapping:
        AttentionInterface.register(ATTENTION, _attend)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one pack. query (1, heads, n, d), key and value (1, kv heads, n, d) -> (1, n, heads, d)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    n, heads, size = q.shape
    out = q.new_empty(n + 1, heads, v.shape[-1])  # padded queries read and write the row behind the last
    q = torch.cat([q, q.new_zeros(1, heads, size)])
    pack, masks = _running[-1]
    for j, group in enumerate(pack.groups):
        if (j, sliding_window) not in masks:
            masks[j, sliding_window] = _mask(group, sliding_window)
        mask = masks[j, sliding_window]
        gq, gk, gv = q[group.queries].transpose(1, 2), k[group.keys].transpose(1, 2), v[group.keys].transpose(1, 2)
        found = scaled_dot_product_attention(
            gq, gk, gv, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=gk.shape[1] != heads
        )
        out.index_copy_(0, group.queries.flatten(), found.transpose(1, 2).reshape(-1, heads, found.shape[-1]))
    return out[:n].unsqueeze(0), None


def _mask(group: Group, window: int | None) -> torch.Tensor | None:
    """Bool (rows, 1, own, path): a token sees its path up to itself, and of a window its newest tokens.

    None where that is plainly causal: nothing is borrowed, and no path is longer than the window.
    """
    import torch

    width = group.keys.shape[1]
    if (not window or window >= width) and width == group.queries.shape[1] and not bool(group.starts.any()):
        return None
    device = group.starts.device
    own = group.starts[:, None] + torch.arange(group.queries.shape[1], device=device)
    path = torch.arange(group.keys.shape[1], device=device)
    mask = path[None, None, :] <= own[:, :, None]
    if window:
        mask &= path[None, None, :] > own[:, :, None] - window
    return mask[:, None]
