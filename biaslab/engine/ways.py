"""Which way a model is asked, found by trying it on rows of the very work.

One row at a time through the stock forward is the reference. In a pack a model fails whose attention is not
transformers' own, or whose head does more than a product; in any batch a layer fails that looks at the whole
of it (activation scales of a tensor, outlier columns). Such a model is asked the next exact way, and the
record of a cell says which way it was.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from biaslab.engine.batching import Ids, Limits, forward_logits, longest_first, take_padded
from biaslab.engine.packed import product_logits
from biaslab.engine.packing import take_packed
from biaslab.engine.prompts import Span
from biaslab.engine.scoring import ALONE, PACKED, PADDED, Row, rows_of, score_rows
from biaslab.errors import CellFailed
from biaslab.models.base import GENERATED_ONLY, LoadedModel

log = logging.getLogger(__name__)

#: log p of the scored tokens of a few spans, by their index.
Known = dict[int, np.ndarray]

#: Largest difference of a token's log p from the reference that is rounding: a wrong mask differs by nats.
#: In float32 it measures 1e-5; 16-bit types move single tokens by up to .2 with the batch alone.
TOLERANCE = {"float32": 1e-3, "float64": 1e-6}
HALF_TOLERANCE = 0.5
#: The same for logits of one row by the whole forward and by its parts, in 16 bits.
HEAD_TOLERANCE = 0.02
#: Tokens of a prompt whose log p show whether a batch changes what is written after it.
N_LAST = 8


def choose_way(model: LoadedModel, rows: Sequence[Row], spans: Sequence[Span], limits: Limits) -> tuple[str, Known]:
    """The first of packed, padded, alone that gives the numbers of one row at a time; and the answers that were
    got that way to find out, which need not be asked again.

    Packs do not read a quantized KV cache; padded batches do.
    """
    by_cache = model.cache_factory is not None and model.cache_use != GENERATED_ONLY
    may_pack = not by_cache and _may_pack(model) and _head_is_a_product(model, rows)
    return _first(model, rows, spans, limits, [PACKED, PADDED] if may_pack else [PADDED])


def writing_way(model: LoadedModel, prompts: Sequence[Ids], limits: Limits) -> str:
    """Padded or alone: how these prompts can be answered, by the log p of their own last tokens in a batch."""
    whole = [ids for ids in dict.fromkeys(prompts) if 1 < len(ids) <= model.context_length]
    spans = [Span(ids, max(1, len(ids) - N_LAST)) for ids in whole]
    if not model.reads_by_token:
        limits = replace(limits, side="left")  # where the padding of a text that grows is
    way, _ = _first(model, rows_of(spans, range(len(spans))), spans, limits, [PADDED])
    return way


def _first(
    model: LoadedModel, rows: Sequence[Row], spans: Sequence[Span], limits: Limits, ways: Sequence[str]
) -> tuple[str, Known]:
    """The first of `ways` that gives the numbers of one row at a time on a few rows, else alone; those numbers."""
    tried = _tried(rows, limits)
    if not tried:
        return PADDED, {}
    try:
        wanted = {i: x for row in tried for i, x in score_rows(model, [row], spans, limits, ALONE)}
    except (CellFailed, RuntimeError):
        return PADDED, {}  # broken logits or no memory: the work itself will say where
    for way in ways:
        worst = _worst(model, tried, spans, limits, way, wanted)
        if worst <= _tolerance(model, HALF_TOLERANCE):
            return way, wanted
        log.info("%s: %s differs by %.2g nats from one row at a time", model.info.label, way, worst)
    return ALONE, wanted


def _tried(rows: Sequence[Row], limits: Limits) -> list[Row]:
    """A few rows in their order: neighbours, which share a beginning, the longest, which shows a window, and the
    shortest two, which fit into one batch where any two do.

    No more than one batch may have rows.
    """
    if not rows:
        return []
    by_length, third = sorted(range(len(rows)), key=lambda k: len(rows[k].ids)), len(rows) // 3
    places = dict.fromkeys([by_length[-1], *by_length[:2], third, third + 1, 2 * third, 2 * third + 1])
    return [rows[k] for k in sorted([k for k in places if k < len(rows)][: max(2, limits.max_batch)])]


def _batches(rows: Sequence[Row], limits: Limits, way: str) -> list[list[Row]]:
    """`rows` in the batches that the work would make of them."""
    ids = [row.ids for row in rows]
    lengths = [len(row) for row in ids]
    take = take_packed(ids) if way == PACKED else take_padded(lengths)
    rest, found = list(range(len(rows)) if way == PACKED else longest_first(lengths)), []
    while rest:
        n = take(rest, limits)[0]
        found.append([rows[k] for k in rest[:n]])
        rest = rest[n:]
    return found


def _may_pack(model: LoadedModel) -> bool:
    """Whether the module has a body and a head; one that is wrapped may have neither."""
    body, head = getattr(model.module, "base_model", None), getattr(model.module, "get_output_embeddings", None)
    return body is not None and body is not model.module and head is not None and head() is not None


def _head_is_a_product(model: LoadedModel, rows: Sequence[Row]) -> bool:
    """Whether a model's logits are its head's product with the last hidden states, and nothing after it.

    A scale or a cap on logits can be less than a batch's rounding in 16 bits. Both sides are one forward of the
    same row here, so that they agree far closer.
    """
    row = min((row.ids for row in rows), key=len, default=())
    if not row:
        return True
    columns = range(max(0, len(row) - N_LAST), len(row))
    try:
        wanted = forward_logits(model, [row], "right", columns)[0].float().log_softmax(-1)
        found = product_logits(model, row, columns).float().log_softmax(-1)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, RuntimeError) as error:
        log.info("%s: no head of its own (%s: %s)", model.info.label, type(error).__name__, error)
        return False
    return bool((found - wanted).abs().max() <= _tolerance(model, HEAD_TOLERANCE))


def _tolerance(model: LoadedModel, half: float) -> float:
    return TOLERANCE.get(str(model.dtype).removeprefix("torch."), half)


def _worst(
    model: LoadedModel,
    rows: Sequence[Row],
    spans: Sequence[Span],
    limits: Limits,
    way: str,
    wanted: Known,
) -> float:
    """Largest |difference| of a token's log p from `wanted`, in nats; infinite where this way fails.

    Where memory runs out, fewer rows are tried, down to two.
    """
    import torch

    try:
        found = {i: x for some in _batches(rows, limits, way) for i, x in score_rows(model, some, spans, limits, way)}
    except (CellFailed, TypeError, ValueError, AttributeError, KeyError, IndexError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) and len(rows) > 2:
            return _worst(model, rows[: len(rows) // 2], spans, limits, way, wanted)
        log.info("%s: %s fails (%s: %s)", model.info.label, way, type(error).__name__, error)
        return float("inf")
    return max(float(np.abs(x - wanted[i]).max()) for i, x in found.items())
