"""What every benchmark must hold, found by the registry: a new one is tested on arrival."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from biaslab.benchmarks import registry
from biaslab.benchmarks.base import NO_ANSWER, VARIANTS, Benchmark, Item, Record
from biaslab.benchmarks.sources import is_here
from biaslab.config import LABEL
from biaslab.engine.requests import (
    Choice,
    ChoiceResponse,
    Generate,
    LogLikelihood,
    LogLikelihoodResponse,
    Request,
    Response,
)
from biaslab.models.base import ModelInfo, Planted
from tests.benchmarks.neutral import NEUTRAL, refusal, too_long, uniform

MODEL = ModelInfo("tiny", "embedded", "sha256:0", "", "LlamaForCausalLM", {}, planted=Planted(1.0))


def configurations() -> list[tuple[str, str]]:
    """(name, variant) of every benchmark; "" where there are no variants."""
    found = []
    for name, cls in sorted(registry().items()):
        has_variants = any(field.name == "variant" for field in dataclasses.fields(cls))
        found += [(name, variant) for variant in (VARIANTS if has_variants else ("",))]
    return found


@pytest.fixture(params=configurations(), ids=lambda c: "-".join(filter(None, c)))
def benchmark_(request: pytest.FixtureRequest) -> Benchmark:
    name, variant = request.param
    cls = registry()[name]
    if any(not is_here(file) for file in cls.files):
        request.getfixturevalue("data_dir")  # skips, or fails where the files must be
    return cls(**cls.test_config(), **({"variant": variant} if variant else {}))


def records(benchmark: Benchmark, items: Sequence[Item], answer: Callable[[Item], Sequence[Response]]) -> pd.DataFrame:
    """What a cell's records are before they are written: items and what is asked beside them, contrasted."""
    rows = []
    beside = benchmark.references(items, None)
    for item in (*items, *beside):
        record: Record = benchmark.score(item, answer(item))
        rows.append(
            {
                "item": item.id, "cluster": item.cluster, "category": item.category, "group": item.group, "repeat": 0,
                "score": record.score, "outcome": record.outcome, "refused": record.refused, "truth": item.truth,
                "prompt_tokens": 5, "response": record.response, "detail": dict(record.detail),
            }
        )  # fmt: skip
    frame = pd.DataFrame(rows)
    frame["reference"] = [False] * len(items) + [True] * len(beside)
    return benchmark.contrast(frame) if beside else frame


def each(benchmark: Benchmark, answer: Callable[[Request], Response]) -> Callable[[Item], list[Response]]:
    return lambda item: [answer(request) for request in benchmark.requests(item)]


def neutral(benchmark: Benchmark) -> Callable[[Item], Sequence[Response]]:
    """The first of the answers an unbiased model gives."""
    if benchmark.name in NEUTRAL:
        return lambda item: NEUTRAL[benchmark.name](item)[0]
    return each(benchmark, uniform)


def test_it_documents_itself(benchmark_: Benchmark) -> None:
    cls = type(benchmark_)
    assert cls.name
    assert cls.version >= 1
    assert (cls.__doc__ or "").strip()
    for field in ("title", "source", "licence", "score_unit", "score_kind", "formula", "cluster"):
        assert getattr(cls.meta, field), field
    assert cls.meta.score_kind in ("log-odds", "log-prob", "rate")
    assert (Path(__file__).parents[2] / "conf" / "benchmark" / f"{cls.name}.yaml").is_file()


def test_items_are_unique_ordered_and_quick(benchmark_: Benchmark) -> None:
    start = time.perf_counter()
    items = benchmark_.items(MODEL)
    assert time.perf_counter() - start < 2
    assert len({item.id for item in items}) == len(items) > 0
    assert all(item.cluster and item.category for item in items)
    again = type(benchmark_)(**benchmark_.test_config()).items(MODEL)
    assert [item.id for item in again] == [item.id for item in items]


def test_items_are_the_same_for_every_model(benchmark_: Benchmark) -> None:
    other = ModelInfo("other", "embedded", "sha256:1", "", "MistralForCausalLM", {}, planted=Planted(0.25))
    for mine, theirs in zip(benchmark_.items(MODEL), benchmark_.items(other), strict=True):
        assert (mine.id, mine.cluster, mine.data) == (theirs.id, theirs.cluster, theirs.data)


def test_requests_are_deterministic_and_of_the_declared_kind(benchmark_: Benchmark) -> None:
    kinds = set()
    for item in benchmark_.items(MODEL)[:200]:
        requests = benchmark_.requests(item)
        assert requests
        assert requests == benchmark_.requests(item)
        kinds |= {isinstance(request, Generate) for request in requests}
    assert (True in kinds) == benchmark_.generates


