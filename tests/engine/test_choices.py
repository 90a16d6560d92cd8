"""Choices: exact on a vocabulary small enough to enumerate."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biaslab.engine.choices import choose, prefix_free, union_logprob
from biaslab.engine.core import Engine
from biaslab.engine.prompts import Span
from biaslab.engine.requests import Choice, Decoding, LogLikelihood, Option, Prompt
from biaslab.errors import CellFailed
from tests.engine.conftest import MakeModel

VOCABULARY, LENGTH = 3, 4
LEAVES = list(itertools.product(range(VOCABULARY), repeat=LENGTH))
sequences = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=LENGTH).map(tuple)
options = st.lists(st.lists(sequences, min_size=1, max_size=3), min_size=1, max_size=4)


def leaf_probabilities(seed: int) -> dict[tuple[int, ...], float]:
    """A random distribution over all texts of LENGTH tokens."""
    weights = np.random.default_rng(seed).exponential(size=len(LEAVES)) ** 3
    return dict(zip(LEAVES, weights / weights.sum(), strict=True))


def logprob(world: dict[tuple[int, ...], float], start: tuple[int, ...]) -> float:
    return math.log(math.fsum(p for leaf, p in world.items() if leaf[: len(start)] == start))


def exact(world: dict[tuple[int, ...], float], starts: list[tuple[int, ...]]) -> float:
    """P that a text begins with any of `starts`, by counting texts."""
    return math.fsum(p for leaf, p in world.items() if any(leaf[: len(s)] == s for s in starts))


@given(options, st.integers(0, 1000))
def test_options_and_the_mass_outside_are_those_of_counting_every_text(
    found: list[list[tuple[int, ...]]], seed: int
) -> None:
    world = leaf_probabilities(seed)
    request = Choice(Prompt("?"), tuple(Option(str(i), ("x",) * len(o)) for i, o in enumerate(found)))
    flat = [ids for option in found for ids in option]
    spans = [Span((7, *ids), 1) for ids in flat]
    scores = [
        np.array([logprob(world, ids[: n + 1]) - (logprob(world, ids[:n]) if n else 0.0) for n in range(len(ids))])
        for ids in flat
    ]
    response = choose(request, spans, scores, 1)
    np.testing.assert_allclose(response.logprobs, [math.log(exact(world, o)) for o in found], atol=1e-9)
    assert response.mass_outside == pytest.approx(1 - exact(world, flat), abs=1e-9)
    assert 0.0 <= response.mass_outside <= 1.0


@given(st.lists(sequences, min_size=1, max_size=6))
def test_what_is_kept_begins_every_sequence_exactly_once(found: list[tuple[int, ...]]) -> None:
    kept = [found[i] for i in prefix_free(found)]
    assert all(sum(ids[: len(k)] == k for k in kept) == 1 for ids in found)


@given(st.lists(st.floats(-0.001, 0.01), min_size=1, max_size=5))
def test_rounding_never_pushes_the_mass_outside_its_range(logps: list[float]) -> None:
    request = Choice(Prompt("?"), tuple(Option(str(i), ("x",)) for i in range(len(logps))))
    response = choose(request, [Span((0, i), 1) for i in range(len(logps))], [np.array([v]) for v in logps], 1)
    assert 0.0 <= response.mass_outside <= 1.0


def test_an_option_of_no_probability_is_minus_infinity() -> None:
    assert union_logprob([(1,), (2,)], [-math.inf, -math.inf]) == -math.inf


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_all_tokens_as_options_leave_no_mass_outside(make_model: MakeModel, kind: str) -> None:
    """Every second token of the vocabulary in one option, the rest in the other: p sums to 1."""
    model = make_model(kind)
    words = _words_that_stand_alone(model.tokenizer)
    assert len(words) > 50
    halves = (Option("even", tuple(words[::2])), Option("odd", tuple(words[1::2])))
    (response,) = Engine().run(model, [Choice(Prompt("A man", bare=True), halves)], decoding=Decoding())
    total = sum(math.exp(value) for value in response.logprobs)
    # The whole vocabulary sums to 1 within float32's rounding, and the mass outside is never below 0.
    assert total == pytest.approx(1 - response.mass_outside, abs=5e-7)
    singles = [LogLikelihood(Prompt("A man", bare=True), word) for word in words]
    parts = Engine(max_batch=5).run(model, singles, decoding=Decoding())
    assert sum(math.exp(part.logprob_sum) for part in parts) == pytest.approx(total, abs=1e-5)


def _words_that_stand_alone(tokenizer: Any) -> list[str]:
    """Texts that add exactly one token to the prompt, all different."""
    before = tokenizer("A man")["input_ids"]
    words = {}
    for token in range(len(tokenizer)):
        text = tokenizer.decode([*before, token])[len(tokenizer.decode(before)) :]
        ids = tokenizer("A man" + text)["input_ids"]
        if ids[:-1] == before:
            words[ids[-1]] = text
    return list(words.values())


def test_an_option_that_extends_another_is_counted_within_it(make_model: MakeModel) -> None:
    model = make_model("llama")
    short, long = Option("short", (" yes",)), Option("long", (" yes, it is",))
    prompt = Prompt("Is it true?", bare=True)
    alone, both = Engine().run(model, [Choice(prompt, (short,)), Choice(prompt, (short, long))], decoding=Decoding())
    assert both.mass_outside == pytest.approx(alone.mass_outside, abs=1e-6)
    assert both.logprobs[1] < both.logprobs[0]


def test_spellings_of_the_same_tokens_count_once(make_model: MakeModel) -> None:
    prompt = Prompt("Is it true?", bare=True)
    once, twice = Engine().run(
        make_model("llama"),
        [Choice(prompt, (Option("yes", (" yes",)),)), Choice(prompt, (Option("yes", (" yes", " yes")),))],
        decoding=Decoding(),
    )
    assert once == twice


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_published_choice_reads_one_vocabulary_entry_an_option(make_model: MakeModel, kind: str) -> None:
    """Against a forward of transformers alone: softmax at the last position, one id per option, or the unknown one."""
    model = make_model(kind)
    pieces = [p for p in model.tokenizer.convert_ids_to_tokens(list(range(len(model.tokenizer)))) if p.isalpha()]
    options = (Option("a", (pieces[0],)), Option("b", (pieces[7],)), Option("c", ("no such entry",)))
    request = Choice(Prompt("Is it true?"), options, as_piece=True)
    if model.tokenizer.convert_tokens_to_ids("no such entry") is None:
        with pytest.raises(CellFailed, match="no entry 'no such entry'"):
            Engine().run(model, [request], decoding=Decoding())
        request = Choice(request.prompt, options[:2], as_piece=True)
    (response,) = Engine().run(model, [request], decoding=Decoding())
    ids = model.tokenizer("Is it true?", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logp = torch.log_softmax(model.module(ids).logits[0, -1].double(), -1)
    wanted = [model.tokenizer.convert_tokens_to_ids(option.spellings[0]) for option in request.options]
    assert list(response.logprobs) == pytest.approx([float(logp[i]) for i in wanted], abs=1e-5)
