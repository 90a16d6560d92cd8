"""What quantizing costs beside the library's own script on the same model, in one process: `make perf`."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from biaslab.accel.base import Accelerator
from biaslab.accel.bnb4 import Bnb4
from biaslab.accel.bnb8 import Bnb8
from biaslab.accel.calibration import Calibration, calibration_ids
from biaslab.accel.compressor import within_window
from biaslab.accel.gptq import Gptq
from biaslab.accel.hqq import Hqq
from biaslab.accel.layers import dense_linears, replace
from biaslab.accel.quantizing import LayerQuantizer
from biaslab.accel.torchao import AoInt8
from biaslab.libraries import import_hqq, missing
from biaslab.models.base import LoadedModel
from tests.accel import tiny

pytestmark = [pytest.mark.perf, pytest.mark.extras, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

SHAPE = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 3, "num_attention_heads": 8}
CALIBRATION = Calibration(samples=32, length=64)
REPEATS = 3


def by_hqq(model: LoadedModel) -> None:
    base = pytest.importorskip("hqq.models.hf.base")
    config = import_hqq().BaseQuantizeConfig(nbits=4, group_size=64, axis=1)
    base.AutoHQQHFModel.quantize_model(model.module, quant_config=config, compute_dtype=torch.float32, device="cpu")


def by_torchao(model: LoadedModel) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    chosen = set(dense_linears(model.module))
    quantization.quantize_(model.module, quantization.Int8WeightOnlyConfig(), filter_fn=lambda _m, name: name in chosen)


def by_bitsandbytes(model: LoadedModel, **options: Any) -> None:
    """The library's modules put in by hand, as its own README does: it has no call for a whole model."""
    bnb = pytest.importorskip("bitsandbytes")
    for name, linear in dense_linears(model.module).items():
        shape = (linear.in_features, linear.out_features, False)
        eight = options["bits"] == 8
        layer = bnb.nn.Linear8bitLt(*shape, has_fp16_weights=False, threshold=6.0) if eight else None
        layer = layer or bnb.nn.Linear4bit(*shape, quant_type="nf4", compute_dtype=torch.float32)
        layer.load_state_dict(linear.state_dict())
        model.module.set_submodule(name, layer.to("cpu"))


def by_llmcompressor(model: LoadedModel) -> None:
    llmcompressor, datasets = pytest.importorskip("llmcompressor"), pytest.importorskip("datasets")
    gptq = pytest.importorskip("llmcompressor.modifiers.gptq")
    oneshot = pytest.importorskip("llmcompressor.entrypoints.oneshot")
    ids = within_window(calibration_ids(model, CALIBRATION).ids, None)
    rows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids.tolist()]
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    recipe = [gptq.GPTQModifier(config_groups={"a": {"targets": ["Linear"], "weights": weights}}, ignore=["lm_head"])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "pin_memory", lambda self, *a, **k: self)
        patch.setattr(oneshot.Oneshot, "validate_model", lambda self, model: None)
        llmcompressor.oneshot(
            model=model.module, tokenizer=model.tokenizer, dataset=datasets.Dataset.from_list(rows),
            max_seq_length=64, num_calibration_samples=len(rows), shuffle_calibration_samples=False, recipe=recipe,
        )  # fmt: skip


PAIRS: dict[str, tuple[Accelerator, Callable[[LoadedModel], None]]] = {
    "hqq4": (Hqq(bits=4), by_hqq),
    "ao_int8": (AoInt8(), by_torchao),
    "bnb8": (Bnb8(), lambda model: by_bitsandbytes(model, bits=8)),
    "bnb4": (Bnb4(), lambda model: by_bitsandbytes(model, bits=4)),
    "gptq4": (Gptq(group_size=32, calibration=CALIBRATION), by_llmcompressor),
}


def seconds(work: Callable[[LoadedModel], Any], model: LoadedModel) -> float:
    fresh = copy.copy(model)
    fresh.module, fresh.facts = copy.deepcopy(model.module), []
    start = time.perf_counter()
    work(fresh)
    return time.perf_counter() - start


def alone(accel: Accelerator, model: LoadedModel) -> None:
    """The accelerator's own work on every layer, without what it measures before and after."""
    if not isinstance(accel, LayerQuantizer):
        accel.apply(model, "it")
        return
    for name, linear in dense_linears(model.module).items():
        replace(model.module, name, accel.quantized(model, name, linear))


@pytest.mark.parametrize("name", PAIRS)
def test_quantizing_is_as_fast_as_the_librarys_own_script(name: str) -> None:
    accel, theirs = PAIRS[name]
    if absent := missing(accel.requires, accel.extra):
        pytest.skip(absent)
    model = tiny.make("llama", **SHAPE)
    own, library, whole = [], [], []
    for i in range(REPEATS + 1):  # in turns, so that a busy machine slows all; the first warms up
        mine, other = seconds(lambda m: alone(accel, m), model), seconds(theirs, model)
        measuring = seconds(lambda m: accel.apply(m, name), model)
        if i:
            own.append(mine)
            library.append(other)
            whole.append(measuring)
    ratio = min(own) / min(library)
    millions = sum(m.weight.numel() for m in dense_linears(model.module).values()) / 1e6
    print(
        f"\n{name:8} {millions:.1f} M weights: quantizing {min(own):.3f} s, the library's script {min(library):.3f} s, "
        f"ratio {ratio:.2f}; with its measurements {min(whole):.3f} s"
    )
    assert ratio <= 1.1
