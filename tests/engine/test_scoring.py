"""Log-likelihood and choice: equal to one prompt at a time, whatever the batch."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biaslab.engine.core import Engine
from biaslab.engine.prompts import EmptyRequest, Span
from biaslab.engine.requests import (
    Choice,
    ChoiceResponse,
    Decoding,
    LogLikelihood,
    LogLikelihoodResponse,
    Option,
    Prompt,
    Request,
    Response,
)
from biaslab.engine.scoring import rows_of as _rows
from biaslab.errors import CellFailed
from biaslab.models import embedded
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_embedded, describe_local, load
from tests.engine import plain
from tests.engine.conftest import MakeModel
from tests.models.make import KINDS, SLIDING_WINDOW, TEXT

ENGINES = [
    Engine(max_batch=1),
    Engine(max_batch=3, padding_side="left"),
    Engine(padding_side="right"),
    Engine(padding_side="left"),
    Engine(batch_tokens=50, padding_side="left"),
]
YES_NO = (Option("yes", (" Yes", " yes", "yes")), Option("no", (" No", " no")))
LONG = (Option("truth", (" Yes, it is true.", " true")), Option("doubt", (" I do not know who they are",)))


def run(model: LoadedModel, requests: Sequence[Request], engine: Engine | None = None, **more: Any) -> list[Any]:
    return (engine or Engine()).run(model, requests, decoding=Decoding(), **more)


#: Counts of forwards are those of the work alone, without the trial of which way is exact.
PADDED = Engine(way="padded")


def sentence(text: str) -> LogLikelihood:
    return LogLikelihood(Prompt("", bare=True), text)


def mixed_requests() -> list[Request]:
    """Sentences, continuations and choices of many lengths, with repetitions and shared beginnings."""
    sentences = [sentence(part.strip()) for text in TEXT for part in (text, text[:40], text[10:25])]
    continuations = [LogLikelihood(Prompt(text[:n], bare=True), text[n:]) for text in TEXT for n in (5, 13, 40)]
    plain_text = [LogLikelihood(Prompt("Is it true?", system="You work here.", answer_prefix="Answer:"), " yes")]
    choices = [
        Choice(Prompt(text[:n], bare=True), options) for text in TEXT for n in (9, 44) for options in (YES_NO, LONG)
    ]
    return [*sentences, *continuations, *plain_text, *choices, *sentences[:3], choices[0]]


def expected(model: LoadedModel, request: Request) -> list[float]:
    """Every log p a response should hold, from the plain reference."""
    if isinstance(request, LogLikelihood):
        return plain.likelihood(model, text_of(request.context), request.continuation).tolist()
    assert isinstance(request, Choice)
    context = text_of(request.prompt)
    first = min(plain.encode(model, context, s)[1] for o in request.options for s in o.spellings)
    found = []
    for option in request.options:
        spelled = {tuple(plain.encode(model, context, text)[0]) for text in option.spellings}
        p = [math.exp(plain.logprobs(model, ids, first).sum()) for ids in spelled]
        found.append(math.log(sum(p)))
    return found


def text_of(prompt: Prompt) -> str:
    if prompt.bare:
        return prompt.user
    return f"{prompt.system} {prompt.user}\n\n{prompt.answer_prefix}"


def given(response: Response) -> Sequence[float]:
    if isinstance(response, LogLikelihoodResponse):
        return response.token_logprobs
    assert isinstance(response, ChoiceResponse)
    return response.logprobs


def assert_equal_to_plain(model: LoadedModel, requests: Sequence[Request], engines: Sequence[Engine]) -> None:
    wanted = {request: expected(model, request) for request in dict.fromkeys(requests)}
    order = list(range(len(requests)))
    for seed, engine in enumerate(engines):
        random.Random(seed).shuffle(order)
        responses = run(model, [requests[i] for i in order], engine)
        for i, response in zip(order, responses, strict=True):
            np.testing.assert_allclose(given(response), wanted[requests[i]], atol=1e-4, rtol=0)


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_any_batch_order_and_padding_gives_the_numbers_of_one_prompt_at_a_time(
    make_model: MakeModel, kind: str, bos: bool
) -> None:
    assert_equal_to_plain(make_model(kind, bos=bos), mixed_requests(), ENGINES)


@pytest.mark.parametrize("name", embedded.names())
def test_embedded_models_score_as_one_prompt_at_a_time(name: str) -> None:
    model = load(describe_embedded(name), device="cpu", dtype="float32")
    assert_equal_to_plain(model, mixed_requests(), ENGINES[1:3])


@pytest.mark.data
@pytest.mark.parametrize("name", ["stories260K-hf", "tinystories-656k"])
def test_trained_checkpoints_score_as_one_prompt_at_a_time(data_dir: Path, name: str) -> None:
    model = load(describe_local(str(data_dir / "models" / name)), device="cpu", dtype="float32")
    assert_equal_to_plain(model, mixed_requests(), ENGINES[1:3])


def test_the_sliding_window_is_exceeded_by_what_is_tested(make_model: MakeModel) -> None:
    model = make_model("mistral")
    ids = model.tokenizer(TEXT[0])["input_ids"]
    assert len(ids) > 2 * SLIDING_WINDOW
    changed = [*ids[:1], ids[1] + 1, *ids[2:]]
    n_seen = 2 * (SLIDING_WINDOW - 1) + 2  # two layers look at most this far back
    far, near = (plain.logprobs(model, x, n_seen + 1) for x in (ids, changed))
    np.testing.assert_allclose(far, near, atol=1e-6)


def test_a_sentence_is_scored_from_its_first_token_with_bos_and_from_its_second_without(
    make_model: MakeModel,
) -> None:
    for bos in (True, False):
        model = make_model("llama", bos=bos)
        own = model.tokenizer(TEXT[0], add_special_tokens=False)["input_ids"]
        (response,) = run(model, [sentence(TEXT[0])])
        assert list(response.tokens) == model.tokenizer.convert_ids_to_tokens(own[0 if bos else 1 :])
        assert response.prompt_tokens == len(own) + bos


def test_a_token_merged_across_the_boundary_is_scored_whole(make_model: MakeModel) -> None:
    model = make_model("gpt_neox")
    (response,) = run(model, [LogLikelihood(Prompt("The nur", bare=True), "se said")])
    assert response.tokens[0] == "Ġnurse"
    assert response.logprob_sum == pytest.approx(plain.likelihood(model, "The", " nurse said").sum(), abs=1e-5)


def test_scores_in_bfloat16_are_near_those_in_float32_and_their_softmax_is_exact(
    make_model: MakeModel,
) -> None:
    exact = make_model("llama")
    rough = load(exact.info, device="cpu", dtype="bfloat16")
    (response,) = run(rough, [sentence(TEXT[0])], Engine(max_batch=1))
    ids, first = plain.encode(rough, "", TEXT[0])
    np.testing.assert_allclose(response.token_logprobs, plain.logprobs(rough, ids, first), atol=1e-5)
    assert abs(response.logprob_sum - plain.logprobs(exact, ids, first).sum()) < 2.0


class Counting(torch.nn.Module):
    """A module that notes the shape of each forward, and fails as a full device does above `room` tokens."""

    def __init__(self, module: Any, room: float = math.inf) -> None:
        super().__init__()
        self.inner, self.config, self.room = module, module.config, room
        self.generation_config = module.generation_config
        self.shapes: list[tuple[int, ...]] = []
        self.caches: list[Any] = []
        self.n_refused = 0

    def forward(self, **arguments: Any) -> Any:
        shape = tuple(arguments["input_ids"].shape)
        if shape[0] * shape[1] > self.room:
            self.n_refused += 1
            raise torch.OutOfMemoryError("tried to allocate 3.00 GiB\nand more lines")
        self.shapes.append(shape)
        self.caches.append(arguments.get("past_key_values"))
        return self.inner(**arguments)


def counted(model: LoadedModel, room: float = math.inf, **changes: Any) -> tuple[LoadedModel, Counting]:
    module = Counting(model.module, room)
    return dataclasses.replace(model, module=module, **changes), module


def test_equal_inputs_and_inputs_that_begin_another_are_run_once(make_model: MakeModel) -> None:
    model, module = counted(make_model("llama"))
    context = Prompt(TEXT[0][:40], bare=True)
    one_token = [
        Choice(context, YES_NO),
        LogLikelihood(context, " yes"),
        LogLikelihood(context, " yes, it is true"),
    ]
    run(model, one_token, PADDED)
    inputs = {tuple(plain.encode(model, context.user, text)[0][:-1]) for text in (" yes, it is true", " Yes", "yes")}
    assert len(module.shapes) == 1
    assert module.shapes[0][0] <= len(inputs)


def test_rows_cover_every_input_by_the_longest_that_begins_with_it() -> None:
    spans = [Span(ids, 1) for ids in [(1, 2, 9), (1, 2, 3, 9), (1, 2, 8), (2, 1, 9), (1, 2, 3, 4, 9), (1, 4, 9)]]
    rows = {row.ids: row.riders for row in _rows(spans, range(len(spans)))}
    assert rows == {(1, 2, 3, 4): (0, 1, 2, 4), (2, 1): (3,), (1, 4): (5,)}


def test_batches_keep_to_the_limits_of_the_engine_and_of_the_arm(make_model: MakeModel) -> None:
    requests = [sentence(text[:n]) for text in TEXT for n in (20, 40, 60)]
    for engine, changes, rows, tokens in [
        (Engine(max_batch=3), {}, 3, 4096),
        (Engine(batch_tokens=60), {}, 64, 60),
        (Engine(), {"max_batch": 2}, 2, 4096),
        (Engine(), {"batch_tokens": 60}, 64, 60),
    ]:
        model, module = counted(make_model("llama"), **changes)
        run(model, requests, engine)
        assert len(module.shapes) > 1
        assert all(n <= rows and (n == 1 or n * width <= tokens) for n, width in module.shapes)


def test_out_of_memory_halves_the_batch_for_good_and_changes_no_number(make_model: MakeModel) -> None:
    requests = [sentence(text[:n]) for text in TEXT for n in (20, 30, 40, 60)]
    whole = run(make_model("llama"), requests)
    model, module = counted(make_model("llama"), room=70)
    halved = run(model, requests)
    assert 0 < module.n_refused <= 4  # 20 rows to 10, 5, 2: not once more for every batch
    for a, b in zip(whole, halved, strict=True):
        np.testing.assert_allclose(a.token_logprobs, b.token_logprobs, atol=1e-5)


def test_out_of_memory_on_one_sequence_fails_the_cell_with_what_was_needed(make_model: MakeModel) -> None:
    model, _ = counted(make_model("llama"), room=5)
    with pytest.raises(CellFailed, match=r"out of memory on a single sequence of \d+ tokens \(tried to .* 3.00 GiB\)"):
        run(model, [sentence(text) for text in TEXT])


def test_other_runtime_errors_are_not_taken_for_lack_of_memory(make_model: MakeModel) -> None:
    class Failing(torch.nn.Module):
        config = make_model("llama").module.config

        def forward(self, **arguments: Any) -> Any:
            raise RuntimeError("kernel not found")

    with pytest.raises(RuntimeError, match="kernel not found"):
        run(dataclasses.replace(make_model("llama"), module=Failing()), [sentence("a b c d")])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_logits_fail_the_cell_and_name_how_many_and_the_first(make_model: MakeModel, value: float) -> None:
    clean = make_model("llama")
    token = clean.tokenizer(" doctor", add_special_tokens=False)["input_ids"][-1]

    class Broken(Counting):
        def forward(self, **arguments: Any) -> Any:
            output = super().forward(**arguments)
            output.logits[(arguments["input_ids"] == token).any(1)] = value
            return output

    model = dataclasses.replace(clean, module=Broken(clean.module))
    requests = [
        sentence("The nurse said"),
        sentence("The doctor said that"),
        sentence("A doctor said that he"),
    ]
    with pytest.raises(CellFailed, match=r"for 2 of the 3 sequences of a batch, first: '.*The doctor said that'"):
        run(model, requests)
    assert len(run(model, requests[:1])) == 1


def test_a_sequence_beyond_the_window_is_too_long_and_never_cut(make_model: MakeModel) -> None:
    model = make_model("llama", max_positions=16)
    ids = model.tokenizer(TEXT[0])["input_ids"]
    text = {n: model.tokenizer.decode(ids[1:n]) for n in (17, 18)}  # with BOS, n tokens; all but one are input
    assert [len(model.tokenizer(t)["input_ids"]) for t in text.values()] == [17, 18]
    context = Prompt(model.tokenizer.decode(ids[1:15]), bare=True)
    fits, exceeds, choice = run(model, [sentence(text[17]), sentence(text[18]), Choice(context, LONG)])
    assert not fits.too_long
    assert len(fits.token_logprobs) == 16
    assert exceeds == LogLikelihoodResponse((), (), 18, too_long=True)
    assert (choice.too_long, choice.logprobs, choice.prompt_tokens) == (True, (), 15)
    assert math.isnan(choice.mass_outside)


@pytest.mark.parametrize(
    "request_",
    [
        LogLikelihood(Prompt("The nurse", bare=True), ""),
        LogLikelihood(Prompt("", bare=True), ""),
        Choice(Prompt("Is it?"), ()),
        Choice(Prompt("Is it?"), (Option("yes", (" yes",)), Option("no", ()))),
        Choice(Prompt("Is it?"), (Option("yes", ("",)),)),
    ],
)
def test_a_request_with_nothing_to_score_is_refused_in_one_line(make_model: MakeModel, request_: Request) -> None:
    with pytest.raises(EmptyRequest, match="nothing to") as caught:
        run(make_model("llama"), [request_])
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_without_bos_a_single_token_has_no_past_and_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(EmptyRequest, match="leaves no token with a past"):
        run(make_model("llama", bos=False), [sentence("The")])


def test_the_cache_of_an_accelerator_is_asked_by_every_forward(make_model: MakeModel) -> None:
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    class Halved(DynamicLayer):
        """A cache that visibly acts: attention reads values of half their size."""

        def update(self, keys: Any, values: Any, *rest: Any, **more: Any) -> Any:
            return super().update(keys, values * 0.5, *rest, **more)

    clean = make_model("llama")
    n_layers = clean.module.config.num_hidden_layers

    def factory() -> DynamicCache:
        cache = DynamicCache()
        cache.layers = [Halved() for _ in range(n_layers)]
        return cache

    model, module = counted(clean, cache_factory=factory)
    requests = [sentence(text) for text in TEXT]
    acted = run(model, requests, Engine(max_batch=2, way="padded"))
    assert len(module.caches) == 3
    assert len(set(map(id, module.caches))) == 3  # a fresh one each
    assert not np.allclose(acted[0].token_logprobs, run(clean, requests)[0].token_logprobs, atol=1e-2)
    by_token = _token_by_token(clean, factory(), clean.tokenizer(TEXT[0])["input_ids"])
    np.testing.assert_allclose(acted[0].token_logprobs, by_token, atol=1e-4)


@torch.no_grad()
def _token_by_token(model: LoadedModel, cache: Any, ids: Sequence[int]) -> list[float]:
    found = []
    for now, following in itertools.pairwise(ids):
        logits = model.module(torch.tensor([[now]]), past_key_values=cache, use_cache=True).logits
        found.append(float(logits[0, -1].log_softmax(-1)[following]))
    return found


def test_progress_is_told_in_requests_and_sums_to_their_number(make_model: MakeModel) -> None:
    told: list[int] = []
    requests = mixed_requests()
    run(make_model("llama"), requests, Engine(max_batch=4), on_progress=told.append)
    assert sum(told) == len(requests)
    assert len(told) > 5
    assert min(told) > 0
