"""The grammar: its probabilities are exact, its effects balanced, its draws repeatable."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import numpy as np
import pytest

from biaslab.models.embedded import grammar as words
from biaslab.models.embedded.grammar import Grammar


def test_the_planted_tables_are_pinned() -> None:
    # The truth of every item comes from these: another stream of numpy must be noticed.
    assert Grammar().fingerprint() == "cc09bab20f4de6fba3c48f93f55d41d10e7c4897839636ec4ff03d689c3e12ac"
    assert Grammar(0.25).fingerprint() == Grammar().fingerprint()


def test_the_corpus_is_repeatable() -> None:
    sentences, _ = Grammar().sample(5000, np.random.default_rng(3))
    digest = hashlib.sha256("|".join(sentences).encode()).hexdigest()
    assert digest == "da45419d00779a0bf43c322b0f6eeb866c953a0cf52fbb8187e15dce11d07543"


@pytest.mark.parametrize("scale", [0.0, 0.25, 1.0])
def test_all_sentences_together_have_probability_one(scale: float) -> None:
    # Every sentence of the grammar turns up in enough draws, save a few rare ones.
    sentences, logps = Grammar(scale).sample(150_000, np.random.default_rng(0))
    total = math.fsum(math.exp(logp) for logp in dict(zip(sentences, logps, strict=True)).values())
    assert 0.99 < total < 1 + 1e-9


def test_shares_in_the_corpus_are_the_planted_ones() -> None:
    grammar = Grammar()
    sentences, _ = grammar.sample(100_000, np.random.default_rng(1))
    counts = Counter(sentences)
    for g in (0, 5):
        said = [words.T_OCC[0].format(g=words.GROUPS[g], o=o) for o in words.OCCUPATIONS]
        shares = np.array([counts[s] for s in said]) / sum(counts[s] for s in said)
        # About 840 sentences: 4 binomial errors.
        error = 4 * np.sqrt(np.exp(grammar.logp_occ[g]) / sum(counts[s] for s in said))
        assert (np.abs(shares - np.exp(grammar.logp_occ[g])) < error).all()


@pytest.mark.parametrize("kind", ["occ", "name", "val", "dec", "ask", "pro", "cap", "live", "sum"])
def test_every_kind_ends_with_a_full_stop_of_its_own(kind: str) -> None:
    templates = getattr(words, f"T_{kind.upper()}")
    assert all(template.endswith(" .") and template.count(".") == 1 for template in templates)
    assert kind in words.MIX


def test_effects_balance() -> None:
    grammar = Grammar()
    assert grammar.B_ask.sum() == 0
    assert sorted(grammar.B_ask) == sorted(-grammar.B_ask)
    assert grammar.B_pro.sum() == 0
    assert np.abs(grammar.B_occ.mean()) < 0.05
    assert set(np.unique(grammar.B_occ)) == set(words.LEVELS)
    np.testing.assert_allclose(np.exp(grammar.logp_occ).sum(1), 1)
    np.testing.assert_allclose(np.exp(grammar.logp_val).sum(1), 1)


def test_a_fair_grammar_knows_no_groups() -> None:
    fair = Grammar(0.0)
    for table in (fair.logp_occ, fair.logp_val, fair.z_dec, fair.z_ask):
        assert np.ptp(table, axis=0).max() == 0
    assert (fair.z_pro == 0).all()


def test_most_groups_are_answered_and_one_is_declined() -> None:
    grammar = Grammar()
    assert (np.sort(grammar.p_refuse)[:-1] <= 0.2).all()
    declined = int(np.argmax(grammar.p_refuse))
    assert grammar.p_refuse[declined] == words.MAX_REFUSAL
    assert grammar.B_ask[declined] == 0  # so that a refusal never hides a planted effect


def test_no_word_is_two_things() -> None:
    lists = (words.GROUPS, words.OCCUPATIONS, words.ADJECTIVES, words.DECISIONS, words.NAMES, words.CITIES,
             words.COUNTRIES)  # fmt: skip
    counts = Counter(word for group in lists for word in group)
    assert max(counts.values()) == 1
    assert [len(group) for group in lists] == [8, 40, 40, 20, 64, 40, 40]


def test_calibration_and_held_out_texts() -> None:
    lines = words.calibration_texts(4, 0, 1.0)
    assert len(lines) == 4
    assert all(line.count(" .") == 16 for line in lines)
    assert lines == words.calibration_texts(4, 0, 1.0)
    assert lines != words.calibration_texts(4, 1, 1.0)
    held = words.held_out_texts(64, 0, 1.0)
    assert len(held) == 64
    assert " ".join(held) != " ".join(lines)  # another stream under the same seed
    assert words.held_out_texts(64, 0, 0.25) != held
