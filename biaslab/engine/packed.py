"""Forwards over packs: the model's own modules do the work, only what attends to what is ours.

Quantized, pruned and wrapped layers keep their forward. Attention goes through transformers' interface, which
every model written against it calls by name; the head is applied to the places that are asked for, in chunks,
so that logits of a whole batch never exist. Whether a model can be asked this way is tried, not assumed: see
biaslab.engine.ways. A trial on a few rows does not show all: what a layer's attention is handed beyond what is
done here (a cap on its logits, sinks, chosen keys) and layers that mix tokens elsewhere are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from biaslab.engine.batching import Ids, call, pad
from biaslab.engine.packing import Group, Pack
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    import torch

ATTENTION = "biaslab_paths"
#: transformers' words for kinds of layers.
FULL, SLIDING = "full_attention", "sliding_attention"
#: Rows of logits at once, and their numbers at most: memory stays flat with any vocabulary, and below 32 MiB
#: the allocator hands the same pages out again (measured: a third of the time with a vocabulary of 128k).
ROWS_PER_HEAD = 256
NUMBERS_PER_HEAD = 2**23

#: What a layer may hand to its attention that changes no number of it.
HARMLESS = frozenset({"position_ids", "use_cache", "cache_position", "output_attentions", "output_hidden_states"})

Masks = dict[tuple[int, int | None], "torch.Tensor | None"]


@dataclass
class _Running:
    """The forward that is running. masks : alike in all layers of one window. windows : of each layer so far."""

    pack: Pack
    masks: Masks = field(default_factory=dict)
    windows: list[int | None] = field(default_factory=list)


#: Not an argument: not every architecture hands arguments down.
_running: list[_Running] = []


def last_hidden(model: LoadedModel, pack: Pack) -> torch.Tensor:
    """Last hidden state (n, hidden) of every token of a pack.

    Raises TypeError for a model in which tokens meet otherwise than along the pack's paths.
    """
    with _attending(model.module, pack) as windows:
        body = model.module.base_model
        output = call(
            body, input_ids=pack.tokens[None], position_ids=pack.positions[None], use_cache=False,
            attention_mask=None,
        )  # fmt: skip
    _check_layers(model.module.config, windows)
    hidden: torch.Tensor = output.last_hidden_state[0]
    return hidden


def product_logits(model: LoadedModel, row: Ids, columns: Sequence[int]) -> torch.Tensor:
    """Logits (len(columns), vocabulary) of one row: its head applied to its body's last hidden states."""
    ids, mask, positions = pad([row], "right", 0, model.device)
    body, head = model.module.base_model, model.module.get_output_embeddings()
    output = call(body, input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return head(output.last_hidden_state[:, list(columns)])[0]  # type: ignore[no-any-return]


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
def _attending(module: Any, pack: Pack) -> Iterator[list[int | None]]:
    """Let the module attend along the pack's paths; its own attention is back afterwards.

    Gives the sliding window, or None, of each layer that did.
    """
    _register()
    config = module.config
    before = config._attn_implementation
    _running.append(running := _Running(pack))
    try:
        config._attn_implementation = ATTENTION
        yield running.windows
    finally:
        config._attn_implementation = before
        _running.pop()


def _check_layers(config: Any, windows: Sequence[int | None]) -> None:
    """TypeError unless every layer attended along the paths, with a window where the config says so.

    A layer that did not (a convolution, a recurrent state, an attention of its own) lets rows feel one another.
    """
    text = config.get_text_config()
    n_layers, types = int(text.num_hidden_layers), getattr(text, "layer_types", None)
    n_windows = len(windows) - windows.count(None)
    if len(windows) != n_layers:
        raise TypeError(f"{len(windows)} of {n_layers} layers attend through transformers' interface")
    if types and (set(types) - {FULL, SLIDING} or types.count(SLIDING) != n_windows):
        raise TypeError(f"layers of {', '.join(sorted(set(types)))}, {n_windows} of them with a window")


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
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one pack. query (1, heads, n, d), key and value (1, kv heads, n, d) -> (1, n, heads, d).

    Raises TypeError for whatever else a layer wants of its attention.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    wanted = sorted(name for name, value in more.items() if value is not None and name not in HARMLESS)
    wanted += ["is_causal=False"] if is_causal is False else []
    wanted += ["attention_mask"] if attention_mask is not None else []
    if wanted:
        raise TypeError(f"attention with {', '.join(wanted)}")

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    n, heads, size = q.shape
    out = q.new_empty(n + 1, heads, v.shape[-1])  # padded queries read and write the row behind the last
    q = torch.cat([q, q.new_zeros(1, heads, size)])
    pack, masks = _running[-1].pack, _running[-1].masks
    _running[-1].windows.append(sliding_window)
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
