"""A KV cache that quantizes and dequantizes in `update()`, so that whoever attends reads what was quantized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from biaslab.errors import CellFailed

OnRead = Callable[[], None]


@dataclass(frozen=True)
class Grid:
    """How one of keys and values is rounded.

    bits : of a code. group : elements that share a scale and a minimum; 0 is the whole head.
    axis : "token" groups channels within one token and head; "channel" groups consecutive tokens within one
        channel (KIVI's keys, Liu et al. 2024, arXiv:2402.02750).
    """

    bits: int
    group: int
    axis: str

    @property
    def n_tokens(self) -> int:
        """Tokens that must be there before any of them can be rounded."""
        return self.group if self.axis == "channel" else 1

    def round_trip(self, states: Tensor) -> Tensor:
        """Keys or values (batch, heads, tokens, channels) as they come back from the codes, in their own dtype.

        Asymmetric rounding to 2^bits levels between a group's minimum and maximum. Scale and minimum are kept
        in the dtype of the states. Raises CellFailed where the group does not divide the head.
        """
        grouped, dim = self._grouped(states)
        y = grouped.float()
        low, high = y.amin(dim, keepdim=True), y.amax(dim, keepdim=True)
        n_steps = 2**self.bits - 1
        scale = ((high - low) / n_steps).to(states.dtype).float()
        scale = torch.where(scale == 0, 1.0, scale)  # a group of equal elements is its minimum, exactly
        low = low.to(states.dtype).float()
        codes = ((y - low) / scale).round().clamp(0, n_steps)
        return (codes * scale + low).reshape(states.shape).to(states.dtype)

    def stored_bits(self, head: int, dtype: torch.dtype) -> float:
        """Bits a stored element takes: its code, and its share of the group's scale and minimum."""
        return self.bits + 2 * 8 * dtype.itemsize / (self.group or head)

    def _grouped(self, states: Tensor) -> tuple[Tensor, int]:
        *lead, n_tokens, head = states.shape
        if self.axis == "channel":
            return states.reshape(*lead, n_tokens // self.group, self.group, head), -2
        group = self.group or head
        if head % group:
            raise CellFailed(f"group_size={group}: does not divide a head of {head} channels; 0 is the whole head")
        return states.reshape(*lead, n_tokens, head // group, group), -1


class Store:
    """Keys or values of one layer: a rounded past, and the newest tokens in full precision.

    residual : tokens that stay in full precision at least.
    """

    def __init__(self, grid: Grid, residual: int) -> None:
        self.grid, self.residual = grid, residual
        self.past: Tensor | None = None
        self.recent: Tensor | None = None

    def add(self, states: Tensor) -> Tensor:
        """Take in new states (batch, heads, tokens, channels); all there is, as attention is to read it."""
        recent = _join(self.recent, states)
        n = recent.shape[-2] - self.residual
        n -= n % self.grid.n_tokens
        if n > 0:
            self.past = _join(self.past, self.grid.round_trip(recent[..., :n, :]))
            recent = recent[..., n:, :]
        self.recent = recent if recent.shape[-2] else None
        return self.whole()

    def whole(self) -> Tensor:
        """The rounded past and the newest tokens behind it."""
        if self.recent is None:
            assert self.past is not None
            return self.past
        return _join(self.past, self.recent)

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch."""
        self.past = None if self.past is None else self.past[rows]
        self.recent = None if self.recent is None else self.recent[rows]


def _join(before: Tensor | None, states: Tensor) -> Tensor:
    return states if before is None else torch.cat([before, states], dim=-2)


class QuantizedLayer(DynamicLayer):  # type: ignore[misc]
    """A layer of the cache. It keeps the whole past, also where attention slides: the mask sees to the window.

    whole_forwards : one forward over many tokens gives each token what decoding would have given it. Where
        it cannot (a residual window, groups across tokens), such a forward is refused.
    published : the first forward gets its own keys and values back unrounded, as the libraries' caches do.
    on_read : called whenever rounded ones are given back.
    """

    def __init__(
        self, keys: Grid, values: Grid, residual: int, *, whole_forwards: bool, published: bool, on_read: OnRead
    ) -> None:
        super().__init__()
        self.on_read = on_read
        self.stores = Store(keys, residual), Store(values, residual)
        self.whole_forwards, self.published = whole_forwards, published

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """Take in new keys and values (batch, heads, tokens, channels); return what attention reads."""
        first = not self.is_initialized
        if first:
            self.lazy_initialization(key_states, value_states)
        if key_states.shape[-2] > 1 and not self.whole_forwards and not (self.published and first):
            raise ValueError("this cache reads one token at a time: a later token would change what earlier ones saw")
        self.keys, self.values = self.stores[0].add(key_states), self.stores[1].add(value_states)
        if self.published and first:
            return key_states, value_states
        if any(store.past is not None for store in self.stores):
            self.on_read()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows of the batch."""
        for store in self.stores:
            store.select(indices)
        self.keys, self.values = (store.whole() for store in self.stores)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Beam search is not what this is for."""
        raise NotImplementedError("beam search does not go through this cache")

    crop = batch_repeat_interleave = reset = offload = reorder_cache  # none of them would reach the stores


def make_cache(
    n_layers: int, keys: Grid, values: Grid, residual: int, *, published: bool, on_read: OnRead = lambda: None
) -> Cache:
    """An empty cache of a model with `n_layers` layers; on_read : see QuantizedLayer."""
    whole = reads_whole_forwards(keys, values, residual)
    return Cache(
        layers=[
            QuantizedLayer(keys, values, residual, whole_forwards=whole, published=published, on_read=on_read)
            for _ in range(n_layers)
        ]
    )


def reads_whole_forwards(keys: Grid, values: Grid, residual: int) -> bool:
    """Whether a key's rounding depends on neither the asker nor later tokens, so that one forward is decoding."""
    return residual == 0 and keys.axis == values.axis == "token"
