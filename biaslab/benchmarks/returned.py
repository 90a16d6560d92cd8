"""What a benchmark's methods return, held to the interface: one line names class, method, file and line.

A class of the user's own is asked all of this before a model loads; every benchmark is, as its cells are computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from biaslab.benchmarks.base import NO_ANSWER, Benchmark, Item, Meta, Metric, Record, wrong_meta
from biaslab.engine.requests import Choice, Generate, LogLikelihood, Option, Prompt, Request, Response
from biaslab.errors import BiaslabError, CellFailed, ConfigError
from biaslab.models.base import ModelInfo
from biaslab.own_code import defined_in

if TYPE_CHECKING:
    import pandas as pd


def items_of(benchmark: Benchmark, model: ModelInfo) -> list[Item]:
    """All items; ConfigError unless they are Items, one at least, with texts for names and ids that occur once."""
    items = _listed(benchmark, "items", benchmark.items(model), "Items")
    seen: set[str] = set()
    for item in items:
        if not isinstance(item, Item):
            raise _wrong(benchmark, "items", f"gave {_value(item)}, not an Item")
        for name in ("id", "cluster", "category", "group"):
            if not isinstance(value := getattr(item, name), str) or not (value or name == "group"):
                raise _wrong(benchmark, "items", f"gave an Item with {name}={value!r}; a text is needed")
        if item.id in seen:
            raise _wrong(benchmark, "items", f"gave the id {item.id!r} twice; each item needs one of its own")
        seen.add(item.id)
    return items


def requests_of(benchmark: Benchmark, item: Item) -> tuple[Request, ...]:
    """What is asked for an item; ConfigError unless it is one request or more, made of what they are made of."""
    requests = _listed(benchmark, "requests", benchmark.requests(item), "requests")
    for request in requests:
        if (wrong := _wrong_request(request)) is not None:
            raise _wrong(benchmark, "requests", f"gave {wrong} for item {item.id}")
    return tuple(requests)


def record_of(benchmark: Benchmark, item: Item, responses: Sequence[Response]) -> Record:
    """An item's record; CellFailed unless its score is a finite number, or NaN exactly where there is no answer."""
    record = benchmark.score(item, responses)
    wrong = ""
    if not isinstance(record, Record):
        wrong = f"gave {_value(record)}, not a Record"
    elif not isinstance(record.score, Real) or math.isinf(record.score):
        wrong = f"gave score={_value(record.score)}; a finite number is needed, or NaN where there is no answer"
    elif not isinstance(record.outcome, str) or not record.outcome:
        wrong = f"gave outcome={record.outcome!r}; a word is needed"
    elif math.isnan(record.score) != (record.outcome in NO_ANSWER):
        wrong = (
            f"gave score={record.score} with outcome={record.outcome!r}; NaN belongs to {', '.join(NO_ANSWER)} alone"
        )
    if wrong:
        raise _wrong(benchmark, "score", f"{wrong} (item {item.id})", CellFailed)
    return record


def metrics_of(benchmark: Benchmark, records: pd.DataFrame) -> dict[str, Metric]:
    """A cell's metrics by name; CellFailed for anything else."""
    metrics: Any = benchmark.metrics(records)
    if not isinstance(metrics, Mapping):
        raise _wrong(benchmark, "metrics", f"gave {_value(metrics)}, not {{name: Metric}}", CellFailed)
    for name, metric in metrics.items():
        if not isinstance(name, str) or not isinstance(metric, Metric):
            raise _wrong(benchmark, "metrics", f"gave {_value(metric)} as {name!r}, not a Metric", CellFailed)
    return dict(metrics)


def check_class(benchmark: Benchmark, asked: Sequence[Sequence[Request]], *, whole: bool) -> None:
    """Raise ConfigError if what the class says of itself is not what it asks: then settings would go unheeded.

    asked : the requests of each item. whole : whether that is every item there is.
    """
    meta: Any = benchmark.description()
    if not isinstance(meta, Meta):
        raise _wrong(benchmark, "description", f"gave {_value(meta)}, not a Meta")
    if (problem := wrong_meta(meta)) is not None:
        raise _wrong(benchmark, "description", f"gave {problem}")
    flat = [request for requests in asked for request in requests]
    generates = any(isinstance(request, Generate) for request in flat)
    if generates and not benchmark.generates:
        words = "gives Generate, so write `generates = True` in the class; without it every decoding would be greedy"
        raise _wrong(benchmark, "requests", words)
    if whole and benchmark.generates and not generates:
        words = "never gives Generate, so leave out `generates = True`; decoding changes nothing"
        raise _wrong(benchmark, "requests", words)
    prompts = [request.context if isinstance(request, LogLikelihood) else request.prompt for request in flat]
    if not benchmark.prompted and not all(prompt.bare for prompt in prompts):
        words = (
            "gives a Prompt without bare=True, so leave out `prompted = False`; with it the chat format would go unused"
        )
        raise _wrong(benchmark, "requests", words)


def _wrong_request(request: Any) -> str | None:
    """What is wrong with a request, or None; a text where a tuple of texts belongs would be taken letter by letter."""
    if isinstance(request, LogLikelihood):
        good = isinstance(request.context, Prompt) and isinstance(request.continuation, str)
        return None if good else f"{_value(request)}; LogLikelihood(Prompt, text) is needed"
    if isinstance(request, Generate):
        good = isinstance(request.prompt, Prompt) and isinstance(request.max_new_tokens, int) and _texts(request.stop)
        good = good and request.max_new_tokens > 0
        return None if good else f"{_value(request)}; Generate(Prompt, number, (text, ...)) is needed"
    if isinstance(request, Choice):
        good = isinstance(request.prompt, Prompt) and isinstance(request.options, tuple | list)
        good = good and len(request.options) > 0 and all(map(_is_option, request.options))
        return None if good else f"{_value(request)}; Choice(Prompt, (Option(label, (spelling, ...)), ...)) is needed"
    return f"{_value(request)}, not a LogLikelihood, Choice or Generate"


def _is_option(option: Any) -> bool:
    return isinstance(option, Option) and _texts(option.spellings) and len(option.spellings) > 0


def _texts(values: Any) -> bool:
    return isinstance(values, tuple | list) and all(isinstance(value, str) for value in values)


def _listed(benchmark: Benchmark, method: str, given: Any, what: str) -> list[Any]:
    """A list of what a method gave, or yielded."""
    if not isinstance(given, Iterable) or isinstance(given, str | Mapping):
        raise _wrong(benchmark, method, f"gave {_value(given)}, not a list of {what}")
    found = list(given)
    if not found:
        raise _wrong(benchmark, method, f"gave no {what.lower()}; one at least is needed")
    return found


def _value(value: Any) -> str:
    """A value's type, and its beginning."""
    shown = " ".join(repr(value).split())
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return shown if shown.startswith(type(value).__name__) else f"{type(value).__name__} {shown}"


def _wrong(benchmark: Benchmark, method: str, words: str, kind: type[BiaslabError] = ConfigError) -> BiaslabError:
    return kind(f"benchmark {benchmark.name}: {defined_in(type(benchmark), method)}: {words}")
