from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.weightstats import ttost_paired

from analysis.clusters import partition
from analysis.errors import AnalysisError
from analysis.estimates import cluster_mean, missing
from analysis.settings import Margins, Settings
from analysis.study import Difference, Estimate, Omnibus, Shift
from analysis.verdict import (
    CellVerdict,
    benchmark_verdict,
    cell_verdict,
    clusters_needed,
    equivalence_margin,
    within,
)
from analysis.words import listing, p_text, signed


def estimate(value: float, se: float, p_adjusted: float = math.nan, n: int = 21) -> Estimate:
    from scipy import stats

    half = float(stats.t.ppf(0.975, n - 1)) * se
    return Estimate(value, se, value - half, value + half, 0.5, 100, n, p_adjusted)


def judge(e: Estimate, margin: float, *, part: str = "tested", direction: str | None = "x") -> CellVerdict:
    return cell_verdict(e, margin, part=part, unit="log-odds", direction=direction, alpha=0.05, power=0.8)


@pytest.mark.parametrize("seed", range(20))
def test_within_is_two_one_sided_tests_as_statsmodels_has_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = rng.normal(size=40)
    after = before + rng.normal(0.05, 0.3, 40)
    p, _, _ = ttost_paired(after, before, -0.12, 0.12)
    assert within(cluster_mean(after - before, partition(range(40))), 0.12, 0.05) == (p < 0.05)


def test_both_answers_occur_in_that_comparison() -> None:
    answers = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        before = rng.normal(size=40)
        after = before + rng.normal(0.05, 0.3, 40)
        answers.add(within(cluster_mean(after - before, partition(range(40))), 0.12, 0.05))
    assert answers == {True, False}


@pytest.mark.parametrize(
    ("e", "margin", "verdict"),
    [
        (estimate(0.01, 0.02, 0.6), 0.1, "unchanged"),
        (estimate(0.05, 0.01, 0.001), 0.1, "unchanged"),
        (estimate(0.3, 0.05, 0.001), 0.1, "changed"),
        (estimate(0.3, 0.2, 0.2), 0.1, "inconclusive"),
        (estimate(0.0, 0.2, 1.0), 0.1, "inconclusive"),
    ],
)
def test_the_verdict_of_a_cell(e: Estimate, margin: float, verdict: str) -> None:
    result = judge(e, margin)
    assert result.verdict == verdict
    assert result.sentence.lower().startswith(verdict)


def test_a_detectable_change_inside_the_margin_is_unchanged_and_said() -> None:
    assert "detectable, but smaller" in judge(estimate(0.05, 0.01, 0.001), 0.1).sentence


def test_the_direction_is_spoken_of_only_where_there_is_one() -> None:
    assert "towards the stereotype" in judge(estimate(0.3, 0.05, 0.001), 0.1).sentence
    assert "away from the stereotype" in judge(estimate(-0.3, 0.05, 0.001), 0.1).sentence
    assert "stereotype" not in judge(estimate(0.3, 0.05, 0.001), 0.1, direction=None).sentence


def test_cells_that_are_not_judged() -> None:
    assert judge(estimate(0.3, 0.05, 0.001), 0.1, part="placebo").verdict == "placebo"
    assert judge(cluster_mean(np.zeros(4), partition("abcd")), 0.1, part="inert").verdict == "inert"
    assert judge(cluster_mean(np.zeros(4), partition("abcd")), 0.1).verdict == "exactly unchanged"
    assert judge(missing("nothing was answered"), 0.1) == CellVerdict("missing", "No shift: nothing was answered.")


def test_one_cluster_is_inconclusive_for_want_of_an_error() -> None:
    result = judge(cluster_mean(np.array([1.0, 2.0]), partition("aa")), 0.1)
    assert result.verdict == "inconclusive"
    assert "1 cluster" in result.sentence
    assert result.needed_clusters is None


@pytest.mark.parametrize(("value", "se", "margin"), [(0.02, 0.2, 0.1), (0.3, 0.2, 0.1), (0.09, 0.05, 0.1)])
def test_the_clusters_needed_settle_it_as_often_as_said(value: float, se: float, margin: float) -> None:
    """4,000 studies of that size, drawn and judged."""
    needed = clusters_needed(estimate(value, se, 0.5), margin, 0.05, 0.8)
    assert needed is not None
    assert needed > 21
    rng = np.random.default_rng(0)
    error = se * math.sqrt(21 / needed)
    settled = []
    for _ in range(4000):
        spread = error * math.sqrt(rng.chisquare(needed - 1) / (needed - 1))
        one = estimate(rng.normal(value, error), spread, n=needed)
        settled.append(within(one, margin, 0.05) or one.ci_low * one.ci_high > 0)
    assert float(np.mean(settled)) == pytest.approx(0.8, abs=0.04)


