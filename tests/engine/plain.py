"""What the engine's answers are compared with: one sequence at a time, no padding, no mask, no sharing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from biaslab.models.base import LoadedModel


def logprobs(model: LoadedModel, ids: Sequence[int], first: int) -> np.ndarray:
    """Log p of ids[first:], each given all before it."""
    with torch.no_grad():
        logits = model.module(torch.tensor([list(ids)])).logits[0]
    table = logits.double().log_softmax(-1)
    return np.array([float(table[p - 1, ids[p]]) for p in range(first, len(ids))])


def encode(model: LoadedModel, context: str, continuation: str) -> tuple[list[int], int]:
    """Token ids of context + continuation as the tokenizer gives them, and the first that differs."""
    whole = model.tokenizer(context + continuation)["input_ids"]
    alone = model.tokenizer(context)["input_ids"]
    first = 0
    while first < min(len(alone), len(whole)) and alone[first] == whole[first]:
        first += 1
    return whole, max(first, 1)


def likelihood(model: LoadedModel, context: str, continuation: str) -> np.ndarray:
    """Log p of each token of `continuation` after the plain text `context`."""
    return logprobs(model, *encode(model, context, continuation))
