"""bitsandbytes rows against the library's own functions, transformers' own way, and the published code book."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from biaslab.accel.active import reference_logits
from biaslab.accel.bnb4 import Bnb4, settle
from biaslab.accel.bnb8 import Bnb8
from biaslab.accel.facts import bits_per_weight, disk_bytes, sparsity, weight_bytes
from biaslab.accel.layers import dense_linears, dense_weight, linears
from biaslab.accel.magnitude import Magnitude
from biaslab.errors import CellFailed
from biaslab.models.loading import describe_local, load
from tests.accel import tiny
from tests.models.make import make_folder

pytestmark = [pytest.mark.extras, pytest.mark.filterwarnings("ignore")]
bnb = pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")

#: Dettmers et al. 2023, appendix E: the 16 values of NF4.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


def test_the_code_book_is_the_papers_and_every_weight_its_nearest_entry() -> None:
    plain = tiny.make("llama")
    model = Bnb4().apply(tiny.make("llama"), "bnb4")
    assert model.facts[0].method == "bitsandbytes nf4, blocks of 64"
    for name, layer in linears(model.module).items():
        codes = layer.weight.quant_state.code
        assert codes.tolist() == pytest.approx(NF4, abs=1e-7)
        assert torch.equal(codes, bnb.functional.get_4bit_type("nf4", device="cpu"))
        blocks = plain.module.get_submodule(name).weight.detach().reshape(-1, 64)
        scale = blocks.abs().amax(1, keepdim=True)
        nearest = codes[(blocks[..., None] / scale[..., None] - codes).abs().argmin(-1)] * scale
        # A weight in the middle between two entries may go either way.
        assert (dense_weight(layer).reshape(-1, 64) - nearest).abs().gt(1e-6).float().mean() < 1e-3


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_4_bits_equal_a_dense_model_of_the_librarys_dequantized_weights(architecture: str, quant_type: str) -> None:
    model, dense = tiny.make(architecture), tiny.make(architecture)
    Bnb4(quant_type=quant_type).apply(model, "bnb4")
    for linear in dense_linears(dense.module).values():
        blocks = linear.weight.detach().reshape(-1, 64)  # the library misreads rows of 96 in blocks of 64
        codes, state = bnb.functional.quantize_4bit(blocks, blocksize=64, quant_type=quant_type)
        linear.weight.data = bnb.functional.dequantize_4bit(codes, state).reshape(linear.weight.shape)
    assert torch.equal(reference_logits(model), reference_logits(dense))
    assert not any(layer.support_avx512bf16_for_cpu for layer in linears(model.module).values())
    # The packed path would have been entered by now.
    assert torch.equal(reference_logits(model), reference_logits(dense))


@pytest.mark.parametrize(
    ("accel", "options"),
    [
        (Bnb8(), {"load_in_8bit": True}),
        (Bnb4(), {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
        (Bnb4(quant_type="fp4"), {"load_in_4bit": True}),
        (
            Bnb4(double_quant=True),
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
        ),
    ],
    ids=["int8", "nf4", "fp4", "nested"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox"])
def test_the_same_as_loading_through_transformers(tmp_path: Path, kind: str, accel: Any, options: Any) -> None:
    import transformers

    info = describe_local(str(make_folder(tmp_path / kind, kind)))
    mine = accel.apply(load(info, device="cpu", dtype="float32"), "it")
    if options.get("load_in_4bit"):
        options = options | {"bnb_4bit_compute_dtype": torch.float32}
    config = transformers.BitsAndBytesConfig(**options)
    theirs = load(info, device="cpu", dtype="float32", load_kwargs={"quantization_config": config})
    for layer in theirs.module.modules():
        if isinstance(layer, bnb.nn.Linear4bit):
            settle(layer, "cpu")  # these models have rows of 32 weights, which the library misreads
    assert torch.equal(reference_logits(mine), reference_logits(theirs))


def test_8_bit_codes_are_rows_rounded_to_their_maximum() -> None:
    plain = tiny.make("llama")
    model = Bnb8().apply(tiny.make("llama"), "bnb8")
    before_a_forward = {name: dense_weight(layer) for name, layer in linears(model.module).items()}
    reference_logits(model)
    for name, layer in linears(model.module).items():
        weight = plain.module.get_submodule(name).weight.detach().half().float()
        scale = weight.abs().amax(1, keepdim=True)
        assert torch.equal(dense_weight(layer), before_a_forward[name])
        assert (dense_weight(layer) - weight).abs().le(scale / 127 * 0.501).all()
        codes = dense_weight(layer) / scale * 127
        assert (codes - codes.round()).abs().max() < 1e-3


@pytest.mark.parametrize("threshold", [0.0, 2.5])
def test_8_bits_are_the_papers_arithmetic_outliers_included(threshold: float) -> None:
    linear = torch.nn.Linear(64, 32)
    inputs = torch.randn(9, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer = Bnb8(threshold=threshold).quantized(tiny.make("llama"), "it", linear)
        got = layer(inputs.clone())
        half = inputs.half().float()
        outlier = half.abs() >= threshold if threshold else torch.zeros_like(half, dtype=torch.bool)
        columns = outlier.any(0)
        assert bool(threshold) == bool(0 < columns.sum() < 64)
        scale = half.masked_fill(outlier, 0).abs().amax(1, keepdim=True)
        codes = (half * 127 / scale).round().masked_fill(columns, 0)
        weight = dense_weight(layer)
        expected = (codes * scale / 127) @ weight.T + inputs[:, columns] @ weight[:, columns].T + linear.bias
    torch.testing.assert_close(got, expected, atol=2e-3, rtol=2e-3)
    assert (got - linear(inputs)).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(96, 96), (64, 160), (128, 64), (96, 200), (64, 34)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_width_is_read_with_its_own_scales(shape: tuple[int, int], dtype: torch.dtype) -> None:
    linear = torch.nn.Linear(shape[1], shape[0], dtype=dtype)
    model = tiny.make("llama", dtype=dtype)
    with torch.no_grad():
        layer = Bnb4().quantized(model, "it", linear)
        state = layer.weight.quant_state
        packed = layer.weight.flatten().long()
        codes = torch.stack([packed >> 4, packed & 15], 1).flatten()
        expected = (state.code[codes].reshape(-1, 64) * state.absmax[:, None]).reshape(shape).to(dtype)
        assert torch.equal(dense_weight(layer), expected)
        x = torch.randn(3, shape[1], dtype=dtype)
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, expected, linear.bias))
        assert ((expected - linear.weight).norm() / linear.weight.norm()) < 0.11
    with pytest.raises(CellFailed, match="it: 3104 weights do not divide by block_size=64"):
        Bnb4().quantized(model, "it", torch.nn.Linear(97, 32, dtype=dtype))


def test_bits_are_codes_and_scales() -> None:
    model = tiny.make("llama", hidden_size=64, intermediate_size=160, num_attention_heads=4)
    n_weights = sum(m.weight.numel() for m in dense_linears(model.module).values())
    dense = weight_bytes(model.module), disk_bytes(model.module)
    Bnb4().apply(model, "bnb4")
    # One float32 scale for 64 weights, and in every layer the code book of 16.
    code_books = 32 * 16 * len(linears(model.module)) / n_weights
    assert bits_per_weight(model.module) == pytest.approx(4 + 32 / 64 + code_books)
    saved = n_weights * (32 - bits_per_weight(model.module)) / 8
    assert weight_bytes(model.module) == pytest.approx(dense[0] - saved, abs=1)
    assert disk_bytes(model.module) == pytest.approx(dense[1] - saved, abs=1)
    values = model.facts[0].values
    assert (values["bits_per_weight"], values["bytes"]) == (bits_per_weight(model.module), weight_bytes(model.module))
    assert (values["arithmetic"], values["device"]) == ("simulated", "cpu")

    rows = Bnb8().apply(tiny.make("llama"), "bnb8")
    widths = {name: layer.in_features for name, layer in linears(rows.module).items()}
    expected = 8 + 32 * len(widths) / sum(widths.values())
    assert math.isclose(bits_per_weight(rows.module), expected, rel_tol=0.1)


def test_zeros_of_a_pruned_model_stay_zeros() -> None:
    for accel in (Bnb4(), Bnb8()):
        model = accel.apply(Magnitude().apply(tiny.make("llama"), "magnitude50"), "bnb")
        assert model.facts[1].values["sparsity_before"] == 0.5
        assert model.facts[1].values["sparsity"] == sparsity(model.module) >= 0.5


@pytest.mark.parametrize(
    ("accel", "words"),
    [
        (Bnb4(quant_type="nf3"), "quant_type=nf3: one of nf4, fp4"),
        (Bnb4(block_size=48), "block_size=48: one of 32, 64, 128"),
        (Bnb4(compute_dtype="int8"), "compute_dtype=int8: one of model, float32"),
        (Bnb8(threshold=-1), "threshold=-1: 0 (no outliers) or more"),
    ],
)
def test_values_out_of_range_get_words(accel: Any, words: str) -> None:
    got = accel.check()
    assert got is not None
    assert got.startswith(words)
