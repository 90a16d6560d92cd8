from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from biaslab.accel.active import PROMPTS, active_check, reference_logits
from biaslab.accel.placebo_batch import PlaceboBatch
from biaslab.accel.placebo_dtype import PlaceboDtype
from biaslab.accel.placebo_rerun import PlaceboRerun
from biaslab.errors import CellFailed, ConfigError
from biaslab.models.loading import describe_local, load
from tests.accel import tiny
from tests.models.make import make_folder


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_another_dtype_is_the_model_as_loaded_in_it(tmp_path: Path, kind: str, dtype: str) -> None:
    info = describe_local(str(make_folder(tmp_path / kind, kind)))
    placebo = PlaceboDtype(dtype=dtype).apply(load(info, device="cpu", dtype="float32"), "placebo_dtype")
    loaded = load(info, device="cpu", dtype=dtype)
    assert placebo.dtype == loaded.dtype
    assert torch.equal(reference_logits(placebo), reference_logits(loaded))
    assert placebo.facts[0].values["dtype"] == dtype


def test_the_other_dtype_is_never_the_arms_own() -> None:
    for own, other in ((torch.float32, "bfloat16"), (torch.bfloat16, "float16"), (torch.float16, "bfloat16")):
        model = PlaceboDtype().apply(tiny.make("llama", dtype=own), "placebo_dtype")
        assert model.facts[0].values["dtype"] == other
    with pytest.raises(ConfigError, match=r"placebo_dtype.dtype=bfloat16: the arms compute in it already"):
        PlaceboDtype(dtype="bfloat16").apply(tiny.make("llama", dtype=torch.bfloat16), "placebo_dtype")
    assert PlaceboDtype(dtype="float32").check() == "dtype=float32: one of other, bfloat16, float16"
