from __future__ import annotations

import copy

import pytest
import torch

from biaslab.accel.facts import bits_per_weight, sparsity, weight_bytes
from biaslab.accel.hqq import Hqq
from biaslab.accel.layers import dense_linears, dense_weight, linears
from biaslab.accel.magnitude import Magnitude
from biaslab.errors import CellFailed, ConfigError
from biaslab.libraries import import_hqq
from tests.accel import tiny

BITS = [8, 4, 3, 2]


@pytest.mark.parametrize("bits", BITS)
def test_layer_equals_its_own_dequantized_matrix(bits: int) -> None:
    model = Hqq(bits=bits).apply(tiny.make("qwen2"), "hqq")  # q, k and v have biases
    inputs = torch.randn(5, 7, 200, generator=torch.Generator().manual_seed(0))
    for layer in linears(model.module).values():
        x = inputs[..., : layer.in_features]
        with torch.no_grad():
            torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.dequantize(), layer.bias))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bits", BITS)
def test_model_equals_plain_hqq_layers_and_a_dense_model_of_their_weights(bits: int, axis: int) -> None:
    model, dense = tiny.make("llama"), tiny.make("llama")
    hqq = import_hqq()
    for name, linear in dense_linears(dense.module).items():
        plain = hqq.HQQLinear(
            copy.deepcopy(linear),
            hqq.BaseQuantizeConfig(nbits=bits, group_size=64, axis=axis),
            compute_dtype=torch.float32,
            device="cpu",
        )
        dense.module.get_submodule(name).weight.data = plain.dequantize()
    Hqq(bits=bits, axis=axis).apply(model, "hqq")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(model.module(input_ids=ids).logits, dense.module(input_ids=ids).logits)
    for name, layer in linears(model.module).items():
        assert torch.equal(dense_weight(layer), dense.module.get_submodule(name).weight)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler, loaded by hqq.models
def test_model_equals_the_librarys_own_way() -> None:
    base = pytest.importorskip("hqq.models.hf.base", reason="this hqq has no model class of its own")
    mine, theirs = tiny.make("llama", tied=True), tiny.make("llama", tied=True)
    Hqq(bits=4).apply(mine, "hqq4")
    base.AutoHQQHFModel.quantize_model(
        theirs.module,
        quant_config=import_hqq().BaseQuantizeConfig(nbits=4, group_size=64, axis=1),
        compute_dtype=torch.float32,
        device="cpu",
    )
    ids = torch.arange(30)[None]
    with torch.no_grad():
        assert torch.equal(mine.module(input_ids=ids).logits, theirs.module(input_ids=ids).logits)


@pytest.mark.parametrize("bits", BITS)
def test_bits_per_weight_are_codes_scales_and_zeros(bits: int) -> None:
    model = tiny.make("llama", hidden_size=64, intermediate_size=160, num_attention_heads=4)
    dense_bytes = weight_bytes(model.module)
    assert bits_per_weight(model.module) == 32
    n_weights = sum(m.weight.numel() for m in dense_linears(model.module).values())

    Hqq(bits=bits).apply(model, "hqq")

    # A float32 scale and zero point for 64 weights is one bit more; 3-bit codes go ten to an int32.
    expected = {8: 9, 4: 5, 2: 3}.get(bits) or pytest.approx(32 / 10 + 1, rel=0.05)
    assert bits_per_weight(model.module) == expected
    saved = n_weights * (32 - bits_per_weight(model.module)) / 8
    assert weight_bytes(model.module) == pytest.approx(dense_bytes - saved, abs=1)
    values = model.facts[0].values
    assert values["bits_per_weight"] == bits_per_weight(model.module)
    assert values["bytes"] == weight_bytes(model.module)
    assert values["simulated"] is True


def test_error_grows_as_bits_fall() -> None:
    errors = [
        Hqq(bits=bits).apply(tiny.make("mistral"), "hqq").facts[0].values["error_layers"]["mean"] for bits in BITS
    ]
    assert errors == sorted(errors)
    # Uniform rounding to 2^b levels over a range of about 5 sd leaves 5 / 2^b / sqrt(12) sd.
    assert errors[0] == pytest.approx(5 / 2**8 / 12**0.5, rel=0.3)
    assert errors[1] == pytest.approx(5 / 2**4 / 12**0.5, rel=0.3)


def test_zeros_are_counted_before_they_are_hidden() -> None:
    model = Magnitude().apply(tiny.make("llama"), "magnitude50")
    Hqq(bits=4).apply(model, "hqq4")
    pruned, quantized = model.facts
    assert pruned.values["sparsity"] == 0.5
    assert quantized.values["sparsity_before"] == 0.5
    assert quantized.values["sparsity"] == sparsity(model.module) < 0.05


def test_skipped_layers_stay_dense() -> None:
    model = Hqq(skip=["*.down_proj", "*.layers.0.*"]).apply(tiny.make("llama"), "hqq4")
    assert set(dense_linears(model.module)) == {
        *(name for name in linears(model.module) if name.startswith("model.layers.0.")),
        "model.layers.1.mlp.down_proj",
    }
    assert model.facts[0].values["n_linear"] == 6


def test_a_skip_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"skip=down: matches no Linear layer; they are named like model\.layers"):
        Hqq(skip=["down"]).apply(tiny.make("llama"), "hqq4")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bits": 9}, "bits=9: one of 8, 6, 5, 4, 3, 2, 1"),
        ({"axis": 2}, "axis=2: 0 or 1"),
        ({"group_size": 0}, "group_size=0: a positive multiple of 8"),
        ({"group_size": 65}, "group_size=65: a positive multiple of 8"),
    ],
)
def test_values_out_of_range_get_words(fields: dict[str, int], words: str) -> None:
    assert Hqq(**fields).check() == words


def test_a_group_that_does_not_fit_is_refused_before_and_while_it_is_applied() -> None:
    model = tiny.make("llama", hidden_size=72, intermediate_size=100, num_attention_heads=6)
    accel = Hqq(bits=4, group_size=128)
    words = accel.unsupported(model.info, "cpu")
    assert words == "group_size=128: a layer of 5184 weights does not divide by 256, as 4 bits need"
    with pytest.raises(CellFailed, match=r"q_proj: group_size=128: a layer of 5184 weights"):
        accel.apply(model, "hqq4")


def test_quantizing_twice_finds_nothing_left() -> None:
    model = Hqq().apply(tiny.make("llama"), "hqq4")
    with pytest.raises(CellFailed, match="again: LlamaForCausalLM has no dense Linear layer to quantize"):
        Hqq().apply(model, "again")
