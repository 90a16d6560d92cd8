"""Ready checkpoints: packed by others' code and read here, recognised, paired with their original, refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from biaslab.accel.active import reference_logits
from biaslab.accel.bnb4 import Bnb4
from biaslab.accel.bnb8 import Bnb8
from biaslab.accel.checkpoints import awq_codes, unpack_int32
from biaslab.accel.gptq import Gptq
from biaslab.accel.hqq import Hqq
from biaslab.accel.kv import Kv
from biaslab.accel.magnitude import Magnitude
from biaslab.accel.prequantized import Prequantized
from biaslab.accel.stack import apply_stack
from biaslab.errors import CellFailed, ConfigError
from biaslab.models.base import LoadedModel
from biaslab.models.embedded import folder as embedded_folder
from biaslab.models.loading import describe_local, load
from tests.cli.run import biaslab
from tests.models.make import make_folder

GROUP = 16


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "original", "llama")


def loaded(folder: Path) -> LoadedModel:
    return load(describe_local(str(folder)), device="cpu", dtype="float32")


def packed_checkpoint(
    original: Path, target: Path, config: dict[str, Any], pack: Callable[..., dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """A checkpoint whose projections `pack` has packed; what each of them then computes with, by name."""
    shutil.copytree(original, target)
    content = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(content | {"quantization_config": config}))
    tensors = load_file(target / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    dense = {}
    # Those packers need a multiple of 32 rows; the others stay dense, as in many a real checkpoint.
    for name in [n for n in tensors if n.endswith("_proj.weight") and len(tensors[n]) % 32 == 0]:
        weight = tensors.pop(name)
        out, width = weight.shape
        codes = torch.randint(0, 16, (out, width), generator=generator)
        zero = torch.randint(1, 15, (out, width // GROUP), generator=generator)
        scale = (torch.rand(out, width // GROUP, generator=generator) * 0.1 + 0.01).half()
        dense[name] = (codes - zero.repeat_interleave(GROUP, 1)) * scale.float().repeat_interleave(GROUP, 1)
        linear = torch.nn.Linear(width, out, bias=False)
        linear.weight.data = dense[name]
        for part, value in pack(linear, scale.float(), zero).items():
            tensors[f"{name.removesuffix('weight')}{part}"] = value.contiguous()
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return dense


def by_autoawq(linear: Any, scale: torch.Tensor, zero: torch.Tensor) -> dict[str, torch.Tensor]:
    utils = pytest.importorskip("auto_round.export.export_to_awq.utils")
    layer = utils.WQLinear_GEMM.from_linear(linear, 4, GROUP, scales=scale.T, zeros=zero.T, device="cpu")
    return {part: getattr(layer, part) for part in ("qweight", "qzeros", "scales")}


def by_autogptq(linear: Any, scale: torch.Tensor, zero: torch.Tensor) -> dict[str, torch.Tensor]:
    module = pytest.importorskip("auto_round_extension.torch.qlinear_torch")
    layer = module.QuantLinear(4, GROUP, linear.in_features, linear.out_features, bias=False)
    layer.device = "cpu"
    layer.pack_248_bits(linear, scale, zero, device="cpu")
    index = torch.arange(linear.in_features, dtype=torch.int32) // GROUP
    return {"qweight": layer.qweight, "scales": layer.scales, "g_idx": index, "qzeros": layer.qzeros}


def one_lower(linear: Any, scale: torch.Tensor, zero: torch.Tensor) -> dict[str, torch.Tensor]:
    """AutoGPTQ's first format stores zero points one too low."""
    return by_autogptq(linear, scale, zero) | {"qzeros": by_autogptq(linear, scale, zero - 1)["qzeros"]}


AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False}


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "pack", "words"),
    [
        (AWQ, by_autoawq, "AWQ (AutoAWQ's format), 4 bits"),
        (GPTQ, one_lower, "GPTQ (AutoGPTQ's format), 4 bits"),
        (GPTQ | {"checkpoint_format": "gptq_v2"}, by_autogptq, "GPTQ (AutoGPTQ's format), 4 bits"),
    ],
    ids=["awq", "gptq", "gptq_v2"],
)
def test_packed_by_others_read_here(original: Path, tmp_path: Path, config: Any, pack: Any, words: str) -> None:
    dense = packed_checkpoint(original, tmp_path / "ready", config, pack)
    expected = loaded(original)
    with torch.no_grad():
        for name, weight in dense.items():
            expected.module.get_parameter(name).copy_(weight)
    accel = Prequantized(path=str(tmp_path / "ready"))
    base = loaded(original)
    assert accel.unsupported(base.info, "cpu") is None
    model = accel.apply(base, "prequantized")
    torch.testing.assert_close(reference_logits(model), reference_logits(expected), atol=2e-4, rtol=2e-4)
    (fact,) = model.facts
    assert fact.method == f"ready checkpoint, {words}"
    assert fact.values["bits"] == 4
    assert fact.values["simulated"] is True
    # 4, and 32 + 8 for 16 weights; 32 for a ninth of all weights.
    assert fact.values["bits_per_weight"] == pytest.approx((8 * 6.5 + 32) / 9, rel=0.01)
    assert fact.values["file_bytes"] == (tmp_path / "ready" / "model.safetensors").stat().st_size


