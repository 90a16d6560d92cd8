"""What an arm costs: against the clock, the allocator, the files, and counting by hand."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from biaslab import efficiency
from biaslab.efficiency import SPEEDS, measure, repetition
from biaslab.engine.core import Engine
from biaslab.engine.requests import GenerateResponse
from biaslab.models.loading import describe_embedded, describe_local, load
from biaslab.throughput import EfficiencyConfig, measure_speed, peak_memory
from tests.accel import tiny
from tests.models.make import make_folder

SMALL = EfficiencyConfig(repeats=3, prompt_tokens=16, new_tokens=5, batch=4)


def test_the_peak_is_that_of_all_gpus_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda gpu: forgotten.append(str(gpu)))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda gpu: 10 ** (1 + gpu.index))
    with peak_memory(map(torch.device, ("cuda:1", "cpu", "cuda:0", "cuda:1"))) as peak:
        assert forgotten == ["cuda:0", "cuda:1"]
        assert math.isnan(peak.bytes)
    assert (peak.bytes, peak.reason) == (110.0, "")


def test_a_process_is_no_measure_of_an_arm() -> None:
    with peak_memory([torch.device("cpu")]) as peak:
        pass
    assert math.isnan(peak.bytes)
    assert "only a GPU's allocator" in peak.reason


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
def test_speed_is_tokens_over_the_clock(architecture: str) -> None:
    """Every forward is made to take 20 ms at least, so the speeds are known from above."""
    model = tiny.make(architecture)
    calls: list[int] = []

    def slow(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        calls.append(kwargs["input_ids"].numel())
        time.sleep(0.02)

    handle = model.module.register_forward_pre_hook(slow, with_kwargs=True)
    speed = measure_speed(model, SMALL, ["The sun rises in the east and sets in the west."] * 3)
    handle.remove()
    assert speed.reasons == {}
    assert set(speed.values) == set(SPEEDS)
    for name, most in (("prefill_tokens_per_s", 16 / 0.02), ("decode_tokens_per_s", 1 / 0.02)):
        assert 0.2 * most < speed.values[name] < most
        assert 0.2 * 4 * most < speed.values[f"{name}_batched"] < 4 * most
    per_size = [16, 1, 1] + SMALL.repeats * [16, *[1] * SMALL.new_tokens]  # warm-up, then what is timed
    assert calls == [*per_size, *(4 * n for n in per_size)]


def test_a_spent_budget_takes_no_further_repeat() -> None:
    model = tiny.make("llama")
    calls: list[int] = []
    model.module.register_forward_pre_hook(lambda *_: calls.append(1))
    measure_speed(
        model, EfficiencyConfig(repeats=50, prompt_tokens=4, new_tokens=1, batch=1, budget_s=1e-9), ["x" * 99]
    )
    assert len(calls) == 2 * (3 + 2)


def test_a_window_too_small_is_a_reason_and_no_number() -> None:
    model = tiny.make("llama", max_position_embeddings=4)
    speed = measure_speed(model, SMALL, ["some text"])
    assert speed.values == {}
    assert "in a window of 4" in speed.reasons["decode_tokens_per_s"]


class Says:
    """An engine that gives these texts."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def run(self, _model: Any, requests: Any, **_options: Any) -> list[GenerateResponse]:
        return [GenerateResponse(text, "length", 0, 0) for text, _ in zip(self.texts, requests, strict=False)]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("abcdefgh",), 0.0),
        (("aaaaaaaa",), 4 / 5),  # 5 four-grams, one of them new
        (("abcdabcd",), 1 / 5),  # abcd bcda cdab dabc abcd
        (("abcd", "abcd"), 0.0),  # one text does not repeat another
        (("aaaaaaaa", "abcdefgh"), 4 / 10),
        (("abc",), math.nan),
    ],
)
def test_repetition_by_hand(texts: tuple[str, ...], expected: float) -> None:
    """The tokenizer reads bytes: a letter is a token."""
    found = repetition(tiny.make("llama"), Says(*texts), ["a prompt"] * len(texts), 8)  # type: ignore[arg-type]
    assert found == pytest.approx(expected, nan_ok=True)


def test_all_of_it_on_a_model_as_its_files_have_it(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "half", "llama", dtype="float16")
    model = load(describe_local(str(path)), device="cpu", dtype="float32")
    found = measure(model, Engine(), SMALL, untouched=True)
    assert found["disk_bytes"] == (path / "model.safetensors").stat().st_size
    # float32 in memory, and the rotary frequencies that are computed and not stored
    assert found["weight_bytes"] == pytest.approx(2 * found["disk_bytes"], rel=0.05)
    assert list(found["reasons"]) == ["peak_memory_bytes"]
    assert math.isnan(found["peak_memory_bytes"])
    for name in (*SPEEDS, "perplexity"):
        assert found[name] > 0, name
    assert 0 <= found["repetition"] <= 1
    rewritten = measure(model, Engine(), SMALL, untouched=False)["disk_bytes"]
    assert rewritten == sum(p.numel() * p.element_size() for p in model.module.parameters())


def test_speed_can_be_left_out_and_says_so() -> None:
    model = load(describe_embedded("tiny_llama"), device="cpu", dtype="float32")
    found = measure(model, Engine(), EfficiencyConfig(speed=False), untouched=True)
    assert all(math.isnan(found[name]) for name in (*SPEEDS, "repetition"))
    assert "efficiency.speed=false" in found["reasons"]["decode_tokens_per_s"]
    assert found["perplexity"] > 1


def test_measuring_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model = load(describe_embedded("tiny_llama"), device="cpu", dtype="float32")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    state = torch.random.get_rng_state()
    first = measure(model, Engine(), SMALL, untouched=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    again = measure(model, Engine(), SMALL, untouched=True)
    assert (first["repetition"], first["perplexity"]) == (again["repetition"], again["perplexity"])
    assert first["repetition"] < 0.3  # a good model of its grammar
    assert efficiency.N_WRITTEN == 16
