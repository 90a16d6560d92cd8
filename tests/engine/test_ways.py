"""The fastest way that is exact is taken, and only that one."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from biaslab.engine import scoring, ways
from biaslab.engine.batching import Batch
from biaslab.engine.core import Engine
from biaslab.engine.onednn import LEAST_TOKENS, quick_products
from biaslab.engine.requests import Decoding, Generate, LogLikelihood, Prompt
from biaslab.errors import CellFailed
from biaslab.models.base import BY_TOKEN, GENERATED_ONLY, WHOLE, LoadedModel
from biaslab.models.loading import load
from tests.engine.conftest import MakeModel
from tests.models.make import KINDS, SLIDING_WINDOW, TEXT

#: More rows by far than the trial of a way asks, and answers, one at a time.
PARTS = [text[start:] for text in TEXT for start in range(0, 50, 7)]
SENTENCES = [LogLikelihood(Prompt("", bare=True), part[:n]) for part in PARTS for n in (15, 30, 45, 80)]


def score(model: LoadedModel, way: str = "auto", **limits: Any) -> list[tuple[float, ...]]:
    answers = Engine(way=way, **limits).run(model, SENTENCES, decoding=Decoding())
    return [answer.token_logprobs for answer in answers]  # type: ignore[union-attr]


def own(model: LoadedModel) -> LoadedModel:
    """A model whose module is this test's to change."""
    return dataclasses.replace(model, module=copy.deepcopy(model.module))


