"""The floor: the arithmetic that no way of asking does without, at the best rate of matrix products here.

Counted is what the answers need and no more: every distinct beginning of a text once through the body, every
distinct place that is scored once through the head, each attending to its own past; no padding, no softmax, no
norm, no tokenizer. The rate is the best that any of the model's own products reaches in the same process, by
the engine's library or torch's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from biaslab.engine.onednn import quick_products
from biaslab.engine.packing import shared
from biaslab.engine.prompts import Span
from biaslab.engine.scoring import rows_of
from biaslab.models.base import LoadedModel

ROWS = 1024
NUMBERS = 2**23  # of a product's result, at most
REPEATS = 7


def flop(config: Any, spans: Sequence[Span]) -> float:
    """Floating-point operations (two a multiplication) that the log p of `spans` need of a Llama of this shape."""
    head_size = config.hidden_size // config.num_attention_heads
    kv = head_size * config.num_key_value_heads
    layer = 2 * config.hidden_size * (config.hidden_size + kv) + 3 * config.hidden_size * config.intermediate_size
    rows = [row.ids for row in rows_of(spans, range(len(spans)))]
    begun = [shared(before, row) for before, row in zip([(), *rows], rows, strict=False)]
    n_tokens = sum(len(row) - n for row, n in zip(rows, begun, strict=True))
    n_past = sum(p + 1 for row, n in zip(rows, begun, strict=True) for p in range(n, len(row)))
    n_scored = len({span.ids[:p] for span in spans for p in range(span.first, len(span.ids))})
    products = config.num_hidden_layers * layer * n_tokens + config.hidden_size * config.vocab_size * n_scored
    attention = 2 * config.hidden_size * config.num_hidden_layers * n_past
    return 2.0 * (products + attention)


def rate(model: LoadedModel) -> float:
    """Floating-point operations a second of the fastest of the model's own products, on the threads there are."""
    import torch

    layers = {tuple(m.weight.shape): m for m in model.module.modules() if type(m) is torch.nn.Linear}
    with torch.inference_mode():
        plain = max(_rate(layer, shape, model) for shape, layer in layers.items())
        with quick_products(model, ROWS):
            return max(plain, *(_rate(layer, shape, model) for shape, layer in layers.items()))


def _rate(layer: Callable[[Any], Any], shape: tuple[int, ...], model: LoadedModel) -> float:
    import torch

    n_out, n_in = shape
    n = min(ROWS, NUMBERS // n_out)
    x = torch.randn(n, n_in, device=model.device).to(model.dtype)
    seconds = [_seconds(lambda: layer(x), model.device) for _ in range(REPEATS)]
    return 2.0 * n * n_in * n_out / min(seconds)


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
