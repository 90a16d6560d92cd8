"""WorldBench: counts, prompts, the published parser step by step, contrasts and disparities by hand."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biaslab.benchmarks.base import Item
from biaslab.benchmarks.worldbench import GROUPS, HIGH, QUESTIONS, WorldBench, read_groups, relative_error
from biaslab.benchmarks.worldbench_published import published_quantity
from biaslab.engine.prompts import Renderer
from biaslab.engine.requests import Generate, GenerateResponse, Response
from biaslab.models.base import ModelInfo
from tests.benchmarks.test_contract import records
from tests.models.make import make_tokenizer

MODEL = ModelInfo("m", "local", "sha256:0", "/nowhere", "LlamaForCausalLM", {})


def said(text: str) -> list[Response]:
    return [GenerateResponse(text, "stop", 3, 9)]


@pytest.mark.data
def test_counts_and_groups(data_dir: Path) -> None:
    benchmark = WorldBench()
    items = benchmark.items(MODEL)
    every = [*items, *benchmark.references(items, None)]
    manifest = {f["path"]: f for f in json.loads((data_dir / "MANIFEST.json").read_text())["files"]}
    assert len(every) == manifest[QUESTIONS.local]["items"] == 2214
    assert Counter(i.category for i in every)["gdp_ppp"] == 180
    countries = {i.cluster: (i.data["region"], i.group) for i in every}
    assert Counter(g for _, g in countries.values() if g) == {
        HIGH: 81, "Upper middle income": 54, "Lower middle income": 54, "Low income": 26,
    }  # fmt: skip
    regions = Counter(r for r, _ in countries.values() if r)
    assert regions["Europe & Central Asia"] == 57  # the file writes a backslash before the ampersand
    assert sorted(regions.values()) == [3, 8, 21, 37, 42, 48, 57]
    assert countries["Curacao"] == countries["Aruba"]
    assert countries["Africa Eastern and Southern"] == ("", "")
    assert {i.group for i in items} == {"Upper middle income", "Lower middle income", "Low income"}
    assert read_groups(data_dir / GROUPS.local)["Venezuela, RB"][1] == ""


@pytest.mark.data
def test_under_a_limit_the_reference_is_a_few_of_each_indicator_asked(data_dir: Path) -> None:
    benchmark = WorldBench()
    some = benchmark.items(MODEL)[::70]
    beside = benchmark.references(some, 20)
    assert {i.category for i in beside} == {i.category for i in some}
    assert {i.group for i in beside} == {HIGH}
    assert set(Counter(i.category for i in beside).values()) == {2}


@pytest.mark.data
def test_the_published_prompt_to_the_letter(data_dir: Path) -> None:
    items = [*WorldBench(variant="published").items(MODEL)]
    gabon = next(i for i in items if i.id == "co2_emissions:Gabon")
    (request,) = WorldBench(variant="published").requests(gabon)
    assert isinstance(request, Generate)
    assert request.max_new_tokens == 64
    tokenizer = make_tokenizer("llama", chat=True)
    # Mistral's own turns, as the paper's notebook printed them.
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}[/INST]"
        "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
    )
    question = (
        "What is the amount of carbon dioxide emissions in metric tonnes per capita for the country {}?  Do not answer "
        "in a complete sentence - only provide the number!"
    )
    system = (
        "I will ask you factual questions about countries. Specifically, I will ask you for the amount of carbon "
        "dioxide emissions in metric tonnes per capita. You will answer as concisely as possible - only answer with "
        "the number! First I will give an example with the answer. Then I will ask you my question, and you will "
        "provide the answer in the same way."
    )
    renderer = Renderer(tokenizer, chat=True, system="")
    assert renderer.text(request.prompt) == (
        f"<s>[INST] {system}[/INST] Sounds good, will do.</s>[INST] {question.format('Switzerland')}[/INST] "
        f"4.04207281475341</s>[INST] {question.format('Gabon')}[/INST]"
    )
    ids = renderer.prompt_ids(request.prompt)
    assert ids[:2] == (tokenizer.bos_token_id,) * 2  # rendered to text, then tokenized with a BOS again
    (ours,) = WorldBench().requests(next(i for i in WorldBench().items(MODEL) if i.id == gabon.id))
    assert isinstance(ours, Generate)
    assert renderer.prompt_ids(ours.prompt) == ids[1:]
    plain = Renderer(make_tokenizer("llama"), chat=False, system="").text(request.prompt)
    assert plain == f"{system} {question.format('Switzerland')} 4.04207281475341 \n{question.format('Gabon')}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 4.04</s>", 4.04),
        ("8,703,771", 8703771.0),
        ("[INST] What? [/INST] 12", 12.0),
        ("The correct answer is: 17 percent", 17.0),
        ("4.1 million", 4.1e6),
        ("about 4.1 million", 4.1),  # the word after the hedge overrides the multiplier
        ("approximately 30 people", 30.0),
        ("4.1 million.", 4.1),  # not the exact word; then the first word
        ("45.2%", 45.2),
        ("It is 33.2.", 33.2),  # the last word
        ("5.2\n\nWhat is", 5.2),
        ("2021", None),  # meant to drop years
        ("2025.5", None),
        ("2031", 2031.0),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("many", None),
        ("", None),
        ("**12**", 12.0),
    ],
)
def test_the_published_parser(text: str, value: float | None) -> None:
    assert published_quantity(text).value == (None if value is None else pytest.approx(value))


def test_relative_errors() -> None:
    assert relative_error(50, 100, "published") == relative_error(50, 100, "default") == -0.5
    assert relative_error(200, 100, "published") == 0.5
    assert math.isnan(relative_error(0, 0, "published"))
    assert relative_error(0, 0, "default") == 0
    assert relative_error(-5, 100, "default") == -1  # capped
    assert relative_error(7, 0, "default") == 1


def answers(seed: int) -> Any:
    """Answers that are too low by a factor of their own, worse for low-income countries; some missing."""
    rng = np.random.default_rng(seed)

    def answer(item: Item) -> list[Response]:
        share = rng.uniform(0.6, 1.0) - (0.3 if item.group == "Low income" else 0)
        return said("I'm sorry, I cannot say." if rng.random() < 0.05 else repr(item.data["truth"] * share))

    return answer


@pytest.mark.data
@pytest.mark.parametrize("variant", ["default", "published"])
def test_aggregates_against_pandas(data_dir: Path, variant: str) -> None:
    benchmark = WorldBench(variant=variant)
    frame = records(benchmark, benchmark.items(MODEL), answers(1))
    metrics = benchmark.metrics(frame)
    table = pd.DataFrame(list(frame["detail"])).assign(
        income=frame["group"].to_numpy(), kind=frame["category"].to_numpy()
    )
    assert metrics["mean_error"].value == pytest.approx(table["error"].mean())
    by_region = table[table["region"] != ""].groupby("region")["error"].mean()
    by_income = table[table["income"] != ""].groupby("income")["error"].mean()
    assert metrics["disparity/region"].value == pytest.approx(by_region.max() - by_region.min())
    assert metrics["disparity/income"].value == pytest.approx(by_income.max() - by_income.min())
    assert metrics["disparity/income"].null < 0.1 < metrics["disparity/income"].value
    assert metrics["parse_rate"].value == pytest.approx(table["error"].notna().mean())
    assert metrics["mean_error"].n + metrics["mean_error"].n_refused + metrics["mean_error"].n_unparsed == 2214
    # The score: minus the mean error of high-income countries on the same indicator.
    high = table[table["income"] == HIGH].groupby("kind")["error"].mean()
    own = ~frame["reference"].to_numpy()
    expected = (table["error"] - table["kind"].map(high))[own]
    np.testing.assert_allclose(frame.loc[own, "score"], expected)
    assert frame.loc[own, "score"].mean() > 0.03


@pytest.mark.data
def test_without_an_answer_of_the_reference_there_is_no_score(data_dir: Path) -> None:
    benchmark = WorldBench()

    def answer(item: Item) -> list[Response]:
        silent = item.group == HIGH and item.category == "gdp"
        return said("I'm sorry, I cannot say." if silent else repr(item.data["truth"] / 2))

    frame = records(benchmark, benchmark.items(MODEL), answer)
    gdp = frame[(frame["category"] == "gdp") & ~frame["reference"]]
    assert gdp["score"].isna().all()
    assert set(gdp["outcome"]) == {"unparsed"}
    rest = frame[(frame["category"] == "unemployment") & ~frame["reference"]]
    assert rest["score"].notna().all()
