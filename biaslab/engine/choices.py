"""Choice among options: every spelling of an option scored by its whole token sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biaslab.engine.batching import Ids
from biaslab.engine.prompts import EmptyRequest, Renderer, Span
from biaslab.engine.requests import Choice, ChoiceResponse


def choice_spans(renderer: Renderer, request: Choice) -> list[Span]:
    """One span for each spelling of each option, in order, all scored after the same past.

    A spelling may merge with the end of the prompt; then every spelling is scored from that token on.
    Raises EmptyRequest for a choice without options or an option without spellings.
    """
    if not request.options or not all(option.spellings for option in request.options):
        raise EmptyRequest(f"nothing to choose from: {request.prompt.user[-60:]!r} has an empty option")
    if request.as_piece:
        return [renderer.piece_span(request.prompt, option.spellings[0]) for option in request.options]
    found = [renderer.span(request.prompt, text) for option in request.options for text in option.spellings]
    first = min(span.first for span in found)
    return [Span(span.ids, first) for span in found]


def choose(
    request: Choice,
    spans: Sequence[Span],
    scores: Sequence[NDArray[np.float64] | None],
    prompt_tokens: int,
) -> ChoiceResponse:
    """The response from the scores of `choice_spans`; `too_long` if any spelling exceeds the window."""
    totals = [math.fsum(values) for values in scores if values is not None]
    if len(totals) < len(scores):
        return ChoiceResponse((), math.nan, prompt_tokens, too_long=True)
    ids = [span.ids for span in spans]
    logprobs, position = [], 0
    for option in request.options:
        mine = slice(position, position + (1 if request.as_piece else len(option.spellings)))
        logprobs.append(union_logprob(ids[mine], totals[mine]))
        position = mine.stop
    # float32 can push a sum of near-certain options a hair above 1.
    outside = -math.expm1(min(0.0, union_logprob(ids, totals)))
    return ChoiceResponse(tuple(logprobs), outside, prompt_tokens)


def union_logprob(sequences: Sequence[Ids], logprobs: Sequence[float]) -> float:
    """Log p that a text begins with any of the token sequences, given each one's log p."""
    kept = [logprobs[i] for i in prefix_free(sequences)]
    top = max(kept)
    return top + math.log(math.fsum(math.exp(value - top) for value in kept)) if math.isfinite(top) else top


def prefix_free(sequences: Sequence[Ids]) -> list[int]:
    """Indices of the sequences that extend no other one of them (of equal ones, the first).

    To give "yes" is to give every continuation of it: p("yes sir") is part of p("yes").

    >>> prefix_free([(1, 2), (1,), (3, 4), (1,)])
    [1, 2]
    """
    kept: dict[Ids, int] = {}
    for i in sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), i)):
        if not any(sequences[i][:n] in kept for n in range(len(sequences[i]) + 1)):
            kept[sequences[i]] = i
    return sorted(kept.values())
