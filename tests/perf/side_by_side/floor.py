"""The floor: the arithmetic that no way of asking does without, at the rate of the model's own matrix products.

Counted is what the answers need and no more: every distinct beginning of a text once through the body, every
distinct place that is scored once through the head, each attending to its own past; no padding, no softmax, no
norm, no tokenizer. The rate of each product is measured in the same process between the rounds: the middle of
several repeats at a full batch, by the engine's library or torch's own, whichever is faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from biaslab.engine.onednn import quick_products
from biaslab.engine.packing import shared
from biaslab.engine.prompts import Span
from biaslab.engine.scoring import rows_of
from biaslab.models.base import LoadedModel

ROWS = 1024
NUMBERS = 2**23  # of a product's result, at most
REPEATS = 9


@dataclass(frozen=True)
class Needed:
    """tokens : distinct beginnings. scored : of them, those whose next token is scored. past : sum of their lengths."""

    tokens: int
    scored: int
    past: int


def needed(spans: Sequence[Span]) -> Needed:
    """What the log p of `spans` cannot do without."""
    rows = [row.ids for row in rows_of(spans, range(len(spans)))]
    begun = [shared(before, row) for before, row in zip([(), *rows], rows, strict=False)]
    return Needed(
        tokens=sum(len(row) - n for row, n in zip(rows, begun, strict=True)),
        scored=len({span.ids[:p] for span in spans for p in range(span.first, len(span.ids))}),
        past=sum(p + 1 for row, n in zip(rows, begun, strict=True) for p in range(n, len(row))),
    )


def least(model: LoadedModel, spans: Sequence[Span]) -> tuple[float, float]:
    """(floating-point operations, two a multiplication; seconds they take at the rates of this moment)."""
    import torch

    need, config = needed(spans), model.module.config
    head, rates = model.module.get_output_embeddings(), _rates(model)
    flop = seconds = 0.0
    for layer in model.module.modules():
        if type(layer) is torch.nn.Linear:
            own = 2.0 * layer.weight.numel() * (need.scored if layer is head else need.tokens)
            flop, seconds = flop + own, seconds + own / rates[tuple(layer.weight.shape)]
    attention = 4.0 * config.hidden_size * config.num_hidden_layers * need.past
    return flop + attention, seconds * (flop + attention) / flop


def _rates(model: LoadedModel) -> dict[tuple[int, ...], float]:
    """Operations a second of the products of each shape, on the threads there are."""
    import torch

    layers = {tuple(m.weight.shape): m for m in model.module.modules() if type(m) is torch.nn.Linear}
    with torch.inference_mode():
        plain = {shape: _rate(layer, shape, model) for shape, layer in layers.items()}
        with quick_products(model, ROWS):
            return {shape: max(plain[shape], _rate(layer, shape, model)) for shape, layer in layers.items()}


def _rate(layer: Callable[[Any], Any], shape: tuple[int, ...], model: LoadedModel) -> float:
    import torch

    n_out, n_in = shape
    n = min(ROWS, NUMBERS // n_out)
    x = torch.randn(n, n_in, device=model.device).to(model.dtype)
    return 2.0 * n * n_in * n_out / statistics.median(_seconds(lambda: layer(x), model.device) for _ in range(REPEATS))


def _seconds(work: Callable[[], Any], device: Any) -> float:
    """Processor seconds on a CPU; by the clock on a GPU."""
    import torch

    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize(device)
    start = clock()
    work()
    if on_gpu:
        torch.cuda.synchronize(device)
    return clock() - start
