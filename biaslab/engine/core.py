"""The engine's one entry: requests of any kind in, responses in the same order out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from biaslab.engine.batching import Limits, OnBatch
from biaslab.engine.choices import choice_spans, choose
from biaslab.engine.generation import generate
from biaslab.engine.prompts import Renderer, Span, digest
from biaslab.engine.requests import (
    Choice,
    Decoding,
    Generate,
    LogLikelihood,
    LogLikelihoodResponse,
    Prompt,
    Request,
    Response,
)
from biaslab.engine.scoring import Array, score_sequences
from biaslab.models.base import LoadedModel

Progress = Callable[[int], None]
#: What may be asked for; packed cannot be forced on a model that it does not suit.
WAYS = ("auto", "padded", "alone")


@dataclass(frozen=True)
class Engine:
    """Batches by token budget. The answers are those of one prompt at a time, in any order and batch.

    batch_tokens : tokens of one forward, padding included (one row may exceed it); of a generating batch's
        cache, four times as many. max_batch : rows of a forward.
    padding_side : "right" or "left", of scoring; generation always pads on the left.
    way : "auto" asks the fastest way that is exact for the model (see biaslab.engine.ways); "padded" in
        padded batches; "alone" one row at a time.
    """

    batch_tokens: int = 4096
    max_batch: int = 128
    padding_side: str = "right"
    way: str = "auto"

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise ValueError(f"way={self.way!r}: choose {', '.join(WAYS)}")
        if self.padding_side not in ("left", "right"):
            raise ValueError(f"padding_side={self.padding_side!r}: choose left or right")
        if self.batch_tokens < 1 or self.max_batch < 1:
            raise ValueError("batch_tokens and max_batch are at least 1")

    def run(
        self,
        model: LoadedModel,
        requests: Sequence[Request],
        *,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
        chat: bool = False,
        system: str = "",
        on_progress: Progress | None = None,
        on_batch: OnBatch | None = None,
    ) -> list[Response]:
        """Responses in the requests' order.

        seeds : one a request, needed by sampled generation and used by nothing else.
        on_progress : called with the number of requests answered since the last call.
        on_batch : told of each batch how long its longest row was and how many seconds it took.
        Raises CellFailed: NaN logits, memory for not even one sequence, a chat format without a template;
        EmptyRequest (a CellFailed and ValueError): nothing to score, to choose from or to start from;
        ValueError: a wrong decoding, sampled decoding without seeds.
        """
        import torch

        renderer = Renderer(model.tokenizer, chat=chat, system=system)
        limits = self.limits(model)
        scored = [i for i, r in enumerate(requests) if not isinstance(r, Generate)]
        written = [i for i, r in enumerate(requests) if isinstance(r, Generate)]
        with torch.inference_mode():
            answers = _score(model, renderer, [requests[i] for i in scored], limits, self.way, on_progress, on_batch)
            texts = generate(
                model,
                renderer,
                [r for r in requests if isinstance(r, Generate)],
                None if seeds is None else [seeds[i] for i in written],
                decoding,
                replace(limits, max_batch=min(limits.max_batch, model.max_written or limits.max_batch)),
                on_progress,
                on_batch,
                self.way,
            )
        responses = dict(zip((*scored, *written), (*answers, *texts), strict=True))
        return [responses[i] for i in range(len(requests))]

    def sent(self, model: LoadedModel, request: Request, *, chat: bool = False, system: str = "") -> tuple[str, ...]:
        """What `run` sends for a request, as text with every special token written out, a text per sequence."""
        renderer = Renderer(model.tokenizer, chat=chat, system=system)
        if isinstance(request, Generate):
            sequences = [renderer.prompt_ids(request.prompt)]
        else:
            sequences = [span.ids for span in spans_of(renderer, request)]
        decode = model.tokenizer.decode
        return tuple(str(decode(list(ids), clean_up_tokenization_spaces=False)) for ids in sequences)

    def limits(self, model: LoadedModel) -> Limits:
        """The engine's batch limits, with what the arm asks for instead (placebo_batch).

        A cache that is given one token after another must not be given padding first: it goes to the right.
        """
        side = "right" if model.reads_by_token else self.padding_side
        return Limits(model.batch_tokens or self.batch_tokens, model.max_batch or self.max_batch, side)


def _score(
    model: LoadedModel,
    renderer: Renderer,
    requests: Sequence[Request],
    limits: Limits,
    way: str,
    on_progress: Progress | None,
    on_batch: OnBatch | None,
) -> list[Response]:
    """Answers to log-likelihood and choice requests; equal requests are answered once."""
    numbers: dict[Request, int] = {}
    asked = [numbers.setdefault(request, len(numbers)) for request in requests]
    renderer.learn(map(_texts, numbers))
    groups = [spans_of(renderer, request) for request in numbers]
    flat = [span for group in groups for span in group]
    progress = _Share(on_progress, len(flat), len(requests))
    scores = iter(score_sequences(model, flat, limits, progress.add, way, on_batch))
    answers = [
        replace(
            _answer(model, renderer, request, group, [next(scores) for _ in group]),
            sent=digest(span.ids for span in group),
        )
        for request, group in zip(numbers, groups, strict=True)
    ]
    progress.finish()
    return [answers[number] for number in asked]


def _texts(request: Request) -> tuple[Prompt, Sequence[str]]:
    """A request's prompt, and what is scored after it."""
    if isinstance(request, LogLikelihood):
        return request.context, (request.continuation,)
    if isinstance(request, Choice) and not request.as_piece:
        return request.prompt, [text for option in request.options for text in option.spellings]
    return request.prompt, ()


def spans_of(renderer: Renderer, request: Request) -> list[Span]:
    """What must be scored to answer: one span, or one for every spelling of every option."""
    if isinstance(request, LogLikelihood):
        return [renderer.span(request.context, request.continuation)]
    assert isinstance(request, Choice)
    return choice_spans(renderer, request)


def _answer(
    model: LoadedModel,
    renderer: Renderer,
    request: Request,
    spans: Sequence[Span],
    scores: Sequence[Array | None],
) -> Response:
    if isinstance(request, LogLikelihood):
        return _likelihood(model, spans[0], scores[0])
    assert isinstance(request, Choice)
    return choose(request, spans, scores, len(renderer.prompt_ids(request.prompt)))


def _likelihood(model: LoadedModel, span: Span, values: Array | None) -> LogLikelihoodResponse:
    """prompt_tokens counts the whole sequence: context and what is scored."""
    if values is None:
        return LogLikelihoodResponse((), (), len(span.ids), too_long=True)
    tokens = model.tokenizer.convert_ids_to_tokens(list(span.ids[span.first :]))
    return LogLikelihoodResponse(tuple(values.tolist()), tuple(map(str, tokens)), len(span.ids))


@dataclass
class _Share:
    """Turns progress over spans into progress over requests: whole numbers that sum to their count."""

    report: Progress | None
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