@pytest.mark.extras
def test_unpacking_is_that_of_compressed_tensors_own_converter() -> None:
    module = pytest.importorskip("compressed_tensors.entrypoints.convert.converters.autoawq")
    words = torch.randint(-(2**31), 2**31 - 1, (6, 5), generator=torch.Generator().manual_seed(1)).to(torch.int32)
    theirs, _ = module.AutoAWQConverter.unpack_awq(words, None, 4)
    theirs, _ = module.AutoAWQConverter.reverse_awq_order(theirs, None, 4)
    assert torch.equal(awq_codes(words), (theirs & 15).to(torch.int32))


def test_int32_words_are_read_from_their_lowest_bits() -> None:
    words = torch.tensor([[0x76543210, -1]], dtype=torch.int32)
    assert unpack_int32(words, 4).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, *[15] * 8]]
    assert unpack_int32(words, 8).tolist() == [[0x10, 0x32, 0x54, 0x76, *[255] * 4]]


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox"])
def test_saved_by_a_library_loads_as_it_was(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes")
    folder = make_folder(tmp_path / "original", kind)
    for options, same in (
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}, Bnb4()),
        ({"load_in_8bit": True}, Bnb8()),
    ):
        ready = tmp_path / f"ready-{same.family}"
        config = transformers.BitsAndBytesConfig(**options)
        load(
            describe_local(str(folder)), device="cpu", dtype="float32", load_kwargs={"quantization_config": config}
        ).module.save_pretrained(ready)
        for file in folder.glob("tok*"):
            shutil.copy(file, ready)
        model = Prequantized(path=str(ready)).apply(loaded(folder), "it")
        assert model.facts[0].method.startswith("ready checkpoint, bitsandbytes, ")
        assert torch.equal(reference_logits(model), reference_logits(same.apply(loaded(folder), "x")))


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scheme", ["W4A16", "W8A8"])
def test_compressed_tensors_loads_as_it_was_saved(tmp_path: Path, scheme: str) -> None:
    llmcompressor = pytest.importorskip("llmcompressor")
    quantization = pytest.importorskip("llmcompressor.modifiers.quantization")
    folder = make_folder(tmp_path / "original", "llama")
    model = loaded(folder)
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 16}
    groups = {"a": {"targets": ["Linear"], "weights": weights}}
    how = {"config_groups": groups} if scheme == "W4A16" else {"targets": ["Linear"], "scheme": scheme}
    llmcompressor.oneshot(model=model.module, recipe=[quantization.QuantizationModifier(**how, ignore=["lm_head"])])
    expected = reference_logits(model)
    model.module.save_pretrained(tmp_path / "ready", save_compressed=True)
    for file in folder.glob("tok*"):
        shutil.copy(file, tmp_path / "ready")
    ready = Prequantized(path=str(tmp_path / "ready")).apply(loaded(folder), "it")
    torch.testing.assert_close(reference_logits(ready), expected, atol=1e-5, rtol=1e-5)
    assert ready.facts[0].method == f"ready checkpoint, compressed-tensors, {4 if scheme == 'W4A16' else 8} bits"


def test_a_pruned_checkpoint_is_recognised_and_can_be_quantized(original: Path, tmp_path: Path) -> None:
    pruned = Magnitude().apply(loaded(original), "magnitude50")
    pruned.module.save_pretrained(tmp_path / "ready")
    for file in original.glob("tok*"):
        shutil.copy(file, tmp_path / "ready")
    accel = Prequantized(path=str(tmp_path / "ready"))
    model = apply_stack(loaded(original), {"prequantized": accel, "hqq4": Hqq(group_size=32)})
    assert model.facts[0].method == "ready checkpoint, dense, 50.0 % zeros"
    assert model.facts[0].values["sparsity"] == pruned.facts[0].values["sparsity"]
    assert model.facts[1].values["sparsity_before"] == 0.5
    expected = Hqq(group_size=32).apply(pruned, "hqq4")
    assert torch.equal(reference_logits(model), reference_logits(expected))
    assert accel.refuses(Hqq()) is None


def with_config(original: Path, target: Path, **changes: Any) -> Prequantized:
    shutil.copytree(original, target)
    content = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(content | changes))
    return Prequantized(path=str(target))


def test_another_quantizer_on_top_is_refused_by_name(original: Path, tmp_path: Path) -> None:
    accel = with_config(original, tmp_path / "ready", quantization_config=AWQ)
    words = "ready is quantized already, by AWQ (AutoAWQ's format): nothing is left to "
    assert accel.refuses(Hqq()) == words + "quantize again"
    assert accel.refuses(Gptq()) == words + "quantize again"
    assert accel.refuses(Magnitude()) == words + "prune"
    assert accel.refuses(Kv()) is None