class PerTensor(torch.nn.Linear):
    """Dynamic 8-bit activations with one scale for all that is in the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        step = x.abs().max() / 7
        return super().forward((x / step).round() * step)


def assert_close(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_is_packed_and_gives_the_numbers_of_one_row_at_a_time(
    make_model: MakeModel, kind: str
) -> None:
    model = make_model(kind)
    alone = score(model, "alone")
    for limits in ({}, {"batch_tokens": 40}, {"max_batch": 3}):
        assert_close(score(model, **limits), alone)
        assert model.asked == "packed"


def test_rows_that_the_trial_asked_one_at_a_time_are_not_asked_again(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batches = make_model("llama"), []
    plain = scoring.score_rows

    def listed(model: LoadedModel, rows: Sequence[scoring.Row], *args: Any) -> list[tuple[int, np.ndarray]]:
        batches.append((args[-1], [row.ids for row in rows]))
        return plain(model, rows, *args)

    monkeypatch.setattr(ways, "score_rows", listed)
    monkeypatch.setattr(scoring, "score_rows", listed)
    done: list[int] = []
    Engine().run(model, SENTENCES, decoding=Decoding(), on_progress=done.append)
    alone = [ids for way, rows in batches for ids in rows if way == "alone"]
    trial, *packs = [rows for way, rows in batches if way == "packed"]
    assert sorted(alone) == sorted(trial)
    asked = [ids for rows in packs for ids in rows]
    assert len(asked) == len(set(asked)) > 20
    assert set(asked).isdisjoint(alone)
    assert sum(done) == len(SENTENCES)


def test_rows_longer_than_a_sliding_window_are_packed_right(make_model: MakeModel) -> None:
    model = make_model("mistral")
    lengths = [len(model.tokenizer(s.continuation)["input_ids"]) for s in SENTENCES]
    assert max(lengths) > 2 * SLIDING_WINDOW
    alone = score(model, "alone")
    assert_close(score(model), alone)
    assert model.asked == "packed"


def test_a_layer_that_looks_at_the_whole_batch_is_asked_one_row_at_a_time(make_model: MakeModel) -> None:
    model = own(make_model("llama"))
    for layer in model.module.model.layers:
        layer.mlp.down_proj.__class__ = PerTensor
    found = score(model)
    assert model.asked == "alone"
    assert_close(found, score(model, "alone"))
    padded = score(model, "padded")
    assert max(np.abs(np.subtract(x, y)).max() for x, y in zip(found, padded, strict=True)) > 1e-2


@pytest.mark.parametrize(
    ("use", "asked"), [(WHOLE, "padded"), (BY_TOKEN, "token by token"), (GENERATED_ONLY, "packed")]
)
def test_the_record_says_how_an_arms_cache_was_read(make_model: MakeModel, use: str, asked: str) -> None:
    model = dataclasses.replace(make_model("llama"), cache_factory=DynamicCache, cache_use=use)
    assert_close(score(model), score(make_model("llama"), "alone"))
    assert model.asked == asked


def test_a_cache_beside_a_layer_that_looks_at_the_whole_batch_is_read_one_row_at_a_time(make_model: MakeModel) -> None:
    model = dataclasses.replace(own(make_model("llama")), cache_factory=DynamicCache)
    for layer in model.module.model.layers:
        layer.mlp.down_proj.__class__ = PerTensor
    found = score(model)
    assert model.asked == "alone"
    assert_close(found, score(model, "alone"))


def test_texts_of_a_layer_that_looks_at_the_whole_batch_are_written_one_at_a_time(make_model: MakeModel) -> None:
    model = own(make_model("llama"))
    for layer in model.module.model.layers:
        layer.mlp.down_proj.__class__ = PerTensor
    prompts = [Generate(Prompt(text[:n], bare=True), 12) for text in TEXT for n in (15, 33, 50)]
    found, alone, padded = (
        Engine(way=way).run(model, prompts, decoding=Decoding()) for way in ("auto", "alone", "padded")
    )
    assert found == alone
    assert padded != alone
    Engine().run(model, prompts, decoding=Decoding())
    assert model.wrote == "alone"
    Engine().run(clean := make_model("llama"), prompts, decoding=Decoding())
    assert clean.wrote == "padded"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_16_bits_packs_are_as_near_to_the_exact_numbers_as_one_text_at_a_time(
    make_model: MakeModel, dtype: str
) -> None:
    model = load(make_model("llama").info, device="cpu", dtype=dtype)
    exact = score(dataclasses.replace(own(model), module=copy.deepcopy(model.module).float(), dtype=torch.float32))

    def away(found: list[tuple[float, ...]]) -> float:
        sums = [sum(x) - sum(y) for x, y in zip(found, exact, strict=True)]
        return float(np.sqrt(np.mean(np.square(sums))))

    alone, packed = away(score(model, "alone")), away(score(model))
    assert model.asked == "packed"
    assert 0 < packed <= 1.3 * alone


def test_batches_are_told_with_their_longest_row_and_their_seconds(make_model: MakeModel) -> None:
    told: list[Batch] = []
    model = make_model("llama")
    engine = Engine(max_batch=3, way="padded")
    asked = [*SENTENCES, Generate(Prompt(TEXT[0][:20], bare=True), 5)]
    start = time.perf_counter()
    engine.run(model, asked, decoding=Decoding(), on_batch=told.append)
    spent = time.perf_counter() - start
    longest = max(len(model.tokenizer(s.continuation)["input_ids"]) for s in SENTENCES) - 1
    scored, written = ([b for b in told if b.kind == kind] for kind in ("scored", "written"))
    assert max(b.longest for b in scored) == longest == scored[0].longest
    assert [b.longest for b in written] == [len(model.tokenizer(TEXT[0][:20])["input_ids"]) + 5]
    assert 0 < sum(b.seconds for b in told) < spent
    assert all(b.seconds > 0 for b in told)


def test_a_head_that_does_more_than_a_product_is_not_packed(make_model: MakeModel) -> None:
    model = own(make_model("llama"))

    class Capped(type(model.module)):  # type: ignore[misc]
        def forward(self, *args: Any, **arguments: Any) -> Any:
            output = super().forward(*args, **arguments)
            output.logits = torch.tanh(output.logits / 3) * 3
            return output

    model.module.__class__ = Capped
    found = score(model)
    assert model.asked == "padded"
    assert_close(found, score(model, "alone"))


def test_memory_that_runs_out_in_a_pack_halves_it_and_changes_no_number(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from biaslab.engine import packed

    model = make_model("llama")
    whole, inner, refused = score(model), packed.last_hidden, []

    def small(model: LoadedModel, pack: Any) -> torch.Tensor:
        if len(pack.tokens) > 75:
            refused.append(len(pack.tokens))
            raise torch.OutOfMemoryError("tried to allocate 3.00 GiB")
        return inner(model, pack)

    monkeypatch.setattr(packed, "last_hidden", small)
    assert_close(score(model), whole)
    assert model.asked == "packed"
    assert 0 < len(refused) <= 3
    monkeypatch.setattr(packed, "last_hidden", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none left")))
    assert_close(score(model), whole)  # no room for a pack at all: another way is found in the trial
    assert model.asked == "padded"


def test_a_row_without_room_fails_in_words(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from biaslab.engine import scoring

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("tried to allocate 3.00 GiB")

    monkeypatch.setattr(scoring, "forward_logits", full)
    with pytest.raises(CellFailed, match="out of memory on a single sequence"):
        score(make_model("llama"), "alone")


def test_attention_is_the_models_own_again_afterwards(make_model: MakeModel) -> None:
    model = make_model("llama")
    before = model.module.config._attn_implementation
    score(model)
    assert model.module.config._attn_implementation == before


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox"])
def test_quick_products_change_no_weight_and_no_more_than_rounding(make_model: MakeModel, kind: str) -> None:
    model = make_model(kind)
    ids = torch.tensor([model.tokenizer(TEXT[0])["input_ids"]])
    before = {name: weight.clone() for name, weight in model.module.state_dict().items()}
    with torch.inference_mode():
        wanted = model.module(ids).logits
        with quick_products(model, LEAST_TOKENS):
            layers = [m for m in model.module.modules() if type(m) is torch.nn.Linear]
            assert any("forward" in vars(layer) for layer in layers)
            assert all(layer.weight.numel() == 0 for layer in layers if "forward" in vars(layer))  # given up
            found = model.module(ids).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert not any("forward" in vars(layer) for layer in layers)
    for name, weight in model.module.state_dict().items():
        assert torch.equal(weight, before[name]), name
    if kind == "qwen2":  # its head is its embedding, and keeps its own product
        assert model.module.lm_head.weight is model.module.model.embed_tokens.weight


def test_quick_products_leave_mapped_weights_where_other_processes_share_them(make_model: MakeModel) -> None:
    mapped, copied = make_model("llama"), own(make_model("llama"))
    for model, stays in ((mapped, True), (copied, False)):
        layers = [m for m in model.module.modules() if type(m) is torch.nn.Linear]
        before = [layer.weight.data_ptr() for layer in layers]
        weights = [layer.weight.clone() for layer in layers]
        with torch.inference_mode(), quick_products(model, LEAST_TOKENS):
            pass
        assert ([layer.weight.data_ptr() for layer in layers] == before) == stays
        assert all(torch.equal(layer.weight, weight) for layer, weight in zip(layers, weights, strict=True))


def test_quick_products_leave_other_layers_dtypes_and_small_work_alone(make_model: MakeModel) -> None:
    model = own(make_model("llama"))

    class Wrapped(torch.nn.Linear):
        pass

    model.module.lm_head.__class__ = Wrapped
    with quick_products(model, LEAST_TOKENS):
        assert "forward" not in vars(model.module.lm_head)
    with quick_products(model, LEAST_TOKENS - 1):
        assert not any("forward" in vars(m) for m in model.module.modules())
    half = dataclasses.replace(model, module=model.module.to(torch.bfloat16), dtype=torch.bfloat16)
    with quick_products(half, LEAST_TOKENS):
        assert not any("forward" in vars(m) for m in half.module.modules())
