"""log p of given tokens: log-likelihood and choice requests, both as spans of token ids.

Three ways to ask, and the fastest that gives a model's own numbers is taken: rows in packs that share their
beginnings (`packed`), rows in padded batches (`padded`), one row at a time (`alone`). See biaslab.engine.ways.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biaslab.engine.batching import (
    SCORED,
    Batch,
    Ids,
    Limits,
    OnBatch,
    broken,
    forward_logits,
    longest_first,
    run_batches,
    take_padded,
)
from biaslab.engine.packing import make_pack, take_packed
from biaslab.engine.prompts import Span
from biaslab.models.base import BY_TOKEN, LoadedModel

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]
#: Rows of logits turned to float32 at once: bounds the extra memory with a large vocabulary.
N_ROWS_AT_ONCE = 1024
#: Tokens of a pack on a CPU, at most: a larger one leaves the processor's cache (measured: a fifth slower at 4096).
PACK_TOKENS_ON_CPU = 1536
PACKED, PADDED, ALONE, AUTO = "packed", "padded", "alone", "auto"


@dataclass(frozen=True)
class Row:
    """One row of a forward, and the indices of the spans whose input it begins with."""

    ids: Ids
    riders: tuple[int, ...]


def score_sequences(
    model: LoadedModel,
    spans: Sequence[Span],
    limits: Limits,
    on_done: Callable[[int], None] | None = None,
    way: str = AUTO,
    on_batch: OnBatch | None = None,
) -> list[Array | None]:
    """Natural log p (float64) of every scored token of each span; None if it exceeds the context window.

    A span's last token is only ever a target, so its input is one token shorter, and it is the input that
    must fit the window. Equal inputs are run once, and one that begins another rides on that one's row.
    on_done : called with the number of spans answered since the last call, in all len(spans).
    on_batch : told each batch when it is answered.
    way : "padded" or "alone" forbid the faster ones; "auto" finds the fastest that is exact.
    `model.asked` says afterwards which way was taken, or that a cache was read token by token.
    Raises CellFailed for NaN or infinite logits.
    """
    from biaslab.engine.onednn import quick_products
    from biaslab.engine.ways import choose_way

    if not spans:
        return []
    fitting = [i for i, span in enumerate(spans) if len(span.ids) - 1 <= model.context_length]
    rows = rows_of(spans, fitting)
    answers: list[Array | None] = [None] * len(spans)

    def tell(n: int) -> None:
        if on_done is not None and n:
            on_done(n)

    def forward(batch: list[int]) -> None:
        for i, values in score_rows(model, [rows[b] for b in batch], spans, limits, way):
            answers[i] = values

    def done(batch: list[int], seconds: float) -> None:
        tell(sum(len(rows[b].riders) for b in batch))
        if on_batch is not None:
            on_batch(Batch(SCORED, max(len(rows[b].ids) for b in batch), seconds))

    tell(len(spans) - len(fitting))
    with quick_products(model, sum(len(row.ids) for row in rows)):
        if way == AUTO:
            way, known = choose_way(model, rows, spans, limits)
            rows = [row for row in rows if known.keys().isdisjoint(row.riders)]
            for i, values in known.items():
                answers[i] = values
            tell(len(known))
        model.asked = BY_TOKEN if model.reads_by_token else way
        ids = [row.ids for row in rows]
        if way == PACKED:
            most = PACK_TOKENS_ON_CPU if model.device.type == "cpu" else limits.batch_tokens
            packs = dataclasses.replace(limits, batch_tokens=min(most, limits.batch_tokens))
            run_batches(range(len(ids)), packs, take_packed(ids), forward, done)
        else:
            lengths = [len(row) for row in ids]
            one = dataclasses.replace(limits, max_batch=1) if way == ALONE else limits
            run_batches(longest_first(lengths), one, take_padded(lengths), forward, done)
    return answers


def rows_of(spans: Sequence[Span], indices: Sequence[int]) -> list[Row]:
    """Rows in lexicographic order that cover the inputs of all spans; of inputs that begin one another, the longest."""
    riders: dict[Ids, list[int]] = {}
    # In this order whatever extends an input stands right before it, its own extensions before that.
    for i in sorted(indices, key=lambda i: spans[i].ids[:-1], reverse=True):
        ids = spans[i].ids[:-1]
        last = next(reversed(riders), None)
        host = last if last is not None and last[: len(ids)] == ids else ids
        riders.setdefault(host, []).append(i)
    return [Row(ids, tuple(sorted(mine))) for ids, mine in reversed(riders.items())]


def score_rows(
    model: LoadedModel, rows: Sequence[Row], spans: Sequence[Span], limits: Limits, way: str
) -> list[tuple[int, Array]]:
    """(index of a span, log p of its scored tokens) for all that ride on these rows, in one forward.

    packed : `rows` are in lexicographic order. Raises CellFailed for NaN or infinite logits.
    """
    riders = [(k, i) for k, row in enumerate(rows) for i in row.riders]
    score = _score_packed if way == PACKED else _score_padded
    values = score(model, rows, riders, spans, limits.side)
    lengths = [len(spans[i].ids) - spans[i].first for _, i in riders]
    parts = np.split(values, np.cumsum(lengths)[:-1])
    found = [(i, part) for (_, i), part in zip(riders, parts, strict=True)]
    bad = sorted(i for i, part in found if not np.isfinite(part).all())
    if bad:
        raise broken(model, [spans[i].ids for i in bad], len(found))
    return found


def _score_packed(
    model: LoadedModel, rows: Sequence[Row], riders: Sequence[tuple[int, int]], spans: Sequence[Span], _side: str
) -> Array:
    from biaslab.engine.packed import last_hidden, logprobs_at

    pack = make_pack([row.ids for row in rows], model.device)
    places = [
        (pack.paths[k][p - 1], spans[i].ids[p]) for k, i in riders for p in range(spans[i].first, len(spans[i].ids))
    ]
    return _to_numpy(logprobs_at(model, last_hidden(model, pack), places))


def _score_padded(
    model: LoadedModel, rows: Sequence[Row], riders: Sequence[tuple[int, int]], spans: Sequence[Span], side: str
) -> Array:
    width = max(len(row.ids) for row in rows)
    places: list[tuple[int, int]] = []  # the (row, column) whose logits predict each scored token
    tokens: list[int] = []
    for k, i in riders:
        span, start = spans[i], 0 if side == "right" else width - len(rows[k].ids)
        places += [(k, start + p - 1) for p in range(span.first, len(span.ids))]
        tokens += span.ids[span.first :]
    columns = sorted({column for _, column in places})
    logits = forward_logits(model, [row.ids for row in rows], side, columns)
    at = {column: j for j, column in enumerate(columns)}
    return _logprobs(logits, [(k, at[column]) for k, column in places], tokens)


def _logprobs(logits: torch.Tensor, places: Sequence[tuple[int, int]], tokens: Sequence[int]) -> Array:
    """Log p of `tokens` by the rows of `logits` at `places`; softmax in float32 for any dtype."""
    import torch

    device = logits.device
    numbers = {place: j for j, place in enumerate(dict.fromkeys(places))}
    needed = torch.tensor(list(numbers), dtype=torch.long, device=device)
    normalisers = torch.cat(
        [torch.logsumexp(logits[part[:, 0], part[:, 1]].float(), -1) for part in torch.split(needed, N_ROWS_AT_ONCE)]
    )
    of = torch.tensor([numbers[place] for place in places], dtype=torch.long, device=device)
    targets = torch.tensor(tokens, dtype=torch.long, device=device)
    picked = logits[needed[of, 0], needed[of, 1], targets].float()
    return _to_numpy(picked - normalisers[of])


def _to_numpy(values: torch.Tensor) -> Array:
    found: Array = values.cpu().numpy().astype(np.float64)
    return found
