"""What only a real GPU can show. `python -m tests.gpu` runs all of it and prints a table.

Each test puts its figure into the table (`record_property`); a bound that a GPU breaks is a finding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biaslab.accel.active import active_check, reference_logits
from biaslab.efficiency import SPEEDS, measure
from biaslab.engine.core import Engine
from biaslab.engine.requests import Choice, Decoding, Generate, LogLikelihood, Option, Prompt
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_embedded, load
from biaslab.models.placement import Placement
from biaslab.throughput import EfficiencyConfig, peak_memory
from tests.accel.test_contract import CHOICES, from_yaml, quick
from tests.cli.run import biaslab

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

Record = Callable[[str, object], None]
TEXT = ("the doctor said that he was late", "the nurse said that she was tired")
ASKED = [
    *(LogLikelihood(Prompt("", bare=True), text) for text in TEXT),
    Choice(Prompt(TEXT[0], bare=True), (Option("a", (" he",)), Option("b", (" she",)))),
    Generate(Prompt(TEXT[1], bare=True), 8),
]


def model(device: str = "cuda", dtype: str = "float32", **options: Any) -> LoadedModel:
    placement = Placement(device, dtype, **options)
    return load(describe_embedded("tiny_llama"), device=device, dtype=dtype, placement=placement)


def numbers(loaded: LoadedModel) -> list[float]:
    answers: list[Any] = Engine().run(loaded, ASKED, decoding=Decoding())
    return [x for a in answers[:2] for x in a.token_logprobs] + list(answers[2].logprobs)


def furthest(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-3), ("bfloat16", 0.2), ("float16", 0.05)])
def test_scores_are_those_of_the_processor(record_property: Record, dtype: str, most: float) -> None:
    difference = furthest(numbers(model(dtype=dtype)), numbers(model("cpu")))
    record_property("largest |difference| of a log p", difference)
    assert difference < most


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_attention_kernels_agree(record_property: Record, kernel: str) -> None:
    loaded = model(attention=kernel)
    difference = furthest(numbers(loaded), numbers(model("cpu")))
    record_property("largest |difference| of a log p", difference)
    assert loaded.module.config._attn_implementation == kernel
    assert difference < 1e-3


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice not in ("custom", "prequantized")])
def test_accelerator_acts_as_on_the_processor(record_property: Record, choice: str) -> None:
    accel = quick(from_yaml(choice))
    loaded = model(dtype="bfloat16")
    if reason := accel.unsupported(loaded.info, "cuda"):
        pytest.skip(reason)
    before = reference_logits(loaded)
    after = reference_logits(accel.apply(loaded, choice))
    change = active_check(before, after)["max_logit_change"]
    record_property("largest change of a logit", change)
    if accel.kind == "baseline":
        assert change == 0
    elif accel.kind not in ("placebo",):
        assert change > 0


def test_peak_memory_is_the_allocators(record_property: Record) -> None:
    device = torch.device("cuda")
    with peak_memory([device]) as peak:
        block = torch.ones(50_000_000, device=device)
        del block
    record_property("MB of a 200 MB block", peak.bytes / 1e6)
    assert 200e6 <= peak.bytes < 400e6


def test_efficiency_is_measured(record_property: Record) -> None:
    found = measure(model(dtype="bfloat16"), Engine(), EfficiencyConfig(), untouched=True)
    for name in (*SPEEDS, "peak_memory_bytes", "perplexity"):
        record_property(name, found[name])
        assert found[name] > 0
    assert found["reasons"] == {}


def test_weights_that_wait_in_the_hosts_memory_give_the_same_scores(record_property: Record) -> None:
    limits = {"0": 150_000, "cpu": 10**9}
    away = model(device_map="auto", max_memory=limits, offload="cpu")
    difference = furthest(numbers(away), numbers(model("cpu")))
    record_property("largest |difference| of a log p", difference)
    assert "cpu" in {str(place) for place in away.module.hf_device_map.values()}
    assert difference < 1e-3


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_share_a_model(record_property: Record) -> None:
    shared = model(device_map="balanced", max_memory={"0": 200_000, "1": 10**9})
    assert len(set(shared.module.hf_device_map.values())) > 1
    difference = furthest(numbers(shared), numbers(model("cpu")))
    record_property("largest |difference| of a log p", difference)
    assert difference < 1e-3


def test_a_whole_line_on_the_gpu(record_property: Record, tmp_path: Path) -> None:
    ended = biaslab(tmp_path, "accel=hqq4", "benchmark=planted", timeout=280)
    assert ended.code == 0, ended
    cells = [json.loads(path.read_text()) for path in (tmp_path / "outputs/results").rglob("cell.json")]
    assert {cell["placement"]["device"] for cell in cells} == {"cuda"}
    assert {cell["dtype"] for cell in cells} == {"bfloat16"}
    for cell in cells:
        record_property(f"{cell['accel']['label']}: recovery r", cell["metrics"]["recovery_r"]["value"])
        assert cell["metrics"]["recovery_r"]["value"] > 0.9