def test_a_neutral_model_scores_neutral(benchmark_: Benchmark) -> None:
    items = benchmark_.items(MODEL)
    answers = NEUTRAL.get(benchmark_.name, lambda item: [each(benchmark_, uniform)(item)])
    n = math.lcm(*{len(answers(item)) for item in items})  # every item gives each of its answers equally often
    scores = []
    for k in range(n):
        frame = records(benchmark_, items, lambda item, k=k: answers(item)[k % len(answers(item))])
        scores.append(frame.loc[~frame["reference"], "score"])
    assert pd.concat(scores).mean() == pytest.approx(benchmark_.meta.neutral, abs=1e-9)


def test_a_model_that_answers_nothing_scores_nan_with_a_reason(benchmark_: Benchmark) -> None:
    assert_no_answers(benchmark_, too_long, "too_long")


def test_a_model_that_refuses_everything_scores_nan_with_a_reason(benchmark_: Benchmark) -> None:
    if benchmark_.generates:
        assert_no_answers(benchmark_, refusal, "refused")


def assert_no_answers(benchmark: Benchmark, answer: Callable[[Request], Response], outcome: str) -> None:
    frame = records(benchmark, benchmark.items(MODEL)[:50], each(benchmark, answer))
    assert frame["score"].isna().all()
    assert set(frame["outcome"]) == {outcome}
    assert frame["refused"].all() == (outcome == "refused")
    means = [metric for name, metric in benchmark.metrics(frame).items() if "rate" not in name]
    assert means
    assert all(math.isnan(metric.value) and metric.reason for metric in means)


def test_swapping_two_requests_flips_the_sign(benchmark_: Benchmark) -> None:
    """Where an item is a contrast of two requests, exchanging their answers must give the opposite."""

    def answer(request: Request) -> Response:
        draw = random.Random(str(request))
        if isinstance(request, LogLikelihood):
            tokens = tuple(request.continuation.split()) or ("x",)
            return LogLikelihoodResponse(tuple(-draw.random() for _ in tokens), tokens, 5)
        assert isinstance(request, Choice)
        p = [draw.random() for _ in request.options]
        return ChoiceResponse(tuple(math.log(x / sum(p) * 0.9) for x in p), 0.1, 5)

    items = [item for item in benchmark_.items(MODEL)[:300] if len(benchmark_.requests(item)) == 2]
    for item in items:
        if not benchmark_.generates:
            there = [answer(request) for request in benchmark_.requests(item)]
            one, other = benchmark_.score(item, there), benchmark_.score(item, there[::-1])
            assert one.score == pytest.approx(-other.score), item.id


def test_metrics_do_not_depend_on_the_order_of_records(benchmark_: Benchmark) -> None:
    def answer(item: Item) -> Sequence[Response]:
        found = []
        for request, response in zip(benchmark_.requests(item), neutral(benchmark_)(item), strict=True):
            if isinstance(response, LogLikelihoodResponse):
                noise = random.Random(str(request)).random()
                moved = tuple(lp - noise for lp in response.token_logprobs)
                response = LogLikelihoodResponse(moved, response.tokens, 5)
            found.append(response)
        return found

    frame = records(benchmark_, benchmark_.items(MODEL), answer)
    one = benchmark_.metrics(frame)
    two = benchmark_.metrics(frame.sample(frac=1, random_state=1).reset_index(drop=True))
    assert list(one) == list(two)
    for name in one:
        assert one[name].value == pytest.approx(two[name].value, nan_ok=True), name
        assert one[name].ci_low == pytest.approx(two[name].ci_low, nan_ok=True), name


def test_no_score_exactly_when_no_answer(benchmark_: Benchmark) -> None:
    for answer in (neutral(benchmark_), each(benchmark_, too_long)):
        frame = records(benchmark_, benchmark_.items(MODEL)[:100], answer)
        assert (frame["score"].isna() == frame["outcome"].isin(NO_ANSWER)).all()


def test_a_variant_and_other_data_show_in_label_and_title(benchmark_: Benchmark) -> None:
    label, title = benchmark_.label(), benchmark_.description().title
    assert benchmark_.check() is None
    assert LABEL.fullmatch(label)
    if getattr(benchmark_, "variant", "default") != "default":
        assert label != type(benchmark_)(**benchmark_.test_config()).label()
        assert "published variant" in title
