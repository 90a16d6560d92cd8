"""Which way a model is asked, found by trying it on rows of the very work.

One row at a time through the stock forward is the reference. In a pack a model fails whose attention is not
transformers' own, or whose head does more than a product; in any batch a layer fails that looks at the whole
of it (activation scales of a tensor, outlier columns). Such a model is asked the next exact way, and the
record of a cell says which way it was.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from biaslab.engine.batching import Ids, Limits
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
#: Tokens of a prompt whose log p show whether a batch changes what is written after it.
N_LAST = 8


def choose_way(model: LoadedModel, rows: Sequence[Row], spans: Sequence[Span], limits: Limits) -> tuple[str, Known]:
    """The first of packed, padded, alone that gives the numbers of one row at a time; and the answers that were
    got that way to find out, which need not be asked again.

    Packs do not read a quantized KV cache; padded batches do.
    """
    by_cache = model.cache_factory is not None and model.cache_use != GENERATED_ONLY
    return _first(model, rows, spans, limits, [PACKED, PADDED] if not by_cache and _may_pack(model) else [PADDED])


def writing_way(model: LoadedModel, prompts: Sequence[Ids], limits: Limits) -> str:
    """Padded or alone: how these prompts can be answered, by the log p of their own last tokens in a batch."""
    whole = [ids for ids in dict.fromkeys(prompts) if 1 < len(ids) <= model.context_length]
    spans = [Span(ids, max(1, len(ids) - N_LAST)) for ids in whole]
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
        if worst <= TOLERANCE.get(str(model.dtype).removeprefix("torch."), HALF_TOLERANCE):
            return way, wanted
        log.info("%s: %s differs by %.2g nats from one row at a time", model.info.label, way, worst)
    return ALONE, wanted


def _tried(rows: Sequence[Row], limits: Limits) -> list[Row]:
    """A few rows in their order: neighbours, which share a beginning, and the longest, which shows a window.

    No more than one batch may have.
    """
    if not rows:
        return []
    longest, third = max(range(len(rows)), key=lambda k: len(rows[k].ids)), len(rows) // 3
    places = dict.fromkeys([longest, third, third + 1, 2 * third, 2 * third + 1])
    n = limits.rows(len(rows[longest].ids))
    return [rows[k] for k in sorted([k for k in places if k < len(rows)][:n])]


def _may_pack(model: LoadedModel) -> bool:
    """Whether the module has a body and a head; one that is wrapped may have neither."""
    body, head = getattr(model.module, "base_model", None), getattr(model.module, "get_output_embeddings", None)
    return body is not None and body is not model.module and head is not None and head() is not None


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
        found = dict(score_rows(model, rows, spans, limits, way))
    except (CellFailed, TypeError, ValueError, AttributeError, KeyError, IndexError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) and len(rows) > 2:
            return _worst(model, rows[: len(rows) // 2], spans, limits, way, wanted)
        log.info("%s: %s fails (%s: %s)", model.info.label, way, type(error).__name__, error)
        return float("inf")
    return max(float(np.abs(x - wanted[i]).max()) for i, x in found.items())
