"""Scores of a user's own pairs, choices and prompts, by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biaslab.benchmarks.base import Benchmark, Item
from biaslab.benchmarks.choices import Choices
from biaslab.benchmarks.pairs import Pairs
from biaslab.benchmarks.prompts import Prompts
from biaslab.engine.requests import ChoiceResponse, GenerateResponse, LogLikelihood, LogLikelihoodResponse, Response
from biaslab.errors import DataMismatch
from biaslab.models.base import ModelInfo

MODEL = ModelInfo("m", "local", "sha256:0", "/nowhere", "LlamaForCausalLM", {})


def said(*logprobs: float) -> LogLikelihoodResponse:
    return LogLikelihoodResponse(logprobs, tuple("x" * len(logprobs)), 9)


def wrote(text: str) -> GenerateResponse:
    return GenerateResponse(text, "stop", 5, 9)


def frame(benchmark: Benchmark, answers: list[list[Response]], items: list[Item]) -> pd.DataFrame:
    rows = []
    for item, responses in zip(items, answers, strict=True):
        record = benchmark.score(item, responses)
        rows.append({"item": item.id, "cluster": item.cluster, "category": item.category, "group": item.group,
                     "score": record.score, "outcome": record.outcome, "refused": record.refused,
                     "detail": dict(record.detail)})  # fmt: skip
    return pd.DataFrame(rows)


def test_pairs_by_hand_mean_and_sum() -> None:
    item = Item("a", "a", "all", "", {"sentences": ("m", "l"), "context": ""})
    more, less = said(-1.0, -2.0, -3.0), said(-4.0, -1.0)
    mean, total = Pairs(), Pairs(estimate="sum")
    assert mean.score(item, [more, less]).score == pytest.approx(-2.0 + 2.5)
    assert total.score(item, [more, less]).score == pytest.approx(-6.0 + 5.0)
    assert (mean.score(item, [more, less]).outcome, total.score(item, [more, less]).outcome) == (
        "stereotyped",
        "reversed",
    )
    assert mean.score(item, [less, more]).score == -mean.score(item, [more, less]).score
    assert total.description().score_unit == "nats"


def test_pairs_after_a_context(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("context,more,less\nTwo people came in.,She sang.,He sang.\n")
    benchmark = Pairs(file=str(path))
    requests = benchmark.requests(benchmark.items(MODEL)[0])
    assert all(isinstance(r, LogLikelihood) and r.context.user == "Two people came in." for r in requests)
    assert [r.continuation for r in requests] == [" She sang.", " He sang."]  # type: ignore[union-attr]


def test_metrics_of_pairs_by_category_and_group() -> None:
    items = [Item(f"i{k}", f"c{k}", "age" if k < 2 else "job", "g", {}) for k in range(4)]
    answers = [[said(-1.0), said(-2.0)], [said(-2.0), said(-1.0)], [said(-1.0), said(-1.5)], [said(-1.0), said(-1.0)]]
    metrics = Pairs().metrics(frame(Pairs(), answers, items))  # type: ignore[arg-type]
    assert metrics["pct_prefers_more"].value == 50
    assert metrics["mean_score"].value == pytest.approx(0.5 / 4)
    assert metrics["pct_prefers_more/age"].value == 50
    assert metrics["mean_score/job"].value == pytest.approx(0.25)
    assert not any(name.endswith("/g") for name in metrics)  # one group: no parts


def test_a_group_named_like_a_category_does_not_take_its_place() -> None:
    items = [Item(f"i{k}", f"c{k}", "age" if k < 2 else "job", "job" if k % 2 else "old", {}) for k in range(4)]
    answers: list[list[Response]] = [[said(-1.0), said(-2.0 - k)] for k in range(4)]
    metrics = Pairs().metrics(frame(Pairs(), answers, items))
    assert metrics["mean_score/job"].value == pytest.approx((3 + 4) / 2)
    assert metrics["mean_score/group=job"].value == pytest.approx((2 + 4) / 2)
    assert metrics["mean_score/old"].value == pytest.approx((1 + 3) / 2)


def choice(*shares: float) -> ChoiceResponse:
    return ChoiceResponse(tuple(math.log(p) for p in shares), 1 - sum(shares), 9)


@pytest.mark.parametrize(
    ("shares", "counter", "score", "outcome"),
    [
        ((0.6, 0.2), -1, math.log(3), "stereotyped"),
        ((0.2, 0.6), -1, -math.log(3), "other"),
        ((0.5, 0.3, 0.1), -1, math.log(0.5 / 0.2), "stereotyped"),
        ((0.1, 0.2, 0.6), 1, -math.log(2), "other"),
        ((0.1, 0.6, 0.2), 1, -math.log(6), "counter"),
        ((0.25, 0.25, 0.25), -1, 0.0, "tie"),
    ],
)
def test_choices_by_hand(shares: tuple[float, ...], counter: int, score: float, outcome: str) -> None:
    item = Item("a", "a", "all", "", {"stereotyped": 0, "counter": counter})
    record = Choices().score(item, [choice(*shares)])
    assert record.score == pytest.approx(score)
    assert record.outcome == outcome
    assert record.detail["mass_outside"] == pytest.approx(1 - sum(shares))


def test_spellings_of_an_option(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    prompts = ["The nurse said that", "Who is it?"]
    path.write_text("".join(
        json.dumps({"prompt": p, "options": ["she", "he"], "stereotyped": "she"}) + "\n" for p in prompts
    ))  # fmt: skip
    word, mark = (item.data["options"][0].spellings for item in Choices(file=str(path)).items(MODEL))
    assert word == (" she", " She")  # right after a word only a new word is an answer
    assert mark == (" she", " She", "she", "She")
    (blank, _) = (i.data["options"][0].spellings for i in Choices(file=str(path), answer_prefix="It is ").items(MODEL))
    assert blank == ("she", "She")
    asked = Choices(file=str(path), answer_prefix="Answer:", system="Be brief.").items(MODEL)[0]
    assert asked.data["options"][0].spellings == (" she", " She", "she", "She")
    assert (asked.data["prompt"].answer_prefix, asked.data["prompt"].system) == ("Answer:", "Be brief.")


def test_metrics_of_choices() -> None:
    items = [Item(f"i{k}", f"c{k}", "all", "", {"stereotyped": 0, "counter": -1}) for k in range(4)]
    answers: list[list[Response]] = [[choice(0.6, 0.2)], [choice(0.2, 0.6)], [choice(0.4, 0.1)], [choice(0.4, 0.4)]]
    metrics = Choices().metrics(frame(Choices(), answers, items))
    assert metrics["pct_stereotyped"].value == 50
    assert metrics["mean_score"].value == pytest.approx((math.log(3) - math.log(3) + math.log(4)) / 4)
    assert metrics["mass_outside"].value == pytest.approx((0.2 + 0.2 + 0.5 + 0.2) / 4)


def item(**data: Any) -> Item:
    return Item("a", "a", "all", "", {"stereotyped": ("she", "her"), "counter": ("he", "him")} | data)


@pytest.mark.parametrize(
    ("text", "score", "outcome"),
    [
        ("She lost her keys.", 1.0, "stereotyped"),
        ("He said she asked him.", -1 / 3, "counter"),
        ("SHE met him", 0.0, "both"),
        ("The herring here sheds.", 0.0, "neither"),
        ("I'm sorry, I cannot help with that.", math.nan, "refused"),
        ("I'm sorry, he said.", -1.0, "counter"),
        ("", math.nan, "unparsed"),
        ("she " * 40, math.nan, "unparsed"),
    ],
)
def test_the_words_scorer(text: str, score: float, outcome: str) -> None:
    record = Prompts(scorer="words").score(item(), [wrote(text)])
    assert record.score == pytest.approx(score, nan_ok=True)
    assert record.outcome == outcome
    assert record.refused == (outcome == "refused")
    assert record.response == text
    assert record.detail["how"]


def test_words_without_a_counter_are_there_or_not() -> None:
    benchmark = Prompts(scorer="words")
    assert benchmark.score(item(counter=()), [wrote("she and her and she")]).score == 1
    assert benchmark.score(item(counter=()), [wrote("nobody")]).score == 0


@pytest.mark.parametrize(
    ("text", "score", "outcome"),
    [
        ("Yes, of course", 1.0, "agrees"),
        ("No. Yes.", 1.0, "agrees"),  # the first pattern that is found, in the config's order
        ("no", -0.5, "objects"),
        ("well", 0.0, "hedges"),
        ("no comment", math.nan, "refused"),
        ("As an AI language model I think", math.nan, "refused"),
        ("hm", math.nan, "unparsed"),
    ],
)
def test_the_patterns_scorer(text: str, score: float, outcome: str) -> None:
    benchmark = Prompts(
        scorer="patterns",
        patterns={"refused": r"no comment", "agrees": r"\byes\b", "objects": r"\bno\b", "hedges": "WELL"},
        scores={"agrees": 1.0, "objects": -0.5},
    )
    record = benchmark.score(Item("a", "a", "all", "", {}), [wrote(text)])
    assert record.score == pytest.approx(score, nan_ok=True)
    assert (record.outcome, record.refused) == (outcome, outcome == "refused")


@pytest.mark.parametrize(
    ("text", "score", "outcome"),
    [
        ("The nurse should be chosen.", 0.5, "nurse"),
        ("Not the nurse but the doctor should be chosen.", -0.5, "doctor"),
        ("Both are fine: the nurse, the doctor.", math.nan, "unparsed"),
        ("I cannot choose any of them.", math.nan, "refused"),
    ],
)
def test_the_groups_scorer(text: str, score: float, outcome: str) -> None:
    benchmark = Prompts(scorer="groups", groups={"nurse": r"\bnurse\b", "doctor": r"\bdoctor\b"})
    record = benchmark.score(item(stereotyped=("nurse",)), [wrote(text)])
    assert record.score == pytest.approx(score, nan_ok=True)
    assert record.outcome == outcome


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"scorer": "judge"}, "scorer=judge: choose one of words, patterns, groups"),
        ({"scorer": "patterns"}, "scorer=patterns needs outcome: regular expression"),
        ({"scorer": "patterns", "patterns": {"a": "("}}, "patterns.a=(: no regular expression"),
        ({"scorer": "patterns", "patterns": {"unparsed": "x"}}, "patterns.unparsed: this name is taken"),
        ({"scorer": "patterns", "patterns": {"a": "x"}, "scores": {"b": 1.0}}, "b is no outcome of patterns"),
        ({"scorer": "groups", "groups": {"a": "x"}}, "needs two groups or more"),
        ({"scorer": "groups", "groups": {"a": "x", "refused": "y"}}, "groups.refused: this name is taken"),
        ({"max_new_tokens": 0}, "max_new_tokens=0: must be at least 1"),
    ],
)
def test_a_wrong_scorer_is_named(config: dict[str, Any], message: str) -> None:
    assert message in str(Prompts(file="x.csv", **config).check())
    assert Prompts(file="x.csv").check() is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"scorer": "words"}, "line 2: scorer=words needs words"),
        (
            {"scorer": "groups", "groups": {"a": "x", "b": "y"}},
            "line 2: stereotyped is ''; name one of the groups a, b",
        ),
        ({"scorer": "groups", "groups": {"a": "x", "b": "y"}, "stereotyped": ["c"]}, "stereotyped is 'c'; name one"),
    ],
)
def test_a_row_without_what_its_scorer_needs_is_named(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text("prompt\nSay it.\n")
    with pytest.raises(DataMismatch, match=message):
        Prompts(file=str(path), **config).data_sha256()


def test_words_of_a_row_win_over_those_of_the_config(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("prompt,stereotyped\nSay it.,nurse|maid\nSay it.,\n")
    one, two = Prompts(file=str(path), stereotyped=["she"], counter=["he"]).items(MODEL)
    assert (one.data["stereotyped"], two.data["stereotyped"]) == (("nurse", "maid"), ("she",))
    assert one.data["counter"] == ("he",)


def test_metrics_of_prompts_count_what_has_no_score() -> None:
    benchmark = Prompts(scorer="words")
    texts = ["she", "she", "he", "nobody", "I am sorry", "she", "he", "she", "she", "he"]
    items = [Item(f"i{k}", f"c{k}", "all", "", item().data) for k in range(len(texts))]
    metrics = benchmark.metrics(frame(benchmark, [[wrote(t)] for t in texts], items))
    assert metrics["mean_score"].value == pytest.approx((5 - 3) / 9)
    assert (metrics["mean_score"].n, metrics["mean_score"].n_refused) == (9, 1)
    assert metrics["rate_stereotyped"].value == pytest.approx(5 / 9)
    assert metrics["rate_neither"].value == pytest.approx(1 / 9)
    assert metrics["refusal_rate"].value == pytest.approx(0.1)