def test_no_number_of_clusters_shows_a_margin_of_nothing() -> None:
    assert clusters_needed(estimate(0.0, 0.2), 1e-9, 0.05, 0.8) is None


def test_margins_by_kind_of_score() -> None:
    settings = Settings(margins=Margins(log_odds_sd=0.2, rate=0.03))
    assert equivalence_margin("b", "log-odds", 2.0, settings) == pytest.approx(0.4)
    assert equivalence_margin("b", "log-prob", 1.0, settings) == pytest.approx(0.2)
    assert equivalence_margin("b", "rate", 2.0, settings) == 0.03
    settings.margins.by_benchmark["b"] = 0.5
    assert equivalence_margin("b", "log-odds", 2.0, settings) == 0.5
    assert equivalence_margin("other", "log-odds", 2.0, settings) == pytest.approx(0.4)
    with pytest.raises(AnalysisError, match="score_kind 'distance': choose one of log-odds, log-prob, rate"):
        equivalence_margin("other", "distance", 1.0, settings)


def omnibus(p: float, n_clusters: int = 20, reason: str = "") -> Omnibus:
    return Omnibus(p, p, p, p, n_clusters, 100, 1, 999, False, reason)


def pair(value: float, se: float, p: float, *, margin: float = 0.1) -> tuple[list[Difference], list[Shift]]:
    differences = [
        Difference("a", "q", estimate(-value, se, p), margin),
        Difference("b", "q", estimate(value, se, p), margin),
    ]
    shifts = [
        Shift("a", "q", estimate(0.01, se), margin, "unchanged", ""),
        Shift("b", "q", estimate(value, se), margin, "changed", ""),
    ]
    return differences, shifts


def verdict(o: Omnibus, d: tuple[list[Difference], list[Shift]]) -> tuple[str, str]:
    return benchmark_verdict(o, *d, unit="log-odds", alpha=0.05)


def test_an_interaction_names_the_model_that_moved() -> None:
    word, sentence = verdict(omnibus(0.001), pair(0.4, 0.05, 0.001))
    assert word == "interaction"
    assert "under q the shift of b differs from the other models' by +0.4 log-odds" in sentence
    assert "shift of a" not in sentence


def test_an_interaction_without_a_single_cell() -> None:
    word, sentence = verdict(omnibus(0.03), pair(0.4, 0.3, 0.2))
    assert (word, "no single cell stands out" in sentence) == ("interaction", True)


def test_a_large_p_is_never_no_interaction() -> None:
    word, sentence = verdict(omnibus(0.9), pair(0.05, 0.2, 0.9))
    assert word == "undecided"
    assert "none is excluded" in sentence


def test_additive_needs_every_difference_inside_the_margin() -> None:
    assert verdict(omnibus(0.9), pair(0.01, 0.02, 0.9))[0] == "additive"
    mixed, shifts = pair(0.01, 0.02, 0.9)
    wide = [*mixed, replace(mixed[0], model="c", estimate=estimate(0.09, 0.05, 0.5))]
    assert verdict(omnibus(0.9), (wide, shifts))[0] == "undecided"
    beside = [*mixed, replace(mixed[0], model="c", estimate=estimate(0.09, 0.05, 0.5), tested=False)]
    assert verdict(omnibus(0.9), (beside, shifts))[0] == "additive"


def test_what_cannot_be_tested_is_said() -> None:
    word, sentence = verdict(omnibus(math.nan, reason="only one model (a) was measured"), ([], []))
    assert (word, "only one model" in sentence) == ("cannot be tested", True)


def test_words() -> None:
    assert [signed(x) for x in (0.1234, -2.0, 0.0, math.nan)] == ["+0.123", "-2", "0", "not known"]
    assert [p_text(x) for x in (0.0421, 0.00003, math.nan)] == ["p = 0.042", "p < 0.0001", "no p"]
    assert listing([]) == "none"
    assert listing(["a"]) == "a"
