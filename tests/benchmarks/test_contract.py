"""What every benchmark must hold, found by the registry: a new one is tested on arrival."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biaslab.benchmarks import registry
from biaslab.benchmarks.base import NO_ANSWER, Benchmark, Item, Record
from biaslab.benchmarks.sources import is_here
from biaslab.engine.requests import (
    Choice,
    ChoiceResponse,
    Generate,
    GenerateResponse,
    LogLikelihood,
    LogLikelihoodResponse,
    Request,
    Response,
)
from biaslab.models.base import ModelInfo, Planted

MODEL = ModelInfo("tiny", "embedded", "sha256:0", "", "LlamaForCausalLM", {}, planted=Planted(1.0))


@pytest.fixture(params=sorted(registry()))
def benchmark_(request: pytest.FixtureRequest) -> Benchmark:
    cls = registry()[request.param]
    if any(not is_here(file) for file in cls.files):
        request.getfixturevalue("data_dir")  # skips, or fails where the files must be
    return cls(**cls.test_config())


def neutral(request: Request) -> Response:
    """What a model answers that gives every token and every option the same probability."""
    if isinstance(request, LogLikelihood):
        n = max(1, len(request.continuation.split()))
        return LogLikelihoodResponse((-1.0,) * n, tuple(request.continuation.split()) or ("x",), 5)
    if isinstance(request, Choice):
        n = len(request.options)
        return ChoiceResponse((-math.log(n),) * n, 0.0, 5)
    return GenerateResponse(" yes", "stop", 1, 5)


def too_long(request: Request) -> Response:
    if isinstance(request, LogLikelihood):
        return LogLikelihoodResponse((), (), 9999, too_long=True)
    if isinstance(request, Choice):
        return ChoiceResponse((), math.nan, 9999, too_long=True)
    return GenerateResponse("", "too_long", 0, 9999, too_long=True)


def records(benchmark: Benchmark, items: Sequence[Item], answer: Any) -> pd.DataFrame:
    rows = []
    for item in items:
        record: Record = benchmark.score(item, [answer(request) for request in benchmark.requests(item)])
        rows.append(
            {
                "item": item.id, "cluster": item.cluster, "category": item.category, "group": item.group, "repeat": 0,
                "score": record.score, "outcome": record.outcome, "refused": record.refused, "truth": item.truth,
                "prompt_tokens": 5, "response": record.response, "detail": dict(record.detail),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


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
    frame = records(benchmark_, benchmark_.items(MODEL), neutral)
    assert frame["score"].mean() == pytest.approx(benchmark_.meta.neutral, abs=1e-9)


def test_a_model_that_answers_nothing_scores_nan_with_a_reason(benchmark_: Benchmark) -> None:
    frame = records(benchmark_, benchmark_.items(MODEL)[:50], too_long)
    assert frame["score"].isna().all()
    assert set(frame["outcome"]) == {"too_long"}
    metrics = benchmark_.metrics(frame)
    means = [metric for name, metric in metrics.items() if "rate" not in name]
    assert means
    assert all(math.isnan(metric.value) and metric.reason for metric in means)


def test_metrics_do_not_depend_on_the_order_of_records(benchmark_: Benchmark) -> None:
    def answer(request: Request) -> Response:
        response = neutral(request)
        if isinstance(response, LogLikelihoodResponse):
            return LogLikelihoodResponse(
                tuple(lp - (hash(str(request)) % 97) / 97 for lp in response.token_logprobs), response.tokens, 5
            )
        return response

    frame = records(benchmark_, benchmark_.items(MODEL), answer)
    one = benchmark_.metrics(frame)
    two = benchmark_.metrics(frame.sample(frac=1, random_state=1).reset_index(drop=True))
    assert list(one) == list(two)
    for name in one:
        assert one[name].value == pytest.approx(two[name].value, nan_ok=True), name
        assert one[name].ci_low == pytest.approx(two[name].ci_low, nan_ok=True), name


def test_no_score_exactly_when_no_answer(benchmark_: Benchmark) -> None:
    for answer in (neutral, too_long):
        frame = records(benchmark_, benchmark_.items(MODEL)[:100], answer)
        assert (frame["score"].isna() == frame["outcome"].isin(NO_ANSWER)).all()
