"""GPTQ and AWQ: packed layers are what llm-compressor's own model computes, and GPTQ beats rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import linear as multiply
from torch.utils.data import DataLoader

from biaslab.accel.active import reference_logits
from biaslab.accel.awq import Awq
from biaslab.accel.calibration import Calibration, calibration_ids
from biaslab.accel.compressor import Compressed, within_window
from biaslab.accel.facts import bits_per_weight
from biaslab.accel.gptq import Gptq
from biaslab.accel.layers import decoder_layers, dense_linears, dense_weight, linears
from biaslab.accel.magnitude import Magnitude
from biaslab.accel.modules.packed import PackedLinear
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_local, load
from tests.accel import tiny

SMALL = Calibration(samples=8, length=32)
extras = [pytest.mark.extras, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(6, 24), (5, 27)])  # an odd row ends in half a byte
def test_a_packed_layer_is_its_codes_times_its_scales(shape: tuple[int, int], bits: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(bits)
    half = 2 ** (bits - 1)
    codes = torch.randint(-half, half, shape, generator=generator).to(torch.int8)
    scale = torch.rand(shape[0], 3, generator=generator).to(dtype) + 0.1
    zero = torch.randint(-half, half, (shape[0], 3), generator=generator).to(torch.int8)
    bias = torch.randn(shape[0], generator=generator).to(dtype)
    for z in (zero, None):
        layer = PackedLinear(codes, scale, z, bias, bits)
        offset = 0 if z is None else z.repeat_interleave(shape[1] // 3, 1).to(dtype)
        weight = (codes.to(dtype) - offset) * scale.repeat_interleave(shape[1] // 3, 1)
        assert torch.equal(layer.dequantize(), weight)
        x = torch.randn(2, shape[1], generator=generator).to(dtype)
        assert torch.equal(layer(x), multiply(x, weight, bias))
    assert layer.W_q.numel() == shape[0] * (shape[1] if bits > 4 else -(-shape[1] // 2))


def by_the_library(model: LoadedModel, calibration: Calibration, recipe: list[Any], tmp_path: Path) -> LoadedModel:
    """The library's own script on the same rows; its layers round again at every forward."""
    llmcompressor = pytest.importorskip("llmcompressor")
    model.module.save_pretrained(tmp_path / "it")
    model.module.config._name_or_path = str(tmp_path / "it")  # it reads the config again
    ids = calibration_ids(model, calibration).ids
    rows = within_window(ids, getattr(model.module.config, "sliding_window", None))
    # Of a data set it would sort the rows, by a sort that is not stable; sums in another order end in other bits.
    loader = DataLoader([{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows])  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "pin_memory", lambda self, *a, **k: self)
        llmcompressor.oneshot(
            model=model.module,
            tokenizer=model.tokenizer,
            dataset=loader,
            max_seq_length=rows.shape[1],
            num_calibration_samples=len(rows),
            recipe=recipe,
        )
    return model


def scheme(bits: int, symmetric: bool, group: int) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": group}
    return {"all": {"targets": ["Linear"], "weights": weights}}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt_neox"])
class TestAgainstTheLibrary:
    pytestmark = extras

    def test_gptq(self, architecture: str, tied: bool, tmp_path: Path) -> None:
        gptq = pytest.importorskip("llmcompressor.modifiers.gptq")
        mine, theirs = (tiny.make(architecture, tied=tied) for _ in range(2))
        Gptq(group_size=8, calibration=SMALL).apply(mine, "gptq4")
        modifier = gptq.GPTQModifier(config_groups=scheme(4, True, 8), ignore=["lm_head", "embed_out"])
        by_the_library(theirs, SMALL, [modifier], tmp_path)
        assert torch.equal(reference_logits(mine), reference_logits(theirs))

    def test_awq(self, architecture: str, tied: bool, tmp_path: Path) -> None:
        if architecture == "gpt_neox":
            pytest.skip("the library has no mapping for it; ours is tested below")
        awq = pytest.importorskip("llmcompressor.modifiers.transform.awq")
        quantization = pytest.importorskip("llmcompressor.modifiers.quantization")
        mine, theirs = (tiny.make(architecture, tied=tied) for _ in range(2))
        Awq(group_size=8, calibration=SMALL).apply(mine, "awq4")
        recipe = [
            awq.AWQModifier(),
            quantization.QuantizationModifier(config_groups=scheme(4, False, 8), ignore=["lm_head"]),
        ]
        by_the_library(theirs, SMALL, recipe, tmp_path)
        assert torch.equal(reference_logits(mine), reference_logits(theirs))


