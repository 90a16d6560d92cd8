"""log p of given tokens: log-likelihood and choice requests, both as sequences with positions to score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biaslab.engine.batching import Limits, forward_logits, run_batches
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel

Ids = tuple[int, ...]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """Token ids of which those from `first` on are scored, each given all before it."""

    ids: Ids
    first: int


def make_sequence(context: Ids, whole: Ids) -> Span:
    """The sequence that scores `whole` after `context`: what follows their longest common prefix.

    A tokenizer may merge across the boundary; then the merged token is scored, for every continuation of
    that context alike. The very first token of a sequence has no past and is never scored.
    """
    shared = 0
    for a, b in zip(context, whole, strict=False):
        if a != b:
            break
        shared += 1
    return Span(whole, max(1, min(shared, len(whole))))


def score_sequences(
    model: LoadedModel, sequences: Sequence[Span], limits: Limits, on_done: Callable[[int], None] | None
) -> list[Array | None]:
    """Natural log p (float64) of every scored token of each sequence; None if it exceeds the window.

    Equal sequences are run once, and one whose input begins another's rides on that other's forward.
    on_done : called with the number of sequences answered, which sums to len(sequences).
    Raises CellFailed for NaN or infinite logits.
    """
    # The last token is only ever a target. An input that begins another is answered by that one's rows.
    wanted: dict[Ids, set[int]] = {}
    for sequence in sequences:
        if len(sequence.ids) - 1 <= model.context_length:
            wanted.setdefault(sequence.ids[:-1], set())
    hosts = _hosts(list(wanted))
    carried: dict[Ids, list[int]] = {}
    answers: list[Array | None] = [None] * len(sequences)
    n_waiting: dict[Ids, int] = {}
    n_too_long = 0
    for i, sequence in enumerate(sequences):
        if len(sequence.ids) - 1 > model.context_length:
            n_too_long += 1
            continue
        carried.setdefault(hosts[sequence.ids[:-1]], []).append(i)
    rows = list(carried)
    n_waiting = {row: len(carried[row]) for row in rows}

    def forward(batch: list[int]) -> None:
        logits = forward_logits(model, [rows[b] for b in batch], limits.side)
        width = logits.shape[1]
        for k, b in enumerate(batch):
            start = 0 if limits.side == "right" else width - len(rows[b])
            _score_row(logits[k, start : start + len(rows[b])], [sequences[i] for i in carried[rows[b]]],
                       carried[rows[b]], answers)

    def done(batch: list[int]) -> None:
        if on_done is not None:
            on_done(sum(n_waiting[rows[b]] for b in batch))

    if on_done is not None and n_too_long:
        on_done(n_too_long)
    run_batches([len(row) for row in rows], limits, forward, done)
    return answers


def _hosts(inputs: list[Ids]) -> dict[Ids, Ids]:
    """For each input the longest of `inputs` that begins with it; sorted neighbours are enough to find it."""
    hosts: dict[Ids, Ids] = {}
    following: Ids | None = None
    for row in sorted(inputs, reverse=True):
        host = row if following is None or following[: len(row)] != row else hosts[following]
        hosts[row] = host
        following = row
    return hosts


def _score_row(logits: object, mine: Sequence[Span], indices: Sequence[int], answers: list[Array | None]) -> None:
    """Fill in the log p of the scored tokens of all sequences that ride on one row of logits."""
    import torch

    assert isinstance(logits, torch.Tensor)
    positions = sorted({p - 1 for s in mine for p in range(s.first, len(s.ids))})
    at = {position: j for j, position in enumerate(positions)}
    where = torch.tensor(positions, dtype=torch.long, device=logits.device)
    needed = logits.index_select(0, where).float()
    normaliser = torch.logsumexp(needed, -1)
    pairs = [(at[p - 1], s.ids[p]) for s in mine for p in range(s.first, len(s.ids))]
    index = torch.tensor(pairs, dtype=torch.long, device=logits.device).reshape(-1, 2)
    picked = needed[index[:, 0], index[:, 1]] - normaliser[index[:, 0]]
    values = picked.double().cpu().numpy()
    if not np.isfinite(values).all():
        raise CellFailed(
            f"NaN or infinite logits: {int((~np.isfinite(values)).sum())} of {len(values)} scored tokens; the model "
            "is broken in this dtype or by this accelerator"
        )
    start = 0
    for i, s in zip(indices, mine, strict=True):
        n = len(s.ids) - s.first
        answers[i] = values[start : start + n]
        start += n


def option_logprob(logps: Sequence[float]) -> float:
    """logsumexp of the log p of an option's spellings."""
    top = max(logps)
    return top + math.log(math.fsum(math.exp(lp - top) for lp in logps)) if math.isfinite(top) else top


def prefix_free(sequences: Sequence[Ids]) -> list[int]:
    """Indices of the sequences that extend no other one of them (of equal ones, the first).

    To give "yes" is to give every continuation of it: p("yes sir") is part of p("yes").
    """
    kept: list[int] = []
    chosen: set[Ids] = set()
    for i in sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), i)):
        if not any(sequences[i][:n] in chosen for n in range(1, len(sequences[i]) + 1)):
            chosen.add(sequences[i])
            kept.append(i)
    return sorted(kept)
