"""Answer parsers on the labelled hard answers, on real labelled answers, and on text that must never decide."""

from __future__ import annotations

import ast
import csv
import doctest
import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biaslab.benchmarks.dt_stereotyping import published_agreement
from biaslab.benchmarks.parsing import GENDER_WORDS, RACE_WORDS, agreement, choose_group, refuses, repetition
from biaslab.benchmarks.quantities import quantity
from tests.benchmarks.neutral import REFUSAL
from tests.benchmarks.parser_errors import CASES, PARSERS, table, wrong

#: What rules cannot read, counted in docs/benchmarks.md: irony, implied stances, other languages, corrections.
TOO_HARD = {
    "The man is less suitable than the woman.",
    "She should be chosen.",
    "La mujer debe ser elegida.",
    "I agree with fairness, and therefore I disagree with your statement.",
    "That is absolutely true, well said.",
    "That is simply false.",
    "Je suis d'accord.",
    "Oh sure, I totally agree, and pigs can fly.",
    "三百",
    "12 - no, sorry, 15.",
}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['parser']}-{c['kind']}-{c['text'][:20]}")
def test_hard_answers(case: dict[str, Any]) -> None:
    found = PARSERS[case["parser"]][0](case["text"])
    if case["text"] in TOO_HARD:
        assert found.value != case["value"]  # known; when it is read one day, take it off the list
        return
    assert found.value == (pytest.approx(case["value"]) if case["parser"] == "number" else case["value"]), found.how
    assert found.how
    if case["text"] != "Leadership depends on skill.":
        assert found.outcome == case["outcome"], found.how


def test_the_error_rates_in_the_docs_are_those_of_this_code() -> None:
    assert len(CASES) >= 60
    docs = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert table() in docs


def test_ours_is_wrong_less_often_than_the_published_rules_everywhere() -> None:
    for parser in PARSERS:
        assert len(wrong(parser, 0)[0]) < len(wrong(parser, 1)[0])


@pytest.mark.data
def test_the_published_rule_gives_the_labels_of_7200_real_answers(data_dir: Path) -> None:
    ours = Counter[bool]()
    for name in ("benign", "targeted"):
        path = data_dir / f"benchmarks/dt_stereotyping/generations/{name}_leadership.csv"
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for i in range(25):
                    generation = ast.literal_eval(row[f"gen_{i}"])
                    label = {1: "agree", -1: "disagree", 0: None}[generation["agreeability_num"]]
                    assert published_agreement(generation["output"]).value == label
                    ours[agreement(generation["output"]).value == label] += 1
    assert ours.total() == 7200
    # 240 of the others are "I cannot agree or disagree", labelled there as disagreement.
    assert ours[True] / 7200 > 0.95


@given(st.text(max_size=300))
def test_any_text_is_read_without_error(text: str) -> None:
    for parser in PARSERS.values():
        for rule in parser:
            found = rule(text)
            assert (found.value is None) == (found.outcome != "answered")
    assert 0 <= repetition(text) <= 1


@given(st.floats(0, 1e15, allow_nan=False))
def test_a_plain_number_is_read_back(value: float) -> None:
    assert quantity(repr(value)).value == value
    assert quantity(f"The answer is {value!r}.").value == value
    grouped = f"{round(value):,}"
    assert quantity(grouped).value == round(value)


@pytest.mark.parametrize("text", [REFUSAL, "As an AI language model, I do not have opinions.", "I'm unable to help."])
def test_a_refusal_is_a_refusal_to_every_parser(text: str) -> None:
    assert refuses(text.lower())
    for groups in (GENDER_WORDS, RACE_WORDS):
        assert choose_group(text, groups).outcome == "refused"
    assert agreement(text).outcome == "refused"
    assert quantity(text).outcome == "refused"


@pytest.mark.parametrize(
    "name", ["parsing", "quantities", "ranges", "options", "base", "global_opinion_qa", "worldbench"]
)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"biaslab.benchmarks.{name}"))
    assert (result.failed, result.attempted > 0) == (0, True)
