"""Generation: greedy equals transformers', sampled draws from each request's own generator."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from biaslab.engine.core import Engine
from biaslab.engine.generation import draw
from biaslab.engine.prompts import EmptyRequest
from biaslab.engine.requests import Decoding, Generate, GenerateResponse, Prompt
from biaslab.errors import CellFailed
from biaslab.models import embedded
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_embedded, describe_local, load
from tests.engine.conftest import MakeModel
from tests.models.make import KINDS, TEXT

N_NEW = 14
SAMPLED = Decoding("sampled", temperature=0.9, top_p=0.95)


def run(
    model: LoadedModel,
    requests: Sequence[Generate],
    engine: Engine | None = None,
    decoding: Decoding | None = None,
    **more: Any,
) -> list[Any]:
    return (engine or Engine()).run(model, requests, decoding=decoding or Decoding(), **more)


def ask(text: str, n: int = N_NEW, stop: tuple[str, ...] = ()) -> Generate:
    return Generate(Prompt(text, bare=True), n, stop)


def prompts() -> list[Generate]:
    return [ask(text[:n], new) for text in TEXT for n, new in ((6, N_NEW), (30, 5), (70, 9))]


def by_transformers(model: LoadedModel, request: Generate) -> list[int]:
    """New token ids of transformers' own greedy generate, one prompt at a time."""
    ids = torch.tensor([model.tokenizer(request.prompt.user)["input_ids"]])
    with torch.no_grad():
        out = model.module.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=request.max_new_tokens,
            do_sample=False,
            pad_token_id=0,
        )
    new: list[int] = out[0, ids.shape[1] :].tolist()
    return new


def assert_greedy_equals_transformers(model: LoadedModel, engines: Sequence[Engine]) -> None:
    first, *others = [run(model, prompts(), engine) for engine in engines]
    assert all(other == first for other in others)
    for request, response in zip(prompts(), first, strict=True):
        new = by_transformers(model, request)
        stopped = new[-1] == model.tokenizer.eos_token_id
        kept = new[:-1] if stopped else new
        assert response.new_tokens == len(kept)
        assert response.finish == ("stop" if stopped else "length")
        prompt = model.tokenizer(request.prompt.user)["input_ids"]
        assert response.prompt_tokens == len(prompt)
        text, start = (model.tokenizer.decode(ids, skip_special_tokens=True) for ids in ([*prompt, *kept], prompt))
        assert response.text == text[len(start) :]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_equals_transformers_generate(make_model: MakeModel, kind: str) -> None:
    engines = [Engine(), Engine(max_batch=4), Engine(batch_tokens=1)]
    assert_greedy_equals_transformers(make_model(kind), engines)


@pytest.mark.parametrize("name", embedded.names())
def test_greedy_equals_generate_on_embedded_models(name: str) -> None:
    assert_greedy_equals_transformers(load(describe_embedded(name), device="cpu", dtype="float32"), [Engine()])


@pytest.mark.data
@pytest.mark.parametrize("name", ["stories260K-hf", "tinystories-656k"])
def test_greedy_equals_generate_on_trained_checkpoints(data_dir: Path, name: str) -> None:
    model = load(describe_local(str(data_dir / "models" / name)), device="cpu", dtype="float32")
    assert_greedy_equals_transformers(model, [Engine(max_batch=6)])


def ending_early(model: LoadedModel) -> LoadedModel:
    """The model with its end token made likely, so that rows of one batch end at different steps."""

    class Ending(torch.nn.Module):
        config, generation_config = model.module.config, model.module.generation_config
        n_rows: list[int] = []  # noqa: RUF012 - of each forward, read by the test

        def forward(self, **arguments: Any) -> Any:
            self.n_rows.append(len(arguments["input_ids"]))
            output = model.module(**arguments)
            output.logits[..., model.tokenizer.eos_token_id] += 2.7
            return output

    return dataclasses.replace(model, module=Ending())


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_finished_row_leaves_the_batch_and_the_others_do_not_feel_it(make_model: MakeModel, kind: str) -> None:
    model = ending_early(make_model(kind))
    requests = [ask(text[:n], 30) for text in TEXT for n in (6, 30, 70)]
    together = run(model, requests, Engine(way="padded"))
    rows = list(model.module.n_rows)
    alone = [run(model, [request])[0] for request in requests]
    assert together == alone
    assert {response.finish for response in together} == {"stop", "length"}
    assert len(set(rows)) > 3
    assert rows == sorted(rows, reverse=True)


def test_sampled_answers_do_not_depend_on_batch_order_or_neighbours(make_model: MakeModel) -> None:
    model = ending_early(make_model("llama"))
    requests = [ask(text[:n], 20) for text in TEXT for n in (6, 30, 30, 70)]
    seeds = list(range(100, 100 + len(requests)))
    first = run(model, requests, decoding=SAMPLED, seeds=seeds)
    assert first == run(model, requests, decoding=SAMPLED, seeds=seeds)
    order = np.random.default_rng(0).permutation(len(requests))
    for engine in (Engine(max_batch=1), Engine(max_batch=3), Engine(batch_tokens=200)):
        shuffled = run(model, [requests[i] for i in order], engine, SAMPLED, seeds=[seeds[i] for i in order])
        assert shuffled == [first[i] for i in order]
    assert first != run(model, requests, decoding=SAMPLED, seeds=[s + 1 for s in seeds])
    assert first[1] != first[2]  # one prompt, two seeds