def rounded(weight: torch.Tensor, group: int, bits: int = 4) -> torch.Tensor:
    """Round to nearest, symmetric, one scale a group: the widest that its largest value fits."""
    groups = weight.reshape(-1, group)
    scale = groups.abs().amax(1, keepdim=True) / ((2**bits - 1) / 2)
    codes = (groups / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (codes * scale).reshape(weight.shape)


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_gptq_is_never_worse_than_rounding_in_what_a_layer_gives(architecture: str) -> None:
    pytest.importorskip("llmcompressor")
    plain, model = tiny.make(architecture), tiny.make(architecture)
    calibration = Calibration(samples=32, length=64)
    Gptq(calibration=calibration).apply(model, "gptq4")
    ids = within_window(calibration_ids(plain, calibration).ids, getattr(plain.module.config, "sliding_window", None))
    prefix, _ = decoder_layers(plain.module)
    inputs: dict[str, torch.Tensor] = {}
    for name, layer in linears(plain.module).items():
        layer.register_forward_pre_hook(lambda _m, args, name=name: inputs.__setitem__(name, args[0].flatten(0, -2)))
    for i in range(2):
        # What the method saw: the decoder layers before this one are quantized, this one is not yet.
        with torch.no_grad():
            plain.module(input_ids=ids)
            for name in [name for name in linears(plain.module) if name.startswith(f"{prefix}.{i}.")]:
                weight = plain.module.get_submodule(name).weight
                quantized = dense_weight(model.module.get_submodule(name))
                by_gptq = multiply(inputs[name], quantized - weight).norm()
                by_rounding = multiply(
                    inputs[name], rounded(weight, {96: 96, 200: 100, 384: 96}[weight.shape[1]]) - weight
                ).norm()
                assert by_gptq < by_rounding, name
                weight.copy_(quantized)


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_a_sliding_window_is_never_left_while_calibrating() -> None:
    pytest.importorskip("llmcompressor")
    model = tiny.make("mistral")  # a window of 8
    short = tiny.make("mistral")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("biaslab.accel.compressor.within_window", lambda ids, _window: ids.reshape(-1, 8))
        Gptq(calibration=SMALL).apply(short, "gptq4")
    Gptq(calibration=SMALL).apply(model, "gptq4")
    assert model.facts[0].values["calibration"]["rows"] == [32, 8]
    assert torch.equal(reference_logits(model), reference_logits(short))
    ids = torch.arange(21).reshape(1, 21)
    assert within_window(ids, 8).tolist() == [list(range(8)), list(range(8, 16))]
    assert within_window(ids, 64) is ids
    assert within_window(ids, None) is ids


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accel", [Gptq(calibration=SMALL), Awq(calibration=SMALL)], ids=["gptq", "awq"])
def test_inputs_that_the_model_does_not_have_are_caught(accel: Compressed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows longer than mistral's window, whose mask the library's tracing loses."""
    pytest.importorskip("llmcompressor")
    monkeypatch.setattr("biaslab.accel.compressor.within_window", lambda ids, _window: ids)
    with pytest.raises(CellFailed, match="calibrates MistralForCausalLM on inputs that the model does not have"):
        accel.apply(tiny.make("mistral"), "it")


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_awq_moves_scale_without_moving_the_answer(architecture: str) -> None:
    pytest.importorskip("llmcompressor")
    plain, coarse = tiny.make(architecture), tiny.make(architecture)
    fine = Awq(bits=8, group_size=8, calibration=SMALL).apply(tiny.make(architecture), "awq8")
    Awq(bits=4, group_size=8, calibration=SMALL).apply(coarse, "awq4")
    before = dict(plain.module.named_parameters())
    norms = {n: p for n, p in fine.module.named_parameters() if "norm" in n and n.endswith("weight")}
    assert any(not torch.equal(value, before[name]) for name, value in norms.items())
    # What 8 bits leave is a 16th of what 4 bits do: the scaling itself costs nothing.
    error = [(reference_logits(m) - reference_logits(plain)).abs().mean() for m in (fine, coarse)]
    assert error[0] < error[1] / 6


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accel", [Gptq(calibration=SMALL), Awq(calibration=SMALL)], ids=["gptq", "awq"])
def test_facts_silence_and_nothing_left_behind(accel: Compressed, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("llmcompressor.entrypoints.oneshot")  # it speaks when it is imported; here, by the test
    capfd.readouterr()
    pin = torch.Tensor.pin_memory
    model = Magnitude().apply(tiny.make("llama"), "magnitude50")
    accel.apply(model, "it")
    assert torch.Tensor.pin_memory is pin
    assert "save_pretrained" not in vars(model.module)
    assert not any(hasattr(layer, "quantization_scheme") for layer in linears(model.module).values())
    values = model.facts[1].values
    assert (values["bits"], values["groups"]) == (4, "groups of 96 to 100")
    assert values["sparsity_before"] == 0.5
    assert values["calibration"]["samples"] == 8
    assert values["bits_per_weight"] == bits_per_weight(model.module)
    assert 4.3 < values["bits_per_weight"] < 4.5
    assert values["arithmetic"] == "simulated"
    assert capfd.readouterr() == ("", "")


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_skipped_layers_stay_dense_and_another_seed_is_another_replicate() -> None:
    pytest.importorskip("llmcompressor")
    model = Gptq(skip=["*.down_proj"], calibration=SMALL).apply(tiny.make("llama"), "gptq4")
    assert list(dense_linears(model.module)) == ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]
    one, other = (
        reference_logits(Gptq(calibration=Calibration(samples=8, length=32, seed=s)).apply(tiny.make(), "gptq4"))
        for s in (0, 1)
    )
    assert not torch.equal(one, other)


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_what_awq_does_not_know_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llmcompressor")
    info = tiny.make("llama").info
    monkeypatch.setattr("biaslab.libraries.find_spec", lambda name: name)
    strange = type(info)(**{**vars(info), "architecture": "StrangeForCausalLM"})
    reason = Awq().unsupported(strange, "cpu")
    assert reason is not None
    assert reason.startswith("llm-compressor does not know which layers of StrangeForCausalLM to scale")
    assert Awq().unsupported(info, "cpu") is None


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_what_the_library_cannot_do_fails_the_cell_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llmcompressor")

    def give_up(*_args: Any) -> list[Any]:
        raise ValueError("nothing\nto be done")

    monkeypatch.setattr(Gptq, "recipe", give_up)
    with pytest.raises(CellFailed, match=r"gptq4: llm-compressor gave up on LlamaForCausalLM \(nothing\)"):
        Gptq(calibration=SMALL).apply(tiny.make(), "gptq4")


@pytest.mark.extras
@pytest.mark.data
@pytest.mark.filterwarnings("ignore")
def test_on_a_trained_model_awq_and_gptq_beat_rounding(data_dir: Path) -> None:
    pytest.importorskip("llmcompressor")

    def change(accel: Compressed | None) -> float:
        model = load(describe_local(str(data_dir / "models" / "tinystories-656k"), ""), device="cpu", dtype="float32")
        ids = calibration_ids(model, Calibration(seed=5)).ids
        with torch.no_grad():
            before = model.module(input_ids=ids).logits.log_softmax(-1)
            if accel is not None:
                accel.apply(model, "it")
            else:
                for layer in dense_linears(model.module).values():
                    layer.weight.data = rounded(layer.weight.data, 128)
            after = model.module(input_ids=ids).logits.log_softmax(-1)
        return float((before.exp() * (before - after)).sum(-1).mean())

    by_rounding = change(None)
    assert change(Gptq()) < 0.8 * by_rounding
    assert change(Awq()) < 0.8 * by_rounding


@pytest.mark.parametrize(
    ("accel", "words"),
    [
        (Gptq(bits=5), "bits=5: one of 2, 3, 4, 8"),
        (Gptq(group_size=4), "group_size=4: at least 8"),
        (Gptq(dampening=0), "dampening=0: above 0, at most 1"),
        (Gptq(order="group"), "order=group: static or none"),
        (Awq(grid=0), "grid=0: at least 1"),
        (Awq(calibration=Calibration(samples=0)), "calibration.samples=0: 1 to"),
    ],
)
def test_values_out_of_range_get_words(accel: Compressed, words: str) -> None:
    got = accel.check()
    assert got is not None
    assert got.startswith(words)
