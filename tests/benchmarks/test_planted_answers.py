"""Planted answers: a model blind to groups averages exactly 0, sampled answers average the truth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biaslab.benchmarks.base import Item
from biaslab.benchmarks.planted_answers import PlantedAnswers, parse
from biaslab.engine.requests import GenerateResponse
from biaslab.models.embedded import grammar as words
from biaslab.models.embedded.grammar import Grammar, sigmoid
from tests.benchmarks.learner import info

BENCHMARK = PlantedAnswers()
ITEMS = BENCHMARK.items(info())


def records(text: Callable[[Item], str]) -> pd.DataFrame:
    rows = []
    for item in ITEMS:
        record = BENCHMARK.score(item, [GenerateResponse(text(item), "stop", 2, 9)])
        rows.append(
            {
                "cluster": item.cluster, "category": item.category, "group": item.group,
                "score": record.score, "outcome": record.outcome, "refused": record.refused,
                "truth": item.truth,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def question(item: Item) -> str:
    """The item's prompt without its group."""
    return str(item.data["prompt"]).replace(item.group, "_")


@given(st.lists(st.booleans(), min_size=40, max_size=40))
def test_a_model_blind_to_groups_averages_exactly_zero(says_yes: list[bool]) -> None:
    questions = sorted({question(item) for item in ITEMS})
    answers = dict(zip(questions, says_yes, strict=True))
    frame = records(lambda item: " yes" if answers[question(item)] else " no")
    means = frame.groupby("category")["score"].mean()
    assert dict(means) == pytest.approx({"question": 0, "control": 0}, abs=1e-12)


def test_every_question_has_as_many_favoured_as_disfavoured_groups() -> None:
    leaning: dict[tuple[str, str], Counter[str]] = {}
    for item in ITEMS:
        leaning.setdefault((item.category, question(item)), Counter())[item.data["stereotyped"]] += 1
    assert len(leaning) == 2 * 40
    for (category, _), counts in leaning.items():
        assert counts == ({"yes": 3, "no": 3} if category == "question" else {"yes": 1, "no": 1})


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_sampled_answers_of_the_grammar_average_the_truth(scale: float) -> None:
    grammar, rng = Grammar(scale), np.random.default_rng(0)
    items = BENCHMARK.items(info(scale))
    repeats, n = 400, 0
    errors = []
    for item in items:
        g, d = words.GROUPS.index(item.group), _decision(item)
        p = sigmoid(grammar.z_ask[g, d])
        drawn = rng.random(repeats) < p
        scores = [BENCHMARK.score(item, [_said(" yes" if yes else " no")]).score for yes in (True, False)]
        if item.category == "control":  # its effect is 0, so p is the parity share
            assert p == pytest.approx(sigmoid(grammar.base_ask[d]))
        errors.append(np.where(drawn, *scores).mean() - item.truth)
        n += repeats
    # Mean over 320 x 400 draws of sd below .5: three standard errors.
    assert abs(float(np.mean(errors))) < 3 * 0.5 / math.sqrt(n)
    assert float(np.max(np.abs(errors))) < 5 * 0.5 / math.sqrt(repeats)


def test_the_truth_is_positive_where_planted_and_zero_in_the_control() -> None:
    for item in ITEMS:
        assert (item.truth > 0) == (item.category == "question")
        assert item.truth == 0 or item.category == "question"
    assert Counter(item.category for item in ITEMS) == {"question": 240, "control": 80}
    assert len({item.cluster for item in ITEMS}) == 16


def test_truth_scales_to_zero_with_the_planted_scale() -> None:
    assert all(item.truth == pytest.approx(0) for item in BENCHMARK.items(info(0.0)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" yes ", "yes"),
        ("No.", "no"),
        (" NO, never", "no"),
        ("- yes", "yes"),
        (" i can not say ", "refused"),
        ("I cannot answer", "refused"),
        ("yes, but i can't say", "refused"),
        ("", "unparsed"),
        ("nobody", "unparsed"),
        ("perhaps yes", "unparsed"),
        ("yesterday", "unparsed"),
    ],
)
def test_parsing(text: str, expected: str) -> None:
    assert parse(text) == expected


def test_every_answer_of_the_grammar_is_parsed() -> None:
    assert [parse(f" {answer} ") for answer in ("yes", "no", words.REFUSAL)] == ["yes", "no", "refused"]


def test_refused_and_unparsed_have_no_score_and_are_counted() -> None:
    texts = {"eskar": " i can not say", "belor": " hm"}  # a control group and a planted one
    frame = records(lambda item: texts.get(item.group, " yes"))
    assert Counter(frame["outcome"]) == {"yes": 240, "refused": 40, "unparsed": 40}
    assert (frame["score"].isna() == frame["outcome"].isin(["refused", "unparsed"])).all()
    assert (frame["refused"] == (frame["outcome"] == "refused")).all()
    metrics = BENCHMARK.metrics(frame)
    assert metrics["refusal_rate"].value == pytest.approx(1 / 8)
    assert metrics["unparsed_rate"].value == pytest.approx(1 / 8)
    assert metrics["refusal_rate"].n == 320
    answered = frame[(frame["truth"] != 0) & frame["score"].notna()]
    assert metrics["mean_truth"].n == len(answered) < 240
    assert metrics["mean_truth"].value == pytest.approx(answered["truth"].mean())
    silent = BENCHMARK.metrics(records(lambda item: " i can not say"))
    assert math.isnan(silent["mean_score"].value)
    assert silent["mean_score"].reason == "only 0 of 240 records have an answer, less than 80%"


def test_the_score_of_one_item_by_hand() -> None:
    item = next(item for item in ITEMS if item.category == "question")
    g, d = words.GROUPS.index(item.group), _decision(item)
    grammar = Grammar()
    share = sigmoid(grammar.base_ask[d])
    favoured = grammar.B_ask[g] > 0
    expected = (1 - share if favoured else -(1 - share), -share if favoured else share)
    for text, score in zip((" yes", " no"), expected, strict=True):
        assert BENCHMARK.score(item, [_said(text)]).score == pytest.approx(score)


def test_a_prompt_that_is_too_long_has_no_score() -> None:
    record = BENCHMARK.score(ITEMS[0], [GenerateResponse("", "too_long", 0, 9999, too_long=True)])
    assert math.isnan(record.score)
    assert record.outcome == "too_long"


def test_a_model_without_a_planted_truth_is_refused() -> None:
    assert BENCHMARK.unsupported(info()) is None
    assert "no bias was planted" in str(BENCHMARK.unsupported(replace(info(), planted=None)))


def _decision(item: Item) -> int:
    found = [d for d, word in enumerate(words.DECISIONS) if f" {word} " in item.data["prompt"]]
    assert len(found) == 1
    return found[0]


def _said(text: str) -> GenerateResponse:
    return GenerateResponse(text, "stop", 2, 9)
