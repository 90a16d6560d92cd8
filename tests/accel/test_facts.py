from __future__ import annotations

import pytest
import torch

from biaslab.accel.facts import bits_per_weight, layer_change, sparsity, weight_bytes
from biaslab.accel.layers import decoder_layers, linears
from biaslab.accel.magnitude import Magnitude
from tests.accel import tiny


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_baseline_is_measured(architecture: str, tied: bool, dtype: torch.dtype) -> None:
    module = tiny.make(architecture, tied=tied, dtype=dtype).module
    assert bits_per_weight(module) == 8 * dtype.itemsize
    assert sparsity(module) == 0.0
    # parameters() names a tied tensor once.
    held = sum(p.numel() * p.element_size() for p in module.parameters())
    buffers = sum(b.numel() * b.element_size() for b in module.buffers())
    assert held < weight_bytes(module) <= held + buffers


def test_pruning_does_not_make_dense_weights_smaller() -> None:
    model = tiny.make("llama")
    before = weight_bytes(model.module)
    values = Magnitude().apply(model, "magnitude50").facts[0].values
    assert values["bytes"] == before
    assert values["bits_per_weight"] == 32
    assert values["simulated"] is True
    assert values["sparsity"] == sparsity(model.module) == 0.5
    assert [layer["name"] for layer in values["layers"]] == list(linears(model.module))
    assert values["sparsity_layers"] == {"min": 0.5, "mean": 0.5, "max": 0.5}


def test_sparsity_weighs_layers_by_size() -> None:
    model = tiny.make("llama")
    layers = list(linears(model.module).values())
    layers[0].weight.data.zero_()
    total = sum(m.weight.numel() for m in layers)
    assert sparsity(model.module) == layers[0].weight.numel() / total


def test_layer_change_is_the_relative_frobenius_error() -> None:
    before = torch.tensor([[3.0, 4.0]])
    change = layer_change("it", before, torch.tensor([[3.0, 0.0]]))
    assert (change.sparsity, change.error) == (0.5, pytest.approx(4 / 5))
    assert layer_change("it", torch.zeros(1, 2), torch.zeros(1, 2)).error == 0.0


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_head_and_embeddings_are_no_linears(architecture: str, tied: bool) -> None:
    module = tiny.make(architecture, tied=tied).module
    prefix, layers = decoder_layers(module)
    assert len(layers) == 2
    assert all(name.startswith(f"{prefix}.") for name in linears(module))
    assert len(linears(module)) == (8 if architecture == "gpt_neox" else 14)
