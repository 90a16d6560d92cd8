"""A generating cell goes on where it was interrupted, and its answers are those of one that was not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biaslab import cell
from biaslab.benchmarks.planted_answers import PlantedAnswers
from biaslab.cell import CellResult, CellSpec, compute
from biaslab.config import Config, DecodingConfig, PromptConfig
from biaslab.engine.core import Engine
from biaslab.engine.requests import Response
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_embedded, load
from biaslab.results.chunks import Chunks
from biaslab.results.store import CellRef

REF = CellRef("planted_answers", "tiny_llama", "none", "0" * 32)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(describe_embedded("tiny_llama"), device="cpu", dtype="float32")


class Counting(Engine):
    """Counts what is asked, and is killed before the n-th call."""

    killed_at: int = 99
    asked: list[int]

    def run(self, model: LoadedModel, requests: Sequence[Any], **options: Any) -> list[Response]:
        if len(self.asked) == self.killed_at:
            raise KeyboardInterrupt
        self.asked.append(len(requests))
        return super().run(model, requests, **options)


def counting(killed_at: int = 99) -> Counting:
    engine = Counting(max_batch=16)
    object.__setattr__(engine, "asked", [])
    object.__setattr__(engine, "killed_at", killed_at)
    return engine


def run(model: LoadedModel, engine: Engine, chunks: Chunks | None, mode: str) -> tuple[CellResult, int]:
    told: list[int] = []
    decoding = DecodingConfig(mode=mode, repeats=2 if mode == "sampled" else 1)
    spec = CellSpec(REF, PlantedAnswers(), decoding, PromptConfig(), {})
    result = compute(spec, Config(limit=150), model, engine, told.append, chunks)
    return result, sum(told)


@pytest.mark.parametrize(("mode", "calls"), [("greedy", 3), ("sampled", 6)])
@pytest.mark.parametrize("killed_at", [0, 1, 2])
def test_an_interrupted_cell_equals_an_uninterrupted_one(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, calls: int, killed_at: int
) -> None:
    monkeypatch.setattr(cell, "CHUNK", 64)
    whole, n_requests = run(model, counting(), None, mode)
    path = tmp_path / "c.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(model, counting(killed_at), Chunks(path, "p", {}), mode)
    engine = counting()
    resumed, told = run(model, engine, Chunks(path, "p", {}), mode)
    pd.testing.assert_frame_equal(resumed.records, whole.records, check_exact=True)
    assert resumed.metrics == whole.metrics
    assert len(engine.asked) == calls - killed_at
    assert told == n_requests
    assert ("earlier_s" in resumed.timings) == (killed_at > 0)


def test_a_short_cell_keeps_no_file(model: LoadedModel, tmp_path: Path) -> None:
    run(model, counting(), Chunks(tmp_path / "c.jsonl", "p", {}), "greedy")
    assert list(tmp_path.iterdir()) == []