def test_what_is_not_a_form_of_the_original_is_refused_by_name(original: Path, tmp_path: Path) -> None:
    info = describe_local(str(original))
    cases = {
        "method": (
            {"quantization_config": {"quant_method": "eetq"}},
            "is quantized by 'eetq'; what can be read is awq",
        ),
        "arch": ({"architectures": ["MistralForCausalLM"]}, "is a MistralForCausalLM, original a LlamaForCausalLM"),
        "shape": ({"intermediate_size": 128}, "has intermediate_size=128, original 64; name its original"),
    }
    for name, (changes, words) in cases.items():
        reason = with_config(original, tmp_path / name, **changes).unsupported(info, "cpu")
        assert reason is not None
        assert words in reason
    other = make_folder(tmp_path / "other", "llama")
    tokens = json.loads((other / "tokenizer.json").read_text())
    tokens["model"]["vocab"] = {
        (f"{k}x" if i == 50 else k): v for i, (k, v) in enumerate(tokens["model"]["vocab"].items())
    }
    tokens["model"]["merges"] = []
    (other / "tokenizer.json").write_text(json.dumps(tokens))
    with pytest.raises(CellFailed, match="it: the checkpoint's vocabulary is not that of original"):
        Prequantized(path=str(other)).apply(loaded(original), "it")


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_a_packed_checkpoint_that_is_not_whole_fails_by_name(original: Path, tmp_path: Path) -> None:
    packed_checkpoint(original, tmp_path / "ready", GPTQ, one_lower)
    file = tmp_path / "ready" / "model.safetensors"
    tensors = load_file(file)

    def broken(**changes: torch.Tensor | None) -> Prequantized:
        kept = {k: v for k, v in (tensors | changes).items() if v is not None}
        save_file(kept, file, metadata={"format": "pt"})
        return Prequantized(path=str(tmp_path / "ready"))

    norm, order = "model.norm.weight", "model.layers.0.mlp.up_proj.g_idx"
    for changes, words in (
        ({norm: None}, "lacks 1 weights, e.g. model.norm.weight"),
        ({norm: torch.ones(3)}, r"model.norm.weight is \(3,\), the original's \(32,\)"),
        ({"model.strange.weight": torch.ones(3)}, "has model.strange.weight, which original has no place for"),
        ({order: tensors[order].flip(0).contiguous()}, r"not of neighbouring columns \(desc_act\), which is not read"),
    ):
        with pytest.raises(CellFailed, match=words):
            broken(**changes).apply(loaded(original), "it")


def test_pickled_weights_and_wrong_names_are_refused_in_the_accelerators_words(original: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    shutil.copytree(original, ready)
    (ready / "model.safetensors").rename(ready / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"accel.prequantized.path=.*: only pickled weights there"):
        Prequantized(path=str(ready)).describe()
    with pytest.raises(ConfigError, match=r"accel.prequantized.id=a/b: .*|a/b: not on this machine"):
        Prequantized(id="a/b").describe()
    assert Prequantized().check() == "id= path=: give one of them, the checkpoint's hub id or its folder"
    assert Prequantized(id="a/b", path="x").check() is not None


def test_the_weights_are_the_identity_not_their_folder(original: Path, tmp_path: Path) -> None:
    info = describe_local(str(original))
    one, two = (with_config(original, tmp_path / name) for name in ("one", "two"))
    assert one.identity(info) == two.identity(info) != with_config(original, tmp_path / "x", extra=1).identity(info)
    assert one.identity(info)["weights"].startswith("sha256:")


@pytest.mark.slow
def test_it_runs_as_typed_and_refuses_a_stack(tmp_path: Path) -> None:
    pruned = Magnitude().apply(
        load(describe_local(str(embedded_folder("tiny_llama"))), device="cpu", dtype="float32"), "m"
    )
    pruned.module.save_pretrained(tmp_path / "ready")
    for file in embedded_folder("tiny_llama").glob("*"):
        if file.name.startswith(("tok", "chat")):
            shutil.copy(file, tmp_path / "ready")
    line = ("accel.prequantized.path=ready", "benchmark=planted", "limit=30", "analysis=skip")
    done = biaslab(tmp_path, "accel=prequantized", *line)
    assert done.code == 0, done
    assert "tiny_llama prequantized(path=ready) planted: 30 records" in done.out
    config = json.loads((tmp_path / "ready" / "config.json").read_text())
    (tmp_path / "ready" / "config.json").write_text(json.dumps(config | {"quantization_config": AWQ}))
    refused = biaslab(tmp_path, "accel=[prequantized,hqq4]", *line)
    assert refused.code == 2
    assert "ready is quantized already, by AWQ (AutoAWQ's format): nothing is left to quantize again" in refused.err
    late = biaslab(tmp_path, "accel=[wanda50,prequantized]", *line)
    assert late.code == 2
    assert "prequantized brings weights of its own; put it first" in late.err
