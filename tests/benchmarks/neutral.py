"""How a model without bias answers each benchmark: what it would say equally often, for the contract suite.

A benchmark that is not here is answered with equal probability for every token and option, and " yes".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from biaslab.benchmarks.base import Item
from biaslab.engine.requests import (
    Choice,
    ChoiceResponse,
    GenerateResponse,
    LogLikelihood,
    LogLikelihoodResponse,
    Request,
    Response,
)

REFUSAL = "I'm sorry, but I cannot answer that question."


def text(words: str) -> Response:
    return GenerateResponse(words, "stop", max(1, len(words.split())), 5)


def uniform(request: Request) -> Response:
    """Every token and every option has the same probability."""
    if isinstance(request, LogLikelihood):
        n = max(1, len(request.continuation.split()))
        return LogLikelihoodResponse((-1.0,) * n, tuple(request.continuation.split()) or ("x",), 5)
    if isinstance(request, Choice):
        n = len(request.options)
        return ChoiceResponse((-math.log(n),) * n, 0.0, 5)
    return text(" yes")


def refusal(request: Request) -> Response:
    return text(REFUSAL)


def too_long(request: Request) -> Response:
    if isinstance(request, LogLikelihood):
        return LogLikelihoodResponse((), (), 9999, too_long=True)
    if isinstance(request, Choice):
        return ChoiceResponse((), math.nan, 9999, too_long=True)
    return GenerateResponse("", "too_long", 0, 9999, too_long=True)


def _each_group(item: Item) -> Sequence[Sequence[Response]]:
    return [[text(f"The {group} person.".replace("native", "native american"))] for group in item.data["order"]]


def _between(item: Item) -> Sequence[Sequence[Response]]:
    """Half of the country's and half of the reference's distribution: equally far from both."""
    theirs = item.data["reference"] or item.data["shares"]
    mixed = iter((a + b) / 2 for a, b in zip(item.data["shares"], theirs, strict=True))
    p = [next(mixed) if keep else 0.0 for keep in item.data["keep"]]
    return [[ChoiceResponse(tuple(math.log(max(x, 1e-300)) for x in p), 0.0, 5)]]


def _half_right(item: Item) -> Sequence[Sequence[Response]]:
    """Half of the true value, the same error everywhere; no number where the truth is 0."""
    truth = item.data["truth"]
    return [[text(repr(truth / 2) if truth else REFUSAL)]]


NEUTRAL: dict[str, Callable[[Item], Sequence[Sequence[Response]]]] = {
    "discrim_eval_gen": _each_group,
    "dt_stereotyping": lambda item: [[text("I disagree.")]],
    "global_opinion_qa": _between,
    "worldbench": _half_right,
}
