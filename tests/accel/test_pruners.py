"""The pruners against their formulas, and the walk over the layers they share."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import pytest
import torch

from biaslab.accel import walker
from biaslab.accel.calibration import Calibration, calibration_ids
from biaslab.accel.layers import decoder_layers, dense_linears
from biaslab.accel.magnitude import Magnitude
from biaslab.accel.masks import pattern_holds
from biaslab.accel.sparsegpt import SparseGpt
from biaslab.accel.wanda import Wanda
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel
from tests.accel import tiny

SMALL = Calibration(samples=6, length=24)


def inputs_of(module: Any, name: str, ids: torch.Tensor) -> torch.Tensor:
    """All inputs of one Linear layer in an ordinary forward of the whole model, (tokens, in)."""
    seen: list[torch.Tensor] = []
    handle = module.get_submodule(name).register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    with torch.no_grad():
        module(input_ids=ids)
    handle.remove()
    return seen[0].flatten(0, 1)


def reference_wanda(model: LoadedModel, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Masks by the formula, one weight at a time, each layer seen by a whole forward of the pruned model."""
    module = copy.deepcopy(model.module)
    prefix, layers = decoder_layers(module)
    masks = {}
    for i in range(len(layers)):
        mine = [name for name in dense_linears(module) if name.startswith(f"{prefix}.{i}.")]
        gathered = {name: inputs_of(module, name, ids) for name in mine}
        for name, inputs in gathered.items():
            weight = module.get_submodule(name).weight
            norms = inputs.double().pow(2).sum(0).sqrt().tolist()
            mask = torch.zeros_like(weight, dtype=torch.bool)
            for r, row in enumerate(weight.tolist()):
                scores = [abs(w) * norm for w, norm in zip(row, norms, strict=True)]
                for j in sorted(range(len(row)), key=scores.__getitem__)[: len(row) // 2]:
                    mask[r, j] = True
            masks[name] = mask
            weight.data[mask] = 0
    return masks


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_wanda_is_the_published_formula(architecture: str, tied: bool) -> None:
    model = tiny.make(architecture, tied=tied)
    expected = reference_wanda(model, calibration_ids(model, SMALL).ids)
    before = {name: m.weight.detach().clone() for name, m in dense_linears(model.module).items()}

    Wanda(calibration=SMALL).apply(model, "wanda50")

    after = {name: m.weight.detach() for name, m in dense_linears(model.module).items()}
    assert set(after) == set(expected)
    agree = sum(int((expected[n] == (after[n] == 0)).sum()) for n in after)
    # Two float32 sums in different order may swap neighbours of nearly equal score.
    assert agree / sum(w.numel() for w in after.values()) > 0.9999
    for name, weight in after.items():
        kept = weight != 0
        assert torch.equal(weight[kept], before[name][kept]), "what stays is not changed"


def test_wanda_masks_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for rows in (1, 4, 16):
        monkeypatch.setattr(walker, "ROWS_PER_FORWARD", rows)
        model = Wanda(calibration=SMALL).apply(tiny.make("qwen2"), "wanda50")
        weights.append(torch.cat([m.weight.flatten() for m in dense_linears(model.module).values()]))
    for other in weights[1:]:
        assert ((weights[0] == 0) == (other == 0)).float().mean() > 0.9999


@pytest.mark.parametrize(
    "pruner",
    [
        Wanda(pattern="2:4", calibration=SMALL),
        Magnitude(pattern="2:4"),
        Wanda(sparsity=0.75, pattern="1:4", calibration=SMALL),
        SparseGpt(pattern="2:4", calibration=SMALL),
        SparseGpt(sparsity=0.75, pattern="1:4", calibration=SMALL),
    ],
)
def test_every_group_of_every_layer_keeps_the_pattern(pruner: Any) -> None:
    model = pruner.apply(tiny.make("mistral"), "it")
    n, m = map(int, pruner.pattern.split(":"))
    for name, linear in dense_linears(model.module).items():
        assert linear.in_features % m == 0
        assert pattern_holds(linear.weight, n, m), name
        assert (linear.weight == 0).float().mean().item() == pruner.sparsity
    assert model.facts[0].values["pattern_holds"] is True
    assert model.facts[0].values["sparsity"] == pruner.sparsity


@pytest.mark.parametrize(
    "pruner",
    [
        Wanda(pattern="2:4", calibration=SMALL),
        Wanda(calibration=SMALL),
        Magnitude(),
        Magnitude(pattern="row"),
        Magnitude(pattern="2:4"),
        SparseGpt(calibration=SMALL),
        SparseGpt(pattern="2:4", calibration=SMALL),
    ],
)
def test_a_sparse_model_comes_out_bit_identical(pruner: Any) -> None:
    model = Magnitude(pattern="2:4").apply(tiny.make("llama"), "make it sparse")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    pruner.apply(model, "again")
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.facts[-1].values["error_layers"] == {"min": 0.0, "mean": 0.0, "max": 0.0}


def test_dead_channels_and_tied_embeddings_are_safe() -> None:
    model = tiny.make("llama", tied=True)
    with torch.no_grad():
        model.module.model.layers[0].post_attention_layernorm.weight[:70] = 0  # gate and up read 26 channels
    embedding = model.module.get_input_embeddings().weight.detach().clone()
    Wanda(calibration=SMALL).apply(model, "wanda50")
    gate = model.module.model.layers[0].mlp.gate_proj.weight
    assert (gate[:, :48] == 0).all(), "48 of the 70 dead channels, the first ones"
    assert (gate[:, 70:] != 0).all()
    assert torch.equal(model.module.get_input_embeddings().weight, embedding)
    assert model.module.get_output_embeddings().weight is model.module.get_input_embeddings().weight


def test_magnitude_removes_the_smallest_of_each_layer() -> None:
    model = tiny.make("gpt_neox")
    before = {name: m.weight.detach().clone() for name, m in dense_linears(model.module).items()}
    Magnitude(sparsity=0.3).apply(model, "magnitude30")
    for name, linear in dense_linears(model.module).items():
        dropped = linear.weight == 0
        assert int(dropped.sum()) == round(0.3 * linear.weight.numel())
        assert before[name][dropped].abs().max() <= before[name][~dropped].abs().min()


def test_a_broken_model_fails_with_the_layers_name() -> None:
    model = tiny.make("llama")
    model.module.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(CellFailed, match=r"model\.layers\.1\.mlp\.up_proj: an importance is NaN"):
        Magnitude().apply(model, "magnitude50")


# --- the walk ---------------------------------------------------------------------------------------


class Keeper(walker.SumOfSquares):
    """Remembers whose inputs it saw, and how many."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0

    def add(self, inputs: torch.Tensor) -> None:
        super().add(inputs)
        self.tokens += inputs.shape[:-1].numel()


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_the_walk_sees_what_a_whole_forward_sees(architecture: str) -> None:
    model = tiny.make(architecture)
    ids = calibration_ids(model, Calibration(samples=18, length=24)).ids  # more than one batch, the last short
    norms: dict[str, torch.Tensor] = {}

    def note(name: str, linear: Any, inputs: Keeper) -> None:
        assert inputs.tokens == ids.numel()
        norms[name] = inputs.norm(linear.weight)

    walker.walk(model.module, ids, Keeper, note)
    assert set(norms) == set(dense_linears(model.module))
    for name, norm in norms.items():
        expected = inputs_of(model.module, name, ids).norm(dim=0)
        torch.testing.assert_close(norm, expected, rtol=1e-4, atol=1e-4)


def test_later_layers_see_the_changed_earlier_ones() -> None:
    model = tiny.make("llama")
    ids = calibration_ids(model, SMALL).ids
    norms: dict[str, torch.Tensor] = {}

    def halve(name: str, linear: Any, inputs: walker.SumOfSquares) -> None:
        norms[name] = inputs.norm(linear.weight)
        linear.weight.data *= 0.5

    dense_second = inputs_of(model.module, "model.layers.1.self_attn.q_proj", ids).norm(dim=0)
    walker.walk(model.module, ids, walker.SumOfSquares, halve)
    changed_second = inputs_of(model.module, "model.layers.1.self_attn.q_proj", ids).norm(dim=0)
    torch.testing.assert_close(norms["model.layers.1.self_attn.q_proj"], changed_second)
    assert not torch.allclose(dense_second, changed_second, rtol=1e-2)


def test_hidden_states_are_kept_for_one_layer_only() -> None:
    model = tiny.make("llama", num_hidden_layers=6)
    ids = calibration_ids(model, Calibration(samples=32, length=24)).ids
    alive: list[weakref.ref[torch.Tensor]] = []
    for layer in decoder_layers(model.module)[1]:
        layer.register_forward_hook(lambda _m, _a, output: alive.append(weakref.ref(output)))
    most = 0

    def count(name: str, linear: Any, inputs: walker.SumOfSquares) -> None:
        nonlocal most
        # The layers pass one tensor on while the inputs are captured, so tensors are counted, not refs.
        most = max(most, len({id(tensor) for ref in alive if (tensor := ref()) is not None}))

    walker.walk(model.module, ids, walker.SumOfSquares, count)
    n_batches = -(-len(ids) // walker.ROWS_PER_FORWARD)
    assert most == n_batches
    assert sum(ref() is not None for ref in alive) == 0, "nothing is left behind"


def test_the_walk_leaves_no_hook_and_no_stub_behind() -> None:
    model = tiny.make("mistral")
    model.module.train()
    ids = calibration_ids(model, SMALL).ids
    walker.walk(model.module, ids, walker.SumOfSquares, lambda *_: None)
    assert model.module.training
    for module in model.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in module.__dict__


def test_layers_that_return_tuples_are_walked_too() -> None:
    plain, tupled = tiny.make("llama"), tiny.make("llama")
    body = tupled.module.model
    for layer in body.layers:
        forward = layer.forward
        layer.forward = lambda *args, _forward=forward, **kwargs: (_forward(*args, **kwargs),)

    class Unpacking(torch.nn.Module):
        """The body of such a model, which takes the hidden states out of each tuple itself."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = body.layers
            self.body = body

        def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> torch.Tensor:
            hidden = self.body.embed_tokens(input_ids)
            positions = torch.arange(input_ids.shape[1])[None]
            rotary = self.body.rotary_emb(hidden, positions)
            for layer in self.layers:
                hidden = layer(hidden, attention_mask=None, position_embeddings=rotary)[0]
            return hidden

    ids = calibration_ids(plain, SMALL).ids
    norms: list[list[torch.Tensor]] = [[], []]
    walker.walk(plain.module, ids, walker.SumOfSquares, lambda _n, m, s: norms[0].append(s.norm(m.weight)))
    walker.walk(Unpacking(), ids, walker.SumOfSquares, lambda _n, m, s: norms[1].append(s.norm(m.weight)))
    assert len(norms[0]) == len(norms[1]) == 14
    for one, other in zip(*norms, strict=True):
        torch.testing.assert_close(one, other)


def test_a_model_without_decoder_layers_is_refused() -> None:
    with pytest.raises(CellFailed, match="Sequential: found no list of decoder layers"):
        decoder_layers(torch.nn.Sequential(torch.nn.Linear(2, 2)))