def test_sampling_leaves_the_global_generators_alone(make_model: MakeModel) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global one is the point
    run(make_model("llama"), [ask("The nurse")], decoding=SAMPLED, seeds=[1])
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.3, 0.7)])
def test_frequencies_of_first_tokens_match_the_softmax(make_model: MakeModel, temperature: float, top_p: float) -> None:
    """Chi-square over 4000 draws; the reference distribution is transformers' own logit warpers'."""
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    model, n = make_model("qwen2"), 4000
    ids = torch.tensor([model.tokenizer("The nurse")["input_ids"]])
    with torch.no_grad():
        logits = model.module(ids).logits[:, -1]
    warped = TemperatureLogitsWarper(temperature)(None, logits)
    warped = TopPLogitsWarper(top_p)(None, warped) if top_p < 1 else warped
    p = warped.double().softmax(-1)[0].numpy()
    generators = [np.random.default_rng(seed) for seed in range(n)]
    drawn = draw(logits.expand(n, -1), generators, Decoding("sampled", temperature, top_p))
    counts = np.bincount(drawn, minlength=len(p))
    assert (counts[p == 0] == 0).all()
    common = p * n >= 5
    rare = ~common & (p > 0)
    observed, wanted = counts[common], p[common] * n
    if rare.any():
        observed, wanted = np.append(observed, counts[rare].sum()), np.append(wanted, p[rare].sum() * n)
    assert len(wanted) > 10
    assert chisquare(observed, wanted * n / wanted.sum()).pvalue > 0.001


def test_a_seed_draws_the_same_token_through_the_whole_engine(make_model: MakeModel) -> None:
    model = make_model("qwen2")
    with torch.no_grad():
        logits = model.module(torch.tensor([model.tokenizer("The nurse")["input_ids"]])).logits[:, -1]
    seeds = list(range(30))
    generators = [np.random.default_rng(seed) for seed in seeds]
    tokens = draw(logits.expand(len(seeds), -1), generators, SAMPLED)
    responses = run(model, [ask("The nurse", 1)] * len(seeds), decoding=SAMPLED, seeds=seeds)
    for token, response in zip(tokens, responses, strict=True):
        assert response.text == model.tokenizer.decode([token], skip_special_tokens=True)


def test_swapping_nearly_equal_tokens_by_rounding_changes_no_draw() -> None:
    logits = torch.randn(1, 500, generator=torch.Generator().manual_seed(0)).expand(200, -1)
    noise = 1e-5 * torch.randn(200, 500, generator=torch.Generator().manual_seed(1))
    for decoding in (Decoding("sampled"), Decoding("sampled", top_p=0.9)):
        draws = [
            draw(x, [np.random.default_rng(seed) for seed in range(200)], decoding) for x in (logits, logits + noise)
        ]
        assert sum(a != b for a, b in zip(*draws, strict=True)) <= 1


def test_extreme_numbers_and_distributions_draw_a_possible_token() -> None:
    class Fixed:
        def __init__(self, value: float) -> None:
            self.value = value

        def random(self) -> float:
            return self.value

    logits = torch.tensor([[-1e4, 3.0, -1e4, 2.0, -1e4]])
    for value, token in [(0.0, 1), (math.nextafter(1.0, 0.0), 3)]:
        for top_p in (1.0, 0.999):
            assert draw(logits, [Fixed(value)], Decoding("sampled", 1.0, top_p)) == [token]
    assert draw(logits, [Fixed(0.999)], Decoding("sampled", 1.0, 1e-9)) == [1]
    assert draw(logits, [Fixed(0.999)], Decoding("sampled", 1e-3, 1.0)) == [1]


