"""torchao rows against the library's own whole-model call and against plain rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from biaslab.accel.active import reference_logits
from biaslab.accel.facts import bits_per_weight, sparsity
from biaslab.accel.layers import dense_linears, dense_weight, linears
from biaslab.accel.magnitude import Magnitude
from biaslab.accel.torchao import AoFp8, AoInt4, AoInt8
from biaslab.errors import CellFailed
from tests.accel import tiny

pytestmark = [pytest.mark.extras, pytest.mark.filterwarnings("ignore")]
quantization = pytest.importorskip("torchao.quantization", reason="needs torchao")


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_the_same_as_the_librarys_call_on_the_whole_model(architecture: str, tied: bool) -> None:
    for accel, config in (
        (AoInt8(), quantization.Int8WeightOnlyConfig()),
        (
            AoInt4(group_size=8),
            quantization.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=quantization.PerGroup(8)),
        ),
    ):
        mine, theirs = tiny.make(architecture, tied=tied), tiny.make(architecture, tied=tied)
        accel.apply(mine, "ao")
        chosen = set(dense_linears(theirs.module))
        quantization.quantize_(theirs.module, config, filter_fn=lambda _m, name, chosen=chosen: name in chosen)
        assert torch.equal(reference_logits(mine), reference_logits(theirs))


def test_int8_is_a_row_rounded_to_its_maximum() -> None:
    plain = tiny.make("llama")
    model = AoInt8().apply(tiny.make("llama"), "ao_int8")
    for name, layer in linears(model.module).items():
        weight = plain.module.get_submodule(name).weight.detach()
        step = weight.abs().amax(1, keepdim=True) / 127.5
        assert (dense_weight(layer) - weight).abs().le(step * 1.01).all()
    assert bits_per_weight(model.module) == pytest.approx(8, rel=0.1)
    assert model.facts[0].values["arithmetic"] == "simulated"


def test_int4_has_sixteen_values_a_group_and_says_which_groups() -> None:
    model = AoInt4().apply(tiny.make("llama"), "ao_int4")  # rows of 96 and of 200 weights
    assert model.facts[0].values["groups"] == "groups of 48 to 50"
    for layer in linears(model.module).values():
        group = {96: 48, 200: 50}[layer.in_features]
        assert all(len(row.unique()) <= 16 for row in dense_weight(layer).reshape(-1, group)[:40])
    # A byte a code, a float32 scale and a byte of zero point for about 49 weights.
    assert bits_per_weight(model.module) == pytest.approx(8 + 40 / 49, rel=0.02)


def test_zeros_of_a_pruned_model_stay_zeros() -> None:
    model = AoInt8().apply(Magnitude().apply(tiny.make("llama"), "magnitude50"), "ao_int8")
    assert model.facts[1].values["sparsity_before"] == 0.5
    assert sparsity(model.module) >= 0.5


def test_float8_says_what_it_needs() -> None:
    model = tiny.make("llama")
    reason = AoFp8().unsupported(model.info, "cpu")
    assert reason == "8-bit float arithmetic (compute capability 8.9 or more) needs a GPU, and this device is cpu"
    with pytest.raises(CellFailed, match="choose dtype=bfloat16"):
        AoFp8().apply(model, "ao_fp8")


def test_rows_without_a_group_are_refused_by_name() -> None:
    odd: Any = tiny.make("llama", intermediate_size=97)
    assert AoInt4().unsupported(odd.info, "cpu") == ("group_size=64: rows of 97 weights have no divisor from 8 to 64")
    with pytest.raises(CellFailed, match=r"down_proj: rows of 97 weights have no divisor from 8 to 64"):
        AoInt4().apply(odd, "ao_int4")
