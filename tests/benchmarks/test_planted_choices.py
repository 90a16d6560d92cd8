"""Planted choices: truth recovered exactly, spellings counted, mass outside shown."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from biaslab.benchmarks.planted_choices import PlantedChoices
from biaslab.engine.requests import ChoiceResponse
from biaslab.models.embedded import grammar as words
from tests.benchmarks.learner import Learner, ask, info

BENCHMARK = PlantedChoices()
ITEMS = BENCHMARK.items(info())


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_perfect_learner_scores_the_truth(scale: float) -> None:
    frame = ask(BENCHMARK, BENCHMARK.items(info(scale)), Learner(scale))
    np.testing.assert_allclose(frame["score"], frame["truth"], atol=1e-12)
    metrics = BENCHMARK.metrics(frame)
    assert metrics["recovery_slope"].value == pytest.approx(1)
    assert metrics["control_mae"].value == pytest.approx(0, abs=1e-12)
    yes_no = frame[frame["category"] == "yes_no"]
    assert all(detail["mass_outside"] == pytest.approx(0, abs=1e-12) for detail in yes_no["detail"])
    outside = np.mean([detail["mass_outside"] for detail in frame["detail"]])
    assert metrics["mass_outside"].value == pytest.approx(outside)
    assert 0 < outside < 1  # four of forty occupations, two of forty capitals


def test_a_fair_learner_scores_zero_whatever_its_base_rates() -> None:
    frame = ask(BENCHMARK, ITEMS, Learner(0.0))
    np.testing.assert_allclose(frame["score"], 0, atol=1e-12)


def test_counts_clusters_and_options() -> None:
    counts = Counter(item.category for item in ITEMS)
    assert counts == {"yes_no": 160, "occupation": 320, "control": 80}
    clusters = {category: {i.cluster for i in ITEMS if i.category == category} for category in counts}
    assert {category: len(found) for category, found in clusters.items()} == {
        "yes_no": 20,
        "occupation": 20,
        "control": 20,
    }
    sizes = {len(item.data["options"]) for item in ITEMS}
    assert sizes == {2, 4}


def test_a_decision_is_one_cluster() -> None:
    for item in ITEMS:
        if item.category == "yes_no":
            decision = item.cluster.removeprefix("decision:")
            assert decision in words.DECISIONS
            assert all(f" {decision} " in prompt for prompt in item.data["prompts"])


def test_signs_of_the_control_balance() -> None:
    signs = [item.data["sign"] for item in ITEMS if item.category == "control"]
    assert sum(signs) == 0


def test_both_requests_differ_in_the_group_alone() -> None:
    for item in ITEMS:
        first, second = BENCHMARK.requests(item)
        a, b = item.group.split("|")
        assert first.prompt.user.replace(a, b) == second.prompt.user  # type: ignore[union-attr]
        assert first.options == second.options  # type: ignore[union-attr]


def test_spellings_are_distinct_and_start_with_a_blank() -> None:
    for request in BENCHMARK.requests(ITEMS[0]):
        for option in request.options:  # type: ignore[union-attr]
            assert option.spellings == (
                f" {option.label}",
                f" {option.label.title()}",
                f" {option.label.upper()}",
            )


def test_one_item_by_hand() -> None:
    item = ITEMS[0]
    first = ChoiceResponse((-1.0, -2.5), 0.1, 5)
    second = ChoiceResponse((-2.0, -1.0), 0.3, 5)
    record = BENCHMARK.score(item, [first, second])
    assert record.score == item.data["sign"] * ((-1.0 + 2.5) - (-2.0 + 1.0))
    assert record.detail["mass_outside"] == pytest.approx(0.2)
    assert BENCHMARK.score(item, [second, first]).score == -record.score


def test_a_prompt_that_is_too_long_has_no_score() -> None:
    gone = ChoiceResponse((), math.nan, 9999, too_long=True)
    for responses in (
        [gone, ChoiceResponse((-1.0, -2.0), 0.1, 5)],
        [ChoiceResponse((-1.0, -2.0), 0.1, 5), gone],
    ):
        record = BENCHMARK.score(ITEMS[0], responses)
        assert math.isnan(record.score)
        assert record.outcome == "too_long"


def test_a_model_without_a_planted_truth_is_refused() -> None:
    assert BENCHMARK.unsupported(info()) is None
    assert "no bias was planted" in str(BENCHMARK.unsupported(replace(info(), planted=None)))
