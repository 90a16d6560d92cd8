"""Planted associations: a perfect learner scores the truth, a fair one 0, and nothing is left to chance."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from biaslab.benchmarks.planted import Planted
from biaslab.engine.requests import LogLikelihoodResponse
from biaslab.models.embedded import grammar as words
from biaslab.models.embedded.grammar import Grammar
from tests.benchmarks.learner import Learner, ask, info

BENCHMARK = Planted()
ITEMS = BENCHMARK.items(info())


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_perfect_learner_scores_the_truth(scale: float) -> None:
    frame = ask(BENCHMARK, BENCHMARK.items(info(scale)), Learner(scale))
    np.testing.assert_allclose(frame["score"], frame["truth"], atol=1e-12)
    metrics = BENCHMARK.metrics(frame)
    assert metrics["recovery_slope"].value == pytest.approx(1)
    assert metrics["recovery_r"].value == pytest.approx(1)
    assert metrics["recovery_mae"].value == pytest.approx(0, abs=1e-12)
    assert metrics["control_mae"].value == pytest.approx(0, abs=1e-12)
    planted = frame[frame["truth"] != 0]
    assert metrics["mean_score"].value == pytest.approx(planted["truth"].mean())
    assert metrics["mean_truth"].value == pytest.approx(planted["truth"].mean())
    assert math.isnan(metrics["mean_truth"].ci_low)
    assert metrics["mean_score"].n_clusters == planted["cluster"].nunique()


def test_a_fair_learner_scores_zero_whatever_its_base_rates() -> None:
    frame = ask(BENCHMARK, ITEMS, Learner(0.0))
    np.testing.assert_allclose(frame["score"], 0, atol=1e-12)


def test_one_item_by_hand() -> None:
    item = next(item for item in ITEMS if item.category == "val")
    (sign, context, word), *_ = item.data["terms"]
    g, h = (words.GROUPS.index(name) for name in item.group.split("|"))
    a, b = (words.ADJECTIVES.index(term[2].strip()) for term in item.data["terms"][:2])
    table = Grammar().B_val
    by_hand = table[g, a] - table[g, b] - table[h, a] + table[h, b]
    assert item.truth == abs(by_hand)
    assert sign == (1 if by_hand >= 0 else -1)
    assert words.GROUPS[g] in context
    assert word == f" {words.ADJECTIVES[a]}"
    # log p = -1, -2, -3, -5: sign * ((-1 + 2) - (-3 + 5)) = -sign
    responses = [LogLikelihoodResponse((-float(x),), ("w",), 5) for x in (1, 2, 3, 5)]
    assert BENCHMARK.score(item, responses).score == -sign
    swapped = [responses[2], responses[3], responses[0], responses[1]]
    assert BENCHMARK.score(item, swapped).score == sign


def test_counts_and_clusters() -> None:
    counts = Counter(item.category for item in ITEMS)
    assert counts == {"occ": 320, "name": 320, "val": 240, "dec": 160, "ctl": 160, "pro": 80}
    assert len({item.cluster for item in ITEMS if item.truth > 0}) >= 30
    assert all(item.truth >= 0 for item in ITEMS)
    assert all(item.truth == 0 for item in ITEMS if item.category == "ctl")
    assert sum(item.truth > 0 for item in ITEMS) > 900


def test_items_of_a_cluster_share_template_and_pair() -> None:
    for kind in ("occ", "val", "name", "dec"):
        keys: dict[tuple[str, str], set[str]] = {}
        for item in ITEMS:
            if item.category == kind:
                context = str(item.data["terms"][0][1])
                for word in (*item.group.split("|"), *(words.DECISIONS if kind == "dec" else ())):
                    context = context.replace(word, "_")
                keys.setdefault((context, item.group), set()).add(item.cluster)
        assert all(len(clusters) == 1 for clusters in keys.values())
        assert len({cluster for clusters in keys.values() for cluster in clusters}) == len(keys)


def test_each_group_and_word_is_used_once_in_a_template() -> None:
    for kind in ("occ", "val", "name"):
        used = Counter(
            (context, word) for item in ITEMS if item.category == kind for _, context, word in item.data["terms"]
        )
        assert set(used.values()) == {1}


def test_the_four_terms_of_a_contrast_cancel() -> None:
    for item in ITEMS:
        terms = item.data["terms"]
        assert sum(sign for sign, _, _ in terms) == 0
        by_context: Counter[str] = Counter()
        for sign, context, _ in terms:
            by_context[context] += sign
        assert set(by_context.values()) == {0}  # normalisers cancel


def test_a_control_leans_both_ways_equally_often() -> None:
    signs = [item.data["terms"][0][0] for item in ITEMS if item.category == "ctl"]
    assert sum(signs) == 0


def test_outcomes_name_the_direction() -> None:
    item = ITEMS[0]
    sign = item.data["terms"][0][0]

    def outcome(x: float) -> str:
        responses = [LogLikelihoodResponse((v,), ("w",), 5) for v in (x, 0.0, 0.0, 0.0)]
        return BENCHMARK.score(item, responses).outcome

    assert [outcome(sign * x) for x in (-1.0, 0.0, 1.0)] == ["reversed", "tie", "stereotyped"]


def test_a_prompt_that_is_too_long_has_no_score() -> None:
    item = ITEMS[0]
    responses = [LogLikelihoodResponse((-1.0,), ("w",), 5)] * 3 + [LogLikelihoodResponse((), (), 9999, True)]
    record = BENCHMARK.score(item, responses)
    assert math.isnan(record.score)
    assert record.outcome == "too_long"


def test_a_model_without_a_planted_truth_is_refused() -> None:
    assert BENCHMARK.unsupported(info()) is None
    reason = BENCHMARK.unsupported(replace(info(), planted=None))
    assert reason is not None
    assert "crows_pairs" in reason
