"""The engine's one entry: requests of any kind in, responses in the same order out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from biaslab.engine.batching import Limits
from biaslab.engine.generation import generate
from biaslab.engine.prompts import Renderer
from biaslab.engine.requests import (
    Choice,
    ChoiceResponse,
    Decoding,
    Generate,
    LogLikelihood,
    LogLikelihoodResponse,
    Prompt,
    Request,
    Response,
)
from biaslab.engine.scoring import Ids, Span, make_sequence, option_logprob, prefix_free, score_sequences
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel


@dataclass(frozen=True)
class Engine:
    """Batches by token budget. The answers are those of one prompt at a time, in any order and batch.

    batch_tokens, max_batch : tokens (with padding) and rows of one forward. padding_side : of scoring.
    """

    batch_tokens: int = 4096
    max_batch: int = 64
    padding_side: str = "right"

    def run(
        self,
        model: LoadedModel,
        requests: Sequence[Request],
        *,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
        chat: bool = False,
        system: str = "",
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Response]:
        """Responses in the requests' order.

        seeds : one a request, used by sampled generation only.
        on_progress : called with the number of requests answered since the last call.
        Raises CellFailed: NaN logits, memory for not even one sequence, a chat format without a template.
        """
        import torch

        renderer = Renderer(model.tokenizer, chat=chat, system=system)
        responses: dict[int, Response] = {}
        scored = [i for i, r in enumerate(requests) if not isinstance(r, Generate)]
        written = [i for i, r in enumerate(requests) if isinstance(r, Generate)]
        with torch.inference_mode():
            answers = self._score(model, renderer, [requests[i] for i in scored], on_progress)
            responses.update(zip(scored, answers, strict=True))
            texts = self._generate(model, renderer, requests, written, decoding, seeds, on_progress)
            responses.update(zip(written, texts, strict=True))
        return [responses[i] for i in range(len(requests))]

    def limits(self, model: LoadedModel) -> Limits:
        """This engine's batch limits, with what the arm asks for instead (placebo_batch)."""
        return Limits(
            model.batch_tokens or self.batch_tokens, model.max_batch or self.max_batch, self.padding_side
        )

    def _score(
        self,
        model: LoadedModel,
        renderer: Renderer,
        requests: Sequence[Request],
        on_progress: Callable[[int], None] | None,
    ) -> list[Response]:
        distinct = {request: i for i, request in enumerate(dict.fromkeys(requests))}
        groups = [_sequences(renderer, request) for request in distinct]
        flat = [sequence for group in groups for sequence in group]
        progress = _Share(on_progress, len(flat), len(requests))
        scores = score_sequences(model, flat, self.limits(model), progress.add)
        unique: list[Response] = []
        position = 0
        for request, group in zip(distinct, groups, strict=True):
            mine = scores[position : position + len(group)]
            position += len(group)
            unique.append(_answer(model, renderer, request, group, mine))
        progress.finish()
        return [unique[distinct[request]] for request in requests]

    def _generate(
        self,
        model: LoadedModel,
        renderer: Renderer,
        requests: Sequence[Request],
        written: Sequence[int],
        decoding: Decoding,
        seeds: Sequence[int] | None,
        on_progress: Callable[[int], None] | None,
    ) -> list[Response]:
        mine = [request for i in written if isinstance(request := requests[i], Generate)]
        prompts = [renderer.encode(renderer.text(r.prompt), bare=r.prompt.bare) for r in mine]
        chosen = [seeds[i] for i in written] if seeds is not None else None
        return [*generate(model, mine, prompts, chosen, decoding, self.limits(model), on_progress)]


@dataclass
class _Share:
    """Turns progress over sequences into progress over requests, whole numbers that sum to their count."""

    report: Callable[[int], None] | None
    n_parts: int
    n_requests: int
    done: int = 0
    told: int = 0

    def add(self, n: int) -> None:
        self.done += n
        self._tell(self.n_requests * self.done // max(1, self.n_parts))

    def finish(self) -> None:
        self._tell(self.n_requests)

    def _tell(self, now: int) -> None:
        if self.report is not None and now > self.told:
            self.report(now - self.told)
            self.told = now


def _sequences(renderer: Renderer, request: Request) -> list[Span]:
    """What must be scored to answer: one sequence, or one for every distinct spelling of every option."""
    if isinstance(request, LogLikelihood):
        return [_sequence(renderer, request.context, request.continuation)]
    assert isinstance(request, Choice)
    found = [_sequence(renderer, request.prompt, text) for option in request.options for text in option.spellings]
    first = min(span.first for span in found)  # all options are given the same past
    return [Span(span.ids, first) for span in found]


def _sequence(renderer: Renderer, prompt: Prompt, continuation: str) -> Span:
    text = renderer.text(prompt)
    context = renderer.encode(text, bare=prompt.bare)
    whole = renderer.encode(text + continuation, bare=prompt.bare)
    sequence = make_sequence(context, whole)
    if len(sequence.ids) <= sequence.first:
        raise CellFailed(f"nothing to score: {continuation!r} adds no token after {text[-60:]!r}")
    return sequence


def _answer(
    model: LoadedModel, renderer: Renderer, request: Request, group: Sequence[Span], scores: Sequence[object]
) -> Response:
    if isinstance(request, LogLikelihood):
        (sequence,), (logps,) = group, scores
        n_prompt = len(sequence.ids)
        if logps is None:
            return LogLikelihoodResponse((), (), n_prompt, too_long=True)
        tokens = model.tokenizer.convert_ids_to_tokens(list(sequence.ids[sequence.first :]))
        return LogLikelihoodResponse(tuple(float(v) for v in logps), tuple(map(str, tokens)), n_prompt)  # type: ignore[attr-defined]
    assert isinstance(request, Choice)
    return _choose(renderer, request, group, scores)


def _choose(renderer: Renderer, request: Choice, group: Sequence[Span], scores: Sequence[object]) -> ChoiceResponse:
    n_prompt = len(renderer.encode(renderer.text(request.prompt), bare=request.prompt.bare))
    if any(logps is None for logps in scores):
        return ChoiceResponse((), math.nan, n_prompt, too_long=True)
    # Spellings may merge with the prompt differently; whole sequences tell them apart.
    totals = [math.fsum(float(v) for v in logps) for logps in scores]  # type: ignore[attr-defined]
    logprobs, position = [], 0
    for option in request.options:
        n = len(option.spellings)
        logprobs.append(_option(group[position : position + n], totals[position : position + n]))
        position += n
    kept = prefix_free([sequence.ids for sequence in group])
    inside = math.fsum(math.exp(totals[i]) for i in kept)
    return ChoiceResponse(tuple(logprobs), min(1.0, max(0.0, 1.0 - inside)), n_prompt)


def _option(sequences: Sequence[Span], totals: Sequence[float]) -> float:
    ids: list[Ids] = [sequence.ids for sequence in sequences]
    return option_logprob([totals[i] for i in prefix_free(ids)])
