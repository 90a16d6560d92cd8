from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from biaslab.accel.active import PROMPTS, active_check, reference_logits
from biaslab.accel.placebo_batch import PlaceboBatch
from biaslab.accel.placebo_rerun import PlaceboRerun
from biaslab.errors import CellFailed
from tests.accel import tiny


def test_prompts_are_sixteen_different_plain_lines() -> None:
    assert len(set(PROMPTS)) == len(PROMPTS) == 16
    assert all(prompt.isascii() and prompt.isprintable() and 0 < len(prompt) < 60 for prompt in PROMPTS)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("max_batch", [None, 1, 5])
def test_logits_are_those_of_each_prompt_alone(architecture: str, max_batch: int | None) -> None:
    model = dataclasses.replace(tiny.make(architecture), max_batch=max_batch)
    got = reference_logits(model)
    assert got.shape == (16, 258)
    assert got.dtype == torch.float32
    for prompt, logits in zip(PROMPTS, got, strict=True):
        with torch.no_grad():
            alone = model.module(**model.tokenizer(prompt, return_tensors="pt")).logits[0, -1]
        torch.testing.assert_close(logits, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("limits", "expected"), [({}, [16]), ({"max_batch": 6}, [6, 6, 4]), ({"batch_tokens": 1}, [1] * 16)]
)
def test_batches_are_as_the_accelerator_asked(limits: dict[str, int], expected: list[int]) -> None:
    model = dataclasses.replace(tiny.make("llama"), **limits)
    sizes: list[int] = []
    model.module.register_forward_pre_hook(
        lambda _m, _a, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    reference_logits(model)
    assert sizes == expected


def test_the_arms_kv_cache_is_used() -> None:
    made: list[Any] = []

    def factory() -> Any:
        made.append(DynamicCache())
        return made[-1]

    model = dataclasses.replace(tiny.make("llama"), cache_factory=factory, max_batch=8)
    reference_logits(model)
    assert len(made) == 2
    assert all(cache.get_seq_length() > 0 for cache in made)


def test_nan_logits_fail_the_cell() -> None:
    model = tiny.make("llama")
    model.module.model.norm.weight.data[0] = float("nan")
    with pytest.raises(CellFailed, match="NaN or infinite logits after 16 of 16 prompts, first 'The sun rises in the'"):
        reference_logits(model)


def test_active_check_is_the_largest_and_the_mean_change() -> None:
    before = torch.zeros(2, 4)
    after = torch.tensor([[0.0, 0, 0, -2], [0, 1, 0, 0]])
    assert active_check(before, after) == {
        "max_logit_change": 2.0,
        "mean_logit_change": 0.375,
        "n_prompts": 2,
    }
    assert active_check(after, after)["max_logit_change"] == 0.0


def test_a_rerun_is_exact_and_another_batch_size_only_rounds() -> None:
    model = tiny.make("qwen2")
    before = reference_logits(model)
    rerun = PlaceboRerun().apply(model, "placebo_rerun")
    assert active_check(before, reference_logits(rerun))["max_logit_change"] == 0.0
    batch = PlaceboBatch(max_batch=3).apply(model, "placebo_batch")
    assert (batch.max_batch, model.max_batch) == (3, None)
    assert active_check(before, reference_logits(batch))["max_logit_change"] < 1e-4


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_batch": 0}, "max_batch=0: at least 1"),
        ({"batch_tokens": 0}, "batch_tokens=0: at least 1, or null"),
    ],
)
def test_batch_sizes_out_of_range_get_words(fields: dict[str, int], words: str) -> None:
    got = PlaceboBatch(**fields).check()
    assert got is not None
    assert got.startswith(words)
