"""Rows of token ids into padded batches, and the forward passes over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Limits:
    """batch_tokens : tokens of a forward with padding. max_batch : rows of a forward. side : of padding."""

    batch_tokens: int
    max_batch: int
    side: str


def plan_batches(lengths: Sequence[int], limits: Limits) -> Iterator[list[int]]:
    """Indices of rows for each forward: longest first (memory runs out at once or never), within limits."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        width = max(1, lengths[order[0]])
        size = max(1, min(limits.max_batch, limits.batch_tokens // width))
        yield order[:size]
        order = order[size:]


def run_batches(
    lengths: Sequence[int], limits: Limits, forward: Callable[[list[int]], None], on_done: Callable[[list[int]], None]
) -> None:
    """Call `forward` on every batch; when memory runs out, halve the batch and go on.

    Raises CellFailed if a single row does not fit.
    """
    import torch

    for planned in plan_batches(lengths, limits):
        pending = [planned]
        while pending:
            batch = pending.pop()
            try:
                forward(batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise CellFailed(
                        f"out of memory on one sequence of {lengths[batch[0]]} tokens; use a smaller dtype, a "
                        "stronger accelerator or another device"
                    ) from error
                half = len(batch) // 2
                pending += [batch[half:], batch[:half]]
                limits = Limits(limits.batch_tokens, half, limits.side)
            else:
                on_done(batch)


def pad(rows: Sequence[Sequence[int]], side: str, fill: int, device: Any) -> tuple[Any, Any, Any]:
    """Token ids, attention mask and position ids, each (rows, longest), padded on `side`."""
    import torch

    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), fill, dtype=torch.long, device=device)
    mask = torch.zeros((len(rows), width), dtype=torch.long, device=device)
    for i, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, where] = torch.tensor(row, dtype=torch.long, device=device)
        mask[i, where] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return ids, mask, positions


def forward_logits(model: LoadedModel, rows: Sequence[Sequence[int]], side: str) -> torch.Tensor:
    """Logits (rows, longest, vocabulary) of one padded forward, through the arm's KV cache if it has one."""
    ids, mask, positions = pad(rows, side, pad_id(model), model.device)
    extra: dict[str, Any] = {"use_cache": False}
    if model.cache_factory is not None:
        extra = {"use_cache": True, "past_key_values": model.cache_factory()}
    logits: torch.Tensor = model.module(
        input_ids=ids, attention_mask=mask, position_ids=positions, **extra
    ).logits
    return logits


def pad_id(model: LoadedModel) -> int:
    """A token id to fill with; it is masked, so any valid one will do."""
    for name in ("pad_token_id", "eos_token_id"):
        value = getattr(model.tokenizer, name, None)
        if value is not None:
            return int(value)
    return 0
