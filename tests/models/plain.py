"""Scores and quantization of the embedded models without biaslab's engine: transformers and hqq, one way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biaslab.benchmarks.planted import Planted
from biaslab.libraries import import_hqq
from biaslab.models.base import ModelInfo
from biaslab.models.base import Planted as Scale

BATCH = 256


def load(folder: Path) -> tuple[Any, Any]:
    """Model in float32 and tokenizer of a folder, by transformers' own Auto classes."""
    import_hqq()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def info(scale: float) -> ModelInfo:
    """What the benchmarks need to know of an embedded model."""
    return ModelInfo("tiny", "embedded", "sha256:0", "", "LlamaForCausalLM", {}, planted=Scale(scale))


def planted_scores(model: Any, tokenizer: Any, scale: float) -> list[tuple[str, float, float]]:
    """(category, truth, score) of every item of `planted`, the score computed from the item's own terms."""
    items = Planted().items(info(scale))
    asked = sorted({(context, word) for item in items for _, context, word in item.data["terms"]})
    known = dict(zip(asked, logprobs(model, tokenizer, asked), strict=True))
    return [
        (
            item.category,
            item.truth,
            math.fsum(sign * known[context, word] for sign, context, word in item.data["terms"]),
        )
        for item in items
    ]


def logprobs(model: Any, tokenizer: Any, asked: Sequence[tuple[str, str]]) -> list[float]:
    """log p(word | context), right-padded batches and a full log-softmax: slow and plain."""
    import torch

    encoded = []
    for context, word in asked:
        n_context = len(tokenizer(context)["input_ids"]) if context else 1
        encoded.append((n_context, tokenizer(context + word)["input_ids"]))
    order = sorted(range(len(asked)), key=lambda i: len(encoded[i][1]))
    found = [0.0] * len(asked)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        rows = torch.zeros(len(batch), len(encoded[batch[-1]][1]), dtype=torch.long)
        for r, i in enumerate(batch):
            rows[r, : len(encoded[i][1])] = torch.tensor(encoded[i][1])
        with torch.no_grad():
            logps = model(input_ids=rows, use_cache=False).logits.double().log_softmax(-1)
        for r, i in enumerate(batch):
            n_context, ids = encoded[i]
            found[i] = sum(float(logps[r, t - 1, ids[t]]) for t in range(n_context, len(ids)))
    return found


def linears(model: Any) -> list[Any]:
    """The linear layers of the transformer blocks (the tied head is none of them)."""
    import torch

    return [layer for layer in model.model.modules() if isinstance(layer, torch.nn.Linear)]


def quantize(model: Any, bits: int, group_size: int = 64) -> None:
    """Round every linear weight to HQQ's values in place, with the library's quantizer."""
    import torch

    hqq = import_hqq()
    for layer in linears(model):
        codes, meta = hqq.Quantizer.quantize(
            layer.weight.data.clone(), nbits=bits, group_size=group_size, optimize=True,
            round_zero=bits == 4, axis=1, compute_dtype=torch.float32, device="cpu", bitpack=False,
        )  # fmt: skip
        layer.weight.data = hqq.Quantizer.dequantize(codes, meta).reshape(layer.weight.shape).float()


def recovery(scores: Sequence[tuple[str, float, float]]) -> dict[str, tuple[float, float]]:
    """(Pearson r, slope of score on truth) of each planted category."""
    found = {}
    for category in sorted({category for category, _, _ in scores} - {"ctl"}):
        truth, score = np.array([(t, s) for c, t, s in scores if c == category]).T
        found[category] = (float(np.corrcoef(truth, score)[0, 1]), float(np.polyfit(truth, score, 1)[0]))
    return found
