"""A cell's records are the same in any order and batch, and where memory ran out: compared as they are stored."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pytest
import torch

from biaslab.benchmarks import registry
from biaslab.cell import CellSpec, compute
from biaslab.config import Config, DecodingConfig, PromptConfig
from biaslab.engine.core import Engine
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_embedded, load
from biaslab.results.store import CellRef

BENCHMARKS = ("planted", "planted_choices", "planted_answers")


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(describe_embedded("tiny_llama"), device="cpu", dtype="float32")


def records(model: LoadedModel, name: str, engine: Engine, *, only: Sequence[str] = ()) -> pd.DataFrame:
    """Of the first 48 items, or of `only` those, in that order."""
    benchmark = registry()[name]()
    if only:
        by_id = {item.id: item for item in benchmark.items(model.info)}
        benchmark.items = lambda _info: [by_id[i] for i in only]  # type: ignore[method-assign]
    spec = CellSpec(CellRef(name, "tiny_llama", "none", "0" * 32), benchmark, DecodingConfig(), PromptConfig(), {})
    config = Config(limit=None if only else 48)
    return compute(spec, config, model, engine).records.set_index(["item", "repeat"]).sort_index()


def assert_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert len(wanted) >= 48
    pd.testing.assert_index_equal(found.index, wanted.index)
    numbers = ["score", "detail"]
    pd.testing.assert_frame_equal(found.drop(columns=numbers), wanted.drop(columns=numbers))
    pd.testing.assert_series_equal(found["score"], wanted["score"], atol=1e-4, rtol=0)
    for mine, other in zip(found["detail"], wanted["detail"], strict=True):
        _assert_close(json.loads(mine), json.loads(other))


def _assert_close(a: Any, b: Any) -> None:
    """Details are JSON: numbers within rounding, all else equal."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _assert_close(x, y)
    elif isinstance(a, float):
        assert a == pytest.approx(b, abs=1e-4)
    else:
        assert a == b


@contextmanager
def little_memory(module: Any, room: int) -> Iterator[list[int]]:
    """Forwards of more than `room` tokens run out of memory; yields their sizes."""
    refused: list[int] = []

    def check(_module: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is not None and ids.numel() > room:
            refused.append(ids.numel())
            raise torch.OutOfMemoryError("tried to allocate 3.00 GiB")

    handle = module.base_model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield refused
    finally:
        handle.remove()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_records_are_the_same_where_memory_ran_out(model: LoadedModel, name: str) -> None:
    whole = records(model, name, Engine())
    with little_memory(model.module, 150) as refused:
        found = records(model, name, Engine())
    assert refused
    assert_same(found, whole)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_records_are_the_same_in_any_order_and_batch(model: LoadedModel, name: str) -> None:
    alone = records(model, name, Engine(way="alone"))
    ids = list(alone.index.get_level_values("item"))
    random.Random(1).shuffle(ids)
    assert_same(records(model, name, Engine(), only=ids), alone)
    for engine in (Engine(max_batch=3), Engine(batch_tokens=64), Engine(way="padded", padding_side="left")):
        assert_same(records(model, name, engine), alone)


def test_records_of_another_model_are_not_the_same(model: LoadedModel) -> None:
    """The comparison sees a difference where there is one."""
    other = dataclasses.replace(load(describe_embedded("tiny_mistral"), device="cpu", dtype="float32"), info=model.info)
    with pytest.raises(AssertionError):
        assert_same(records(other, "planted", Engine()), records(model, "planted", Engine()))