def test_text_ends_before_the_first_stop_string(make_model: MakeModel) -> None:
    model = make_model("llama")
    (whole,) = run(model, [ask(TEXT[0][:20], 30)])
    middle = whole.text[len(whole.text) // 2 :][:3]
    at = whole.text.index(middle)
    (cut,) = run(model, [ask(TEXT[0][:20], 30, (middle, "never there"))])
    assert (cut.text, cut.finish) == (whole.text[:at], "stop")
    assert cut.new_tokens < whole.new_tokens
    (none,) = run(model, [ask(TEXT[0][:20], 30, ("never there",))])
    assert none == whole


def test_an_end_token_of_the_generation_config_stops_too(make_model: MakeModel) -> None:
    model = make_model("llama")
    (free,) = run(model, [ask(TEXT[0][:20], 10)])
    third = by_transformers(model, ask(TEXT[0][:20], 10))[2]
    before = model.module.generation_config.eos_token_id
    try:
        model.module.generation_config.eos_token_id = [before, third]
        (stopped,) = run(model, [ask(TEXT[0][:20], 10)])
    finally:
        model.module.generation_config.eos_token_id = before
    assert free.finish == "length"
    assert (stopped.finish, stopped.new_tokens) == ("stop", 2)


def test_a_prompt_without_room_for_its_answer_is_too_long(make_model: MakeModel) -> None:
    model = make_model("llama", max_positions=16)
    ids = model.tokenizer(TEXT[0])["input_ids"]
    text = model.tokenizer.decode(ids[1:10])  # with BOS 10 tokens; the last new token is never input
    told: list[int] = []
    fits, exceeds = run(model, [ask(text, 7), ask(text, 8)], on_progress=told.append)
    assert fits.new_tokens == 7
    assert exceeds == GenerateResponse("", "too_long", 0, 10, too_long=True)
    assert sum(told) == 2


def test_out_of_memory_restarts_the_halves_with_the_same_draws(make_model: MakeModel) -> None:
    clean = make_model("llama")

    class Full(torch.nn.Module):
        """Memory for three rows, or two once the cache has grown: it also runs out half way."""

        config, generation_config = clean.module.config, clean.module.generation_config
        n_refused = 0

        def forward(self, **arguments: Any) -> Any:
            n, grown = len(arguments["input_ids"]), arguments["attention_mask"].shape[1] > 20
            if n > (2 if grown else 3):
                self.n_refused += 1
                raise torch.OutOfMemoryError("no room")
            return clean.module(**arguments)

    model = dataclasses.replace(clean, module=Full())
    seeds = list(range(len(prompts())))
    assert run(model, prompts(), decoding=SAMPLED, seeds=seeds) == run(clean, prompts(), decoding=SAMPLED, seeds=seeds)
    assert model.module.n_refused > 1  # of the trial, and of the work
    assert model.wrote == "padded"


def test_broken_logits_fail_the_cell(make_model: MakeModel) -> None:
    clean = make_model("llama")

    class Broken(torch.nn.Module):
        config, generation_config = clean.module.config, clean.module.generation_config

        def forward(self, **arguments: Any) -> Any:
            output = clean.module(**arguments)
            output.logits[1:, -1, 7] = math.nan
            return output

    with pytest.raises(CellFailed, match=r"for 2 of the 3 sequences of a batch, first: '"):
        run(dataclasses.replace(clean, module=Broken()), [ask(text) for text in TEXT[:3]], Engine(way="padded"))


def test_generation_goes_through_the_accelerators_cache(make_model: MakeModel) -> None:
    from transformers import DynamicCache

    clean = make_model("mistral")
    made: list[Any] = []

    def factory() -> DynamicCache:
        made.append(DynamicCache(config=clean.module.config))
        return made[-1]

    model = dataclasses.replace(clean, cache_factory=factory)
    assert run(model, prompts(), Engine(max_batch=5, way="padded")) == run(clean, prompts())
    assert len(made) == 3
    assert all(cache.get_seq_length() > 0 for cache in made)


@pytest.mark.parametrize(
    ("decoding", "seeds", "words"),
    [
        (Decoding("beam"), None, "choose greedy or sampled"),
        (Decoding("sampled"), None, "needs one seed a request"),
        (Decoding("sampled", temperature=0.0), [1], "temperature > 0"),
        (Decoding("sampled", top_p=0.0), [1], "top_p <= 1"),
        (Decoding("sampled", top_p=1.5), [1], "top_p <= 1"),
        (Decoding("sampled", temperature=math.nan), [1], "temperature > 0"),
    ],
)
def test_a_wrong_decoding_is_refused(
    make_model: MakeModel, decoding: Decoding, seeds: list[int] | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        run(make_model("llama"), [ask("The")], decoding=decoding, seeds=seeds)


def test_seeds_must_be_one_a_request(make_model: MakeModel) -> None:
    with pytest.raises((ValueError, IndexError)):
        run(make_model("llama"), [ask("The"), ask("A")], decoding=SAMPLED, seeds=[1])


def test_nothing_to_write_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(EmptyRequest, match="max_new_tokens=0"):
        run(make_model("llama"), [ask("The", 0)])
    with pytest.raises(EmptyRequest, match="prompt of 0 tokens"):
        run(make_model("llama", bos=False), [ask("")])


def test_requests_of_all_kinds_come_back_in_their_order(make_model: MakeModel) -> None:
    from biaslab.engine.requests import Choice, LogLikelihood, Option

    model, told = make_model("llama"), []
    prompt = Prompt("Is it true?", bare=True)
    kinds = [
        Generate(prompt, 3),
        LogLikelihood(prompt, " yes"),
        Choice(prompt, (Option("y", (" yes",)),)),
    ] * 2
    responses = Engine(max_batch=1).run(model, kinds, decoding=Decoding(), on_progress=told.append)
    names = [type(response).__name__ for response in responses]
    assert names == ["GenerateResponse", "LogLikelihoodResponse", "ChoiceResponse"] * 2
    assert responses[:3] == responses[3:]
    assert sum(told) == 6
    assert Engine().run(model, [], decoding=Decoding()) == []
