"""Rows of token ids into padded batches, and the forward passes over them."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biaslab.errors import CellFailed
from biaslab.models.base import BY_TOKEN, GENERATED_ONLY, LoadedModel

if TYPE_CHECKING:
    import torch

Ids = tuple[int, ...]
N_WORDS_SHOWN = 60
SCORED, WRITTEN = "scored", "written"


@dataclass(frozen=True)
class Batch:
    """What became of one batch. kind : SCORED or WRITTEN. longest : tokens of its longest row, those written too."""

    kind: str
    longest: int
    seconds: float


OnBatch = Callable[[Batch], None]


@dataclass(frozen=True)
class Limits:
    """batch_tokens : tokens of a forward with padding. max_batch : rows of a forward. side : of padding."""

    batch_tokens: int
    max_batch: int
    side: str

    def rows(self, width: int) -> int:
        """How many rows of `width` tokens one forward may have; never fewer than one."""
        return max(1, min(self.max_batch, self.batch_tokens // max(1, width)))


def run_batches(
    waiting: Sequence[int],
    limits: Limits,
    take: Callable[[Sequence[int], Limits], tuple[int, int]],
    forward: Callable[[list[int]], None],
    on_done: Callable[[list[int], float], None],
) -> None:
    """Call `forward` on one batch after another of the indices `waiting`, in their order.

    take : of what still waits, how many of the first make one batch within the limits, and its tokens.
    on_done : told a finished batch and the seconds that its forward took.
    When memory runs out, the token budget becomes half of what did not fit, for this batch and those to come.
    Raises CellFailed if a single row does not fit.
    """
    rest = list(waiting)
    while rest:
        n, n_tokens = take(rest, limits)
        batch, start = rest[:n], time.perf_counter()
        shortage = _try(forward, batch)
        if shortage is None:
            on_done(batch, time.perf_counter() - start)
            rest = rest[n:]
        elif n == 1:
            raise CellFailed(
                f"out of memory on a single sequence of {n_tokens} tokens ({shortage}); use a smaller dtype, a "
                "stronger accelerator or a larger device"
            )
        else:
            limits = dataclasses.replace(limits, batch_tokens=max(1, n_tokens // 2))


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Indices by length, longest first: rows of like length stand together, memory runs out early or never."""
    return sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def take_padded(lengths: Sequence[int]) -> Callable[[Sequence[int], Limits], tuple[int, int]]:
    """How many rows of `lengths`, longest first, make one padded batch, and its tokens with padding."""

    def take(waiting: Sequence[int], limits: Limits) -> tuple[int, int]:
        width = lengths[waiting[0]]
        n = min(len(waiting), limits.rows(width))
        return n, n * width

    return take


def _try(forward: Callable[[list[int]], None], batch: list[int]) -> str | None:
    """None when `forward` went through, else the first line of what the allocator said.

    Only the words leave this function: the exception's traceback would keep the failed batch's tensors.
    """
    import torch

    try:
        forward(batch)
    except RuntimeError as error:
        words = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in words:
            raise
    else:
        return None
    torch.cuda.empty_cache()  # does nothing where CUDA is not in use
    return next((line for line in words.splitlines() if line.strip()), "no further word")


def pad(
    rows: Sequence[Sequence[int]], side: str, fill: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask and position ids, each int64 (rows, longest), padded on `side`.

    Positions count real tokens from 0, so a row's do not depend on its padding.
    """
    import torch

    width = max(len(row) for row in rows)
    ids, mask = [], []
    for row in rows:
        blank, ones = width - len(row), [1] * len(row)
        right = side == "right"
        ids.append([*row, *[fill] * blank] if right else [*[fill] * blank, *row])
        mask.append([*ones, *[0] * blank] if right else [*[0] * blank, *ones])
    masks = torch.tensor(mask, dtype=torch.long, device=device)
    positions = (masks.cumsum(1) - 1).clamp(min=0)
    return torch.tensor(ids, dtype=torch.long, device=device), masks, positions


def forward_logits(
    model: LoadedModel, rows: Sequence[Sequence[int]], side: str, columns: Sequence[int]
) -> torch.Tensor:
    """Logits (rows, len(columns), vocabulary) at some positions of one padded batch.

    The forward goes through the arm's KV cache if it has one: a quantized cache must act on scores.
    """
    import torch

    ids, mask, positions = pad(rows, side, pad_id(model), model.device)
    if model.cache_factory is None or model.cache_use == GENERATED_ONLY:
        cache = {}
    elif model.cache_use == BY_TOKEN:
        return torch.stack(read_by_token(model, model.cache_factory(), ids, mask, positions, columns), 1)
    else:
        cache = {"past_key_values": model.cache_factory()}
    wanted = torch.tensor(columns, dtype=torch.long, device=model.device)
    logits = call(
        model.module,
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        logits_to_keep=wanted,
        use_cache=bool(cache),
        **cache,
    ).logits
    kept: torch.Tensor = logits if logits.shape[1] == len(columns) else logits.index_select(1, wanted)
    return kept


def read_by_token(
    model: LoadedModel,
    cache: Any,
    ids: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    columns: Sequence[int],
) -> list[torch.Tensor]:
    """Feed a padded batch to `cache` one token at a time; logits (rows, vocabulary) at each of `columns`."""
    wanted, found = set(columns), {}
    for t in range(ids.shape[1]):
        logits = call(
            model.module,
            input_ids=ids[:, t : t + 1],
            attention_mask=mask[:, : t + 1],
            position_ids=positions[:, t : t + 1],
            past_key_values=cache,
            use_cache=True,
        ).logits
        if t in wanted:
            found[t] = logits[:, -1]
    return [found[column] for column in columns]


def call(module: Any, **arguments: Any) -> Any:
    """One forward, without the arguments that this architecture has no name for."""
    known = inspect.signature(module.forward).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        arguments = {name: value for name, value in arguments.items() if name in known}
    return module(**arguments)


def pad_id(model: LoadedModel) -> int:
    """A token id to fill with; it is masked, so any valid one will do."""
    for name in ("pad_token_id", "eos_token_id"):
        value = getattr(model.tokenizer, name, None)
        # A pad token added to the tokenizer alone would lie beyond the embedding.
        if value is not None and 0 <= value < int(getattr(model.module.config, "vocab_size", value + 1)):
            return int(value)
    return 0


def broken(model: LoadedModel, bad: Sequence[Ids], n: int) -> CellFailed:
    """The error for sequences of a batch of `n` whose logits are NaN or infinite, the first one quoted."""
    text = str(model.tokenizer.decode(list(bad[0])))[-N_WORDS_SHOWN:]
    return CellFailed(
        f"NaN or infinite logits for {len(bad)} of the {n} sequences of a batch, first: {text!r}; the model "
        f"does not work in {str(model.dtype).removeprefix('torch.')} or under this accelerator"
    )
